//! Around every call of code that may end the process: what is in hand is noted, suspects are alone, and what ended the process too often
//! is not called again.
//!
//! Invariants:
//! - a suspect record runs only while no other suspect does, in the whole engine: so the one that is noted alone is the one to blame;
//! - nothing is awaited between [`Hand::take`] and the end of its [`Turn`] but the work itself, which does not wait.

use std::sync::Arc;

use karst_runtime::waiting_for;
use karst_state::{InHand, LaneId, Work};
use karst_types::{Offset, Records};
use tokio::sync::{Mutex, MutexGuard};

/// What all workers of an engine share.
pub(crate) struct Hands {
    notes: InHand,
    one_at_a_time: Mutex<()>,
    /// Deaths after which a record is set aside; 0: never.
    deaths_max: u32,
}

impl Hands {
    pub(crate) fn new(notes: InHand, deaths_max: u32) -> Arc<Self> {
        Arc::new(Self { notes, one_at_a_time: Mutex::default(), deaths_max })
    }
    pub(crate) fn notes(&self) -> &InHand {
        &self.notes
    }
    /// The hand of one worker: made once for its partition, whatever becomes of its stage.
    pub(crate) fn hand(self: &Arc<Self>, lane: LaneId, work: Work) -> Arc<Hand> {
        Arc::new(Hand { hands: Arc::clone(self), lane, work, slot: self.notes.slot() })
    }
}

/// One worker's.
pub(crate) struct Hand {
    hands: Arc<Hands>,
    lane: LaneId,
    work: Work,
    slot: u64,
}

impl Hand {
    /// Takes these records in hand, until the turn is dropped. Waits while another suspect is in hand, if they are suspect.
    pub(crate) async fn take(&self, first: Offset, last: Offset) -> Turn<'_> {
        let notes = &self.hands.notes;
        let suspect = match notes.is_suspect(self.lane, first, last) {
            true => Some(waiting_for("another record that was in hand at the end", self.hands.one_at_a_time.lock()).await),
            false => None,
        };
        notes.note(self.slot, self.lane, self.work, first, last);
        Turn { hand: self, alone: (first == last).then_some(first), suspect }
    }

    /// What is to be said of a record that ended the process too often: it must not be taken in hand again.
    pub(crate) fn refuses(&self, offset: Offset) -> Option<String> {
        let Hands { notes, deaths_max, .. } = &*self.hands;
        let deaths = notes.deaths(self.lane, self.work, offset);
        let work = match self.work {
            Work::Decoding => "it was decoded",
            Work::Resolving => "its resolvers ran on it",
        };
        (*deaths_max > 0 && deaths >= *deaths_max)
            .then(|| format!("the process ended {deaths} times in a row while {work}, and nothing else that was suspect"))
    }
}

/// While it lives, records are in hand.
pub(crate) struct Turn<'a> {
    hand: &'a Hand,
    /// The record that is in hand alone: what is noted of it must be exact.
    alone: Option<Offset>,
    suspect: Option<MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    /// Also after a panic: that is not the end of the process. The note of a batch stays until the next: it accuses nobody yet.
    fn drop(&mut self) {
        let Some(offset) = self.alone else { return };
        let Hand { hands, lane, work, slot } = self.hand;
        match self.suspect {
            Some(_) => hands.notes.passed(*slot, *lane, *work, offset),
            None => hands.notes.done(*slot),
        }
    }
}

/// The records as batches in which each suspect stands alone.
pub(crate) fn suspects_alone(records: Records, suspected: &[(Offset, Offset)]) -> Vec<Records> {
    let is_suspect = |offset| suspected.iter().any(|(first, last)| (*first..=*last).contains(&offset));
    if records
        .first_offset()
        .zip(records.last_offset())
        .is_none_or(|(from, to)| suspected.iter().all(|(first, last)| *last < from || to < *first))
    {
        return vec![records];
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for (index, record) in records.iter().enumerate() {
        if is_suspect(record.offset()) {
            parts.extend((from < index).then(|| records.slice(from..index)));
            parts.push(records.slice(index..index + 1));
            from = index + 1;
        }
    }
    parts.extend((from < records.len()).then(|| records.slice(from..records.len())));
    parts
}

#[cfg(test)]
mod tests {
    use karst_types::{BrokerTime, PartitionId};

    use super::*;

    #[test]
    fn suspects_stand_alone_and_all_others_stay_together_in_order() {
        let mut records = Records::new("clicks".into(), PartitionId(0));
        (0..10).for_each(|offset| records.push(Offset(offset * 2), BrokerTime(0), None, None));
        let parts = |suspected: &[(i64, i64)]| {
            let suspected: Vec<_> = suspected.iter().map(|(first, last)| (Offset(*first), Offset(*last))).collect();
            let parts = suspects_alone(records.clone(), &suspected);
            parts.iter().map(|part| part.iter().map(|record| record.offset().0).collect()).collect::<Vec<Vec<i64>>>()
        };
        assert_eq!(parts(&[(20, 99), (-5, -1)]).len(), 1);
        assert_eq!(parts(&[(3, 6), (5, 7), (18, 18)]), [vec![0, 2], vec![4], vec![6], vec![8, 10, 12, 14, 16], vec![18]]);
        assert_eq!(parts(&[(0, 18)]).len(), 10);
    }
}
