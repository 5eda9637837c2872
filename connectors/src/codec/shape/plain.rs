//! Values that can be read at sight: texts without escapes, short numbers, true, false and null. All else is left.
//!
//! Sixteen bytes of a text and eight of a number are looked at at once, without a branch for each of them.

use wide::u8x16;

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// A text that documents have at a certain place.
pub(super) struct Literal {
    text: Box<[u8]>,
    /// Its first 16 bytes, and which of these it has: most have no more, and are compared at once.
    start: u128,
    mask: u128,
}

impl Literal {
    pub(super) fn new(text: &[u8]) -> Self {
        let (mut start, mut mask) = ([0; 16], [0; 16]);
        for (place, byte) in text.iter().take(16).enumerate() {
            (start[place], mask[place]) = (*byte, 0xff);
        }
        Self { text: text.into(), start: u128::from_le_bytes(start), mask: u128::from_le_bytes(mask) }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// What follows it, if `rest` starts with it.
    #[inline]
    fn behind<'de>(&self, rest: &'de [u8]) -> Option<&'de [u8]> {
        match rest.first_chunk::<16>() {
            Some(start) if self.text.len() <= 16 => {
                ((u128::from_le_bytes(*start) ^ self.start) & self.mask == 0).then(|| &rest[self.text.len()..])
            }
            _ => rest.strip_prefix(&*self.text),
        }
    }
}

/// A place in a document.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'de> {
    text: &'de str,
    rest: &'de [u8],
}

/// A number as JSON writes it.
pub(super) enum Number {
    Natural(u64),
    Negative(i64),
    Float(f64),
}

/// The three words.
pub(super) enum Word {
    Bool(bool),
    Null,
}

/// What a value begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Word,
}

impl<'de> Cursor<'de> {
    #[inline]
    pub(super) fn new(text: &'de str, at: usize) -> Self {
        Self { text, rest: &text.as_bytes()[at..] }
    }
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }
    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What the next value is, if it is plain.
    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self.rest.first() {
            Some(b'"') => Kind::Text,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            _ => Kind::Word,
        }
    }

    /// Goes behind a literal, if that is what follows.
    #[inline]
    pub(super) fn literal(&mut self, literal: &Literal) -> Option<()> {
        self.rest = literal.behind(self.rest)?;
        Some(())
    }

    /// The text that starts here; `None` if there is an escape or a control character in it.
    #[inline]
    pub(super) fn text(&mut self) -> Option<&'de str> {
        let start = self.at() + 1;
        let length = self.skip_text()?;
        self.text.get(start..start + length)
    }

    /// Goes behind the text that starts here, and returns its length.
    #[inline]
    fn skip_text(&mut self) -> Option<usize> {
        let content = self.rest.get(1..)?;
        let length = text_len(content)?;
        self.rest = content.get(length + 1..)?;
        Some(length)
    }

    /// The number that starts here; `None` if it takes thought.
    #[inline]
    pub(super) fn number(&mut self) -> Option<Number> {
        let negative = self.rest.first() == Some(&b'-');
        let whole = if negative { &self.rest[1..] } else { self.rest };
        let (significand, count) = digits(whole, 0);
        if count == 0 || count > 18 || (whole[0] == b'0' && count > 1) {
            return None; // no digits, maybe too many, or a leading zero
        }
        let after = &whole[count..];
        if after.first() != Some(&b'.') {
            self.rest = after;
            return match (negative, significand) {
                (false, natural) => Some(Number::Natural(natural)),
                (true, 0) => None,
                (true, natural) => Some(Number::Negative(-(natural as i64))),
            };
        }
        let (significand, places) = digits(&after[1..], significand);
        if places == 0 || count + places > 18 || significand >= 1 << 53 {
            return None;
        }
        self.rest = &after[1 + places..];
        let float = significand as f64 / TENS[places];
        Some(Number::Float(if negative { -float } else { float }))
    }

    /// The word that starts here.
    #[inline]
    pub(super) fn word(&mut self) -> Option<Word> {
        let (word, length) = match self.rest.first()? {
            b't' if self.rest.starts_with(b"true") => (Word::Bool(true), 4),
            b'f' if self.rest.starts_with(b"false") => (Word::Bool(false), 5),
            b'n' if self.rest.starts_with(b"null") => (Word::Null, 4),
            _ => return None,
        };
        self.rest = &self.rest[length..];
        Some(word)
    }

    /// Goes behind the value that starts here, if it is plain.
    #[inline]
    pub(super) fn skip(&mut self) -> Option<()> {
        match self.kind() {
            Kind::Text => self.skip_text().map(|_| ()),
            Kind::Number => self.number().map(|_| ()),
            Kind::Word => self.word().map(|_| ()),
        }
    }
}

