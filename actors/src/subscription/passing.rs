//! How far time has passed the windows of each class, and who is still to be told of what it has passed.
//!
//! What is over may be let go once the watermark has passed it. A subscriber is told a moment later, and time may have made a leap until then:
//! so expiry waits for the subscribers that are there, for ten seconds at most. Whoever is slower than that is told that he missed
//! something; he holds up nobody.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use karst_types::{ClassId, EventTime};
use parking_lot::Mutex;

/// How long expiry waits for a subscriber.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shared by what moves the windows on and by what tells of them.
#[derive(Default)]
pub(crate) struct Passing {
    reached: Mutex<HashMap<ClassId, Reached>>,
    listeners: Mutex<Vec<Weak<Listener>>>,
}

struct Reached {
    /// As of what is committed; `None`: not known yet.
    committed: Option<EventTime>,
    /// Up to where expiry wants to go, and since when it waits for that.
    waiting: Option<(EventTime, Duration)>,
    expired: EventTime,
}

impl Default for Reached {
    fn default() -> Self {
        Self { committed: None, waiting: None, expired: EventTime(i64::MIN) }
    }
}

/// One subscriber: up to where it has been told of the windows of each class.
#[derive(Default)]
pub(crate) struct Listener(Mutex<BTreeMap<ClassId, EventTime>>);

impl Listener {
    pub(crate) fn told(&self, class: ClassId, up_to: EventTime) {
        self.0.lock().insert(class, up_to);
    }
}

impl Passing {
    /// Time has come so far in a class, as of what is committed.
    pub(crate) fn commit(&self, class: ClassId, watermark: Option<EventTime>) {
        let mut all = self.reached.lock();
        let reached = all.entry(class).or_default();
        reached.committed = reached.committed.max(watermark);
    }

    /// Time has come so far in a class, as of what is applied. Returns up to where its windows may expire.
    pub(crate) fn expire(&self, class: ClassId, watermark: EventTime, now: Duration) -> EventTime {
        let slowest = self.slowest(class);
        let mut all = self.reached.lock();
        let reached = all.entry(class).or_default();
        reached.expired = reached.expired.max(slowest.map_or(watermark, |slowest| slowest.min(watermark)));
        match reached.waiting {
            Some((wanted, _)) if reached.expired >= wanted => reached.waiting = None,
            Some((wanted, since)) if now.saturating_sub(since) >= PATIENCE => {
                reached.expired = wanted;
                reached.waiting = None;
            }
            _ => {}
        }
        if reached.expired < watermark && reached.waiting.is_none() {
            reached.waiting = Some((watermark, now));
        }
        reached.expired
    }

    /// How far time has come in a class, as of what is committed; `None`: that is not known yet.
    pub(crate) fn watermark(&self, class: ClassId) -> Option<EventTime> {
        self.reached.lock().get(&class)?.committed
    }

    /// Adds a subscriber, who counts until he is dropped.
    pub(crate) fn listen(&self) -> Arc<Listener> {
        let listener = Arc::<Listener>::default();
        let mut listeners = self.listeners.lock();
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(Arc::downgrade(&listener));
        listener
    }

    fn slowest(&self, class: ClassId) -> Option<EventTime> {
        let listeners = self.listeners.lock();
        listeners.iter().filter_map(Weak::upgrade).filter_map(|listener| listener.0.lock().get(&class).copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: ClassId = ClassId(3);

    #[test]
    fn expiry_follows_the_slowest_subscriber_and_waits_for_nobody_for_longer_than_its_patience() {
        let passing = Passing::default();
        let at = |watermark: i64, seconds: u64| passing.expire(CLASS, EventTime(watermark), Duration::from_secs(seconds)).0;
        assert_eq!(at(100, 0), 100, "nobody listens");
        let (quick, slow) = (passing.listen(), passing.listen());
        quick.told(CLASS, EventTime(500));
        slow.told(CLASS, EventTime(120));
        slow.told(ClassId(4), EventTime(0));
        assert_eq!(at(500, 1), 120);
        slow.told(CLASS, EventTime(300));
        assert_eq!(at(900, 2), 300);
        assert_eq!(at(900, 10), 300);
        assert_eq!(at(900, 11), 500, "what was waited for since the first second");
        assert_eq!((at(900, 12), at(900, 22)), (500, 900));
        assert_eq!(at(1_000, 23), 900);
        drop((quick, slow));
        assert_eq!(at(1_000, 24), 1_000);
        assert_eq!(at(50, 25), 1_000, "never back");
        assert_eq!(passing.watermark(CLASS), None);
        [Some(EventTime(70)), None, Some(EventTime(60))].into_iter().for_each(|committed| passing.commit(CLASS, committed));
        assert_eq!(passing.watermark(CLASS), Some(EventTime(70)));
    }
}
