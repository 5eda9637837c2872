//! What was in hand when the process ended: notes that outlive it, so that a record which ends the process is found, and not tried for ever.
//!
//! Whoever runs code of the user's (decoding, resolving) notes before which records it is about to be given: one small write for each
//! *batch* into a file that is never synced, since what is to be survived is the end of the process and not of the machine. A graceful
//! stop clears the notes. Where they are not cleared, their records are *suspect* at the next start: those are read one by one, one of
//! them at a time in the whole process, and each is noted alone. A record that was noted alone when the process ended counts a death;
//! one that passes is cleared of all of them.
//!
//! ```text
//! in_hand     slots of 48 bytes: life, source, partition, work, first, last, check. Written in place, torn or stale ones are ignored
//! suspects    text: the number of this life, then one line for each suspicion of earlier ones; replaced as a whole
//! ```
//! A note counts only for the life that `suspects` names, so that a start which is cut off counts no death twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use karst_types::{Offset, PartitionId, SourceId, entity::key_hash};
use parking_lot::Mutex;

use crate::{
    bytes,
    error::Result,
    lane::LaneId,
    layout::{io as at, replace},
};

const SLOT: usize = 48;

/// Whose code has a record in hand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Work {
    /// The decoder of its source.
    Decoding,
    /// The resolvers of its source.
    Resolving,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Decoding => "decoding",
            Self::Resolving => "resolving",
        }
    }
}

/// What one slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Note {
    life: u64,
    lane: LaneId,
    work: Work,
    first: Offset,
    last: Offset,
}

impl Note {
    fn encode(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        let work = self.work as u16;
        let parts: [&[u8]; 6] = [
            &self.life.to_le_bytes(),
            &self.lane.source.0.to_le_bytes(),
            &work.to_le_bytes(),
            &self.lane.partition.0.to_le_bytes(),
            &self.first.0.to_le_bytes(),
            &self.last.0.to_le_bytes(),
        ];
        let mut at = 8; // behind the check
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let check = key_hash(&out[8..]);
        out[..8].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// `None` for a slot that is empty, torn or anything else than a note.
    fn decode(slot: &[u8]) -> Option<Self> {
        let rest = &mut &slot[..];
        let whole = slot.len() == SLOT && bytes::u64(rest)? == key_hash(&slot[8..]);
        let life = bytes::u64(rest).filter(|_| whole)?;
        let source = SourceId(bytes::u16(rest)?);
        let work = match bytes::u16(rest)? {
            0 => Work::Decoding,
            1 => Work::Resolving,
            _ => return None,
        };
        let lane = LaneId { source, partition: PartitionId(bytes::i32(rest)?) };
        Some(Self { life, lane, work, first: Offset(bytes::i64(rest)?), last: Offset(bytes::i64(rest)?) })
    }
}

/// What is suspected of one partition and work.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Suspect {
    /// One of these ended the process, or they were only there.
    among: Option<(Offset, Offset)>,
    /// Records that were alone in hand, and how many times in a row the process ended then.
    alone: BTreeMap<Offset, u32>,
}

type Suspects = BTreeMap<(LaneId, Work), Suspect>;

/// What is suspected after a life that left these notes. `passed`: what need not be read again.
fn judge(mut known: Suspects, notes: &[Note], passed: impl Fn(LaneId) -> Option<Offset>) -> Suspects {
    for note in notes {
        let suspect = known.entry((note.lane, note.work)).or_default();
        if note.first == note.last {
            *suspect.alone.entry(note.first).or_default() += 1;
        } else {
            let (first, last) = suspect.among.unwrap_or((note.first, note.last));
            suspect.among = Some((first.min(note.first), last.max(note.last)));
        }
    }
    for ((lane, _), suspect) in &mut known {
        let passed = passed(*lane);
        suspect.alone.retain(|offset, _| Some(*offset) > passed);
        let left = suspect.among.filter(|(_, last)| Some(*last) > passed);
        suspect.among = left.map(|(first, last)| (passed.map_or(first, |passed| first.max(passed.next())), last));
    }
    known.retain(|_, suspect| suspect.among.is_some() || !suspect.alone.is_empty());
    known
}

