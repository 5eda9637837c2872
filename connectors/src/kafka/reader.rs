//! The reader of one partition: says what it wants, and takes what the polling thread has put into its hand-off.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use karst_types::Offset;

use super::shared::{Shared, Slot};
use crate::{BoxFuture, Fetched, LogBounds, PartitionReader, Result, StartAt};

pub(super) struct KafkaReader {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    id: u64,
}

impl KafkaReader {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<Slot>) -> Self {
        let id = slot.handoff.attach();
        shared.touch();
        Self { shared, slot, id }
    }

    async fn ask_bounds(&self) -> Result<LogBounds> {
        self.slot.handoff.check_alive(self.id)?;
        let partition = self.slot.handoff.partition.0;
        self.shared.ask(|asks, reply| asks.bounds.push((partition, reply))).await
    }
}

impl PartitionReader for KafkaReader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        Box::pin(self.ask_bounds())
    }
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move {
            let bounds = self.ask_bounds().await?;
            let latest = self.shared.settings.start == StartAt::Latest;
            let from = from.unwrap_or(if latest { bounds.high } else { bounds.low });
            self.slot.handoff.check_bounds(from, bounds)?;
            self.slot.handoff.seek(self.id, from)?;
            self.shared.touch();
            Ok(from)
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(self.slot.handoff.next(self.id))
    }
    fn commit(&mut self, through: Offset) {
        self.slot.commit.store(through.next().0, Relaxed);
    }
    fn lag(&self) -> Option<u64> {
        self.slot.handoff.lag()
    }
    fn paused(&self) -> bool {
        self.slot.handoff.paused()
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.slot.handoff.detach(self.id);
        self.shared.touch();
    }
}
