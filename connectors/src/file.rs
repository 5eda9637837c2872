//! A file as a log with one partition: lines, or an Avro object container file.
//!
//! - The offset of a record is the position of its line's first byte; the end of the log is the length of the file. So a seek
//!   to "just behind offset n" lands in the middle of that line, and reading starts at the next one, as in a compacted topic.
//! - The broker time of every record is the modification time of the file when it was opened.
//! - `\n` and `\r\n` end a line; a last line without either counts, as it is then, and may be written to its end later without making
//!   the file another log. Empty lines at the end of the file are no records
//!   (up to 4096 of them); an empty line before other lines is an empty record, so that nothing disappears silently.
//! - A line beyond 16 MiB is cut there, and is a dead letter (`too_large`) in any case.
//! - In a container file the offset of a record is its number, from 0 on; a seek goes over the heads of the blocks before it. What is
//!   wrong with a block as a whole is a fault of the file: the partition waits there, and says so.
//! - The file is read by a thread of its own, from the last seek on, in large blocks; it waits while the hand-off is full.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    thread,
    time::UNIX_EPOCH,
};

use karst_types::{BrokerTime, Clock, Offset, PartitionId, ProcessingTime, Records};
use parking_lot::Mutex;

use crate::{
    BoxFuture, Error, Fetched, Format, HealthState, LogBounds, PartitionReader, Result, RunningSource, Source, SourceHealth,
    SourceSettings, StartAt,
    codec::{Container, KnownSchemas},
    handoff::Handoff,
    settings::RECORD_BYTES_CAP,
    settings::source_setters,
};

const PARTITION: PartitionId = PartitionId(0);
const BLOCK: usize = 1 << 20; // one read; smaller ones cost system calls, larger ones only memory
const BATCH_RECORDS: usize = 4096; // nobody waits for one line of a file, and every batch wakes every stage
const BLANK_LINES_MAX: usize = 4096;

/// A source that reads a file once, from start to end.
#[derive(Clone, Debug)]
pub struct FileSource {
    settings: SourceSettings,
    path: PathBuf,
    layout: Layout,
}

/// How records lie in the file.
#[derive(Clone, Debug)]
enum Layout {
    Lines,
    /// Its schemas become known when it is opened.
    Container(KnownSchemas),
}

impl FileSource {
    /// A source of JSON lines. Its batches are larger than those of other sources: 4096 records, unless told otherwise.
    pub fn json_lines(name: &str, path: impl Into<PathBuf>) -> Self {
        let mut settings = SourceSettings::new(name);
        settings.batch_records = BATCH_RECORDS;
        Self { settings, path: path.into(), layout: Layout::Lines }
    }

    /// A source of records of another format, one on each line; say which with `format(…)`.
    pub fn lines(name: &str, path: impl Into<PathBuf>) -> Self {
        Self::json_lines(name, path)
    }

    /// A source of the data in an Avro object container file, uncompressed or with deflate or snappy. The schema is that of the file;
    /// a reader's schema may be given with `.format(Format::avro().reader_schema(…))`.
    pub fn avro(name: &str, path: impl Into<PathBuf>) -> Self {
        let mut source = Self::json_lines(name, path);
        source.layout = Layout::Container(KnownSchemas::default());
        source.settings.format = Format::avro().into();
        source
    }
    source_setters!(settings);
}

impl Source for FileSource {
    fn settings(&self) -> &SourceSettings {
        &self.settings
    }
    fn resolved_format(&self) -> Format {
        match (&self.layout, self.settings.format.clone()) {
            (Layout::Container(known), Format::Avro(format)) => format.known(known).into(),
            (_, format) => format,
        }
    }
    fn kind(&self) -> &'static str {
        "file"
    }
    fn start(&self, clock: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>> {
        self.settings.clone().with_format(self.resolved_format()).check()?;
        if matches!(self.layout, Layout::Container(_)) && !matches!(self.settings.format, Format::Avro(_)) {
            let problems = vec![format!("a container file holds Avro, not {}", self.settings.format.name())];
            return Err(Error::Config { name: self.settings.name.clone(), problems });
        }
        let handoff = Handoff::new(self.settings.name.clone(), PARTITION, self.settings.read_ahead(1));
        let shared = Shared { source: self.clone(), handoff, clock, trouble: Mutex::new(None) };
        Ok(Box::new(Running(Arc::new(shared))))
    }
}

struct Shared {
    source: FileSource,
    handoff: Handoff,
    clock: Arc<dyn Clock>,
    trouble: Mutex<Option<(String, ProcessingTime)>>,
}

