//! Percentiles: the values, and past 128 of them DDSketch (Masson, Rim, Lee, 2019): counts of values in bins whose bounds grow by
//! 2 %.
//!
//! ```text
//! 1 | value (as a number that sorts as it does, u64) × up to 128, rising
//! 2 | bin (20 bits) and count (44 bits) in a u64, × the bins that are not empty, rising
//! ```
//! The result is the value of which at least that share of all values is no greater (nearest rank, as `percentile_disc` of SQL):
//! exact up to 128 values, past that within **1 % of the value**, and as exact for 10^9 values. Less than 1e-9 of either sign is 0.
//! Of each sign 2048 bins are kept, those of the largest magnitude; values some 10^17 times smaller than the largest count as
//! that much smaller. Which bins there are depends on nothing but the values, so the result does not either.
//!
//! Which bin a value is in is the library's; bins are kept here, in bytes that an event can change in place.

use std::sync::LazyLock;

use karst_types::{Value, ValueType};
use sketches_ddsketch::Config;

use super::cell;

const LIST: u8 = 1;
const BINS: u8 = 2;
const LIST_MAX: usize = 128;

const COUNT_BITS: u32 = 44;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bins: −∞, negative ones by falling magnitude, zero, positive ones, ∞.
const INFINITE: u64 = (1 << 20) - 1;
const ZERO: u64 = 1 << 19;
const KEPT: u64 = 2048;
const LEAST: f64 = 1e-9;

/// 1 % on either side of a bin's value.
static MAPPING: LazyLock<Config> = LazyLock::new(|| Config::new(0.01, KEPT as u32, LEAST));

fn bin(number: f64) -> u64 {
    let magnitude = number.abs();
    if magnitude < LEAST {
        return ZERO;
    }
    if magnitude.is_infinite() {
        return if number > 0.0 { INFINITE } else { 0 };
    }
    let step = u64::from((MAPPING.key(magnitude) - MAPPING.key(LEAST) + 1).unsigned_abs());
    if number > 0.0 { ZERO + step } else { ZERO - step }
}

fn of_bin(bin: u64) -> f64 {
    let value = |step: u64| MAPPING.value(step as i32 - 1 + MAPPING.key(LEAST)).min(f64::MAX);
    match bin {
        0 => f64::NEG_INFINITY,
        INFINITE => f64::INFINITY,
        ZERO => 0.0,
        bin if bin > ZERO => value(bin - ZERO),
        bin => -value(ZERO - bin),
    }
}

fn float(rank: u64) -> f64 {
    match cell::of_rank(rank, ValueType::Float) {
        Value::Float(number) => number,
        _ => f64::NAN,
    }
}

/// What kind of state it is, and its words.
fn view(state: &[u8]) -> (u8, &[[u8; 8]]) {
    state.split_first().map_or((LIST, &[]), |(tag, words)| (*tag, words.as_chunks::<8>().0))
}

fn words(words: &[[u8; 8]]) -> impl Iterator<Item = u64> {
    words.iter().map(|word| u64::from_le_bytes(*word))
}

fn set(state: &mut Vec<u8>, tag: u8, words: &[u64]) {
    state.clear();
    state.push(tag);
    words.iter().for_each(|word| state.extend_from_slice(&word.to_le_bytes()));
}

/// All that there is, as bins and counts.
fn binned(state: &[u8]) -> Vec<u64> {
    match view(state) {
        (LIST, values) => words(values).map(|rank| bin(float(rank)) << COUNT_BITS | 1).collect(),
        (_, bins) => words(bins).collect(),
    }
}

/// Sorts, keeps [`KEPT`] bins of each sign, and sums up what is in one bin.
fn set_bins(state: &mut Vec<u8>, mut all: Vec<u64>) {
    all.sort_unstable();
    let (lowest, highest) = kept(all.iter().map(|word| word >> COUNT_BITS));
    let mut bins: Vec<u64> = Vec::with_capacity(all.len());
    for word in all {
        let (bin, count) = (folded(word >> COUNT_BITS, lowest, highest), word & COUNT_MAX);
        match bins.last_mut() {
            Some(last) if *last >> COUNT_BITS == bin => {
                *last = bin << COUNT_BITS | ((*last & COUNT_MAX) + count).min(COUNT_MAX)
            }
            _ => bins.push(bin << COUNT_BITS | count),
        }
    }
    set(state, BINS, &bins);
}

/// The negative bin above which, and the positive one below which, bins are not kept.
fn kept(bins: impl Iterator<Item = u64>) -> (u64, u64) {
    let (mut least, mut greatest) = (ZERO, ZERO);
    for bin in bins.filter(|bin| !matches!(*bin, 0 | INFINITE)) {
        (least, greatest) = (least.min(bin), greatest.max(bin));
    }
    ((least + KEPT - 1).min(ZERO - 1), (greatest - KEPT + 1).max(ZERO + 1))
}