fn to_text(life: u64, suspects: &Suspects) -> String {
    let mut text = format!("life {life}\n");
    for ((lane, work), suspect) in suspects {
        let place = format!("{} {} {}", lane.source.0, lane.partition.0, work.name());
        if let Some((first, last)) = suspect.among {
            text += &format!("{place} {} {} 0\n", first.0, last.0);
        }
        for (offset, deaths) in &suspect.alone {
            text += &format!("{place} {0} {0} {deaths}\n", offset.0);
        }
    }
    text
}

/// The life and its suspicions. What cannot be read is no suspicion: it costs another death at worst.
fn from_text(text: &str) -> (u64, Suspects) {
    let mut lines = text.lines();
    let life = lines.next().and_then(|line| line.strip_prefix("life ")?.parse().ok()).unwrap_or(0);
    let mut suspects = Suspects::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [source, partition, work, first, last, deaths] = words[..] else { continue };
        let work = if work == Work::Decoding.name() { Work::Decoding } else { Work::Resolving };
        let numbers = (source.parse(), partition.parse(), first.parse(), last.parse(), deaths.parse());
        let (Ok(source), Ok(partition), Ok(first), Ok(last), Ok(deaths)) = numbers else { continue };
        let lane = LaneId { source: SourceId(source), partition: PartitionId(partition) };
        let suspect = suspects.entry((lane, work)).or_default();
        match deaths {
            0 => suspect.among = Some((Offset(first), Offset(last))),
            deaths => drop(suspect.alone.insert(Offset(first), deaths)),
        }
    }
    (life, suspects)
}

/// The notes of a running engine, and the suspicions that earlier ones left.
pub struct InHand {
    file: File,
    path: PathBuf,
    life: u64,
    slots: AtomicU64,
    failed: AtomicBool,
    /// Whether there may be any: so that nothing is locked in a life without.
    suspicious: AtomicBool,
    suspects: Mutex<Suspects>,
}

