//! The algebra of aggregates: what each keeps of the events it saw, as bytes that are put into tiles and merged when a window is read.
//!
//! [`Aggregate`] is pure: no I/O, no clock, and (but for what is said below) a result depends on nothing but which events were
//! seen, in whatever order and through whatever tree of merges: tiles are rolled up in another shape than they were filled in.
//!
//! | aggregate | state | result |
//! |---|---|---|
//! | count, any, all, min, max | 1–9 bytes; text: the text | exact |
//! | sum, mean of whole numbers | 16, 24 bytes | exact; a sum that is no 64-bit number is null |
//! | sum, mean, var, std of floats | 16, 24, 40 bytes | some 100 bits: [`moments`] |
//! | first, last | 35 bytes; text: 26 and the text | exact, by the full order of versions |
//! | first_n, last_n, min_by_n, max_by_n | n entries | exact: [`ordered`] |
//! | approx_count_distinct | up to 512 hashes, then 4 KB | exact, then ±1.6 % (one standard error): [`distinct`] |
//! | approx_percentile | up to 128 values, then bins | exact, then ±1 % of the value: [`percentile`] |
//! | approx_top_k | up to max(256, 16 k) different values | exact, then counts at most 1/128 of all too low: [`top_k`] |
//! | any of them by group | the groups of least hash | exact for these: [`groups`] |
//!
//! Null is passed over by all but count, which counts rows; so is NaN by what computes or compares (sum to percentile, and `by`),
//! while first, last, distinct and top_k take it for a value. So is a value of another type than the declared one, which the
//! registry rules out.
//!
//! Invariants: all-zero bytes (fixed) and no bytes (variable) are the identity of merge. What [`Aggregate::check`] let pass makes
//! nothing here panic.

use karst_types::{Aggregation, Value, ValueType, Version};

mod cell;
mod distinct;
mod fixed;
mod groups;
mod moments;
mod ordered;
mod percentile;
mod table;
mod top_k;

use fixed::{count, edge, extreme, truth, whole};
use groups::Groups;
use ordered::{Order, text};
use top_k::TopK;

/// One event, as an aggregate sees it.
pub(crate) struct Input<'a> {
    /// The cell of the value; empty for a count without input.
    pub value: &'a [u8],
    /// The cell to order by.
    pub by: Option<&'a [u8]>,
    /// The cell of the group.
    pub group: Option<&'a [u8]>,
    /// Where the event stands in the order of all (`docs/semantics.md`, Which value is kept).
    pub version: &'a Version,
}

/// How values of one type are aggregated: once per declared feature, used for each event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aggregate {
    kind: Kind,
    input: Option<ValueType>,
    groups_max: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Count,
    SumInt,
    MeanInt,
    SumFloat,
    MeanFloat,
    Variance { sample: bool, root: bool },
    Extreme { ty: ValueType, greatest: bool },
    ExtremeBool { greatest: bool },
    Any,
    All,
    Edge { ty: ValueType, last: bool },
    ExtremeText { greatest: bool },
    One(Order),
    Several(Order),
    Distinct,
    Percentile(f64),
    TopK(TopK),
}

impl Aggregate {
    /// For values of this type (`None`: a count of rows), of at most so many groups (`None`: not by group).
    pub(crate) fn new(aggregation: Aggregation, input: Option<ValueType>, groups_max: Option<u32>) -> Self {
        use Aggregation as A;
        let ty = input.unwrap_or(ValueType::Int);
        let float = ty == ValueType::Float;
        let fixed = !matches!(ty, ValueType::Str | ValueType::Bytes);
        let extreme = |greatest| match ty {
            ValueType::Bool => Kind::ExtremeBool { greatest },
            _ if fixed => Kind::Extreme { ty, greatest },
            _ => Kind::ExtremeText { greatest },
        };
        let edge = |last| match fixed {
            true => Kind::Edge { ty, last },
            false => Kind::One(Order { n: 1, by: None, latest: last }),
        };
        let kind = match aggregation {
            A::Count => Kind::Count,
            A::Sum if float => Kind::SumFloat,
            A::Sum => Kind::SumInt,
            A::Mean if float => Kind::MeanFloat,
            A::Mean => Kind::MeanInt,
            A::Min => extreme(false),
            A::Max => extreme(true),
            A::Var => Kind::Variance { sample: true, root: false },
            A::VarPop => Kind::Variance { sample: false, root: false },
            A::Std => Kind::Variance { sample: true, root: true },
            A::StdPop => Kind::Variance { sample: false, root: true },
            A::Any => Kind::Any,
            A::All => Kind::All,
            A::First => edge(false),
            A::Last => edge(true),
            A::FirstN(n) => Kind::Several(Order { n, by: None, latest: false }),
            A::LastN(n) => Kind::Several(Order { n, by: None, latest: true }),
            A::MinByN(n) => Kind::Several(Order { n, by: Some(false), latest: false }),
            A::MaxByN(n) => Kind::Several(Order { n, by: Some(true), latest: false }),
            A::ApproxCountDistinct => Kind::Distinct,
            A::ApproxPercentile(share) => Kind::Percentile(share),
            A::ApproxTopK(k) => Kind::TopK(TopK { k }),
        };
        Self { kind, input, groups_max }
    }