/// Length of a text up to its closing quote; `None` if there is an escape or a control character in it.
#[inline]
fn text_len(content: &[u8]) -> Option<usize> {
    let (chunks, tail) = content.as_chunks::<16>();
    let mut before = 0;
    for chunk in chunks {
        let ends = ends(*chunk);
        if ends != 0 {
            let place = ends.trailing_zeros() as usize % 16;
            return (chunk[place] == b'"').then_some(before + place);
        }
        before += 16;
    }
    let place = tail.iter().position(|byte| is_end(*byte))?;
    (tail[place] == b'"').then_some(before + place)
}

/// Whether a byte ends a text, or makes it one that is not plain.
#[inline]
fn is_end(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// A bit for each byte that [ends](is_end) a text.
#[inline]
fn ends(bytes: [u8; 16]) -> u32 {
    let bytes = u8x16::from(bytes);
    let controls = bytes.simd_eq(bytes.min(u8x16::splat(0x1f)));
    (bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | controls).to_bitmask()
}

/// The powers of ten that are exact: a significand below 2^53 divided by one of them is rounded once.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

const WHOLE_TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// `number` with the digits that `text` starts with appended, and how many they are; wraps if they are too many.
#[inline]
fn digits(text: &[u8], mut number: u64) -> (u64, usize) {
    let (words, tail) = text.as_chunks::<8>();
    let mut before = 0;
    for word in words {
        let (more, count) = leading_digits(u64::from_le_bytes(*word));
        number = number.wrapping_mul(WHOLE_TENS[count]).wrapping_add(more);
        if count < 8 {
            return (number, before + count);
        }
        before += 8;
    }
    // What is left, and zeros, which are no digits, behind it: from the last eight bytes, if there are so many.
    let word = match text.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last).unbounded_shr(64 - 8 * tail.len() as u32),
        None => tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let (more, count) = leading_digits(word);
    (number.wrapping_mul(WHOLE_TENS[count]).wrapping_add(more), before + count)
}

/// The number that the digits at the start of `word` make, and how many they are.
#[inline]
fn leading_digits(word: u64) -> (u64, usize) {
    const TOPS: u64 = ONES * 0xf0;
    const THREES: u64 = ONES * 0x30;
    // '0' to '9' are 0x30 to 0x39: both the byte and the byte and six start with 3. A carry can only touch bytes above one
    // that is no digit.
    let others = ((word & TOPS) ^ THREES) | ((word.wrapping_add(ONES * 6) & TOPS) ^ THREES);
    if others & 0xff != 0 {
        return (0, 0);
    }
    let count = others.trailing_zeros() as usize / 8;
    // As if there were zeros before them: then pairs, fours and eights are put together at once.
    let ones = (word << (8 * (8 - count))) & (ONES * 0x0f);
    let pairs = (ones.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000 << 32 | 1) >> 32, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_at_the_start_of_a_word_are_found_and_counted() {
        let mut state = 3u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let count = (state >> 60) as usize % 9;
            let mut text: [u8; 8] = (state >> 3).to_le_bytes().map(|byte| byte % 10 + b'0');
            if let Some(other) = text.get_mut(count) {
                *other = match (state >> 40) as u8 {
                    digit @ b'0'..=b'9' => digit + 10,
                    other => other,
                };
            }
            let expected = text[..count].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
            assert_eq!(leading_digits(u64::from_le_bytes(text)), (expected, count), "{text:?}");
        }
    }
}
