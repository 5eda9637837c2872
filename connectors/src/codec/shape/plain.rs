//! Values that can be read at sight: texts without escapes, short numbers, true, false and null. All else is left.

/// A value that needs no further thought.
#[derive(Clone, Copy)]
pub(super) enum Plain<'de> {
    Text(&'de str),
    Natural(u64),
    Negative(i64),
    Float(f64),
    Bool(bool),
    Null,
}

/// The value that starts at `at`, and where it ends.
#[inline]
pub(super) fn plain(text: &str, at: usize) -> Option<(Plain<'_>, usize)> {
    let bytes = text.as_bytes();
    match bytes.get(at)? {
        b'"' => {
            let start = at + 1;
            let end = start + text_len(&bytes[start..])?;
            Some((Plain::Text(text.get(start..end)?), end + 1))
        }
        b'-' | b'0'..=b'9' => number(bytes, at),
        b't' => bytes[at..].starts_with(b"true").then_some((Plain::Bool(true), at + 4)),
        b'f' => bytes[at..].starts_with(b"false").then_some((Plain::Bool(false), at + 5)),
        b'n' => bytes[at..].starts_with(b"null").then_some((Plain::Null, at + 4)),
        _ => None,
    }
}

/// Length of a text up to its closing quote; `None` if there is an escape or a control character in it.
#[inline]
fn text_len(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Eight bytes at once. A borrow can only mark bytes above one that is marked rightly, so the lowest mark is right.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let escape = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | escape | control) & HIGH;
        if found != 0 {
            at += found.trailing_zeros() as usize / 8;
            return (bytes[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let end = at + bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (bytes[end] == b'"').then_some(end)
}

/// The powers of ten that are exact: a significand below 2^53 divided by one of them is rounded once.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

#[inline]
fn number(bytes: &[u8], start: usize) -> Option<(Plain<'static>, usize)> {
    let negative = bytes[start] == b'-';
    let first = start + usize::from(negative);
    let mut significand = 0u64;
    let mut digits = |from: usize| {
        let mut at = from;
        while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            significand = significand.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        at
    };
    let point = digits(first);
    if point == first || point - first > 18 || (bytes[first] == b'0' && point - first > 1) {
        return None; // no digits, maybe too many, or a leading zero
    }
    if bytes.get(point) != Some(&b'.') {
        return match (negative, significand) {
            (false, natural) => Some((Plain::Natural(natural), point)),
            (true, 0) => None,
            (true, natural) => Some((Plain::Negative(-(natural as i64)), point)),
        };
    }
    let end = digits(point + 1);
    let places = end - point - 1;
    if places == 0 || end - first > 19 || significand >= 1 << 53 {
        return None;
    }
    let float = significand as f64 / TENS[places];
    Some((Plain::Float(if negative { -float } else { float }), end))
}
