//! Dead letters as operators see them: found by source, place and reason; shown; replayed.

use karst_state::{LaneId, LetterState, ReplayRequest, StoredDeadLetter};
use karst_types::{Offset, PartitionId, Reason};
use tokio::sync::oneshot;

use crate::{
    engine::EngineHandle,
    error::{Error, Result},
};

/// Which dead letters. Begin with [`LetterFilter::default`], which takes all that were not replayed yet, a hundred at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterFilter {
    /// Of this source; `None`: of any.
    pub source: Option<String>,
    /// Of this partition.
    pub partition: Option<PartitionId>,
    /// With this reason.
    pub reason: Option<Reason>,
    /// From this offset on.
    pub from: Option<Offset>,
    /// Up to this offset, included.
    pub through: Option<Offset>,
    /// Whether those that were replayed are wanted too.
    pub replayed: bool,
    /// At most so many, by source, partition and rising offset.
    pub limit: usize,
}

impl Default for LetterFilter {
    fn default() -> Self {
        Self { source: None, partition: None, reason: None, from: None, through: None, replayed: false, limit: 100 }
    }
}

impl LetterFilter {
    /// Letters of this source.
    pub fn source(name: impl Into<String>) -> Self {
        Self { source: Some(name.into()), ..Self::default() }
    }

    fn takes(&self, stored: &StoredDeadLetter) -> bool {
        self.reason.is_none_or(|reason| reason == stored.letter.reason)
            && (self.replayed || !matches!(stored.state, LetterState::Replayed(_)))
    }
}

/// What came of asking for replays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replays {
    /// Letters that are going to be replayed, each once. This is on stable storage.
    pub queued: u64,
    /// Passed over, since they are queued already.
    pub under_way: u64,
    /// Passed over, since only the beginning of their value is kept: send those records again.
    pub cut: u64,
    /// Whether the limit left some that could be replayed too.
    pub more: bool,
}

/// One letter and whose it is, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundLetter {
    /// The source.
    pub source: String,
    /// The letter.
    pub stored: StoredDeadLetter,
}

impl EngineHandle {
    /// Shows committed dead letters as long as `visit` says so, by source, partition and rising offset.
    fn each_letter(&self, filter: &LetterFilter, mut visit: impl FnMut(&str, StoredDeadLetter) -> bool) -> Result<()> {
        if let Some(wanted) = &filter.source {
            let known: Vec<String> = self.source_ids().map(|(name, _)| name).collect();
            if !known.contains(wanted) {
                return Err(Error::UnknownSource { source_name: wanted.clone(), known });
            }
        }
        let reader = self.store().source_reader();
        let outcomes = reader.outcomes();
        let mut goes_on = true;
        for (name, id) in self.source_ids() {
            if filter.source.as_ref().is_some_and(|wanted| *wanted != name) {
                continue;
            }
            for sums in outcomes.iter().filter(|sums| sums.source == id) {
                if !goes_on || filter.partition.is_some_and(|wanted| wanted != sums.partition) {
                    continue;
                }
                let lane = LaneId { source: id, partition: sums.partition };
                reader.each_dead_letter(lane, filter.from.unwrap_or(Offset(i64::MIN)), |stored| {
                    if filter.through.is_some_and(|through| stored.letter.offset > through) {
                        return false;
                    }
                    goes_on = !filter.takes(&stored) || visit(&name, stored);
                    goes_on
                })?;
            }
        }
        Ok(())
    }

    /// Dead letters of a source, replayed ones too, in the order of partition and offset, at most `limit`.
    ///
    /// # Errors
    /// [`Error::UnknownSource`] if no source has that name. [`Error::State`] if they could not be read.
    pub fn dead_letters(&self, source: &str, limit: usize) -> Result<Vec<StoredDeadLetter>> {
        let found = self.find_dead_letters(&LetterFilter { limit, replayed: true, ..LetterFilter::source(source) })?;
        Ok(found.into_iter().map(|found| found.stored).collect())
    }

    /// Dead letters by source, partition and rising offset.
    ///
    /// # Errors
    /// [`Error::UnknownSource`] if no source has that name. [`Error::State`] if they could not be read.
    pub fn find_dead_letters(&self, filter: &LetterFilter) -> Result<Vec<FoundLetter>> {
        let mut found = Vec::new();
        self.each_letter(filter, |source, stored| {
            let room = found.len() < filter.limit;
            found.extend(room.then(|| FoundLetter { source: source.to_owned(), stored }));
            room
        })?;
        Ok(found)
    }

    /// Asks for a replay of the letters that the filter takes: they go through decoding, judging and their resolvers again, as
    /// they are declared now. Safe to repeat, also after an error: a letter that is under way or was replayed is not replayed
    /// again. Late records that are only kept (reason `late`) are replayed if the filter names that reason, and then whatever
    /// their lateness.
    ///
    /// Returns once the letters are queued; [`Engine::drain`](crate::Engine::drain) waits for what comes of them.
    ///
    /// # Errors
    /// [`Error::UnknownSource`] if no source has that name. [`Error::State`] if they could not be read. [`Error::NotRead`] if a source is not read by any resolver now.
    /// [`Error::Busy`] if the source shard is being opened again: ask again.
    pub async fn replay(&self, filter: &LetterFilter) -> Result<Replays> {
        let mut replays = Replays::default();
        let mut wanted = Vec::new();
        self.each_letter(&LetterFilter { replayed: false, ..filter.clone() }, |source, stored| {
            let StoredDeadLetter { source: id, partition, letter, state, .. } = stored;
            if !letter.reason.is_fault() && filter.reason != Some(letter.reason) {
                return true;
            }
            if state == LetterState::Queued {
                replays.under_way += 1;
            } else if letter.is_cut() {
                replays.cut += 1;
            } else if wanted.len() < filter.limit {
                wanted.push((source.to_owned(), LaneId { source: id, partition }, letter.offset));
            } else {
                replays.more = true;
            }
            !replays.more
        })?;
        if wanted.is_empty() {
            return Ok(replays);
        }
        let mut sources: Vec<String> = wanted.iter().map(|(source, ..)| source.clone()).collect();
        sources.dedup();
        let wake = sources.iter().map(|source| self.replay_path(source)).collect::<Result<Vec<_>>>()?;
        let (tell, told) = oneshot::channel();
        let answer = Box::new(move |queued| _ = tell.send(queued));
        let letters = wanted.into_iter().map(|(_, lane, offset)| (lane, offset)).collect();
        self.ask_source_shard(ReplayRequest { letters, answer }).await?;
        replays.queued = told.await.map_err(|_| Error::Busy { what: "the source shard" })?;
        wake.iter().for_each(|replayer| replayer.notify_one());
        Ok(replays)
    }
}
