//! Finds the partitions of a source, also those that are added later, and starts their paths. A broker that is not there is waited
//! for, for as long as it takes.

use std::sync::{Arc, Weak};

use karst_runtime::{Stage, StageError};
use karst_types::SourceId;

use crate::{
    error::stage_error,
    partition::Partition,
    protocol::{NoControl, NoData},
    source_time::SourceTime,
    topology::{SourcePlan, Wiring},
};

pub(crate) struct SourceSupervisor {
    pub(crate) time: Arc<SourceTime>,
    pub(crate) id: SourceId,
    pub(crate) plan: Arc<SourcePlan>,
    /// Weak: the wiring holds this stage.
    pub(crate) wiring: Weak<Wiring>,
}

impl Stage for SourceSupervisor {
    type Message = NoData;
    type Control = NoControl;

    async fn handle(&mut self, message: &mut NoData) -> Result<(), StageError> {
        match *message {}
    }
    async fn poison(&mut self, message: &mut NoData, _: &str) -> Result<(), StageError> {
        match *message {}
    }
    async fn control(&mut self, control: NoControl) -> Result<(), StageError> {
        match control {}
    }

    async fn pull(&mut self) -> Result<(), StageError> {
        let first = !self.time.is_discovered();
        if !first {
            tokio::time::sleep(self.time.settings.discover_interval.to_duration()).await;
        }
        let partitions = self.plan.running.partitions().await.map_err(stage_error)?;
        let Some(wiring) = self.wiring.upgrade() else { return Ok(()) };
        let unknown: Vec<_> = partitions.into_iter().filter(|partition| !self.time.knows(*partition)).collect();
        if !unknown.is_empty() {
            let (source, found) = (&self.time.settings.name, unknown.len());
            tracing::info!(%source, partitions = found, added = !first, "partitions found");
        }
        for partition in unknown {
            wiring.partition(&Partition::new(self.time.settings.clone(), self.id, partition, !first), &self.plan, &self.time);
        }
        self.time.set_discovered();
        Ok(())
    }
}
