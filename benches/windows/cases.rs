//! What each case declares, as a user would write it.

use karst::{EngineBuilder, EventTime, Str, prelude::*};

use crate::{payment::Payment, w1::Draw};

/// One line of figures.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) class: &'static str,
    pub(crate) windows: usize,
    pub(crate) aggregates: usize,
    pub(crate) longest: &'static str,
    pub(crate) longest_minutes: i64,
    pub(crate) draw: Draw,
    pub(crate) resolver: fn(EngineBuilder) -> EngineBuilder,
    /// Whether reading is measured, too.
    pub(crate) reads: bool,
    pub(crate) read: &'static [&'static str],
}

impl Case {
    pub(crate) fn users(&self) -> u32 {
        match self.draw {
            Draw::Even(users) => users as u32,
            _ => crate::w1::USERS as u32,
        }
    }
}

macro_rules! class {
    ($class:ident $resolver:ident { $($windowed:tt)* }) => {
        #[features(key = "id")]
        #[allow(dead_code)] // read through their names
        pub(crate) struct $class {
            id: Str,
            last_merchant: Str,
            last_amount: f64,
            last_status: Str,
            last_ts: EventTime,
            $($windowed)*
        }

        #[stream(source = "payments")]
        fn $resolver(
            payment: Payment,
        ) -> Updates![$class::id, $class::last_merchant, $class::last_amount, $class::last_status, $class::last_ts] {
            updates!(payment.user_id, payment.merchant, payment.amount, Str::const_new(payment.status.name()), payment.ts)
        }
    };
}

class!(One on_one {
    #[windowed("24h", count)]
    payments: Windowed<i64>,
    #[windowed("24h", sum(last_amount))]
    spent: Windowed<f64>,
});
class!(Two on_two {
    #[windowed("1h", "24h", count)]
    payments: Windowed<i64>,
    #[windowed("1h", "24h", sum(last_amount))]
    spent: Windowed<f64>,
});
class!(Five on_five {
    #[windowed("10m", "1h", "6h", "24h", "7d", count)]
    payments: Windowed<i64>,
    #[windowed("10m", "1h", "6h", "24h", "7d", sum(last_amount))]
    spent: Windowed<f64>,
});
class!(Many on_many {
    #[windowed("1h", "24h", count)]
    payments: Windowed<i64>,
    #[windowed("1h", "24h", sum(last_amount))]
    spent: Windowed<f64>,
    #[windowed("1h", "24h", mean(last_amount))]
    a1: Windowed<f64>,
    #[windowed("1h", "24h", min(last_amount))]
    a2: Windowed<f64>,
    #[windowed("1h", "24h", max(last_amount))]
    a3: Windowed<f64>,
    #[windowed("1h", "24h", var(last_amount))]
    a4: Windowed<f64>,
    #[windowed("1h", "24h", std(last_amount))]
    a5: Windowed<f64>,
    #[windowed("1h", "24h", var_pop(last_amount))]
    a6: Windowed<f64>,
    #[windowed("1h", "24h", std_pop(last_amount))]
    a7: Windowed<f64>,
    #[windowed("1h", "24h", count, filter = last_status == "approved")]
    b1: Windowed<i64>,
    #[windowed("1h", "24h", count, filter = last_status == "declined")]
    b2: Windowed<i64>,
    #[windowed("1h", "24h", count, filter = last_status == "refunded")]
    b3: Windowed<i64>,
    #[windowed("1h", "24h", count, filter = last_status == "pending")]
    b4: Windowed<i64>,
    #[windowed("1h", "24h", count, filter = last_amount > 100.0)]
    b5: Windowed<i64>,
    #[windowed("1h", "24h", sum(last_amount), filter = last_status == "approved")]
    c1: Windowed<f64>,
    #[windowed("1h", "24h", sum(last_amount), filter = last_status == "declined")]
    c2: Windowed<f64>,
    #[windowed("1h", "24h", max(last_amount), filter = last_status == "approved")]
    c3: Windowed<f64>,
    #[windowed("1h", "24h", max(last_amount), filter = last_status == "declined")]
    c4: Windowed<f64>,
    #[windowed("1h", "24h", any(last_amount > 500.0))]
    d1: Windowed<bool>,
    #[windowed("1h", "24h", all(last_amount < 500.0))]
    d2: Windowed<bool>,
    #[windowed("1h", "24h", first(last_amount))]
    e1: Windowed<f64>,
    #[windowed("1h", "24h", last(last_amount))]
    e2: Windowed<f64>,
    #[windowed("1h", "24h", min(last_ts))]
    e3: Windowed<EventTime>,
    #[windowed("1h", "24h", max(last_ts))]
    e4: Windowed<EventTime>,
    #[windowed("1h", "24h", sum(last_amount * last_amount))]
    e5: Windowed<f64>,
});

const W1: Case = Case {
    name: "w1",
    class: "two",
    windows: 2,
    aggregates: 2,
    longest: "24h",
    longest_minutes: 24 * 60,
    draw: Draw::Zipf,
    resolver: |builder| builder.resolver(on_two),
    reads: false,
    read: &[],
};

/// All cases, in the order in which they run.
pub(crate) const CASES: &[Case] = &[
    Case { name: "one_window", class: "one", windows: 1, resolver: |builder| builder.resolver(on_one), ..W1 },
    W1,
    Case {
        name: "five_windows",
        class: "five",
        windows: 5,
        longest: "7d",
        longest_minutes: 7 * 24 * 60,
        resolver: |builder| builder.resolver(on_five),
        ..W1
    },
    Case { name: "aggregates", class: "many", aggregates: 25, resolver: |builder| builder.resolver(on_many), ..W1 },
    Case { name: "even", draw: Draw::Even(100_000), ..W1 },
    Case { name: "hot_key", draw: Draw::HotKey, ..W1 },
    Case { name: "many_keys", draw: Draw::Even(10_000_000), ..W1 },
    Case {
        name: "read",
        class: "many",
        aggregates: 25,
        resolver: |builder| builder.resolver(on_many),
        reads: true,
        read: &[
            "many.payments",
            "many.spent",
            "many.a1",
            "many.a2",
            "many.a3",
            "many.a4",
            "many.a5",
            "many.a6",
            "many.a7",
            "many.b1",
            "many.b2",
            "many.b3",
            "many.b4",
            "many.b5",
            "many.c1",
            "many.c2",
            "many.c3",
            "many.c4",
            "many.d1",
            "many.d2",
            "many.e1",
            "many.e2",
            "many.e3",
            "many.e4",
            "many.e5",
        ],
        ..W1
    },
];
