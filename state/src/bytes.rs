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
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
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
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_varint(out, ((number << 1) ^ (number >> 63)) as u64);
}
pub(crate) fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let number = varint(bytes)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
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
