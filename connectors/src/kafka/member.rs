//! Membership in a consumer group: one thread with a client of its own, which subscribes, never fetches, and makes the claims
//! (`claims.rs`) of the partitions that it is given. Who reads asks it for every batch.
//!
//! - The group's word on a partition is read when it is given to this member, and again after a claim whose answer did not come: it is
//!   never guessed.
//! - A partition that is taken away is frozen, what was claimed and not given to the engine goes back, and only then is it let go.
//! - What was claimed in an earlier life is never given back: how much of it the engine had applied is not known here.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, Hasher},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use karst_types::Offset;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaResult,
    topic_partition_list::Offset as KafkaOffset,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    claims::{Own, Range, Word},
    config::KafkaConfig,
};

const POLL: Duration = Duration::from_millis(2);
const ASK: Duration = Duration::from_secs(5);
/// Records that one claim takes at most. More make fewer claims; as many may wait for a member that was killed.
const CLAIM_MAX: i64 = 50_000;

/// One partition, as this member sees it.
#[derive(Default)]
struct Share {
    /// The group has given it to this member.
    owned: bool,
    /// `None`: to be read.
    word: Option<Word>,
    own: Own,
    /// Everything before this was given to the engine, or claimed in an earlier life.
    given: i64,
    /// It is being taken away.
    frozen: bool,
    /// Where a claim is to begin if the group stands nowhere, and to end.
    wanted: Option<(i64, i64)>,
}

/// What a reader may do with the records from some offset on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    /// Those before this offset are its own.
    Until(i64),
    /// They are somebody else's; this is where its own go on, or those that nobody has claimed.
    Skip(i64),
}

struct State {
    /// The name under which this directory claims.
    id: String,
    file: PathBuf,
    shares: BTreeMap<i32, Share>,
}

/// Shared by the thread and the readers.
pub(super) struct Member {
    source: String,
    topic: String,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    stop: AtomicBool,
}

