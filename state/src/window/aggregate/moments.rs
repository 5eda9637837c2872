//! Sums, means and variances of floats, which hardly depend on the order of events.
//!
//! ```text
//! sum: high (f64) | low (f64)                         16 bytes
//! mean: sum | count (u64)                             24 bytes
//! variance: sum | count | squares: high | low         40 bytes
//! ```
//! Each sum is kept as two floats, the sum and what its roundings lost: some 100 bits. With that many the variance comes from the sum
//! of squares without the cancellation that this is known for, and everything merges by addition.
//!
//! NaN is passed over, as null is. An infinite value, or a sum past 1.8e308 (for squares: values past 1e154), makes the result
//! infinite or NaN as IEEE 754 has it. Whole numbers past 2^53 are rounded first. Error of a variance: at most 1e-12 of it and 1e-30 of
//! the mean square; a deviation of less than 2^-50 of the values is 0.

use karst_types::Value;

use super::cell;

pub(super) const SUM: usize = 16;
pub(super) const MEAN: usize = 24;
pub(super) const VARIANCE: usize = 40;

/// High and low part; the number is their sum.
type Double = [f64; 2];

/// The rounded sum and what rounding lost, exactly (Knuth).
#[inline]
fn two_sum(a: f64, b: f64) -> Double {
    let sum = a + b;
    let b_in_sum = sum - a;
    [sum, (a - (sum - b_in_sum)) + (b - b_in_sum)]
}

/// The rounded product and what rounding lost, exactly (Dekker; a fused multiply-add is no instruction on every machine).
#[inline]
fn two_product(a: f64, b: f64) -> Double {
    let split = |number: f64| {
        let shifted = 134_217_729.0 * number; // 2^27 + 1
        let high = shifted - (shifted - number);
        (high, number - high)
    };
    let (product, (a_high, a_low), (b_high, b_low)) = (a * b, split(a), split(b));
    [product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)]
}

#[inline]
fn plus(a: Double, b: Double) -> Double {
    let [sum, lost] = two_sum(a[0], b[0]);
    [sum, a[1] + (b[1] + lost)]
}
fn normal([high, low]: Double) -> Double {
    two_sum(high, low)
}
fn times(a: Double, b: Double) -> Double {
    let [product, lost] = two_product(a[0], b[0]);
    normal([product, lost + (a[0] * b[1] + a[1] * b[0])])
}
fn by(a: Double, divisor: f64) -> Double {
    let quotient = a[0] / divisor;
    let [product, lost] = two_product(quotient, divisor);
    normal([quotient, ((a[0] - product) - lost + a[1]) / divisor])
}

/// Adds to the sum, then to as many of count and squares as there are.
#[inline]
fn put(state: &mut [u8], sum: Double, count: u64, squares: impl FnOnce() -> Double) {
    let put = |high: &mut [u8; 8], low: &mut [u8; 8], more: Double| {
        let sum = plus([f64::from_le_bytes(*high), f64::from_le_bytes(*low)], more);
        [*high, *low] = sum.map(f64::to_le_bytes);
    };
    let [high, low, rest @ ..] = state.as_chunks_mut::<8>().0 else { return };
    put(high, low, sum);
    let [counted, rest @ ..] = rest else { return };
    *counted = u64::from_le_bytes(*counted).saturating_add(count).to_le_bytes();
    let [high, low] = rest else { return };
    put(high, low, squares());
}

/// The sum, how many were added, and the sum of squares; 0 for what the state does not have.
fn read(state: &[u8]) -> (Double, u64, Double) {
    let words = state.as_chunks::<8>().0;
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let double = |at| [word(at), word(at + 1)].map(f64::from_le_bytes);
    (double(0), u64::from_le_bytes(word(2)), double(3))
}

#[inline]
pub(super) fn add(state: &mut [u8], value: &[u8]) {
    if let Some(number) = cell::float(value) {
        put(state, [number, 0.0], 1, || two_product(number, number));
    }
}

#[inline]
pub(super) fn merge(state: &mut [u8], other: &[u8]) {
    let (sum, count, squares) = read(other);
    put(state, sum, count, || squares);
}

/// To the nearest float. Where the high part is infinite or NaN the low one says nothing.
fn rounded([high, low]: Double) -> f64 {
    if high.is_finite() { high + low } else { high }
}

pub(super) fn sum(state: &[u8]) -> Value {
    Value::Float(rounded(read(state).0))
}

pub(super) fn mean(state: &[u8]) -> Value {
    match read(state) {
        (_, 0, _) => Value::Null,
        (sum, count, _) => Value::Float(rounded(sum) / count as f64),
    }
}

/// Of a sample or a population; its root, if asked for.
pub(super) fn variance(state: &[u8], sample: bool, root: bool) -> Value {
    let (sum, count, squares) = read(state);
    let divisor = count.saturating_sub(u64::from(sample));
    if divisor == 0 {
        return Value::Null;
    }
    if !sum[0].is_finite() || !squares[0].is_finite() {
        return Value::Float(f64::NAN);
    }
    let (sum, squares) = (normal(sum), normal(squares));
    let [high, low] = times(sum, by(sum, count as f64));
    let rest = rounded(plus(squares, [-high, -low]));
    let noise = squares[0] * f64::EPSILON * f64::EPSILON * 16.0;
    let variance = if rest <= noise { 0.0 } else { rest / divisor as f64 };
    Value::Float(if root { variance.sqrt() } else { variance })
}
