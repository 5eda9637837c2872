//! What came of a run, and the sums of many.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// One run, or the sum of some.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Of one run.
    pub trace: u64,
    /// What does not hold; empty if all is well.
    pub wrong: Vec<String>,
    pub sums: Sums,
}

macro_rules! sums {
    ($($name:ident),+ $(,)?) => {
        /// What was done, and what was compared.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Sums {
            $(pub $name: u64,)+
        }
        impl Sums {
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }
        impl fmt::Display for Sums {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, concat!(" ", stringify!($name), "={}"), self.$name)?;)+
                Ok(())
            }
        }
    };
}
sums! {
    records, applied, skipped, late, tombstones, dead,
    incarnations, crashes, power_losses, panics, poisoned, disk_faults, refused_opens, fetch_errors,
    rewinds, duplicates, old_epochs, gaps, partitions_added, commits, turns, held, looks, answers, windows, changes,
}

/// Counts what the lanes refused.
#[derive(Clone, Default)]
pub struct Lanes(Arc<[AtomicU64; 3]>);

impl Lanes {
    const WHY: [&str; 3] = ["duplicate", "old_epoch", "gap"];

    /// Duplicates, messages of old epochs, gaps.
    pub fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|nth| self.0[nth].load(Relaxed))
    }
}

struct Refused(Lanes, usize);

impl metrics::CounterFn for Refused {
    fn increment(&self, value: u64) {
        self.0.0[self.1].fetch_add(value, Relaxed);
    }
    fn absolute(&self, value: u64) {
        self.0.0[self.1].store(value, Relaxed);
    }
}

impl Recorder for Lanes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let why = key.labels().find(|label| label.key() == "why").map_or("", |label| label.value());
        match Self::WHY.iter().position(|known| *known == why) {
            Some(nth) if key.name() == "karst_state_lane_messages_not_applied_total" => {
                Counter::from_arc(Arc::new(Refused(self.clone(), nth)))
            }
            _ => Counter::noop(),
        }
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
