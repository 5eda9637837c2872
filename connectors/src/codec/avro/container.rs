//! Object container files (Avro specification 1.12): a header with the schema, then blocks of data.
//!
//! A datum is handed on in the single-object encoding, so that each record says by itself what it was written with. What is wrong
//! inside a block are records that cannot be decoded; a header or a block that cannot be read is a fault of the file.

use std::{
    io::{self, Read, Seek, SeekFrom},
    str::FromStr,
    sync::Arc,
};

use apache_avro::Codec;

use super::{AvroSchema, KnownSchemas, input::Input, plan::Plan, resolve};

const MAGIC: [u8; 4] = *b"Obj\x01";
/// Bytes of the header's metadata, and of a block as it lies in the file; both are far above what is usual.
const METADATA_MAX: u64 = 16 << 20;
const BLOCK_MAX: u64 = 256 << 20;

/// An open file, standing between two blocks.
pub(crate) struct Container<F> {
    file: F,
    codec: Codec,
    plan: Plan,
    prefix: [u8; 10],
    sync: [u8; 16],
    /// Where the first block starts.
    start: u64,
}

/// A block: how many data it claims, and their bytes.
pub(crate) struct Block {
    pub(crate) count: u64,
    data: Vec<u8>,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<F: Read + Seek> Container<F> {
    /// Reads the header, and makes its schema known.
    pub(crate) fn open(mut file: F, known: &KnownSchemas) -> io::Result<Self> {
        let mut magic = [0; 4];
        file.read_exact(&mut magic)
            .map_err(|_| wrong("it is no Avro container file: it is shorter than its first four bytes"))?;
        if magic != MAGIC {
            return Err(wrong("it is no Avro container file: it does not begin with Obj and 1"));
        }
        let (mut schema, mut codec) = (None, "null".to_owned());
        let mut left = METADATA_MAX;
        loop {
            let mut count = long(&mut file)?.ok_or_else(|| wrong("its header breaks off"))?;
            if count == 0 {
                break;
            }
            if count < 0 {
                long(&mut file)?; // the size of the block
                count = count.checked_neg().ok_or_else(|| wrong("its header has a block without a size"))?;
            }
            for _ in 0..count {
                let (key, value) = (bytes(&mut file, &mut left)?, bytes(&mut file, &mut left)?);
                let text = || String::from_utf8(value).map_err(|_| wrong("its header is not UTF-8"));
                match &key[..] {
                    b"avro.schema" => schema = Some(text()?),
                    b"avro.codec" => codec = text()?,
                    _ => {}
                }
            }
        }
        let mut sync = [0; 16];
        file.read_exact(&mut sync)?;
        let schema = schema.ok_or_else(|| wrong("its header has no avro.schema"))?;
        let schema = AvroSchema::parse(&schema, &[]).map_err(|why| wrong(format!("its schema: {why}")))?;
        let codec = Codec::from_str(&codec)
            .map_err(|_| wrong(format!("its codec \"{codec}\" is not known here; there are null, deflate and snappy")))?;
        let plan = resolve::compile(&schema, None).map_err(|why| wrong(format!("its schema: {why}")))?;
        let mut prefix = [0xc3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        prefix[2..].copy_from_slice(&known.add(Arc::new(schema)).to_le_bytes());
        let start = file.stream_position()?;
        Ok(Self { file, codec, plan, prefix, sync, start })
    }

    /// How many data there are. Reads the heads of all blocks.
    pub(crate) fn count(&mut self) -> io::Result<u64> {
        self.skip(u64::MAX)
    }

    /// Goes to the block that holds the datum with this number, or to the end; returns the number of its first one.
    pub(crate) fn skip(&mut self, wanted: u64) -> io::Result<u64> {
        let end = self.file.seek(SeekFrom::End(0))?;
        self.file.seek(SeekFrom::Start(self.start))?;
        let mut first = 0u64;
        loop {
            let at = self.file.stream_position()?;
            let Some((count, size)) = self.head()? else { return Ok(first) };
            let behind = first.saturating_add(count);
            if behind > wanted {
                self.file.seek(SeekFrom::Start(at))?;
                return Ok(first);
            }
            let next = self.file.stream_position()?.saturating_add(size + 16);
            if next > end {
                return Err(wrong(format!("the block at byte {at} breaks off")));
            }
            self.file.seek(SeekFrom::Start(next))?;
            first = behind;
        }
    }

    fn head(&mut self) -> io::Result<Option<(u64, u64)>> {
        let Some(count) = long(&mut self.file)? else { return Ok(None) };
        let size = long(&mut self.file)?.ok_or_else(|| wrong("its last block breaks off"))?;
        let of = |number: i64, max: u64| u64::try_from(number).ok().filter(|number| *number <= max);
        let count = of(count, i64::MAX as u64).ok_or_else(|| wrong(format!("a block claims {count} data")))?;
        let size = of(size, BLOCK_MAX).ok_or_else(|| wrong(format!("a block claims {size} bytes, more than {BLOCK_MAX}")))?;
        Ok(Some((count, size)))
    }

    /// The next block; `None` at the end.
    pub(crate) fn block(&mut self) -> io::Result<Option<Block>> {
        let Some((count, size)) = self.head()? else { return Ok(None) };
        let mut data = Vec::new();
        (&mut self.file).take(size).read_to_end(&mut data)?; // grows with what is there, not with what is claimed
        let mut sync = [0; 16];
        self.file.read_exact(&mut sync)?;
        if sync != self.sync {
            return Err(wrong("a block does not end with the file's marker: it is damaged, or the file is"));
        }
        self.codec.decompress(&mut data).map_err(|error| wrong(format!("a block cannot be unpacked: {error}")))?;
        if count > data.len() as u64 && count > 1 << 16 {
            return Err(wrong(format!("a block of {} bytes claims {count} data", data.len())));
        }
        Ok(Some(Block { count, data }))
    }

    /// The data of a block, each in the single-object encoding, as many as it claims. What is not of the schema is handed on with
    /// all that follows it in the block, and what then is missing as nothing but the prefix: neither can be decoded.
    pub(crate) fn each(&self, block: &Block, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut rest = &block.data[..];
        let mut record = Vec::with_capacity(256);
        for nth in 0..block.count {
            let mut input = Input::new(rest);
            let whole = self.plan.skip(self.plan.root, &mut input).is_ok();
            let mut length = if whole { rest.len() - input.left() } else { rest.len() };
            if nth + 1 == block.count {
                length = rest.len(); // what is behind the last one belongs to nobody, and must not disappear
            }
            let (datum, behind) = rest.split_at(length);
            record.clear();
            record.extend_from_slice(&self.prefix);
            record.extend_from_slice(datum);
            if !take(&record) {
                return false;
            }
            rest = behind;
        }
        true
    }
}

/// A long; `None` where the file ends before it.
fn long(file: &mut impl Read) -> io::Result<Option<i64>> {
    let mut value = 0u64;
    for index in 0..10 {
        let mut byte = [0];
        if file.read(&mut byte)? == 0 {
            return if index == 0 { Ok(None) } else { Err(wrong("it breaks off in a number")) };
        }
        value |= u64::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
        }
    }
    Err(wrong("it has a number of more than 64 bits"))
}

fn bytes(file: &mut impl Read, left: &mut u64) -> io::Result<Vec<u8>> {
    let length = long(file)?.ok_or_else(|| wrong("its header breaks off"))?;
    let length = u64::try_from(length).ok().filter(|length| length <= left).ok_or_else(|| wrong("its header is too long"))?;
    *left -= length;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(wrong("its header breaks off")) }
}