impl Shared {
    /// Opens the file and looks at it; the health follows from how that went.
    fn open(&self) -> Result<(File, LogBounds, BrokerTime)> {
        let opened = File::open(&self.source.path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let high = match &self.source.layout {
                Layout::Lines => metadata.len(),
                Layout::Container(known) => Container::open(BufReader::new(&file), known)?.count()?,
            };
            let bounds = LogBounds { low: Offset(0), high: Offset(i64::try_from(high).unwrap_or(i64::MAX)) };
            Ok((file, bounds, BrokerTime(since.as_micros() as i64)))
        });
        let opened = opened.map_err(|error| self.unreadable(&error));
        let mut trouble = self.trouble.lock();
        match &opened {
            Ok(_) => *trouble = None,
            Err(error) => {
                trouble.get_or_insert_with(|| (error.to_string(), self.clock.now()));
            }
        }
        opened
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        Error::Unreadable {
            name: self.source.settings.name.clone(),
            path: self.source.path.display().to_string(),
            why: error.to_string(),
        }
    }
}

struct Running(Arc<Shared>);

impl RunningSource for Running {
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>> {
        Box::pin(async { Ok(vec![PARTITION]) })
    }
    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>> {
        if partition != PARTITION {
            return Err(Error::UnknownPartition { name: self.0.source.settings.name.clone(), partition, known: 1 });
        }
        let id = self.0.handoff.attach();
        Ok(Box::new(Reader { shared: self.0.clone(), id }))
    }
    fn health(&self) -> SourceHealth {
        let state = match self.0.trouble.lock().clone() {
            None => HealthState::Ok,
            Some((why, since)) => HealthState::Waiting { why, since },
        };
        SourceHealth { state, partitions: vec![self.0.handoff.health()] }
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.handoff.stop();
        Box::pin(async {})
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.handoff.stop();
    }
}

struct Reader {
    shared: Arc<Shared>,
    id: u64,
}

impl PartitionReader for Reader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        Box::pin(async {
            self.shared.handoff.check_alive(self.id)?;
            self.shared.open().map(|(_, bounds, _)| bounds)
        })
    }
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move {
            let handoff = &self.shared.handoff;
            handoff.check_alive(self.id)?;
            let (mut file, bounds, broker_time) = self.shared.open()?;
            let latest = self.shared.source.settings.start == StartAt::Latest;
            let from = from.unwrap_or(if latest { bounds.high } else { bounds.low });
            handoff.check_bounds(from, bounds)?;
            let from = match &self.shared.source.layout {
                Layout::Lines => line_start(&mut file, from).map_err(|error| self.shared.unreadable(&error))?,
                Layout::Container(_) => Offset(from.0.max(0)),
            };
            let epoch = handoff.seek(self.id, from)?;
            handoff.set_end(bounds.high.0);
            let shared = self.shared.clone();
            let reading = Reading::new(&shared.source.settings, epoch, from, broker_time);
            thread::Builder::new()
                .name(format!("file-{}", self.shared.source.settings.name))
                .spawn(move || {
                    let run = match &shared.source.layout {
                        Layout::Lines => reading.run(file, &shared.handoff),
                        Layout::Container(known) => reading.run_container(file, known, &shared.handoff),
                    };
                    if let Err(error) = run {
                        shared.handoff.fail(epoch, shared.unreadable(&error));
                    }
                })
                .map_err(|error| self.shared.unreadable(&error))?;
            Ok(from)
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(self.shared.handoff.next(self.id))
    }
    fn commit(&mut self, _: Offset) {}
    fn lag(&self) -> Option<u64> {
        self.shared.handoff.lag()
    }
    fn paused(&self) -> bool {
        self.shared.handoff.paused()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.handoff.detach(self.id);
    }
}

/// The first start of a line at or after `from`; the file then stands there.
fn line_start(file: &mut File, from: Offset) -> std::io::Result<Offset> {
    let mut at = from.0.max(0) as u64;
    if at > 0 {
        file.seek(SeekFrom::Start(at - 1))?; // a line starts behind a newline
        let mut block = vec![0; 64 << 10];
        at -= 1;
        loop {
            let read = file.read(&mut block)?;
            match memchr::memchr(b'\n', &block[..read]) {
                Some(newline) => {
                    at += newline as u64 + 1;
                    break;
                }
                None => at += read as u64,
            }
            if read == 0 {
                break;
            }
        }
    }
    file.seek(SeekFrom::Start(at))?;
    Ok(Offset(at as i64))
}

/// One pass over the file, for one epoch of the hand-off.
struct Reading {
    batch_records: usize,
    batch_bytes: usize,
    epoch: u64,
    broker_time: BrokerTime,
    line_start: i64,
    line: Vec<u8>,           // of the current line, what lies before the current block; cut at the cap
    line_len: i64,           // its whole length
    blank: Vec<i64>,         // starts of empty lines that may turn out to be the end of the file
    unfinished: Option<i64>, // start of the last line, if no newline ends it
    records: Records,
}

