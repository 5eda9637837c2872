//! Which records of a partition belong to which member of a consumer group: pure, no I/O.
//!
//! A member reads a record only after it has *claimed* it: it moves the group's committed offset behind the record, and writes its claim
//! into the metadata of that offset, beside the last claims of the others. Only the owner of the partition can do that; the broker fences
//! everybody else. So every record is claimed by exactly one member, whoever ends when, and a member that comes back reads what it
//! claimed and had not applied, although the partition may have another owner by then.
//!
//! Invariants:
//! - claims of one partition never overlap, and leave nothing out;
//! - what was given to the engine is never given back.

use std::{collections::BTreeMap, fmt::Write};

/// Members whose last claims are kept; the oldest go first. Kafka takes 4096 bytes of metadata.
const MEMBERS_MAX: usize = 60;
const FORMAT: &str = "karst1";

/// Records from `from` up to and without `end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) end: i64,
}

impl Range {
    pub(super) fn contains(&self, offset: i64) -> bool {
        (self.from..self.end).contains(&offset)
    }
}

/// The group's word on a partition: its committed offset, and what stands beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Word {
    /// The first record that nobody has claimed; `None`: nobody has claimed anything.
    pub(super) next: Option<i64>,
    last: BTreeMap<String, Range>,
}

impl Word {
    /// What cannot be read is the offset of somebody else's tool: it says where to go on, and nothing about members.
    pub(super) fn read(next: Option<i64>, metadata: &str) -> Self {
        let mut last = BTreeMap::new();
        let mut parts = metadata.split(';');
        if parts.next() == Some(FORMAT) {
            let one = |part: &str| {
                let (member, range) = part.split_once(':')?;
                let (from, end) = range.split_once('+')?;
                let from: i64 = from.parse().ok()?;
                Some((member.to_owned(), Range { from, end: from + end.parse::<i64>().ok()? }))
            };
            last.extend(parts.filter_map(one));
        }
        Self { next, last }
    }

    pub(super) fn metadata(&self) -> String {
        let mut out = FORMAT.to_owned();
        for (member, Range { from, end }) in &self.last {
            _ = write!(out, ";{member}:{from}+{}", end - from);
        }
        out
    }

    /// The last claim of a member.
    pub(super) fn last_of(&self, member: &str) -> Option<Range> {
        self.last.get(member).copied()
    }

    /// `member` claims everything up to `end`, from where the group stands, or from `start` if it stands nowhere.
    pub(super) fn claim(&self, member: &str, start: i64, end: i64) -> Self {
        let mut word = self.clone();
        let from = self.next.unwrap_or(start);
        let range = match self.last_of(member) {
            Some(last) if last.end == from => Range { from: last.from, end },
            _ => Range { from, end },
        };
        word.last.insert(member.to_owned(), range);
        word.next = Some(end);
        while word.last.len() > MEMBERS_MAX {
            let oldest = word.last.iter().min_by_key(|(_, range)| range.end).map(|(member, _)| member.clone());
            oldest.map(|member| word.last.remove(&member));
        }
        word
    }

    /// `member`, which claimed last, gives back what is behind `end`; `None` if there is nothing to give back.
    pub(super) fn give_back(&self, member: &str, end: i64) -> Option<Self> {
        let own = self.last_of(member).filter(|own| Some(own.end) == self.next && end < own.end && end >= own.from)?;
        let mut word = self.clone();
        word.last.insert(member.to_owned(), Range { end, ..own });
        word.next = Some(end);
        Some(word)
    }
}

/// What this member ever claimed of a partition, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Own(pub(super) Vec<Range>);

impl Own {
    /// Takes in the last claim as the group has it. Whether a range begins that is not joined to those before: then what is known of
    /// them must be stored before the claim is made, since the group knows only the last one.
    pub(super) fn learn(&mut self, last: Range) -> bool {
        match self.0.last_mut() {
            Some(known) if known.from == last.from => known.end = last.end,
            Some(known) if known.end == last.from => known.end = last.end,
            Some(known) if last.from < known.end => {} // older than what is known
            _ => {
                self.0.push(last);
                return true;
            }
        }
        false
    }

    /// The first own records at or behind `from`.
    pub(super) fn at_or_behind(&self, from: i64) -> Option<Range> {
        let range = self.0.iter().find(|range| range.end > from)?;
        Some(Range { from: range.from.max(from), end: range.end })
    }

