//! Dead letters on disk: by position, so that the same one is there once however often it is read again; bounded by number,
//! bytes and age, the oldest going first, and those counted.
//!
//! A letter *waits*; it is *queued* once a replay of it was asked for ([`crate::replay`]), and then *replayed* with what became
//! of its record, or it waits again with one attempt more. Invariants:
//! - a letter that is queued is not queued again, so one request has one effect however often it is repeated;
//! - what a commit does to letters is decided by what is committed: a request names positions, never states.

use std::collections::{BTreeMap, HashMap};

use karst_types::{BrokerTime, DeadLetter, EventTime, Offset, Outcome, ProcessingTime, Reason, SourceId};
use rocksdb::WriteBatch;

use crate::{bytes, error::Result, keys, lane::LaneId, rocks::Rocks, settings::StoreSettings};

const FORMAT: u8 = 2;
/// Without state, attempt and watermark.
const FORMAT_1: u8 = 1;

/// When a letter of the first format was stored: nobody knows. It goes by number and bytes alone.
const UNKNOWN: ProcessingTime = ProcessingTime(0);

/// Letters dropped by one commit at most; the rest goes with the next ones.
const LET_GO_MAX: u64 = 10_000;

/// Where a dead letter is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LetterState {
    /// Its record is counted as dead (or as late), and nothing is under way.
    Waiting,
    /// It is going to be replayed.
    Queued,
    /// It was replayed, and this is what became of its record. It is kept for those who look.
    Replayed(Outcome),
}

impl LetterState {
    /// The name: `waiting`, `queued`, `replayed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Replayed(_) => "replayed",
        }
    }
    const fn code(self) -> u8 {
        match self {
            Self::Waiting => 0,
            Self::Queued => 1,
            Self::Replayed(Outcome::Applied) => 2,
            Self::Replayed(Outcome::Skipped) => 3,
            Self::Replayed(Outcome::Late) => 4,
            Self::Replayed(Outcome::Tombstone | Outcome::Dead(_)) => 5,
        }
    }
    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Waiting,
            1 => Self::Queued,
            2 => Self::Replayed(Outcome::Applied),
            3 => Self::Replayed(Outcome::Skipped),
            4 => Self::Replayed(Outcome::Late),
            5 => Self::Replayed(Outcome::Tombstone),
            _ => return None,
        })
    }
}

/// A letter as it is stored, without whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) letter: DeadLetter,
    pub(crate) state: LetterState,
    pub(crate) stored_at: ProcessingTime,
}

/// How many there are, and the ends of their queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadState {
    first: u64, // number in the queue of the oldest that is kept
    next: u64,  // number of the next
    pub(crate) kept: u64,
    pub(crate) bytes: u64,
    pub(crate) let_go: u64,
    /// Let go before whoever wants them forwarded had acknowledged them.
    pub(crate) let_go_unsent: u64,
    /// When the oldest was stored, once that is known; not on disk.
    oldest: Option<ProcessingTime>,
}

impl DeadState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.first, self.next, self.kept, self.bytes, self.let_go, self.let_go_unsent].map(u64::to_le_bytes).concat()
    }
    pub(crate) fn decode(mut value: &[u8]) -> Option<Self> {
        let mut next = || bytes::u64(&mut value);
        let [first, after, kept, bytes, let_go] = [next()?, next()?, next()?, next()?, next()?];
        let let_go_unsent = next().unwrap_or(0); // directories of older versions do not count them
        Some(Self { first, next: after, kept, bytes, let_go, let_go_unsent, oldest: None })
    }

    fn too_much(&self, settings: &StoreSettings) -> bool {
        self.kept > settings.dead_letters || self.bytes > settings.dead_letter_bytes.0
    }
    fn too_old(&self, settings: &StoreSettings, now: ProcessingTime) -> bool {
        let too_old = |oldest| oldest != UNKNOWN && now.since(oldest) > settings.dead_letter_age;
        self.kept > 0 && self.oldest.is_none_or(too_old)
    }
}

/// What one commit does to the letters.
pub(crate) struct Letters<'a> {
    state: &'a mut DeadState,
    settings: &'a StoreSettings,
    rocks: &'a Rocks,
    now: ProcessingTime,
    /// Sources whose letters are forwarded, and the number in the queue from which on they are still to be.
    forwarded: HashMap<SourceId, u64>,
    changed: BTreeMap<Vec<u8>, Changed>,
}