impl InHand {
    /// Reads what the last process left in `dir`, and begins a new life. `passed`: the last record of a partition that will not be read
    /// again. Once for each opened directory, before anything is read.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn open(dir: &Path, passed: impl Fn(LaneId) -> Option<Offset>) -> Result<Self> {
        let (path, suspects_path) = (dir.join("in_hand"), dir.join("suspects"));
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(at("open", &path))?;
        let left = fs::read(&path).map_err(at("read", &path))?;
        let text = match fs::read_to_string(&suspects_path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(at("read", &suspects_path)(error)),
        };
        let (life, known) = from_text(&text);
        let notes: Vec<Note> = left.chunks(SLOT).filter_map(Note::decode).filter(|note| note.life == life).collect();
        let suspects = judge(known.clone(), &notes, passed);
        if text.is_empty() || !notes.is_empty() || suspects != known {
            replace(&suspects_path, &to_text(life + 1, &suspects))?;
        } else {
            return Ok(Self::new(file, path, life, suspects));
        }
        file.set_len(0).map_err(at("empty", &path))?;
        Ok(Self::new(file, path, life + 1, suspects))
    }

    fn new(file: File, path: PathBuf, life: u64, suspects: Suspects) -> Self {
        let suspicious = AtomicBool::new(!suspects.is_empty());
        let (slots, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { file, path, life, slots, failed, suspicious, suspects: Mutex::new(suspects) }
    }

    /// A slot for one worker, to write its notes to.
    pub fn slot(&self) -> u64 {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }

    /// These records are about to be given to code that may end the process.
    pub fn note(&self, slot: u64, lane: LaneId, work: Work, first: Offset, last: Offset) {
        self.write(slot, &Note { life: self.life, lane, work, first, last }.encode());
    }

    fn write(&self, slot: u64, content: &[u8]) {
        if let Err(error) = self.file.write_all_at(content, slot * SLOT as u64)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            // Nothing depends on it but how soon a record that ends the process is found.
            tracing::warn!(path = %self.path.display(), %error, "what is in hand cannot be noted");
        }
    }

    /// What was noted last has come to its end.
    pub fn done(&self, slot: u64) {
        self.write(slot, &[0; SLOT]);
    }

    /// A suspect came to its end, and the process lives: it is no suspect any more.
    pub fn passed(&self, slot: u64, lane: LaneId, work: Work, offset: Offset) {
        self.done(slot);
        let mut suspects = self.suspects.lock();
        let Some(suspect) = suspects.get_mut(&(lane, work)) else { return };
        if suspect.alone.remove(&offset).is_some() {
            let text = to_text(self.life, &suspects);
            if let Err(error) = replace(&self.path.with_file_name("suspects"), &text) {
                tracing::warn!(%error, "a record was found innocent, which cannot be noted");
            }
        }
    }

    /// Whether these records were in hand when the process ended.
    pub fn is_suspect(&self, lane: LaneId, first: Offset, last: Offset) -> bool {
        self.suspicious.load(Ordering::Relaxed) && self.suspected(lane).iter().any(|(low, high)| *low <= last && first <= *high)
    }

    /// How many times in a row the process ended while this record was in hand alone.
    pub fn deaths(&self, lane: LaneId, work: Work, offset: Offset) -> u32 {
        if !self.suspicious.load(Ordering::Relaxed) {
            return 0;
        }
        let suspects = self.suspects.lock();
        suspects.get(&(lane, work)).and_then(|suspect| suspect.alone.get(&offset)).copied().unwrap_or(0)
    }

    /// The records of a partition that are to be read one by one, from the first of each group to its last, in order.
    pub fn suspected(&self, lane: LaneId) -> Vec<(Offset, Offset)> {
        if !self.suspicious.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let suspects = self.suspects.lock();
        let of_lane = suspects.iter().filter(|((of, _), _)| *of == lane).map(|(_, suspect)| suspect);
        let groups: BTreeSet<_> = of_lane
            .flat_map(|suspect| suspect.among.into_iter().chain(suspect.alone.keys().map(|offset| (*offset, *offset))))
            .collect();
        groups.into_iter().collect()
    }

    /// The partitions that something is suspected of.
    pub fn suspected_lanes(&self) -> Vec<LaneId> {
        let lanes: BTreeSet<LaneId> = self.suspects.lock().keys().map(|(lane, _)| *lane).collect();
        lanes.into_iter().collect()
    }

    /// Nothing is in hand: the engine has stopped gracefully.
    pub fn clear(&self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(path = %self.path.display(), %error, "the notes of what is in hand cannot be cleared");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId { source: SourceId(3), partition: PartitionId(7) };
    const OTHER: LaneId = LaneId { source: SourceId(3), partition: PartitionId(8) };

    fn life(dir: &Path, passed: i64, lives: impl FnOnce(&InHand)) {
        lives(&InHand::open(dir, |_| Some(Offset(passed))).unwrap()); // dropped without clear(): the process ended
    }

    fn suspected(hand: &InHand) -> Vec<(i64, i64)> {
        hand.suspected(LANE).into_iter().map(|(first, last)| (first.0, last.0)).collect()
    }

    #[test]
    fn a_note_reads_back_and_nothing_else_is_one() {
        let note = Note { life: 4, lane: LANE, work: Work::Resolving, first: Offset(-2), last: Offset(1 << 40) };
        let slot = note.encode();
        assert_eq!(Note::decode(&slot), Some(note));
        assert_eq!(Note::decode(&[0; SLOT]), None);
        assert_eq!(Note::decode(&slot[..SLOT - 1]), None);
        for at in 0..40 {
            let mut torn = slot;
            torn[at] ^= 1;
            assert_eq!(Note::decode(&torn), None, "byte {at}");
        }
    }

    #[test]
    fn a_batch_that_was_in_hand_is_narrowed_down_to_the_record_and_its_deaths_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        life(dir.path(), 9, |hand| {
            let (decoding, resolving) = (hand.slot(), hand.slot());
            hand.note(resolving, LANE, Work::Resolving, Offset(10), Offset(19));
            hand.note(decoding, LANE, Work::Decoding, Offset(20), Offset(29));
            assert!(!hand.is_suspect(LANE, Offset(0), Offset(99)), "nobody was in the life before");
        });
        for deaths in 0..3 {
            // Committed meanwhile: up to 12.
            life(dir.path(), 12, |hand| {
                let mut groups = vec![(13, 19), (20, 29)];
                groups.extend((deaths > 0).then_some((15, 15)));
                groups.sort_unstable();
                assert_eq!(suspected(hand), groups);
                assert_eq!(hand.deaths(LANE, Work::Resolving, Offset(15)), deaths);
                assert_eq!(hand.deaths(LANE, Work::Decoding, Offset(15)), 0);
                assert!(hand.is_suspect(LANE, Offset(0), Offset(13)) && !hand.is_suspect(LANE, Offset(0), Offset(12)));
                assert!(!hand.is_suspect(OTHER, Offset(15), Offset(15)));
                let slot = hand.slot();
                for offset in [13, 14] {
                    hand.note(slot, LANE, Work::Resolving, Offset(offset), Offset(offset));
                    hand.passed(slot, LANE, Work::Resolving, Offset(offset));
                }
                hand.note(slot, LANE, Work::Resolving, Offset(15), Offset(15));
            });
        }
        life(dir.path(), 29, |hand| assert_eq!(suspected(hand), [], "it was set aside, and all is committed"));
    }

    #[test]
    fn a_record_that_passes_is_cleared_of_its_deaths_also_for_the_next_life() {
        let dir = tempfile::tempdir().unwrap();
        life(dir.path(), 0, |hand| hand.note(hand.slot(), LANE, Work::Decoding, Offset(5), Offset(5)));
        life(dir.path(), 0, |hand| {
            let slot = hand.slot();
            assert_eq!(hand.deaths(LANE, Work::Decoding, Offset(5)), 1);
            hand.note(slot, LANE, Work::Decoding, Offset(5), Offset(5));
            hand.passed(slot, LANE, Work::Decoding, Offset(5));
        });
        life(dir.path(), 0, |hand| assert_eq!(suspected(hand), []));
    }

    #[test]
    fn a_graceful_stop_leaves_no_suspicion_and_one_that_was_not_reached_stays() {
        let dir = tempfile::tempdir().unwrap();
        life(dir.path(), 0, |hand| hand.note(hand.slot(), LANE, Work::Decoding, Offset(5), Offset(9)));
        for _ in 0..2 {
            life(dir.path(), 0, |hand| {
                hand.note(hand.slot(), LANE, Work::Decoding, Offset(1), Offset(3));
                hand.clear();
            });
        }
        life(dir.path(), 0, |hand| assert_eq!(suspected(hand), [(5, 9)]));
    }

    /// As if the process ended between the two files, or the notes were those of a backup.
    #[test]
    fn no_death_counts_twice_and_notes_of_another_life_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        life(dir.path(), 0, |hand| hand.note(hand.slot(), LANE, Work::Decoding, Offset(5), Offset(5)));
        let notes = fs::read(dir.path().join("in_hand")).unwrap();
        life(dir.path(), 0, |hand| assert_eq!(hand.deaths(LANE, Work::Decoding, Offset(5)), 1));
        fs::write(dir.path().join("in_hand"), notes).unwrap();
        life(dir.path(), 0, |hand| assert_eq!(hand.deaths(LANE, Work::Decoding, Offset(5)), 1));
    }

    #[test]
    fn suspicions_read_back_and_a_line_that_says_nothing_is_let_go() {
        let mut suspects = Suspects::new();
        let alone = BTreeMap::from([(Offset(4), 2)]);
        suspects.insert((LANE, Work::Resolving), Suspect { among: Some((Offset(1), Offset(9))), alone });
        let text = to_text(17, &suspects);
        assert_eq!(from_text(&text), (17, suspects.clone()));
        assert_eq!(from_text(&format!("{text}what\n1 2 decoding x 3 0\n")), (17, suspects));
        assert_eq!(from_text(""), (0, Suspects::new()));
    }
}
