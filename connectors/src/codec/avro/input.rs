//! The bytes of one datum, read from front to back. Every length is checked against what is left before anything is made of it,
//! so a datum cannot claim more than it holds.

use super::super::datum_error::DatumError as Error;

/// Values nested in values. A schema may refer to itself, so that a datum alone decides how deep it goes.
const DEPTH_MAX: u32 = 128; // as serde_json
/// Items without a single byte (of type null, say) that a datum may hold: their number is bounded by nothing else.
const EMPTY_ITEMS_MAX: u64 = 1 << 16;

/// A datum under reading.
pub(super) struct Input<'de> {
    bytes: &'de [u8],
    /// How much of it is read.
    at: usize,
    depth: u32,
    empty_items: u64,
}

impl<'de> Input<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, empty_items: 0 }
    }
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'de [u8], Error> {
        let taken = self.bytes[self.at..].get(..count).ok_or_else(|| self.short(count))?;
        self.at += count;
        Ok(taken)
    }
    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let chunk = self.bytes[self.at..].first_chunk::<N>().ok_or_else(|| self.short(N))?;
        self.at += N;
        Ok(*chunk)
    }
    #[cold]
    fn short(&self, wanted: usize) -> Error {
        let (at, left) = (self.at, self.left());
        Error::malformed(format!("the datum breaks off: {wanted} bytes are expected at byte {at}, {left} are left"))
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Error> {
        match self.chunk::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Error::malformed(format!("expected a boolean, 0 or 1, got 0x{other:02x} at byte {}", self.at - 1))),
        }
    }
    /// Zigzag, 7 bits per byte, at most ten bytes.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Error> {
        let rest = &self.bytes[self.at..];
        let mut value = 0u64;
        for (index, byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(self.no_number(rest.len()))
    }
    #[cold]
    fn no_number(&self, left: usize) -> Error {
        if left < 10 {
            return self.short(left + 1);
        }
        Error::malformed(format!("the number at byte {} does not fit 64 bits", self.at))
    }
    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Error> {
        let at = self.at;
        let value = self.long()?;
        i32::try_from(value).map_err(|_| Error::malformed(format!("expected an int of 32 bits at byte {at}, got {value}")))
    }
    #[inline]
    pub(super) fn float(&mut self) -> Result<f32, Error> {
        Ok(f32::from_le_bytes(self.chunk()?))
    }
    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, Error> {
        Ok(f64::from_le_bytes(self.chunk()?))
    }
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Error> {
        let at = self.at;
        let length = self.long()?;
        let length = usize::try_from(length)
            .map_err(|_| Error::malformed(format!("expected a length at byte {at}, got the negative number {length}")))?;
        self.take(length)
    }
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'de str, Error> {
        let at = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|error| Error::not_utf8(at, error.valid_up_to()))
    }
    /// The index of a branch or a symbol.
    #[inline]
    pub(super) fn index(&mut self, of: &'static str, count: usize) -> Result<usize, Error> {
        let at = self.at;
        let index = self.long()?;
        let index = usize::try_from(index).ok().filter(|index| *index < count);
        index.ok_or_else(|| Error::malformed(format!("expected the number of {of} at byte {at}, below {count}")))
    }

    /// The head of the next block of an array or map: its number of items, 0 at the end. `item` is the least size of one.
    pub(super) fn block(&mut self, item: usize) -> Result<u64, Error> {
        let at = self.at;
        let mut count = self.long()?;
        if count < 0 {
            // The size of the block in bytes follows, for those who want to skip it.
            let size = self.long()?;
            if usize::try_from(size).ok().is_none_or(|size| size > self.left()) {
                return Err(Error::malformed(format!("the block at byte {at} claims {size} bytes, {} are left", self.left())));
            }
            count = count.checked_neg().ok_or_else(|| Error::malformed(format!("the block at byte {at} has no size")))?;
        }
        let count = count as u64;
        let fits = match item {
            0 => {
                self.empty_items = self.empty_items.saturating_add(count);
                self.empty_items <= EMPTY_ITEMS_MAX
            }
            item => count <= (self.left() / item) as u64,
        };
        if !fits {
            let left = self.left();
            return Err(Error::malformed(format!("the block at byte {at} claims {count} items, {left} bytes are left")));
        }
        Ok(count)
    }

    /// Goes one level deeper; to be undone by [`Input::leave`].
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::malformed(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        Ok(())
    }
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// The datum is over.
    pub(super) fn end(&self) -> Result<(), Error> {
        match self.left() {
            0 => Ok(()),
            left => Err(Error::malformed(format!("{left} bytes follow behind the datum, which ends at byte {}", self.at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zigzag(value: i64) -> Vec<u8> {
        let mut left = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = Vec::new();
        while left > 0x7f {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    }

    #[test]
    fn numbers_read_back_and_those_beyond_64_bits_are_refused() {
        for value in [0, -1, 1, 63, -64, 64, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let bytes = zigzag(value);
            let mut input = Input::new(&bytes);
            assert_eq!(input.long().unwrap(), value);
            input.end().unwrap();
            for cut in 0..bytes.len() {
                assert!(Input::new(&bytes[..cut]).long().is_err());
            }
        }
        assert!(Input::new(&[0xff; 11]).long().is_err());
        assert!(Input::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]).long().is_err());
        assert!(Input::new(&zigzag(1 << 31)).int().is_err());
    }

    #[test]
    fn a_block_cannot_claim_more_than_there_is() {
        let claim = |count: i64, item: usize| Input::new(&zigzag(count)).block(item);
        assert!(claim(i64::MAX, 1).is_err() && claim(1, 1).is_err() && claim(i64::MAX, 0).is_err());
        assert!(claim(i64::MIN, 0).is_err() && claim(-1, 0).is_err());
        assert_eq!(claim(0, 1).unwrap(), 0);
        assert_eq!(claim(1 << 16, 0).unwrap(), 1 << 16);
    }
}
