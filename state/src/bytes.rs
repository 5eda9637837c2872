//! Reading and writing of the small encodings on disk. Every reader returns `None` rather than read past the end.

/// Takes `N` bytes.
pub(crate) fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}
pub(crate) fn u8(bytes: &mut &[u8]) -> Option<u8> {
    array::<1>(bytes).map(|[byte]| byte)
}
pub(crate) fn u16(bytes: &mut &[u8]) -> Option<u16> {
    array(bytes).map(u16::from_le_bytes)
}
pub(crate) fn i32(bytes: &mut &[u8]) -> Option<i32> {
    array(bytes).map(i32::from_le_bytes)
}
pub(crate) fn u64(bytes: &mut &[u8]) -> Option<u64> {
    array(bytes).map(u64::from_le_bytes)
}
pub(crate) fn i64(bytes: &mut &[u8]) -> Option<i64> {
    array(bytes).map(i64::from_le_bytes)
}
/// Takes `length` bytes.
pub(crate) fn slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// LEB128: seven bits a byte, least first.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        out.push(number as u8);
    } else {
        put_long_varint(out, number);
    }
}
/// Of more than one byte. Up to eight of them are spread and written at once: how many there are differs from number to number, and a
/// loop would be mispredicted.
#[inline]
fn put_long_varint(out: &mut Vec<u8>, mut number: u64) {
    if number < 1 << 56 {
        let length = (70 - number.leading_zeros() as usize) / 7; // of the 64 bits, rounded up
        let spread = (number & 0x0fff_ffff) | (number & 0x00ff_ffff_f000_0000) << 4;
        let spread = (spread & 0x0000_3fff_0000_3fff) | (spread & 0x0fff_c000_0fff_c000) << 2;
        let spread = (spread & 0x007f_007f_007f_007f) | (spread & 0x3f80_3f80_3f80_3f80) << 1;
        let goes_on = 0x0080_8080_8080_8080 & !(u64::MAX << (8 * (length - 1)));
        let end = out.len() + length;
        out.extend_from_slice(&(spread | goes_on).to_le_bytes());
        out.truncate(end);
        return;
    }
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
/// As `extend_from_slice`, for what has 8 to 16 bytes most often: then without a call into the C library.
#[inline]
pub(crate) fn put_short(out: &mut Vec<u8>, content: &[u8]) {
    if let (8..=16, Some(first), Some(last)) = (content.len(), content.first_chunk::<8>(), content.last_chunk::<8>()) {
        let last = u128::from(u64::from_le_bytes(*last)) << (8 * (content.len() - 8));
        let both = u128::from(u64::from_le_bytes(*first)) | last; // what is in both is the same in both
        let end = out.len() + content.len();
        out.extend_from_slice(&both.to_le_bytes());
        out.truncate(end);
    } else {
        out.extend_from_slice(content);
    }
}
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = u8(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
/// A signed number, small ones of either sign short.
#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)) as u64);
}
pub(crate) fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let number = varint(bytes)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Whether these are the same. Keys and heads are short: for those a call into the C library costs more than it does.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) if a.len() <= 16 => {
            u64::from_ne_bytes(*a_first) == u64::from_ne_bytes(*b_first)
                && u64::from_ne_bytes(*a_last) == u64::from_ne_bytes(*b_last)
        }
        _ => a == b,
    }
}

/// Length and content.
pub(crate) fn put_sized(out: &mut Vec<u8>, content: &[u8]) {
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}
pub(crate) fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    slice(bytes, length)
}
pub(crate) fn put_optional(out: &mut Vec<u8>, content: Option<&[u8]>) {
    match content {
        Some(content) => {
            out.push(1);
            put_sized(out, content);
        }
        None => out.push(0),
    }
}
pub(crate) fn optional(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match u8(bytes)? {
        0 => Some(None),
        1 => Some(Some(sized(bytes)?.to_vec())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_the_same_whatever_their_length() {
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).collect();
            assert!(same(&bytes, &bytes.clone()) && !same(&bytes, &[&bytes[..], &[0]].concat()));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert!(!same(&bytes, &other), "byte {at} of {length}");
            }
        }
    }

    #[test]
    fn short_content_is_appended_as_it_is() {
        for length in 0..40u8 {
            let content: Vec<u8> = (100..100 + length).collect();
            let mut out = vec![1, 2, 3];
            put_short(&mut out, &content);
            assert_eq!(out, [&[1, 2, 3][..], &content].concat());
        }
    }

    /// The oracle: one byte after the other.
    #[test]
    fn numbers_of_every_length_are_these_bytes() {
        for bits in 0..64 {
            for number in [1u64 << bits, (1 << bits) - 1, 0x5555_5555_5555_5555 >> bits, u64::MAX >> bits] {
                let (mut expected, mut rest) = (vec![7], number);
                while rest >= 0x80 {
                    expected.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                expected.push(rest as u8);
                let mut out = vec![7];
                put_varint(&mut out, number);
                assert_eq!(out, expected, "{number:x}");
                assert_eq!(varint(&mut &out[1..]), Some(number));
            }
        }
    }

    #[test]
    fn numbers_read_back_and_truncated_ones_are_refused() {
        for number in [0, 1, -1, 63, -64, 64, 1 << 40, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            assert_eq!(signed(&mut &out[..]), Some(number));
            assert_eq!(signed(&mut &out[..out.len() - 1]), None);
        }
        assert_eq!(varint(&mut &[0x80; 11][..]), None);
    }
}