struct Changed {
    kept: Kept,
    /// Its size on disk; `None`: it is new.
    before: Option<u64>,
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

impl<'a> Letters<'a> {
    pub(crate) fn new(
        state: &'a mut DeadState,
        settings: &'a StoreSettings,
        rocks: &'a Rocks,
        now: ProcessingTime,
        forwarded: HashMap<SourceId, u64>,
    ) -> Self {
        Self { state, settings, rocks, now, forwarded, changed: BTreeMap::new() }
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<&mut Kept>> {
        if !self.changed.contains_key(key) {
            let Some(value) = self.rocks.get(key)? else { return Ok(None) };
            let kept = keys::offset_of(key).and_then(|offset| decode(offset, &value));
            let kept = kept.ok_or_else(|| self.rocks.corrupt("a dead letter"))?;
            self.changed.insert(key.to_vec(), Changed { kept, before: Some(size(key, &value)) });
        }
        Ok(self.changed.get_mut(key).map(|changed| &mut changed.kept))
    }

    /// A record is put aside. If it was before, this says the same again.
    pub(crate) fn store(&mut self, lane: LaneId, letter: DeadLetter) -> Result<()> {
        let key = keys::dead(lane, letter.offset);
        if let Some(known) = self.get(&key)? {
            known.letter = letter;
            return Ok(());
        }
        let kept = Kept { letter, state: LetterState::Waiting, stored_at: self.now };
        self.changed.insert(key, Changed { kept, before: None });
        Ok(())
    }

    /// A replay was asked for: the letter as it is to be replayed, if it waits and is whole.
    pub(crate) fn queue(&mut self, lane: LaneId, offset: Offset) -> Result<Option<Kept>> {
        let Some(kept) = self.get(&keys::dead(lane, offset))? else { return Ok(None) };
        if kept.state != LetterState::Waiting || kept.letter.is_cut() {
            return Ok(None);
        }
        kept.state = LetterState::Queued;
        Ok(Some(kept.clone()))
    }

    /// A replay came to its end; `letter` if the record is put aside again. A letter that was let go meanwhile stays gone.
    pub(crate) fn settle(&mut self, lane: LaneId, offset: Offset, outcome: Outcome, letter: Option<DeadLetter>) -> Result<()> {
        let Some(kept) = self.get(&keys::dead(lane, offset))? else { return Ok(()) };
        match letter {
            Some(letter) => (kept.letter, kept.state) = (letter, LetterState::Waiting),
            None => kept.state = LetterState::Replayed(outcome),
        }
        Ok(())
    }

    /// Adds all of it to the commit, and lets the oldest go where there are too many or they are too old.
    pub(crate) fn finish(mut self, batch: &mut WriteBatch) -> Result<()> {
        let mut written = BTreeMap::new();
        for (key, Changed { kept, before }) in std::mem::take(&mut self.changed) {
            let value = encode(&kept);
            let now = size(&key, &value);
            if before.is_none() {
                batch.put(keys::dead_queue(self.state.next), [&now.to_le_bytes()[..], &key].concat());
                self.state.next += 1;
                self.state.kept += 1;
            }
            self.state.bytes = self.state.bytes + now - before.unwrap_or(0);
            written.insert(key, value);
        }
        let moved = self.let_go(&mut written, batch)? || !written.is_empty();
        written.iter().for_each(|(key, value)| batch.put(key, value));
        if moved {
            batch.put(keys::meta("dead"), self.state.encode());
        }
        Ok(())
    }

    fn let_go(&mut self, written: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &mut WriteBatch) -> Result<bool> {
        let Self { state, settings, rocks, now, forwarded, .. } = self;
        if !state.too_much(settings) && !state.too_old(settings, *now) {
            return Ok(false);
        }
        let mut gone = 0;
        rocks.scan(&[keys::DEAD_QUEUE], &keys::dead_queue(state.first), |queued, entry| {
            let mut key = entry;
            bytes::u64(&mut key).ok_or_else(|| rocks.corrupt("the queue of dead letters"))?;
            let stored = match written.get(key) {
                Some(value) => Some(value.clone()),
                None => rocks.get(key)?.map(|value| value.to_vec()),
            };
            if let Some(value) = &stored {
                let (letter, stored_at) = head(value).ok_or_else(|| rocks.corrupt("a dead letter"))?;
                state.oldest = Some(stored_at);
                if gone == LET_GO_MAX || !(state.too_much(settings) || state.too_old(settings, *now)) {
                    return Ok(false);
                }
                written.remove(key);
                batch.delete(key);
                state.kept = state.kept.saturating_sub(1);
                state.bytes = state.bytes.saturating_sub(size(key, value));
                // One that was replayed is no loss.
                state.let_go += u64::from(!matches!(letter, LetterState::Replayed(_)));
                let next = keys::lane_of(key).and_then(|lane| forwarded.get(&lane.source));
                let unsent = next.is_some_and(|next| keys::number_of(queued).is_some_and(|number| number >= *next));
                state.let_go_unsent += u64::from(unsent);
            }
            batch.delete(queued);
            state.first = keys::number_of(queued).unwrap_or(state.first) + 1;
            gone += 1;
            Ok(true)
        })?;
        if state.kept == 0 {
            state.oldest = None;
        }
        Ok(gone > 0)
    }
}

pub(crate) fn encode(kept: &Kept) -> Vec<u8> {
    let letter = &kept.letter;
    let mut out = vec![FORMAT, kept.state.code()];
    out.extend_from_slice(&kept.stored_at.0.to_le_bytes());
    bytes::put_varint(&mut out, u64::from(letter.attempt));
    match letter.watermark {
        Some(watermark) => {
            out.push(1);
            out.extend_from_slice(&watermark.0.to_le_bytes());
        }
        None => out.push(0),
    }
    out.extend_from_slice(&letter.broker_time.0.to_le_bytes());
    bytes::put_sized(&mut out, letter.stage.as_bytes());
    bytes::put_sized(&mut out, letter.reason.as_str().as_bytes());
    bytes::put_sized(&mut out, letter.error.as_bytes());
    bytes::put_optional(&mut out, letter.key.as_deref());
    bytes::put_optional(&mut out, letter.value.as_deref());
    bytes::put_varint(&mut out, letter.value_len);
    bytes::put_varint(&mut out, letter.headers.len() as u64);
    for (name, value) in &letter.headers {
        bytes::put_sized(&mut out, name.as_bytes());
        bytes::put_optional(&mut out, value.as_deref());
    }
    out
}

/// State and age alone.
fn head(mut value: &[u8]) -> Option<(LetterState, ProcessingTime)> {
    match bytes::u8(&mut value)? {
        FORMAT => Some((LetterState::of(bytes::u8(&mut value)?)?, ProcessingTime(bytes::i64(&mut value)?))),
        FORMAT_1 => Some((LetterState::Waiting, UNKNOWN)),
        _ => None,
    }
}

pub(crate) fn decode(offset: Offset, mut value: &[u8]) -> Option<Kept> {
    let (state, stored_at) = head(value)?;
    let rest = &mut value;
    let text = |rest: &mut &[u8]| Some(String::from_utf8_lossy(bytes::sized(rest)?).into_owned());
    let (mut attempt, mut watermark) = (1, None);
    if bytes::u8(rest)? == FORMAT {
        bytes::array::<9>(rest)?; // the head
        attempt = u32::try_from(bytes::varint(rest)?).ok()?;
        watermark = match bytes::u8(rest)? {
            0 => None,
            _ => Some(EventTime(bytes::i64(rest)?)),
        };
    }
    let broker_time = BrokerTime(bytes::i64(rest)?);
    let stage = text(rest)?;
    let reason = Reason::parse(&text(rest)?)?;
    let error = text(rest)?;
    let key = bytes::optional(rest)?;
    let content = bytes::optional(rest)?;
    let value_len = bytes::varint(rest)?;
    let count = bytes::varint(rest)?;
    let headers = (0..count).map(|_| Some((text(rest)?, bytes::optional(rest)?))).collect::<Option<Vec<_>>>()?;
    let letter =
        DeadLetter { offset, broker_time, stage, reason, error, attempt, watermark, key, value: content, value_len, headers };
    rest.is_empty().then_some(Kept { letter, state, stored_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(reason: Reason) -> DeadLetter {
        DeadLetter {
            offset: Offset(7),
            broker_time: BrokerTime(-1),
            stage: "parse_stage".to_owned(),
            reason,
            error: "field \"amount\": expected a number".to_owned(),
            attempt: 300,
            watermark: Some(EventTime(-5)),
            key: None,
            value: Some(vec![0, 255, 3]),
            value_len: 1 << 40,
            headers: vec![("trace".to_owned(), Some(b"abc".to_vec())), (String::new(), None)],
        }
    }

    #[test]
    fn a_dead_letter_reads_back_and_a_truncated_one_is_refused() {
        for (nth, reason) in Reason::ALL.into_iter().enumerate() {
            let state = LetterState::of(nth as u8 % 6).unwrap();
            let mut kept = Kept { letter: letter(reason), state, stored_at: ProcessingTime(99) };
            kept.letter.watermark = kept.letter.watermark.filter(|_| nth % 2 == 0);
            let encoded = encode(&kept);
            assert_eq!(decode(Offset(7), &encoded).as_ref(), Some(&kept));
            assert_eq!(head(&encoded), Some((state, ProcessingTime(99))));
            assert!((0..encoded.len()).all(|length| decode(Offset(7), &encoded[..length]).is_none()));
        }
    }

    /// What was written before there were states: a golden letter of format 1.
    #[test]
    fn a_letter_of_the_first_format_is_a_waiting_one_of_the_first_attempt() {
        let mut old = vec![1];
        old.extend_from_slice(&(-1i64).to_le_bytes());
        old.extend_from_slice(b"\x0bparse_stage\x05empty\x03why\x00\x01\x02ab\x02\x00");
        let kept = decode(Offset(3), &old).unwrap();
        assert_eq!((kept.state, kept.letter.attempt, kept.letter.watermark), (LetterState::Waiting, 1, None));
        assert_eq!((kept.letter.reason, kept.letter.value.as_deref()), (Reason::Empty, Some(&b"ab"[..])));
    }

    #[test]
    fn the_state_of_the_queue_reads_back() {
        let state = DeadState { first: 1, next: 2, kept: 3, bytes: 4, let_go: 5, let_go_unsent: 6, oldest: None };
        assert_eq!(DeadState::decode(&state.encode()), Some(state));
        let older = DeadState { let_go_unsent: 0, ..state };
        assert_eq!(DeadState::decode(&state.encode()[..40]), Some(older), "as it was before those were counted");
        assert_eq!(DeadState::decode(&[1]), None);
    }
}