impl Reading {
    fn new(settings: &SourceSettings, epoch: u64, from: Offset, broker_time: BrokerTime) -> Self {
        Self {
            batch_records: settings.batch_records,
            batch_bytes: settings.batch_bytes.bytes(),
            epoch,
            broker_time,
            line_start: from.0,
            line: Vec::new(),
            line_len: 0,
            blank: Vec::new(),
            unfinished: None,
            records: Records::new(settings.name.clone(), PARTITION),
        }
    }

    fn run(mut self, mut file: File, handoff: &Handoff) -> std::io::Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            let read = match file.read(&mut block) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read == 0 {
                break;
            }
            let mut rest = &block[..read];
            while let Some(newline) = memchr::memchr(b'\n', rest) {
                if !self.end_line(&rest[..newline], newline + 1, handoff) {
                    return Ok(()); // the reader has moved on
                }
                rest = &rest[newline + 1..];
            }
            self.carry(rest);
        }
        let end = self.line_start + self.line_len;
        self.unfinished = Some(self.line_start);
        if self.line_len > 0 && !self.end_line(&[], 0, handoff) {
            return Ok(());
        }
        if self.flush(handoff) {
            handoff.set_end(end);
            handoff.publish(self.epoch, Fetched::EndOfLog { end: Offset(end), finished: true });
        }
        Ok(())
    }

    /// The same for a container file; `line_start` is the number of the next record.
    fn run_container(mut self, mut file: File, known: &KnownSchemas, handoff: &Handoff) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        let mut container = Container::open(BufReader::with_capacity(BLOCK, file), known)?;
        let from = self.line_start;
        self.line_start = container.skip(from.max(0).unsigned_abs())? as i64;
        while let Some(block) = container.block()? {
            let go_on = container.each(&block, |record| {
                let offset = self.line_start;
                self.line_start += 1;
                offset < from || self.push(offset, &record[..record.len().min(RECORD_BYTES_CAP)], handoff)
            });
            if !go_on {
                return Ok(()); // the reader has moved on
            }
        }
        let end = self.line_start.max(from);
        if self.flush(handoff) {
            handoff.set_end(end);
            handoff.publish(self.epoch, Fetched::EndOfLog { end: Offset(end), finished: true });
        }
        Ok(())
    }

    /// The current line goes on in the next block.
    fn carry(&mut self, part: &[u8]) {
        self.line_len += part.len() as i64;
        let room = RECORD_BYTES_CAP.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// The current line ends with `tail`, `consumed` bytes with its newline. Whether to go on.
    fn end_line(&mut self, tail: &[u8], consumed: usize, handoff: &Handoff) -> bool {
        let start = self.line_start;
        self.line_start += self.line_len + consumed as i64;
        if self.line_len == 0 {
            return self.add(start, tail, handoff); // the usual case: the line lies whole in the block
        }
        self.carry(tail);
        self.line_len = 0;
        let mut line = std::mem::take(&mut self.line);
        let go_on = self.add(start, &line, handoff);
        line.clear();
        self.line = line;
        go_on
    }

    fn add(&mut self, start: i64, line: &[u8], handoff: &Handoff) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = &line[..line.len().min(RECORD_BYTES_CAP)];
        if line.is_empty() && self.blank.len() < BLANK_LINES_MAX {
            self.blank.push(start);
            return true;
        }
        if !self.blank.is_empty() {
            for blank in std::mem::take(&mut self.blank) {
                if !self.push(blank, b"", handoff) {
                    return false;
                }
            }
        }
        self.push(start, line, handoff)
    }

    fn push(&mut self, start: i64, line: &[u8], handoff: &Handoff) -> bool {
        self.records.push(Offset(start), self.broker_time, None, Some(line));
        if self.unfinished == Some(start) {
            self.records.leave_last_unfinished();
        }
        let full = self.records.len() >= self.batch_records || self.records.bytes() >= self.batch_bytes;
        !full || self.flush(handoff)
    }

    /// Hands the batch over, waiting for room. Whether to go on.
    fn flush(&mut self, handoff: &Handoff) -> bool {
        if self.records.is_empty() {
            return true;
        }
        let source = self.records.source().clone();
        let next = Records::with_capacity(source, PARTITION, self.records.len(), self.records.bytes());
        let batch = std::mem::replace(&mut self.records, next);
        handoff.wait_for_room(self.epoch) && handoff.publish(self.epoch, Fetched::Records(batch))
    }
}
