//! About how many different values: their hashes, and past 512 of them HyperLogLog.
//!
//! ```text
//! 1 | hash (u64) × up to 512, rising        no longer than the registers would be
//! 2 | register (u8) × 4096                  the registers of an HLL_8 sketch of Apache DataSketches, lg k = 12
//! ```
//! Exact up to 512 different values (but for equal hashes of 64 bits: 1 in 10^14). Past that the standard error is 1.04 / √4096 =
//! 1.6 %, three of them 4.9 %. Registers only grow, so the result depends on nothing but which values there were. The estimate is
//! the library's; adding and merging is done here, on the bytes as they lie in the tile: for each event the library's sketch would
//! have to be read and written as a whole.
//!
//! −0 and 0 are one value, and so are all NaN.

use datasketches::hll::HllSketch;
use karst_types::{Value, entity::key_hash};

use super::cell;

const LIST: u8 = 1;
const REGISTERS: u8 = 2;
const LIST_MAX: usize = 512;
const LG_K: u8 = 12;
const K: usize = 1 << LG_K;
/// The longest run of zeros in the bits that do not choose the register, and one.
const REGISTER_MAX: u8 = 64 - LG_K + 1;

/// The hashes, or the registers.
enum View<'a> {
    Hashes(&'a [[u8; 8]]),
    Registers(&'a [u8]),
}

fn view(state: &[u8]) -> View<'_> {
    match state.split_first() {
        Some((&REGISTERS, registers)) => View::Registers(registers),
        Some((_, hashes)) => View::Hashes(hashes.as_chunks::<8>().0),
        None => View::Hashes(&[]),
    }
}

#[inline]
fn raise(registers: &mut [u8], hash: u64) {
    let zeros = (hash | (K as u64 - 1)).leading_zeros() as u8 + 1;
    if let Some(register) = registers.get_mut(hash as usize % K) {
        *register = (*register).max(zeros);
    }
}

/// Turns hashes to registers.
fn spread(state: &mut Vec<u8>) {
    if let View::Hashes(hashes) = view(state) {
        let mut registers = vec![0; 1 + K];
        registers[0] = REGISTERS;
        hashes.iter().for_each(|hash| raise(&mut registers[1..], u64::from_le_bytes(*hash)));
        *state = registers;
    }
}

fn put(state: &mut Vec<u8>, hash: u64) {
    let hashes = match view(state) {
        View::Registers(_) => return raise(&mut state[1..], hash),
        View::Hashes(hashes) => hashes,
    };
    let Err(at) = hashes.binary_search_by_key(&hash, |known| u64::from_le_bytes(*known)) else { return };
    if hashes.len() == LIST_MAX {
        spread(state);
        return raise(&mut state[1..], hash);
    }
    if state.is_empty() {
        state.push(LIST);
    }
    let place = 1 + 8 * at;
    state.splice(place..place, hash.to_le_bytes());
}

/// Takes the value in if that changes no lengths.
pub(super) fn add_in_place(state: &mut [u8], value: &[u8]) -> bool {
    let hash = || key_hash(&cell::canonical(value));
    match state.split_first_mut() {
        _ if cell::is_null(value) => true,
        Some((&mut REGISTERS, registers)) => {
            raise(registers, hash());
            true
        }
        Some((_, hashes)) => {
            let known = hashes.as_chunks::<8>().0;
            known.binary_search_by_key(&hash(), |known| u64::from_le_bytes(*known)).is_ok()
        }
        None => false,
    }
}

pub(super) fn add(state: &mut Vec<u8>, value: &[u8]) {
    if !cell::is_null(value) {
        put(state, key_hash(&cell::canonical(value)));
    }
}

pub(super) fn merge(state: &mut Vec<u8>, other: &[u8]) {
    match view(other) {
        View::Registers(others) => {
            spread(state);
            state[1..].iter_mut().zip(others).for_each(|(register, other)| *register = (*register).max(*other));
        }
        View::Hashes(hashes) => hashes.iter().for_each(|hash| put(state, u64::from_le_bytes(*hash))),
    }
}

pub(super) fn finish(state: &[u8]) -> Value {
    match view(state) {
        View::Hashes(hashes) => Value::Int(hashes.len() as i64),
        View::Registers(registers) => estimate(registers).map_or(Value::Null, |estimate| Value::Int(estimate.round() as i64)),
    }
}

/// What the library makes of a sketch with these registers. Its estimator of merged sketches is asked for, since the other one
/// depends on the order in which values came.
fn estimate(registers: &[u8]) -> Option<f64> {
    const HEAD: [u8; 8] = [10, 1, 7, LG_K, 0, 16, 0, 10]; // 10 words of head, version 1, HLL; merged; registers of 8 bits
    // 2^-register: those below 32 and the others are summed apart, so that both sums are exact.
    let inverse = |large: bool| -> f64 {
        let chosen = registers.iter().filter(|register| (**register >= 32) == large);
        chosen.map(|register| 0.5f64.powi((*register).into())).sum()
    };
    let zeros = registers.iter().filter(|register| **register == 0).count() as u32;
    let mut image = Vec::with_capacity(40 + registers.len());
    image.extend_from_slice(&HEAD);
    [0.0, inverse(false), inverse(true)].iter().for_each(|number: &f64| image.extend_from_slice(&number.to_le_bytes()));
    [zeros, 0].iter().for_each(|number| image.extend_from_slice(&number.to_le_bytes()));
    image.extend_from_slice(registers);
    HllSketch::deserialize(&image).ok().map(|sketch| sketch.estimate())
}

pub(super) fn check(state: &[u8]) -> bool {
    let Some((tag, rest)) = state.split_first() else { return true };
    match *tag {
        LIST => {
            let (hashes, odd) = rest.as_chunks::<8>();
            let rising = hashes.is_sorted_by(|a, b| u64::from_le_bytes(*a) < u64::from_le_bytes(*b));
            odd.is_empty() && rising && (1..=LIST_MAX).contains(&hashes.len())
        }
        REGISTERS => rest.len() == K && rest.iter().all(|register| *register <= REGISTER_MAX),
        _ => false,
    }
}