/// A running membership.
pub(super) struct Membership {
    pub(super) member: Arc<Member>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Membership {
    /// Joins the group. What this member has claimed is kept in `file`.
    pub(super) fn join(config: &KafkaConfig, source: &str, file: &Path) -> Result<Self, String> {
        let (id, owns) = read_file(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let shares = owns.into_iter().map(|(partition, own)| (partition, Share { own, ..Share::default() })).collect();
        let state = Mutex::new(State { id, file: file.to_owned(), shares });
        let (changed, stop) = (watch::Sender::new(0), AtomicBool::new(false));
        let member = Arc::new(Member { source: source.to_owned(), topic: config.topic.clone(), state, changed, stop });
        member.save().map_err(|error| format!("{}: {error}", file.display()))?;
        let context = Context { member: Arc::clone(&member), inner: DefaultClientContext };
        let client: BaseConsumer<Context> = config.member().create_with_context(context).map_err(|error| error.to_string())?;
        client.subscribe(&[&config.topic]).map_err(|error| error.to_string())?;
        let own = Arc::clone(&member);
        let run = move || own.run(&client);
        let thread =
            thread::Builder::new().name(format!("kafka-group {source}")).spawn(run).map_err(|error| error.to_string())?;
        Ok(Self { member, thread: Mutex::new(Some(thread)) })
    }

    /// Gives back what was not read, and leaves.
    pub(super) fn leave(&self) {
        self.member.stop.store(true, Relaxed);
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            warn!(source = self.member.source, "the thread of the group panicked");
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.member.stop.store(true, Relaxed);
    }
}

impl Member {
    // ---- what readers ask ----

    /// Whether the group has given a partition to this member.
    pub(super) fn owns(&self, partition: i32) -> bool {
        self.state.lock().shares.get(&partition).is_some_and(|share| share.owned)
    }

    /// Where a reader that stands at `from` (`None`: nowhere yet) reads first; `None`: where its source starts.
    pub(super) async fn start(&self, partition: i32, from: Option<i64>) -> Option<i64> {
        let mut changes = self.changed.subscribe();
        loop {
            {
                let mut state = self.state.lock();
                let share = state.shares.entry(partition).or_default();
                if let Some(word) = &share.word {
                    return match from {
                        Some(from) => Some(share.own.next(from, word)),
                        None => share.own.0.first().map(|own| own.from).or(word.next),
                    };
                }
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until it is known whose the records from `first` to `last` are, and claims them if they are nobody's and the partition is
    /// this member's; `end` is where the log ends, as far as known. Cancel safe.
    pub(super) async fn give(&self, partition: i32, first: i64, last: i64, end: Option<i64>) -> Given {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(given) = self.try_give(partition, first, last, end) {
                return given;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn try_give(&self, partition: i32, first: i64, last: i64, end: Option<i64>) -> Option<Given> {
        let mut state = self.state.lock();
        let share = state.shares.entry(partition).or_default();
        let word = share.word.as_ref().filter(|_| !share.frozen)?;
        if let Some(own) = share.own.at_or_behind(first).filter(|own| own.contains(first)) {
            let until = own.end.min(last + 1);
            share.given = share.given.max(until);
            share.wanted = None;
            return Some(Given::Until(until));
        }
        let next = share.own.next(first, word);
        if next != first {
            return Some(Given::Skip(next));
        }
        let end = end.unwrap_or(0).clamp(last + 1, (first + CLAIM_MAX).max(last + 1));
        share.wanted = Some((first, end));
        None
    }

    // ---- the thread ----

    fn run(&self, client: &BaseConsumer<Context>) {
        while !self.stop.load(Relaxed) {
            match client.poll(POLL) {
                Some(Err(error)) => debug!(source = self.source, %error, "the group"),
                Some(Ok(_)) => {} // nothing is fetched but what came before the pause
                None => {}
            }
            self.read_words(client);
            self.claim(client);
        }
        let all: Vec<i32> = self.state.lock().shares.keys().copied().collect();
        self.let_go(client, &all);
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Asks what the group says of the partitions of which it is not known.
    fn read_words<C: ConsumerContext>(&self, client: &BaseConsumer<C>) {
        let unknown: Vec<i32> = {
            let state = self.state.lock();
            state.shares.iter().filter(|(_, share)| share.word.is_none()).map(|(partition, _)| *partition).collect()
        };
        if unknown.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        unknown.iter().for_each(|partition| _ = list.add_partition(&self.topic, *partition));
        let words = match client.committed_offsets(list, ASK) {
            Ok(words) => words,
            Err(error) => return warn!(source = self.source, %error, "the group does not say where it stands; asking again"),
        };
        let mut state = self.state.lock();
        let State { id, shares, .. } = &mut *state;
        for element in words.elements() {
            let Some(share) = shares.get_mut(&element.partition()) else { continue };
            if element.error().is_err() {
                continue;
            }
            let next = match element.offset() {
                KafkaOffset::Offset(next) => Some(next),
                _ => None,
            };
            let word = Word::read(next, element.metadata());
            let first_time = share.given == 0;
            if let Some(last) = word.last_of(id) {
                share.own.learn(last);
            }
            if first_time {
                share.given = share.own.0.last().map_or(0, |own| own.end);
            }
            share.word = Some(word);
        }
        drop(state);
        self.tell();
    }

    /// Makes the claims that are wanted, all in one commit.
    fn claim<C: ConsumerContext>(&self, client: &BaseConsumer<C>) {
        let mut list = TopicPartitionList::new();
        let mut claims = Vec::new();
        let mut begins = false;
        {
            let mut state = self.state.lock();
            let State { id, shares, .. } = &mut *state;
            for (partition, share) in shares.iter_mut().filter(|(_, share)| share.owned && !share.frozen) {
                let (Some(word), Some((start, end))) = (&share.word, share.wanted.take()) else { continue };
                let claimed = word.claim(id, start, end);
                let joined = claimed.last_of(id).is_some_and(|last| !share.own.clone().learn(last));
                begins |= !joined;
                claims.push((*partition, claimed));
            }
        }
        if claims.is_empty() {
            return;
        }
        if begins && let Err(error) = self.save() {
            return warn!(source = self.source, %error, "what was claimed cannot be stored; nothing more is claimed");
        }
        for (partition, word) in &claims {
            add(&mut list, &self.topic, *partition, word);
        }
        let committed = client.commit(&list, CommitMode::Sync);
        self.settle(claims, &committed);
    }

    /// The answer to a commit: without one the group is asked again.
    fn settle(&self, words: Vec<(i32, Word)>, committed: &KafkaResult<()>) {
        if let Err(error) = committed {
            info!(source = self.source, %error, "the group took no claim: it is asked where it stands");
        }
        let mut state = self.state.lock();
        let State { id, shares, .. } = &mut *state;
        for (partition, word) in words {
            let Some(share) = shares.get_mut(&partition) else { continue };
            share.word = None;
            if committed.is_ok() {
                word.last_of(id).map(|last| share.own.learn(last));
                share.word = Some(word);
            }
        }
        drop(state);
        self.tell();
    }

    fn assigned(&self, partitions: &[i32]) {
        info!(source = self.source, ?partitions, "partitions are given to this member");
        let mut state = self.state.lock();
        for partition in partitions {
            let share = state.shares.entry(*partition).or_default();
            (share.owned, share.frozen, share.word) = (true, false, None);
        }
    }

    /// These go to somebody else: what was claimed and not given to the engine goes back.
    fn let_go<C: ConsumerContext>(&self, client: &BaseConsumer<C>, partitions: &[i32]) {
        let mut list = TopicPartitionList::new();
        let mut words = Vec::new();
        {
            let mut state = self.state.lock();
            let State { id, shares, .. } = &mut *state;
            for partition in partitions {
                let Some(share) = shares.get_mut(partition) else { continue };
                share.frozen = true;
                let Some(word) = share.word.as_ref().filter(|_| share.owned) else { continue };
                let last = word.last_of(id);
                let back = last.and_then(|last| word.give_back(id, share.given.max(last.from)));
                words.extend(back.map(|word| (*partition, word)));
            }
        }
        for (partition, word) in &words {
            add(&mut list, &self.topic, *partition, word);
        }
        if !words.is_empty() {
            let committed = client.commit(&list, CommitMode::Sync);
            self.settle(words, &committed);
        }
        let mut state = self.state.lock();
        for partition in partitions {
            if let Some(share) = state.shares.get_mut(partition) {
                (share.owned, share.frozen) = (false, self.stop.load(Relaxed));
            }
        }
        drop(state);
        info!(source = self.source, ?partitions, "partitions are let go");
        self.tell();
    }

    /// Replaces the file, whole and on stable storage.
    fn save(&self) -> std::io::Result<()> {
        let (file, text) = {
            let state = self.state.lock();
            let mut text = format!("member {}\n", state.id);
            for (partition, share) in &state.shares {
                share.own.0.iter().for_each(|Range { from, end }| text += &format!("{partition} {from} {end}\n"));
            }
            (state.file.clone(), text)
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let new = file.with_extension("new");
        let mut written = fs::File::create(&new)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(&new, &file)?;
        fs::File::open(folder)?.sync_all()
    }
}

/// Name and claims, as stored; a new name where nothing is.
fn read_file(file: &Path) -> std::io::Result<(String, BTreeMap<i32, Own>)> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let id = text.lines().find_map(|line| line.strip_prefix("member ")).map(str::to_owned);
    let random = || format!("{:016x}", std::hash::RandomState::new().build_hasher().finish());
    let mut owns: BTreeMap<i32, Own> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let wrong =
            || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("expected `partition from end`, got {line:?}"));
        let numbers: Vec<i64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [partition, from, end] = numbers[..] else { return Err(wrong()) };
        owns.entry(i32::try_from(partition).map_err(|_| wrong())?).or_default().0.push(Range { from, end });
    }
    Ok((id.unwrap_or_else(random), owns))
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, word: &Word) {
    let mut element = list.add_partition(topic, partition);
    if let Some(next) = word.next {
        element.set_offset(KafkaOffset::Offset(next)).expect("an offset of a record can be set");
    }
    element.set_metadata(word.metadata());
}

/// What librdkafka calls when the group gives and takes.
struct Context {
    member: Arc<Member>,
    inner: DefaultClientContext,
}

impl ClientContext for Context {
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // Nothing is fetched by this client: it would only stand in the way of the one that does.
                let set = list.set_all_offsets(KafkaOffset::End);
                let taken = set.and_then(|()| client.incremental_assign(list)).and_then(|()| client.pause(list));
                self.member.assigned(&partitions);
                taken
            }
            _ => {
                self.member.let_go(client, &partitions);
                client.incremental_unassign(list)
            }
        };
        if let Err(error) = done {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            warn!(source = self.member.source, ?code, %error, "librdkafka refuses");
        }
    }
}

/// For the offsets of readers.
pub(super) const fn known(offset: Option<Offset>) -> Option<i64> {
    match offset {
        Some(offset) => Some(offset.0),
        None => None,
    }
}
