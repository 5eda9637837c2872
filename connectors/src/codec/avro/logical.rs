//! Logical types in the forms that others read: RFC 3339, a decimal with its point, a UUID with its dashes.

use std::fmt::Write as _;

use karst_types::time::iso;

use super::super::datum_error::DatumError as Error;

/// A count of `unit`ths of a second as microseconds, rounded down.
#[inline]
pub(super) fn micros(count: i64, unit: i64) -> i128 {
    (i128::from(count) * 1_000_000).div_euclid(i128::from(unit))
}

/// RFC 3339, to the microsecond.
pub(super) fn timestamp(count: i64, unit: i64) -> String {
    let micros = micros(count, unit);
    iso(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
}

/// `2013-01-01`.
pub(super) fn date(days: i32) -> String {
    let text = iso(i64::from(days).saturating_mul(86_400_000_000));
    text.split_once('T').map_or(text.clone(), |(date, _)| date.to_owned())
}

/// An unscaled big-endian number, with its point: `-12.50`. Up to 16 bytes, which hold 38 digits.
pub(super) fn decimal(unscaled: &[u8], scale: u32) -> Result<String, Error> {
    let Some((first, _)) = unscaled.split_first() else { return Ok("0".to_owned()) };
    let sign = if first & 0x80 == 0 { 0 } else { 0xff };
    let start = unscaled.len().saturating_sub(16);
    let (above, low) = unscaled.split_at(start);
    if above.iter().any(|byte| *byte != sign) || (start > 0 && (low[0] & 0x80) != (sign & 0x80)) || scale > 38 {
        return Err(Error::mismatch("a decimal of more than 38 digits".to_owned()));
    }
    let mut bytes = [sign; 16];
    bytes[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(bytes);
    let digits = value.unsigned_abs().to_string();
    let minus = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    if scale == 0 {
        return Ok(format!("{minus}{digits}"));
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    Ok(format!("{minus}{whole}.{fraction}"))
}

/// `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`, of 16 bytes.
pub(super) fn uuid(bytes: &[u8]) -> Result<String, Error> {
    if bytes.len() != 16 {
        return Err(Error::malformed(format!("expected a uuid of 16 bytes, got {}", bytes.len())));
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_their_point_where_the_scale_says() {
        let text = |unscaled: &[u8], scale| decimal(unscaled, scale).ok();
        assert_eq!(text(&[0x04, 0xd2], 2).as_deref(), Some("12.34"));
        assert_eq!(text(&[0xff], 2).as_deref(), Some("-0.01"));
        assert_eq!(text(&[0xff; 20], 0).as_deref(), Some("-1"));
        assert_eq!(text(&[], 3).as_deref(), Some("0"));
        assert_eq!(text(&[0x7f; 17], 0), None);
        assert_eq!(text(&i128::MIN.to_be_bytes(), 0), Some(i128::MIN.to_string()));
    }

    #[test]
    fn dates_timestamps_and_uuids_have_their_usual_form() {
        assert_eq!((date(0), date(-1), date(15_706)), ("1970-01-01".into(), "1969-12-31".into(), "2013-01-01".into()));
        assert_eq!(timestamp(-1, 1_000), "1969-12-31T23:59:59.999Z");
        assert_eq!(timestamp(1_500, 1_000_000_000), "1970-01-01T00:00:00.000001Z");
        assert_eq!(uuid(&[0xab; 16]).unwrap(), "abababab-abab-abab-abab-abababababab");
        assert!(uuid(&[0; 15]).is_err());
    }
}
