//! What stands before a datum to say which schema it was written with.

use std::time::Duration;

use karst_types::{Reason, Records};

use super::{Fault, Unavailable};
use crate::{BoxFuture, SchemaRegistry};

/// The next schema of the batch that the registry is to be asked for; `last` is one that is known for sure.
pub(super) fn prepare<'a>(
    registry: &SchemaRegistry,
    last: Option<u32>,
    records: &Records,
    now: Duration,
) -> Option<BoxFuture<'a, Result<(), Unavailable>>> {
    let mut last = last;
    for record in records.iter() {
        let Some(Ok((id, _))) = record.value().map(confluent) else { continue };
        if last == Some(id) {
            continue;
        }
        if registry.wants(id, now) {
            return Some(Box::pin(registry.fetch(id, now)));
        }
        last = Some(id);
    }
    None
}

/// Confluent's wire format: a zero byte, the schema's id as four bytes (big-endian), the datum.
pub(super) fn confluent(value: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [] => Err((Reason::Empty, "expected a zero byte, the id of a schema and a datum, got nothing".to_owned())),
        [0, ..] => {
            Err((Reason::Malformed, format!("expected a zero byte and four bytes of a schema's id, got {} bytes", value.len())))
        }
        [first, ..] => {
            let hint = match first {
                b'{' | b'[' => " (a JSON document?)",
                _ => "",
            };
            Err((Reason::Malformed, format!("expected the zero byte before a schema's id, got 0x{first:02x}{hint}")))
        }
    }
}

/// What stands between the id and a Protobuf message: which message of the schema's file it is, as the index of a message, then of
/// a message within it, and so on. A single zero stands for the first message.
pub(super) fn message_indexes(rest: &[u8]) -> Result<(Vec<usize>, &[u8]), Fault> {
    const NESTED_MAX: usize = 32;
    let wrong = || (Reason::Malformed, "expected the index of a message behind the schema's id".to_owned());
    let (count, mut rest) = zigzag(rest).ok_or_else(wrong)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    let mut indexes = Vec::new();
    for _ in 0..usize::try_from(count).ok().filter(|count| *count <= NESTED_MAX).ok_or_else(wrong)? {
        let (index, behind) = zigzag(rest).ok_or_else(wrong)?;
        indexes.push(usize::try_from(index).map_err(|_| wrong())?);
        rest = behind;
    }
    Ok((indexes, rest))
}

fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[index + 1..]));
        }
    }
    None
}

/// Avro's single-object encoding: the bytes C3 01, the fingerprint of the schema (little-endian), the datum.
pub(super) fn single_object(value: &[u8]) -> Result<(u64, &[u8]), Fault> {
    match value {
        [] => Err((Reason::Empty, "expected the bytes C3 01, a schema's fingerprint and a datum, got nothing".to_owned())),
        [0xc3, 0x01, rest @ ..] => match rest.split_first_chunk::<8>() {
            Some((fingerprint, datum)) => Ok((u64::from_le_bytes(*fingerprint), datum)),
            None => {
                Err((Reason::Malformed, format!("expected C3 01 and eight bytes of a fingerprint, got {} bytes", value.len())))
            }
        },
        [first, ..] => {
            Err((Reason::Malformed, format!("expected the bytes C3 01 of a single-object encoding, got 0x{first:02x}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_fingerprints_are_read_and_what_is_none_is_refused() {
        assert_eq!(confluent(&[0, 0, 0, 1, 2, 9]).unwrap(), (258, &[9][..]));
        assert_eq!(confluent(&[0, 0, 0, 0, 7]).unwrap(), (7, &[][..]));
        for bad in [&b"\0\0\0\0"[..], b"{\"a\":1}", b"\x01\0\0\0\x07x"] {
            assert_eq!(confluent(bad).unwrap_err().0, Reason::Malformed);
        }
        assert_eq!(confluent(b"").unwrap_err().0, Reason::Empty);
        assert_eq!(message_indexes(&[0, 9]).unwrap(), (vec![0], &[9][..]));
        assert_eq!(message_indexes(&[4, 2, 0, 9]).unwrap(), (vec![1, 0], &[9][..]));
        for bad in [&[][..], &[4, 2], &[1, 0], &[0xff; 12], &[2, 1], &[100]] {
            assert_eq!(message_indexes(bad).unwrap_err().0, Reason::Malformed);
        }
        assert_eq!(single_object(&[0xc3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 5]).unwrap(), (1, &[5][..]));
        assert_eq!(single_object(&[0xc3, 1, 1]).unwrap_err().0, Reason::Malformed);
        assert_eq!(single_object(&[0xc3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 5]).unwrap_err().0, Reason::Malformed);
    }
}
