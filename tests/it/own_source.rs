//! A source of one's own, as docs/adding_a_connector.md has it: a folder in which each file is a record. It passes the suite that
//! every source passes, and feeds an engine.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use karst::{
    BrokerTime, Clock, Engine, Format, Offset, Outcomes, PartitionId, Position, Source, SourceSettings,
    connectors::{
        BoxFuture, Error, Fetched, HealthState, LogBounds, PartitionReader, Result, RunningSource, SourceHealth,
        testing::{ManualClock, assert_source_compliance},
    },
    prelude::*,
    types::Records,
};

use crate::world::{column, outcomes, small};

const PARTITION: PartitionId = PartitionId(0);
/// The number of the current reader once the source has been stopped.
const STOPPED: u64 = u64::MAX;

/// The files of a folder in the order of their names; the offset of a record is its place in that order.
struct FolderSource {
    settings: SourceSettings,
    path: PathBuf,
}

impl FolderSource {
    fn new(name: &str, path: impl Into<PathBuf>) -> Self {
        let settings = SourceSettings::new(name).with_format(Format::text().into());
        Self { settings, path: path.into() }
    }
}

impl Source for FolderSource {
    fn settings(&self) -> &SourceSettings {
        &self.settings
    }
    fn kind(&self) -> &'static str {
        "folder"
    }
    fn start(&self, _: Arc<dyn Clock>) -> Result<Box<dyn RunningSource>> {
        self.settings.check()?;
        let shared = Shared { settings: self.settings.clone(), path: self.path.clone(), reader: AtomicU64::new(0) };
        Ok(Box::new(Running(Arc::new(shared))))
    }
}

struct Shared {
    settings: SourceSettings,
    path: PathBuf,
    /// The number of the reader that may read.
    reader: AtomicU64,
}

impl Shared {
    fn files(&self) -> Result<Vec<PathBuf>> {
        let list = || -> std::io::Result<Vec<PathBuf>> {
            let mut files =
                std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            files.sort();
            Ok(files)
        };
        list().map_err(|error| self.unreadable(&error))
    }
    fn unreadable(&self, error: &std::io::Error) -> Error {
        let (name, path) = (self.settings.name.clone(), self.path.display().to_string());
        Error::Unreadable { name, path, why: error.to_string() }
    }
}

struct Running(Arc<Shared>);

impl RunningSource for Running {
    fn partitions(&self) -> BoxFuture<'_, Result<Vec<PartitionId>>> {
        Box::pin(async { Ok(vec![PARTITION]) })
    }
    fn reader(&self, partition: PartitionId) -> Result<Box<dyn PartitionReader>> {
        if partition != PARTITION {
            return Err(Error::UnknownPartition { name: self.0.settings.name.clone(), partition, known: 1 });
        }
        let number = self.0.reader.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Box::new(Reader { shared: Arc::clone(&self.0), number, files: Vec::new(), next: None, told: false }))
    }
    fn health(&self) -> SourceHealth {
        let state = match self.0.files() {
            Ok(_) => HealthState::Ok,
            Err(error) => HealthState::Failed { why: error.to_string() },
        };
        SourceHealth { state, partitions: Vec::new() }
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.reader.store(STOPPED, Ordering::Release);
        Box::pin(async {})
    }
}

struct Reader {
    shared: Arc<Shared>,
    number: u64,
    files: Vec<PathBuf>,
    /// `None` before the first seek.
    next: Option<usize>,
    /// The end has been told since the last seek.
    told: bool,
}

impl Reader {
    /// Whether this is still the one that may read.
    fn alive(&self) -> Result<()> {
        let name = self.shared.settings.name.clone();
        match self.shared.reader.load(Ordering::Acquire) {
            STOPPED => Err(Error::Stopped { name }),
            current if current == self.number => Ok(()),
            _ => Err(Error::ReaderReplaced { name, partition: PARTITION }),
        }
    }

    fn batch(&mut self) -> Result<Fetched> {
        self.alive()?;
        let settings = &self.shared.settings;
        let Some(mut next) = self.next else {
            return Err(Error::NotStarted { name: settings.name.clone(), partition: PARTITION });
        };
        let mut records = Records::new(settings.name.clone(), PARTITION);
        while let Some(file) = self.files.get(next)
            && records.len() < settings.batch_records
            && records.bytes() < settings.batch_bytes.bytes()
        {
            let content = std::fs::read(file).map_err(|error| self.shared.unreadable(&error))?;
            records.push(Offset(next as i64), BrokerTime(0), None, Some(&content));
            next += 1;
        }
        if records.is_empty() {
            return Ok(Fetched::EndOfLog { end: Offset(next as i64), finished: true });
        }
        self.next = Some(next); // last: a batch that is not handed over has not been read
        Ok(Fetched::Records(records))
    }
}

impl PartitionReader for Reader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        Box::pin(async {
            self.alive()?;
            Ok(LogBounds { low: Offset(0), high: Offset(self.shared.files()?.len() as i64) })
        })
    }
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move {
            let high = self.bounds().await?.high;
            let from = from.unwrap_or(Offset(0));
            if from > high {
                let position = Position { source: self.shared.settings.name.clone(), partition: PARTITION, offset: from };
                return Err(Error::SourceRegressed { position, high });
            }
            self.files = self.shared.files()?;
            (self.next, self.told) = (Some(from.0.max(0) as usize), false);
            Ok(from)
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(async {
            let fetched = self.batch()?;
            if let Fetched::EndOfLog { .. } = fetched
                && std::mem::replace(&mut self.told, true)
            {
                std::future::pending::<()>().await; // told once: there is nothing left to wait for but the next seek
            }
            Ok(fetched)
        })
    }
    fn commit(&mut self, _: Offset) {}
    fn lag(&self) -> Option<u64> {
        Some(self.files.len().saturating_sub(self.next?) as u64)
    }
    fn paused(&self) -> bool {
        false
    }
}

fn folder(count: usize) -> (tempfile::TempDir, Vec<Option<Vec<u8>>>) {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = (0..count).map(|nth| format!("word{}", nth % 7).into_bytes()).collect();
    for (nth, content) in contents.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{nth:04}")), content).unwrap();
    }
    (folder, contents.into_iter().map(Some).collect())
}

#[tokio::test]
async fn a_source_of_ones_own_passes_the_suite() {
    let (folder, expected) = folder(40);
    let mut source = FolderSource::new("words", folder.path());
    (source.settings.batch_records, source.settings.batch_bytes) = (7, "25B".parse().unwrap());
    assert_source_compliance(&source, ManualClock::new(), PARTITION, &expected).await;
}

#[features(key = "word")]
struct Filed {
    word: String,
    seen: bool,
}

#[stream(source = "files")]
fn on_file(word: String) -> Updates![Filed::word, Filed::seen] {
    updates!(word, true)
}

#[tokio::test(flavor = "current_thread")]
async fn a_source_of_ones_own_feeds_an_engine_and_is_not_read_twice_after_a_restart() {
    let (folder, _) = folder(40);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let source = FolderSource::new("files", folder.path());
        let engine = Engine::builder(dir.path()).settings(small()).source(source).resolver(on_file).start().await.unwrap();
        engine.drain().await.unwrap();
        assert_eq!(column(&engine.handle(), "filed", "seen").len(), 7);
        assert_eq!(outcomes(&engine), Outcomes { records: 40, applied: 40, ..Outcomes::default() });
        engine.shutdown().await.unwrap();
    }
}