    /// What a reader who stands at `from` reads next: its own, or else what nobody has claimed.
    pub(super) fn next(&self, from: i64, word: &Word) -> i64 {
        match self.at_or_behind(from) {
            Some(own) => own.from,
            None => word.next.unwrap_or(from).max(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reads_back_and_what_others_wrote_there_is_only_an_offset() {
        let word = Word::default().claim("ada", 40, 100).claim("bob", 0, 130).claim("ada", 0, 150);
        assert_eq!((word.next, word.last_of("ada")), (Some(150), Some(Range { from: 130, end: 150 })));
        assert_eq!(Word::read(word.next, &word.metadata()), word);
        for other in ["", "some tool", "karst2;ada:1+2", "karst1;ada:x+2;bob"] {
            assert_eq!(Word::read(Some(7), other), Word { next: Some(7), last: BTreeMap::new() }, "{other}");
        }
        let mut crowd = word;
        (0..200).for_each(|nth: i64| crowd = crowd.claim(&format!("member-{nth:026}"), 0, 1_000_000_000 + nth * 100_000));
        assert!(crowd.metadata().len() < 4096 && crowd.last.len() == MEMBERS_MAX, "{}", crowd.metadata().len());
    }

    #[test]
    fn only_who_claimed_last_gives_back_and_never_more_than_its_last_claim() {
        let word = Word::default().claim("ada", 0, 100).claim("bob", 0, 130);
        assert_eq!(word.give_back("ada", 50), None);
        assert_eq!(word.give_back("bob", 99), None);
        assert_eq!(word.give_back("bob", 130), None);
        let back = word.give_back("bob", 110).unwrap();
        assert_eq!((back.next, back.last_of("bob")), (Some(110), Some(Range { from: 100, end: 110 })));
    }

    fn mix(number: u64) -> u64 {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A member with its directory: how often each record was applied for good, and from where it is read after a restart.
    #[derive(Clone, Default)]
    struct Directory {
        applied: Vec<u32>,
        stored: Vec<Range>,
    }

    /// A member that runs.
    struct Life {
        own: Own,
        word: Word,
        /// The end of what was claimed before this life, or has been given to the engine in it.
        given: i64,
        /// Applied and not committed: gone with the life.
        hot: Vec<i64>,
        at: i64,
    }

    const LOG: i64 = 2_000;
    const NAMES: [&str; 3] = ["ada", "bob", "eve"];

    fn begin(directory: &Directory, name: &str, group: &Word) -> Life {
        let mut own = Own(directory.stored.clone());
        group.last_of(name).map(|last| own.learn(last));
        let given = own.0.last().map_or(0, |last| last.end);
        // The restart point: no hole before it but what others claimed.
        let first_missing =
            own.0.iter().flat_map(|range| range.from..range.end).find(|offset| directory.applied[*offset as usize] == 0);
        let at = first_missing.unwrap_or(given);
        Life { own, word: group.clone(), given, hot: Vec::new(), at }
    }

    impl Life {
        /// Gives the next records to the engine, own ones first.
        fn read(&mut self, count: i64) {
            for _ in 0..count {
                let Some(own) = self.own.at_or_behind(self.at) else { return };
                self.hot.push(own.from);
                self.at = own.from + 1;
                self.given = self.given.max(self.at);
            }
        }
        fn commit(&mut self, directory: &mut Directory) {
            self.hot.drain(..).for_each(|offset| directory.applied[offset as usize] += 1);
        }
    }

    /// Members that come, go and are killed at any moment, also between a claim and its answer: at the end, when all have come back and
    /// read what is theirs, every record is in exactly one directory, once.
    #[test]
    fn however_members_end_each_record_is_applied_by_exactly_one_of_them_once() {
        for seed in 0..400u64 {
            let mut random = mix(seed + 1);
            let mut roll = |bound: u64| {
                random = mix(random + 1);
                random % bound
            };
            let mut group = Word::default();
            let mut directories = vec![Directory { applied: vec![0; LOG as usize], stored: Vec::new() }; NAMES.len()];
            let mut lives: Vec<Option<Life>> = NAMES.iter().map(|_| None).collect();
            let mut owner = 0;
            for _ in 0..300 {
                let who = roll(NAMES.len() as u64) as usize;
                let name = NAMES[who];
                let Some(life) = &mut lives[who] else {
                    lives[who] = Some(begin(&directories[who], name, &group));
                    continue;
                };
                match roll(10) {
                    // A claim: the broker takes it of the owner alone.
                    0..4 if who == owner => {
                        life.word = group.clone(); // as read when it became the owner
                        let end = (group.next.unwrap_or(0) + 1 + roll(30) as i64).min(LOG);
                        if group.next == Some(LOG) {
                            continue;
                        }
                        let word = life.word.claim(name, 0, end);
                        let mut known = life.own.clone();
                        if word.last_of(name).is_some_and(|last| known.learn(last)) {
                            directories[who].stored = life.own.0.clone(); // before
                        }
                        match roll(8) {
                            0 => lives[who] = None, // killed before it
                            1 => {
                                group = word; // killed before it knew
                                lives[who] = None;
                            }
                            _ => {
                                group = word.clone();
                                (life.own, life.word) = (known, word);
                            }
                        }
                    }
                    4..7 => life.read(roll(20) as i64),
                    7 => life.commit(&mut directories[who]),
                    8 => {
                        // The partition goes to somebody else: with a farewell, or because it was not heard of.
                        if who == owner
                            && roll(2) == 0
                            && let Some(word) = group.give_back(name, life.given)
                        {
                            group = word;
                            group.last_of(name).map(|last| life.own.learn(last));
                        }
                        owner = roll(NAMES.len() as u64) as usize;
                    }
                    _ if roll(3) == 0 => lives[who] = None,
                    _ => {}
                }
            }
            for who in 0..NAMES.len() {
                let mut life = begin(&directories[who], NAMES[who], &group);
                life.read(LOG);
                life.commit(&mut directories[who]);
            }
            let claimed = group.next.unwrap_or(0);
            assert!(seed > 20 || claimed > 0);
            for offset in 0..LOG as usize {
                let times: u32 = directories.iter().map(|directory| directory.applied[offset]).sum();
                assert_eq!(times, u32::from((offset as i64) < claimed), "seed {seed}: record {offset} of {claimed}");
            }
        }
    }
}
