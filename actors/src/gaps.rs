//! Gaps in a log: records that were deleted before they were read. Nothing is skipped by itself; somebody has to say so.

use karst_state::LaneId;
use karst_types::{Offset, PartitionId};

use crate::{
    engine::EngineHandle,
    error::{Error, Result},
    protocol::PartitionControl,
};

/// A gap that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptedGap {
    /// The first record that is lost.
    pub first: Offset,
    /// The last one.
    pub last: Offset,
}

impl EngineHandle {
    /// Accepts that the records which a partition wants, and which its log has no more, are lost: it goes on with the oldest that is
    /// still there. That counts for good with the first commit of what comes behind the gap: if the engine ends before, ask again.
    ///
    /// # Errors
    /// [`Error::UnknownSource`] if the engine reads no source of that name. [`Error::NoGap`] if the partition wants nothing that is gone.
    pub fn accept_gap(&self, source: &str, partition: PartitionId) -> Result<AcceptedGap> {
        let view = self.0.sources.iter().find(|view| view.settings.name.as_str() == source);
        let Some(view) = view else {
            let known = self.0.sources.iter().map(|view| view.settings.name.to_string()).collect();
            return Err(Error::UnknownSource { source_name: source.to_owned(), known });
        };
        let lane = LaneId { source: view.id, partition };
        let no_gap = || Error::NoGap { source_name: source.to_owned(), partition };
        let (found, mailbox) = self.0.wiring.origins.find(lane).ok_or_else(no_gap)?;
        let (first, low) = found.accept_gap().ok_or_else(no_gap)?;
        tracing::warn!(partition = %found.label, first = first.0, low = low.0, "the loss of records is accepted");
        // A full control lane wakes the partition as well.
        let _ = mailbox.try_control(PartitionControl::Resume);
        Ok(AcceptedGap { first, last: Offset(low.0 - 1) })
    }
}
