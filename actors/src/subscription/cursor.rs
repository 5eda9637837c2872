//! Where a subscriber stands: in the history of every shard, and in what it was told of windows that are over. As text it is what a
//! client keeps; nothing of it is kept here.
//!
//! ```text
//! v1 . directory . shard ~ shard ~ …          shard: incarnation - seq - updates of the next commit - class ; class ; …
//! class: number : told or nothing [: being told : key]          numbers in base 36, instants in µs, keys in hexadecimal digits
//! ```

use std::{fmt, str::FromStr};

use karst_state::ChangeVersion;
use karst_types::{ClassId, entity::key_hash};

/// In the place of the instant up to which windows were told: all that are still kept are to be.
pub(super) const EVERYTHING: i64 = i64::MIN;

/// A place in everything that a subscriber is told. It goes with the state directory that it is of, and with subscriptions to the same classes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Tells the state directory from others.
    pub(crate) directory: u64,
    pub(crate) shards: Vec<ShardCursor>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ShardCursor {
    /// The last commit that was told whole, or has nothing to tell.
    pub(crate) version: ChangeVersion,
    /// So many updates of the next commit have been told.
    pub(crate) skip: usize,
    /// One for each class with windows.
    pub(crate) classes: Vec<ClassCursor>,
}

/// What was told of the windows of one class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClassCursor {
    pub(crate) class: ClassId,
    /// Windows that ended up to then are told; `None`: from wherever time is when that is known.
    pub(crate) told: Option<i64>,
    /// Those up to this instant are being told, of entities before this key they are.
    pub(crate) telling: Option<(i64, Vec<u8>)>,
}

impl ClassCursor {
    /// Whether the window of this entity that ends so was told, or would have been had there been one.
    pub(crate) fn is_told(&self, key: &[u8], end: i64) -> bool {
        let told = self.told.is_some_and(|told| end <= told);
        told || self.telling.as_ref().is_some_and(|(to, next)| end <= *to && key < &next[..])
    }
}

impl Cursor {
    pub(crate) fn directory_of(id: &str) -> u64 {
        key_hash(id.as_bytes())
    }
}

fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}
fn signed(number: i64) -> String {
    if number < 0 { format!("!{}", base_36(number.unsigned_abs())) } else { base_36(number.unsigned_abs()) }
}
fn read_signed(text: &str) -> Option<i64> {
    match text.strip_prefix('!') {
        Some(text) => u64::from_str_radix(text, 36).ok().map(|number| 0i64.wrapping_sub_unsigned(number)),
        None => u64::from_str_radix(text, 36).ok().and_then(|number| i64::try_from(number).ok()),
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.", base_36(self.directory))?;
        for (nth, shard) in self.shards.iter().enumerate() {
            let ShardCursor { version, skip, classes } = shard;
            let [incarnation, seq, skip] = [version.incarnation, version.seq, *skip as u64].map(base_36);
            write!(f, "{}{incarnation}-{seq}-{skip}", if nth > 0 { "~" } else { "" })?;
            for (nth, ClassCursor { class, told, telling }) in classes.iter().enumerate() {
                let told = told.map(signed).unwrap_or_default();
                write!(f, "{}{}:{told}", if nth > 0 { ";" } else { "-" }, base_36(u64::from(class.0)))?;
                if let Some((to, key)) = telling {
                    write!(f, ":{}:", signed(*to))?;
                    key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| format!("\"{}\" is no cursor", text.chars().take(80).collect::<String>().escape_default()))
    }
}

fn read(text: &str) -> Option<Cursor> {
    let number = |text: &str| u64::from_str_radix(text, 36).ok();
    let (directory, shards) = text.strip_prefix("v1.")?.split_once('.')?;
    let hex = |text: &str| -> Option<Vec<u8>> {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
        pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
    };
    let class = |text: &str| -> Option<ClassCursor> {
        let mut parts = text.split(':');
        let class = ClassId(u16::try_from(number(parts.next()?)?).ok()?);
        let told = match parts.next()? {
            "" => None,
            told => Some(read_signed(told)?),
        };
        let telling = match parts.next() {
            None => None,
            Some(to) => Some((read_signed(to)?, hex(parts.next()?)?)),
        };
        parts.next().is_none().then_some(ClassCursor { class, told, telling })
    };
    let shard = |text: &str| -> Option<ShardCursor> {
        let mut parts = text.splitn(4, '-');
        let mut next = || number(parts.next()?);
        let (version, skip) = (ChangeVersion { incarnation: next()?, seq: next()? }, usize::try_from(next()?).ok()?);
        let classes = parts.next().map_or(Some(Vec::new()), |text| text.split(';').map(class).collect())?;
        Some(ShardCursor { version, skip, classes })
    };
    let shards = shards.split('~').map(shard).collect::<Option<Vec<_>>>()?;
    Some(Cursor { directory: number(directory)?, shards })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_other_text_is_refused() {
        let class = |number, told, telling| ClassCursor { class: ClassId(number), told, telling };
        let shard = |seq, skip, classes| ShardCursor { version: ChangeVersion { incarnation: 2, seq }, skip, classes };
        let telling = class(40, Some(1_699_999_200_000_000), Some((1_700_000_000_000_000, b"ad:a-~\0".to_vec())));
        let shards = vec![
            shard(u64::MAX, 3, vec![class(1, None, None), telling]),
            shard(0, 0, Vec::new()),
            shard(7, 0, vec![class(2, Some(i64::MIN), Some((-5, Vec::new())))]),
        ];
        let cursor = Cursor { directory: u64::MAX, shards };
        let text = cursor.to_string();
        assert_eq!(text.parse::<Cursor>().as_ref(), Ok(&cursor));
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-.~:;!".contains(c)), "{text}");
        for cut in 0..text.len() {
            // What is cut may be a shorter cursor, but never another one of as many shards with the same text.
            assert!(text[..cut].parse::<Cursor>().is_err() || text[..cut].parse::<Cursor>().as_ref() != Ok(&cursor));
        }
        for wrong in ["", "v1", "v1.x", "v2.1.1-1-0", "v1.1.1-1", "v1.1.1-1-0-1:2:3:4:5", "v1.1.1-1-0-1:2:3:abc", "v1.!.1-1-0"]
        {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_is_told_once_its_end_is_passed_and_its_entity_looked_at() {
        let class = ClassCursor { class: ClassId(0), told: Some(10), telling: Some((20, b"m".to_vec())) };
        assert!(class.is_told(b"z", 10) && class.is_told(b"a", 20));
        assert!(!class.is_told(b"m", 11) && !class.is_told(b"a", 21));
    }
}