    fn groups(&self) -> Option<Groups> {
        self.groups_max.map(|max| Groups { of: Self { groups_max: None, ..*self }, max })
    }

    /// Events whose group did not fit; always 0 where there are no groups.
    pub(crate) fn overflow(&self, state: &[u8]) -> u64 {
        self.groups_max.map_or(0, |_| table::extra(state))
    }

    /// How many bytes its state has; `None` if any number.
    #[inline]
    pub(crate) fn fixed_len(&self) -> Option<usize> {
        if self.groups_max.is_some() {
            return None;
        }
        Some(match self.kind {
            Kind::Count => count::LEN,
            Kind::SumInt => whole::SUM,
            Kind::MeanInt => whole::MEAN,
            Kind::SumFloat => moments::SUM,
            Kind::MeanFloat => moments::MEAN,
            Kind::Variance { .. } => moments::VARIANCE,
            Kind::Extreme { .. } => extreme::LEN,
            Kind::ExtremeBool { .. } | Kind::Any | Kind::All => truth::LEN,
            Kind::Edge { .. } => edge::LEN,
            _ => return None,
        })
    }

    /// Takes in one event. The state has [`Self::fixed_len`] bytes; one of a variable aggregate is left as it is.
    #[inline]
    pub(crate) fn add(&self, state: &mut [u8], input: &Input<'_>) {
        match self.kind {
            Kind::Count => count::plus(state, 1),
            Kind::SumInt | Kind::MeanInt => whole::add(state, input.value),
            Kind::SumFloat | Kind::MeanFloat | Kind::Variance { .. } => moments::add(state, input.value),
            Kind::Extreme { ty, greatest } => extreme::add(state, input.value, ty, greatest),
            Kind::ExtremeBool { .. } | Kind::Any | Kind::All => truth::add(state, input.value),
            Kind::Edge { last, .. } => edge::add(state, input.value, input.version, last),
            _ => {}
        }
    }

    /// Takes in what another state has seen, of other events.
    #[inline]
    pub(crate) fn merge(&self, state: &mut [u8], other: &[u8]) {
        match self.kind {
            Kind::Count => count::plus(state, count::read(other)),
            Kind::SumInt | Kind::MeanInt => whole::merge(state, other),
            Kind::SumFloat | Kind::MeanFloat | Kind::Variance { .. } => moments::merge(state, other),
            Kind::Extreme { .. } => extreme::merge(state, other),
            Kind::ExtremeBool { .. } | Kind::Any | Kind::All => truth::merge(state, other),
            Kind::Edge { last, .. } => edge::merge(state, other, last),
            _ => {}
        }
    }

    /// Takes in one event if no length changes by it, whatever the aggregate; else says `false` and does nothing. For most
    /// events of a busy tile this spares [`Self::add_variable`] a copy of the state.
    #[inline]
    pub(crate) fn add_in_place(&self, state: &mut [u8], input: &Input<'_>) -> bool {
        if let Some(groups) = self.groups() {
            return groups.add_in_place(state, input);
        }
        match self.kind {
            Kind::ExtremeText { greatest } => text::is_kept(state, input.value, greatest),
            Kind::One(_) | Kind::Several(_) => false,
            Kind::Distinct => distinct::add_in_place(state, input.value),
            Kind::Percentile(_) => percentile::add_in_place(state, input.value),
            Kind::TopK(_) => TopK::add_in_place(state, input.value),
            _ => {
                let has_bytes = self.fixed_len() == Some(state.len());
                if has_bytes {
                    self.add(state, input);
                }
                has_bytes
            }
        }
    }

