//! Finds the partitions of a source and starts their paths. A broker that is not there is waited for, for as long as it takes.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use karst_connectors::SourceSettings;
use karst_runtime::{Stage, StageError};
use karst_types::SourceId;

use crate::{
    error::stage_error,
    partition::Partition,
    protocol::{NoControl, NoData},
    topology::{SourcePlan, Wiring},
};

pub(crate) struct SourceSupervisor {
    pub(crate) settings: SourceSettings,
    pub(crate) id: SourceId,
    pub(crate) plan: Arc<SourcePlan>,
    /// Weak: the wiring holds this stage.
    pub(crate) wiring: Weak<Wiring>,
    /// Set once all partitions have their paths.
    pub(crate) discovered: Arc<AtomicBool>,
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
        if self.discovered.load(Ordering::Acquire) {
            return std::future::pending().await;
        }
        let partitions = self.plan.running.partitions().await.map_err(stage_error)?;
        if let Some(wiring) = self.wiring.upgrade() {
            tracing::info!(source = %self.settings.name, partitions = partitions.len(), "source found");
            for partition in partitions {
                wiring.partition(&Partition::new(self.settings.clone(), self.id, partition), &self.plan);
            }
        }
        self.discovered.store(true, Ordering::Release);
        Ok(())
    }
}
