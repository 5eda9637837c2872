//! librdkafka's mock cluster: a broker inside the process, for the demo and for tests. The whole client path is real.
//!
//! What it does not do: transactions, offsets by timestamp, consumer groups without a delay of 3 s, retention beyond
//! [`RETAINED_BYTES`] and [`RETAINED_BATCHES`] per partition: older batches vanish silently. So whoever produces must not run
//! further ahead of the consumer than [`SAFE_LEAD_BYTES`] per partition (compare with [`PartitionHealth`](crate::PartitionHealth)).
//! It hands out one batch per partition and fetch, so producers should send large batches.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use karst_types::Retry;
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use crate::{Error, Result};

/// What a partition keeps.
pub const RETAINED_BYTES: u64 = 5 << 20;
/// What a partition keeps, in produced batches.
pub const RETAINED_BATCHES: u64 = 100_000;
/// How far a producer may be ahead of the consumer in one partition: half of what is kept, because the batch at the border
/// goes as a whole.
pub const SAFE_LEAD_BYTES: u64 = RETAINED_BYTES / 2;

/// The cluster, as rdkafka knows it.
pub type Cluster = MockCluster<'static, DefaultProducerContext>;
type Work = Box<dyn FnOnce(&Cluster) + Send>;

/// A running mock cluster of one broker. Ends when dropped. The cluster itself is bound to a thread of its own, so that this
/// handle can go anywhere.
pub struct MockBroker {
    work: SyncSender<Work>,
    servers: String,
}

impl MockBroker {
    /// Starts a broker with these topics and their numbers of partitions.
    ///
    /// # Errors
    /// [`Error::Send`] with what librdkafka says.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self> {
        let (work, todo) = sync_channel::<Work>(1);
        let (ready, started) = sync_channel(1);
        thread::Builder::new()
            .name("mock-kafka".into())
            .spawn(move || match Cluster::new(1) {
                Ok(cluster) => {
                    _ = ready.send(Ok(cluster.bootstrap_servers()));
                    todo.into_iter().for_each(|work| work(&cluster));
                }
                Err(error) => _ = ready.send(Err(failed(&error))),
            })
            .map_err(|error| failed(&error))?;
        let servers = started.recv().map_err(|error| failed(&error))??;
        let broker = Self { work, servers };
        topics.iter().try_for_each(|(name, partitions)| broker.create_topic(name, *partitions))?;
        Ok(broker)
    }

    /// Where it listens: `127.0.0.1:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.servers
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// [`Error::Send`] with what librdkafka says.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let name = name.to_owned();
        self.with(move |cluster| cluster.create_topic(&name, partitions, 1).map_err(|error| failed(&error)))?
    }

    /// Ends all connections and refuses new ones.
    ///
    /// # Errors
    /// [`Error::Send`] with what librdkafka says.
    pub fn down(&self) -> Result<()> {
        self.with(|cluster| cluster.broker_down(1).map_err(|error| failed(&error)))?
    }

    /// Listens again.
    ///
    /// # Errors
    /// [`Error::Send`] with what librdkafka says.
    pub fn up(&self) -> Result<()> {
        self.with(|cluster| cluster.broker_up(1).map_err(|error| failed(&error)))?
    }

    /// Anything else that the cluster can do: faults, delays.
    ///
    /// # Errors
    /// [`Error::Send`] if the cluster is gone.
    pub fn with<T: Send + 'static>(&self, work: impl FnOnce(&Cluster) -> T + Send + 'static) -> Result<T> {
        let (done, result): (SyncSender<T>, _) = sync_channel(1);
        let work: Work = Box::new(move |cluster| _ = done.send(work(cluster)));
        self.work.send(work).map_err(|error| failed(&error))?;
        result.recv().map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Send { to: "the mock cluster".into(), why: error.to_string(), retry: Retry::Never }
}
