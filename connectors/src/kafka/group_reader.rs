//! The reader of one partition of a group: hands over what belongs to this member, and skips what belongs to others.

use std::sync::Arc;

use karst_types::{Offset, Records};

use super::{
    member::{Given, Member},
    reader::KafkaReader,
};
use crate::{BoxFuture, Fetched, LogBounds, PartitionReader, Result};

pub(super) struct GroupReader {
    inner: KafkaReader,
    member: Arc<Member>,
    partition: i32,
    /// Fetched, and not yet known to be ours.
    pending: Option<Records>,
}

impl GroupReader {
    pub(super) fn new(inner: KafkaReader, member: Arc<Member>, partition: i32) -> Self {
        Self { inner, member, partition, pending: None }
    }

    async fn next_own(&mut self) -> Result<Fetched> {
        loop {
            let Some(records) = &self.pending else {
                match self.inner.next().await? {
                    Fetched::Records(records) => self.pending = Some(records),
                    end => return Ok(end),
                }
                continue;
            };
            let (first, last) = (records.first_offset().unwrap_or_default(), records.last_offset().unwrap_or_default());
            match self.member.give(self.partition, first.0, last.0, self.inner.known_end()).await {
                Given::Until(end) => {
                    let Some(records) = self.pending.take() else { continue };
                    let own = records.iter().take_while(|record| record.offset().0 < end).count();
                    if own == records.len() {
                        return Ok(Fetched::Records(records));
                    }
                    self.pending = Some(records.slice(own..records.len()));
                    return Ok(Fetched::Records(records.slice(0..own)));
                }
                Given::Skip(to) => {
                    let rest = records.iter().position(|record| record.offset().0 >= to);
                    match rest {
                        Some(at) => self.pending = Some(records.slice(at..records.len())),
                        None => {
                            self.inner.seek(Some(Offset(to))).await?;
                            self.pending = None;
                        }
                    }
                }
            }
        }
    }
}

impl PartitionReader for GroupReader {
    fn bounds(&mut self) -> BoxFuture<'_, Result<LogBounds>> {
        self.inner.bounds()
    }
    fn seek(&mut self, from: Option<Offset>) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(async move {
            let from = self.member.start(self.partition, super::member::known(from)).await;
            let begun = self.inner.seek(from.map(Offset)).await?;
            self.pending = None;
            Ok(begun)
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Fetched>> {
        Box::pin(self.next_own())
    }
    /// The group's offset says what is claimed, not what is applied.
    fn commit(&mut self, _: Offset) {}
    fn lag(&self) -> Option<u64> {
        self.inner.lag()
    }
    fn paused(&self) -> bool {
        self.inner.paused()
    }
}