fn folded(bin: u64, lowest: u64, highest: u64) -> u64 {
    match bin {
        0 | ZERO | INFINITE => bin,
        bin if bin < ZERO => bin.min(lowest),
        bin => bin.max(highest),
    }
}

/// Takes the value in if that changes no lengths.
pub(super) fn add_in_place(state: &mut [u8], value: &[u8]) -> bool {
    let Some(rank) = cell::rank(value, ValueType::Float) else { return true };
    let Some((&mut BINS, bins)) = state.split_first_mut() else { return false };
    let (bins, bin) = (bins.as_chunks_mut::<8>().0, bin(float(rank)));
    let place = bins.binary_search_by_key(&bin, |word| u64::from_le_bytes(*word) >> COUNT_BITS);
    place.map(|at| bins[at] = plus_one(u64::from_le_bytes(bins[at])).to_le_bytes()).is_ok()
}

fn plus_one(word: u64) -> u64 {
    word + u64::from(word & COUNT_MAX < COUNT_MAX)
}

pub(super) fn add(state: &mut Vec<u8>, value: &[u8]) {
    if add_in_place(state, value) {
        return;
    }
    let Some(rank) = cell::rank(value, ValueType::Float) else { return };
    match view(state) {
        (LIST, values) if values.len() < LIST_MAX => {
            let place = 1 + 8 * values.partition_point(|known| u64::from_le_bytes(*known) < rank);
            if state.is_empty() {
                state.push(LIST);
            }
            state.splice(place..place, rank.to_le_bytes());
        }
        _ => {
            let mut all = binned(state);
            all.push(bin(float(rank)) << COUNT_BITS | 1);
            set_bins(state, all);
        }
    }
}

pub(super) fn merge(state: &mut Vec<u8>, other: &[u8]) {
    match (view(state), view(other)) {
        (_, (_, [])) => {}
        ((LIST, a), (LIST, b)) if a.len() + b.len() <= LIST_MAX => {
            let mut all: Vec<u64> = words(a).chain(words(b)).collect();
            all.sort_unstable();
            set(state, LIST, &all);
        }
        _ => {
            let mut all = binned(state);
            all.append(&mut binned(other));
            set_bins(state, all);
        }
    }
}

/// Nearest rank; null where there are no values.
pub(super) fn finish(state: &[u8], share: f64) -> Value {
    let (tag, all) = view(state);
    let count = |word: u64| if tag == LIST { 1 } else { word & COUNT_MAX };
    let total = words(all).map(count).fold(0, u64::saturating_add);
    // The share is no exact number: 0.07 of 100 values are 7 of them, not 8.
    let rank = ((share * total as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0u64;
    for word in words(all) {
        seen = seen.saturating_add(count(word));
        if seen >= rank {
            return Value::Float(if tag == LIST { float(word) } else { of_bin(word >> COUNT_BITS) });
        }
    }
    Value::Null
}

pub(super) fn check(state: &[u8]) -> bool {
    let Some((tag, rest)) = state.split_first() else { return true };
    let (all, odd) = rest.as_chunks::<8>();
    let rising = words(all).is_sorted();
    let fits = match *tag {
        LIST => all.len() <= LIST_MAX && words(all).all(|rank| !float(rank).is_nan()),
        BINS => {
            let bins = || words(all).map(|word| word >> COUNT_BITS);
            let (lowest, highest) = kept(bins());
            bins().all(|bin| folded(bin, lowest, highest) == bin)
                && bins().is_sorted_by(|a, b| a < b)
                && words(all).all(|word| word & COUNT_MAX > 0)
        }
        _ => false,
    };
    !all.is_empty() && odd.is_empty() && rising && fits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden numbers: bins are on disk for ever, whatever becomes of the library.
    #[test]
    fn a_value_is_in_this_bin() {
        let bins =
            [1.0, -1.0, 1e-9, 9.9e-10, 1000.0, 86_400.0, f64::MAX, -f64::MAX].map(|number| bin(number) as i64 - ZERO as i64);
        assert_eq!(bins, [1038, -1038, 1, 0, 1383, 1606, 36_525, -36_525]);
        assert_eq!((bin(f64::INFINITY), bin(f64::NEG_INFINITY), bin(-0.0)), (INFINITE, 0, ZERO));
    }

    #[test]
    fn the_value_of_a_bin_is_within_one_percent_of_what_is_in_it() {
        let mut number = LEAST;
        while number < 1e300 {
            let (up, down) = (of_bin(bin(number)), of_bin(bin(-number)));
            assert!((up / number - 1.0).abs() < 0.010_001 && down == -up, "{number} is in the bin of {up}");
            number *= 1.0007;
        }
    }
}