    /// Takes in one event, whatever the aggregate: a fixed state that is empty yet gets its bytes.
    pub(crate) fn add_variable(&self, state: &mut Vec<u8>, input: &Input<'_>) {
        if let Some(groups) = self.groups() {
            return groups.add(state, input);
        }
        match self.kind {
            Kind::ExtremeText { greatest } => text::add(state, input.value, greatest),
            Kind::One(order) | Kind::Several(order) => order.add(state, input),
            Kind::Distinct => distinct::add(state, input.value),
            Kind::Percentile(_) => percentile::add(state, input.value),
            Kind::TopK(top) => top.add(state, input.value),
            _ => self.add(self.sized(state), input),
        }
    }

    /// Takes in what another state has seen, whatever the aggregate.
    pub(crate) fn merge_variable(&self, state: &mut Vec<u8>, other: &[u8]) {
        if let Some(groups) = self.groups() {
            return groups.merge(state, other);
        }
        match self.kind {
            Kind::ExtremeText { greatest } => text::add(state, other, greatest),
            Kind::One(order) | Kind::Several(order) => order.merge(state, other),
            Kind::Distinct => distinct::merge(state, other),
            Kind::Percentile(_) => percentile::merge(state, other),
            Kind::TopK(top) => top.merge(state, other),
            _ => self.merge(self.sized(state), other),
        }
    }

    fn sized<'a>(&self, state: &'a mut Vec<u8>) -> &'a mut [u8] {
        if let Some(length) = self.fixed_len() {
            state.resize(length, 0);
        }
        state
    }

    /// The result. Of nothing: 0 for count, sum and distinct, false for any, true for all, an empty map by group, else null.
    pub(crate) fn finish(&self, state: &[u8]) -> Value {
        if let Some(groups) = self.groups() {
            return groups.finish(state);
        }
        match self.kind {
            Kind::Count => count::finish(state),
            Kind::SumInt => whole::sum(state),
            Kind::MeanInt => whole::mean(state),
            Kind::SumFloat => moments::sum(state),
            Kind::MeanFloat => moments::mean(state),
            Kind::Variance { sample, root } => moments::variance(state, sample, root),
            Kind::Extreme { ty, greatest } => extreme::finish(state, ty, greatest),
            Kind::ExtremeBool { greatest } => truth::extreme(state, greatest),
            Kind::Any => truth::any(state),
            Kind::All => truth::all(state),
            Kind::Edge { .. } => edge::finish(state),
            Kind::ExtremeText { .. } => cell::value(state),
            Kind::One(order) => order.values(state).next().unwrap_or_default(),
            Kind::Several(order) => list(order.values(state).collect()),
            Kind::Distinct => distinct::finish(state),
            Kind::Percentile(share) => percentile::finish(state, share),
            Kind::TopK(top) => list(top.values(state)),
        }
    }

    /// Whether bytes from a disk are a state of this aggregate.
    pub(crate) fn check(&self, state: &[u8]) -> bool {
        if self.fixed_len().is_some_and(|length| length != state.len()) {
            return false;
        }
        if let Some(groups) = self.groups() {
            return groups.check(state);
        }
        match self.kind {
            Kind::Extreme { ty, greatest } => extreme::check(state, ty, greatest),
            Kind::ExtremeBool { .. } | Kind::Any | Kind::All => truth::check(state),
            Kind::Edge { ty, .. } => edge::check(state, ty),
            Kind::ExtremeText { .. } => text::check(state, self.input),
            Kind::One(order) | Kind::Several(order) => order.check(state, self.input),
            Kind::Distinct => distinct::check(state),
            Kind::Percentile(_) => percentile::check(state),
            Kind::TopK(top) => top.check(state, self.input),
            // Any bytes are numbers.
            Kind::Count | Kind::SumInt | Kind::MeanInt | Kind::SumFloat | Kind::MeanFloat | Kind::Variance { .. } => true,
        }
    }
}

fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::List(values) }
}

#[cfg(test)]
mod tests;
