//! The batch under work: it lies outside the future that works on it, so that no panic and no abort can lose it.
//!
//! Life of a batch: tried whole; after a panic, cut into records, each tried alone; a record that panics again is poison and is
//! put aside by the rebuilt stage at its place in the order. A batch of one record is tried whole, then alone, then poison. So
//! every record makes `handle` panic at most twice, and none that did not panic alone is put aside.

use std::{collections::VecDeque, panic};

use crate::{Payload, shutdown::Left};

pub(crate) struct Slot<M> {
    /// The front is under work. Not empty only between taking a message from the lane and passing its last record.
    items: VecDeque<Item<M>>,
}

pub(crate) struct Item<M> {
    pub(crate) message: M,
    pub(crate) attempt: Attempt,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    Whole,
    Alone,
    Poison { cause: String },
}

impl<M: Payload> Slot<M> {
    pub(crate) fn new() -> Self {
        Self { items: VecDeque::new() }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    pub(crate) fn put(&mut self, message: M) {
        debug_assert!(self.items.is_empty(), "the slot holds one message at a time");
        self.items.push_back(Item { message, attempt: Attempt::Whole });
    }
    pub(crate) fn front(&mut self) -> Option<&mut Item<M>> {
        self.items.front_mut()
    }
    /// The front has been handled, or put aside.
    pub(crate) fn pass(&mut self) -> Option<Item<M>> {
        self.items.pop_front()
    }

    /// The front made its stage panic or hang.
    pub(crate) fn blame(&mut self, cause: &str) {
        let Some(front) = self.items.front_mut() else { return };
        match front.attempt {
            Attempt::Poison { .. } => {}
            Attempt::Alone => front.attempt = Attempt::Poison { cause: cause.to_owned() },
            Attempt::Whole if front.message.len() <= 1 => front.attempt = Attempt::Alone,
            Attempt::Whole => {
                let cut = panic::catch_unwind(panic::AssertUnwindSafe(|| front.message.singles()));
                let Ok(singles) = cut else {
                    tracing::error!("a payload panicked while it was cut into records; it is tried once more as it is");
                    front.attempt = Attempt::Alone;
                    return;
                };
                let emptied = self.items.pop_front();
                debug_assert!(emptied.is_none_or(|item| item.message.is_empty()), "singles() leaves the payload empty");
                for message in singles.into_iter().rev() {
                    self.items.push_front(Item { message, attempt: Attempt::Alone });
                }
            }
        }
    }

    /// What would be lost if it ended now.
    pub(crate) fn left(&self) -> Left {
        let records = self.items.iter().map(|item| item.message.len()).sum();
        Left { messages: usize::from(!self.items.is_empty()), records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Payload for Vec<u8> {
        fn len(&self) -> usize {
            Vec::len(self)
        }
        fn singles(&mut self) -> Vec<Self> {
            self.drain(..).map(|byte| vec![byte]).collect()
        }
    }

    fn seen(slot: &Slot<Vec<u8>>) -> Vec<(&[u8], Attempt)> {
        slot.items.iter().map(|item| (item.message.as_slice(), item.attempt.clone())).collect()
    }

    #[test]
    fn a_blamed_batch_is_cut_in_order_and_a_record_blamed_again_is_poison() {
        let mut slot = Slot::new();
        slot.put(vec![1, 2, 3]);
        slot.blame("first");
        assert_eq!(seen(&slot), [(&[1][..], Attempt::Alone), (&[2], Attempt::Alone), (&[3], Attempt::Alone)]);
        slot.pass();
        slot.blame("again");
        let poison = Attempt::Poison { cause: "again".into() };
        assert_eq!(seen(&slot), [(&[2][..], poison.clone()), (&[3], Attempt::Alone)]);
        slot.blame("while it was put aside");
        assert_eq!(slot.front().map(|front| front.attempt.clone()), Some(poison));
        assert_eq!(slot.left(), Left { messages: 1, records: 2 });
    }

    #[test]
    fn a_batch_of_one_or_no_record_is_poison_at_the_second_blame() {
        for batch in [vec![], vec![7]] {
            let mut slot = Slot::new();
            slot.put(batch.clone());
            slot.blame("first");
            assert_eq!(seen(&slot), [(batch.as_slice(), Attempt::Alone)]);
            slot.blame("second");
            assert_eq!(seen(&slot), [(batch.as_slice(), Attempt::Poison { cause: "second".into() })]);
        }
    }
}
