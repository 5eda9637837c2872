//! The thread that writes the commits of one shard, so that RocksDB never runs in the shard's turn (`docs/semantics.md`,
//! Delivery).

use std::{io, sync::mpsc as blocking, thread};

use karst_runtime::StageError;
use karst_state::{CommitWriter, Committed, FrozenCommit};
use tokio::sync::mpsc;

/// At most one commit is on its way, so both channels hold one.
pub(crate) struct Committer {
    /// `None` only while it is dropped.
    work: Option<blocking::SyncSender<FrozenCommit>>,
    thread: Option<thread::JoinHandle<()>>,
    results: mpsc::Receiver<karst_state::Result<Committed>>,
}

impl Committer {
    pub(crate) fn start(shard: &str, writer: CommitWriter) -> io::Result<Self> {
        let (work, todo) = blocking::sync_channel::<FrozenCommit>(1);
        let (done, results) = mpsc::channel(1);
        let thread = thread::Builder::new().name(format!("commit {shard}")).spawn(move || {
            while let Ok(frozen) = todo.recv() {
                if done.blocking_send(writer.write(frozen)).is_err() {
                    break; // the shard was rebuilt; whatever was written is what it opened with, or newer
                }
            }
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), results })
    }

    pub(crate) fn send(&self, frozen: FrozenCommit) -> Result<(), StageError> {
        match &self.work {
            Some(work) if work.try_send(frozen).is_ok() => Ok(()),
            _ => Err(StageError::broken("the commit thread has ended")),
        }
    }

    /// Waits for the commit on its way. Cancel safe.
    pub(crate) async fn done(&mut self) -> Result<karst_state::Result<Committed>, StageError> {
        self.results.recv().await.ok_or_else(|| StageError::broken("the commit thread has ended"))
    }

    pub(crate) fn try_done(&mut self) -> Option<karst_state::Result<Committed>> {
        self.results.try_recv().ok()
    }
}

/// Waits for the thread: when a shard is gone, nothing of it holds the state directory open.
impl Drop for Committer {
    fn drop(&mut self) {
        self.work = None;
        self.results.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a commit thread panicked");
        }
    }
}
