//! Dead letters on disk: by position, so that the same one is there once however often it is replayed; bounded, the oldest
//! going first, and those counted.

use karst_types::{BrokerTime, DeadLetter, Offset, Reason};
use rocksdb::WriteBatch;

use crate::{bytes, error::Result, keys, lane::LaneId, rocks::Rocks, settings::StoreSettings};

const FORMAT: u8 = 1;

/// How many there are, and the ends of their queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadState {
    first: u64, // number in the queue of the oldest that is kept
    next: u64,  // number of the next
    pub(crate) kept: u64,
    pub(crate) bytes: u64,
    pub(crate) let_go: u64,
}

impl DeadState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [self.first, self.next, self.kept, self.bytes, self.let_go].map(u64::to_le_bytes).concat()
    }
    pub(crate) fn decode(mut value: &[u8]) -> Option<Self> {
        let mut next = || bytes::u64(&mut value);
        Some(Self { first: next()?, next: next()?, kept: next()?, bytes: next()?, let_go: next()? })
    }

    /// Adds letters to a commit, and lets the oldest go where there are too many.
    pub(crate) fn store(
        &mut self,
        letters: &[(LaneId, DeadLetter)],
        settings: &StoreSettings,
        batch: &mut WriteBatch,
        rocks: &Rocks,
    ) -> Result<()> {
        for (lane, letter) in letters {
            let key = keys::dead(*lane, letter.offset);
            let value = encode(letter);
            let size = (key.len() + value.len()) as u64;
            batch.put(keys::dead_queue(self.next), [&size.to_le_bytes()[..], &key].concat());
            batch.put(key, value);
            self.next += 1;
            self.kept += 1;
            self.bytes += size;
        }
        let too_many = |state: &Self| state.kept > settings.dead_letters || state.bytes > settings.dead_letter_bytes.0;
        if too_many(self) {
            rocks.scan(&[keys::DEAD_QUEUE], &keys::dead_queue(self.first), |queued, entry| {
                let mut key = entry;
                let size = bytes::u64(&mut key).ok_or_else(|| rocks.corrupt("the queue of dead letters"))?;
                batch.delete(queued);
                batch.delete(key);
                self.first = keys::number_of(queued).unwrap_or(self.first) + 1;
                self.kept = self.kept.saturating_sub(1);
                self.bytes = self.bytes.saturating_sub(size);
                self.let_go += 1;
                Ok(too_many(self))
            })?;
        }
        batch.put(keys::meta("dead"), self.encode());
        Ok(())
    }
}

pub(crate) fn encode(letter: &DeadLetter) -> Vec<u8> {
    let mut out = vec![FORMAT];
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

pub(crate) fn decode(offset: Offset, mut value: &[u8]) -> Option<DeadLetter> {
    let rest = &mut value;
    let text = |rest: &mut &[u8]| Some(String::from_utf8_lossy(bytes::sized(rest)?).into_owned());
    (bytes::u8(rest)? == FORMAT).then_some(())?;
    let broker_time = BrokerTime(bytes::i64(rest)?);
    let stage = text(rest)?;
    let reason = Reason::parse(&text(rest)?)?;
    let error = text(rest)?;
    let key = bytes::optional(rest)?;
    let content = bytes::optional(rest)?;
    let value_len = bytes::varint(rest)?;
    let count = bytes::varint(rest)?;
    let headers = (0..count).map(|_| Some((text(rest)?, bytes::optional(rest)?))).collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some(DeadLetter { offset, broker_time, stage, reason, error, key, value: content, value_len, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_reads_back_and_a_truncated_one_is_refused() {
        for reason in Reason::ALL {
            let letter = DeadLetter {
                offset: Offset(7),
                broker_time: BrokerTime(-1),
                stage: "parse_stage".to_owned(),
                reason,
                error: "field \"amount\": expected a number".to_owned(),
                key: None,
                value: Some(vec![0, 255, 3]),
                value_len: 1 << 40,
                headers: vec![("trace".to_owned(), Some(b"abc".to_vec())), (String::new(), None)],
            };
            let encoded = encode(&letter);
            assert_eq!(decode(Offset(7), &encoded), Some(letter));
            assert!((0..encoded.len()).all(|length| decode(Offset(7), &encoded[..length]).is_none()));
        }
    }

    #[test]
    fn the_state_of_the_queue_reads_back() {
        let state = DeadState { first: 1, next: 2, kept: 3, bytes: 4, let_go: 5 };
        assert_eq!(DeadState::decode(&state.encode()), Some(state));
        assert_eq!(DeadState::decode(&[1]), None);
    }
}
