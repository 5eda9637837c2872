//! Writes the commits of one shard beside it, so that RocksDB never runs in the shard's turn (`docs/semantics.md`, Delivery): on a
//! thread of its own, or, where the engine has one thread for everything, as a task on that.

use std::{cell::RefCell, io, rc::Rc, sync::mpsc as blocking, thread};

use karst_runtime::{StageError, Tasks};
use karst_state::{CommitWriter, Committed, FrozenCommit};
use tokio::sync::mpsc;

/// At most one commit is on its way, so both channels hold one.
pub(crate) struct Committer {
    beside: Beside,
    results: mpsc::Receiver<karst_state::Result<Committed>>,
}

enum Beside {
    Thread {
        /// `None` only while it is dropped.
        work: Option<blocking::SyncSender<FrozenCommit>>,
        thread: Option<thread::JoinHandle<()>>,
    },
    Task {
        id: String,
        tasks: Tasks,
        writer: CommitWriter,
        /// What the task has not begun to write.
        work: Rc<RefCell<Option<FrozenCommit>>>,
        /// Gone after a panic, as with the thread.
        done: Rc<RefCell<Option<mpsc::Sender<karst_state::Result<Committed>>>>>,
    },
}

impl Committer {
    /// `tasks`: where it is to run as a task; else it gets a thread.
    pub(crate) fn start(shard: &str, writer: CommitWriter, tasks: Option<&Tasks>) -> io::Result<Self> {
        let id = format!("commit {shard}");
        let (done, results) = mpsc::channel(1);
        if let Some(tasks) = tasks {
            let (tasks, work, done) = (tasks.clone(), Rc::default(), Rc::new(RefCell::new(Some(done))));
            return Ok(Self { beside: Beside::Task { id, tasks, writer, work, done }, results });
        }
        let (work, todo) = blocking::sync_channel::<FrozenCommit>(1);
        let thread = thread::Builder::new().name(id).spawn(move || {
            while let Ok(frozen) = todo.recv() {
                if done.blocking_send(writer.write(frozen)).is_err() {
                    break; // the shard was rebuilt; whatever was written is what it opened with, or newer
                }
            }
        })?;
        Ok(Self { beside: Beside::Thread { work: Some(work), thread: Some(thread) }, results })
    }

    pub(crate) fn send(&self, frozen: FrozenCommit) -> Result<(), StageError> {
        match &self.beside {
            Beside::Thread { work, .. } => {
                let sent = work.as_ref().is_some_and(|work| work.try_send(frozen).is_ok());
                if sent { Ok(()) } else { Err(StageError::broken("the commit thread has ended")) }
            }
            Beside::Task { id, tasks, writer, work, done } => {
                *work.borrow_mut() = Some(frozen);
                let (work, writer, done) = (Rc::clone(work), writer.clone(), Rc::clone(done));
                tasks.spawn(id, async move {
                    let (frozen, tell) = (work.take(), done.take());
                    if let Some((frozen, tell)) = frozen.zip(tell) {
                        let _ = tell.try_send(writer.write(frozen)); // the shard was rebuilt: as above
                        done.replace(Some(tell));
                    }
                });
                Ok(())
            }
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

/// Waits for the commit on its way: when a shard is gone, nothing of it holds the state directory open.
impl Drop for Committer {
    fn drop(&mut self) {
        self.results.close();
        match &mut self.beside {
            Beside::Thread { work, thread } => {
                *work = None;
                if thread.take().is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("a commit thread panicked");
                }
            }
            Beside::Task { writer, work, .. } => {
                if let Some(frozen) = work.take() {
                    let _ = writer.write(frozen); // whoever opens the shard next sees what came of it
                }
            }
        }
    }
}
