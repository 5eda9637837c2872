//! Which thing a value belongs to, and which shard keeps it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::{ClassId, Value, ValueType, value::int_key};

/// Keys longer than this are refused: a key is stored with every row and every history entry.
pub const KEY_BYTES_MAX: usize = 4096;

/// One slice of the feature store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many shards a state directory has: fixed when it is created, independent of the number of threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardCount(u16);

impl ShardCount {
    /// `None` unless 1 ≤ `count` ≤ 1024.
    pub const fn new(count: u16) -> Option<Self> {
        if count >= 1 && count <= 1024 { Some(Self(count)) } else { None }
    }
    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
    /// All shards.
    pub fn shards(self) -> impl Iterator<Item = ShardId> {
        (0..self.0).map(ShardId)
    }
}

/// The version of [`key_hash`] and [`shard_of`] that a state directory was made with.
pub const HASH_VERSION: u16 = 1;

/// The stable hash of a key's bytes: XXH3-64, seed 0. On disk it decides the shard, so it can never change
/// (golden vectors below). The class takes no part: entities of different classes with one key share a shard.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The shard of a key: the upper half of its hash, scaled. The lower bits stay free for hash maps inside the shard.
#[inline]
pub fn shard_of(hash: u64, shards: ShardCount) -> ShardId {
    ShardId((((hash >> 32) * u64::from(shards.0)) >> 32) as u16)
}

/// One entity: a feature class and the bytes of its key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    /// The class.
    pub class: ClassId,
    /// Text as it is; whole numbers as 8 bytes that sort as the numbers do.
    pub bytes: Vec<u8>,
}

impl EntityKey {
    /// From a value of the class's key type.
    ///
    /// # Errors
    /// Says what was expected and got.
    pub fn from_value(class: ClassId, key_type: ValueType, value: &Value) -> Result<Self, String> {
        let bytes = match (key_type, value) {
            (ValueType::Str, Value::Str(text)) => text.as_bytes().to_vec(),
            (ValueType::Int, Value::Int(number)) => int_key(*number).to_vec(),
            (_, other) => {
                let got = other.value_type().map_or_else(|| "null".to_owned(), |got| got.to_string());
                return Err(format!("expected a key of type {key_type}, got {got}"));
            }
        };
        if bytes.len() > KEY_BYTES_MAX {
            return Err(format!("expected a key of at most {KEY_BYTES_MAX} bytes, got {}", bytes.len()));
        }
        Ok(Self { class, bytes })
    }

    /// Back to the value that it was made from; `None` if the bytes are not of that type.
    pub fn to_value(key_type: ValueType, bytes: &[u8]) -> Option<Value> {
        match key_type {
            ValueType::Str => std::str::from_utf8(bytes).ok().map(|text| Value::Str(text.into())),
            ValueType::Int => {
                let number = u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63);
                Some(Value::Int(number as i64))
            }
            _ => None,
        }
    }

    /// The stable hash of the key.
    pub fn hash(&self) -> u64 {
        key_hash(&self.bytes)
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class.0, String::from_utf8_lossy(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden vectors (reliability I35): a change here loses every stored value. The hashes are XXH3's published ones for
    /// the empty input and were recorded once for the others.
    #[test]
    fn the_hash_and_the_shard_of_a_key_never_change() {
        let sixteen = ShardCount::new(16).unwrap();
        let golden: [(&[u8], u64, u16); 3] = [
            (b"", 0x2d06_8005_38d3_94c2, 2),
            (b"user_000001", 5_461_509_729_213_014_107, 4),
            (b"N14228", 314_117_315_740_407_462, 0),
        ];
        for (key, hash, shard) in golden {
            assert_eq!((key_hash(key), shard_of(key_hash(key), sixteen).0), (hash, shard), "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn keys_spread_evenly_over_any_number_of_shards() {
        for count in [1, 3, 4, 7, 64] {
            let shards = ShardCount::new(count).unwrap();
            let mut hits = vec![0u32; count as usize];
            for number in 0..64_000 {
                hits[shard_of(key_hash(&int_key(number)), shards).0 as usize] += 1;
            }
            let fair = 64_000 / u32::from(count);
            assert!(hits.iter().all(|hits| hits.abs_diff(fair) < fair / 5 + 1), "{count}: {hits:?}");
        }
    }

    #[test]
    fn a_key_reads_back_as_the_value_it_was_made_from() {
        for (ty, value) in [(ValueType::Str, Value::Str("ada".into())), (ValueType::Int, Value::Int(-5))] {
            let key = EntityKey::from_value(ClassId(0), ty, &value).unwrap();
            assert_eq!(EntityKey::to_value(ty, &key.bytes), Some(value));
        }
        assert!(EntityKey::from_value(ClassId(0), ValueType::Int, &Value::Null).is_err());
    }
}
