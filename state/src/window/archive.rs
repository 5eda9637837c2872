//! Tiles that no window reaches at the watermark, but that are retained for questions about the past: 64 tiles of a level to a
//! row of their own.
//!
//! ```text
//! key: the entity's key | level (1 byte) | number of the chunk (i64, big-endian, sign flipped)
//! row: format (1 byte) | fingerprint of the layout (u32) | tiles by rising end, as in the entity's row
//! ```
//! Invariant: a tile counts in the archive iff its end is not after the floor of its level in the entity's row. The writer copies tiles
//! into the archive first and raises the floor then; a reader looks at the entity's row first. So none is missed or seen twice.

use karst_types::{UpdateRef, entity::key_hash};

use super::{
    layout::{ClassWindows, Scratch},
    row::{Section, Tile, check_tiles, tiles},
};

const FORMAT: u8 = 1;
const HEAD: usize = 5;
const CHUNK: i64 = 64;
/// What the key of a chunk is longer by than that of its entity.
pub(crate) const SUFFIX: usize = 9;

/// The number of the chunk that has the tile with this end.
pub(crate) fn chunk_of(end: i64, hop: i64) -> i64 {
    end.saturating_sub(1).div_euclid(hop.saturating_mul(CHUNK))
}

/// The end of the last tile of a chunk.
pub(crate) fn chunk_end(chunk: i64, hop: i64) -> i64 {
    (chunk + 1).saturating_mul(hop.saturating_mul(CHUNK))
}

/// The key and the hash of a chunk. The hash differs from that of the entity only below the bits that choose the shard.
pub(crate) fn key_of(entity: &[u8], hash: u64, level: usize, chunk: i64) -> (Vec<u8>, u64) {
    let mut key = Vec::with_capacity(entity.len() + SUFFIX);
    key.extend_from_slice(entity);
    key.push(level as u8);
    key.extend_from_slice(&((chunk as u64) ^ (1 << 63)).to_be_bytes());
    let own = key_hash(&key);
    (key, (hash & !0xffff_ffff) | (own & 0xffff_ffff))
}

/// Level and number of the chunk that a key names.
pub(crate) fn chunk_named(key: &[u8]) -> Option<(usize, i64)> {
    let (_, suffix) = key.split_last_chunk::<SUFFIX>()?;
    let (level, chunk) = suffix.split_first()?;
    Some((usize::from(*level), (u64::from_be_bytes(chunk.try_into().ok()?) ^ (1 << 63)) as i64))
}

pub(crate) fn build(layout: &ClassWindows) -> Vec<u8> {
    let mut row = vec![FORMAT];
    row.extend_from_slice(&layout.fingerprint().to_le_bytes());
    row
}

/// Whether bytes from disk are a chunk of this layout.
pub(crate) fn is_of(row: &[u8], layout: &ClassWindows) -> bool {
    row.len() >= HEAD && row[0] == FORMAT && row[1..HEAD] == layout.fingerprint().to_le_bytes()
}
pub(crate) fn check_shape(row: &[u8], layout: &ClassWindows) -> bool {
    is_of(row, layout) && check_tiles(&row[HEAD..], layout)
}
pub(crate) fn check(row: &[u8], layout: &ClassWindows) -> bool {
    check_shape(row, layout) && chunk(row, layout).all(|tile| tile.check(layout))
}

/// The tiles of a chunk.
pub(crate) fn chunk<'a>(row: &'a [u8], layout: &ClassWindows) -> impl Iterator<Item = Tile<'a>> {
    tiles(&row[HEAD..], layout)
}

pub(crate) fn section(row: &mut Vec<u8>) -> Section<'_> {
    let end = row.len();
    Section { row, start: HEAD, end }
}

/// Takes a tile in.
pub(crate) fn merge(row: &mut Vec<u8>, layout: &ClassWindows, tile: Tile<'_>) {
    section(row).merge(layout, tile.end, tile);
}

/// Takes a late event in.
pub(crate) fn add(row: &mut Vec<u8>, layout: &ClassWindows, update: &UpdateRef<'_>, end: i64, scratch: &mut Scratch) {
    section(row).add_update(layout, update, end, scratch, false);
}
