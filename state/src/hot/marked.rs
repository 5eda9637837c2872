//! What a commit takes out of the hot set: which rows, and copies of them.

use super::PARTS;

/// Entries by part: what is dirty, or in flight.
pub(crate) struct Marked {
    pub(super) parts: Vec<Vec<u32>>,
    pub(super) len: usize,
}

impl Default for Marked {
    fn default() -> Self {
        Self { parts: vec![Vec::new(); PARTS], len: 0 }
    }
}

impl Marked {
    /// The row at `place` of a part has been changed, and was clean.
    #[inline]
    pub(super) fn push(&mut self, part: usize, place: u32) {
        self.parts[part].push(place);
        self.len += 1;
    }
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Rows copied out for a commit: RocksDB key and row of each, one after the other.
#[derive(Default)]
pub(crate) struct Copied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: Vec<CopiedRow>,
}

#[derive(Clone, Copy)]
pub(crate) struct CopiedRow {
    pub(super) start: u32,
    pub(super) key_len: u32,
    pub(super) row_len: u32,
}

impl Copied {
    pub(crate) fn key(&self, row: CopiedRow) -> &[u8] {
        &self.bytes[row.start as usize..][..row.key_len as usize]
    }
    pub(crate) fn row(&self, row: CopiedRow) -> &[u8] {
        &self.bytes[(row.start + row.key_len) as usize..][..row.row_len as usize]
    }
}
