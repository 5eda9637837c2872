//! Compares what is there with what must be there, and says what of it was lost, what is there twice, and what is wrong otherwise.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use karst::{
    EventTime, StoreSettings,
    features::Catalog,
    runtime::SystemClock,
    state::Store,
    types::{Offset, PartitionId, SourceId},
};
use serde_json::{Value as Json, json};

use crate::{
    oracle::{Oracle, Reader},
    process::{Process, agent},
    workload::{Book, PARTITIONS, USERS},
};

/// What differs.
#[derive(Default)]
pub struct Verdict {
    pub lost: u64,
    pub doubled: u64,
    pub wrong: u64,
    /// The first few, in words.
    pub told: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.wrong == 0
    }
    fn tell(&mut self, what: String) {
        if self.told.len() < 10 {
            self.told.push(what);
        }
    }
    fn lost(&mut self, what: String) {
        self.lost += 1;
        self.tell(what);
    }
    fn doubled(&mut self, what: String) {
        self.doubled += 1;
        self.tell(what);
    }
    fn same(&mut self, what: impl FnOnce() -> String, got: &Json, expected: &Json) {
        if got != expected {
            self.wrong += 1;
            self.tell(format!("{}: expected {expected}, got {got}", what()));
        }
    }
}

fn list<'a>(json: &'a Json, field: &str) -> &'a [Json] {
    json[field].as_array().map_or(&[], Vec::as_slice)
}

fn source(page: &Json, reader: Reader) -> &Json {
    list(page, "sources").iter().find(|source| source["name"] == reader.source()).unwrap_or(&Json::Null)
}

/// Whether everything that was produced has had its effect, for good.
pub fn is_drained(status: &Json, oracle: &Oracle) -> bool {
    Reader::ALL.iter().all(|reader| {
        let partitions = list(source(status, *reader), "partitions");
        partitions.len() == PARTITIONS
            && partitions.iter().zip(oracle.counts(*reader)).all(|(partition, counts)| {
                let through = counts.records as i64 - 1;
                through < 0 || partition["committed"].as_i64() == Some(through) && partition["lag"] == 0
            })
    })
}

/// Whether something is read and not committed.
pub fn is_under_way(status: &Json) -> bool {
    let partitions = list(status, "sources").iter().flat_map(|source| list(source, "partitions"));
    let mut behind = partitions.map(|partition| partition["fetched"].as_i64() > partition["committed"].as_i64());
    behind.any(|behind| behind)
}

/// Counts, dead letters, values and windows, as a running process answers for them.
pub fn answers(process: &Process, oracle: &Oracle, seen: &mut Seen, verdict: &mut Verdict) {
    counts(process, oracle, verdict);
    letters(process, oracle, seen, verdict);
    values(process, oracle, verdict);
    let health = process.page("/healthz").unwrap();
    verdict.same(|| "problems".to_owned(), &health["problems"], &json!([]));
}

/// What was compared in earlier rounds, and does not change any more.
#[derive(Default)]
pub struct Seen {
    letters: HashMap<(Reader, usize), i64>,
    history: HashMap<u16, u64>,
    wrote: HashMap<(Reader, usize), usize>,
    pub updates: u64,
    pub versions: u64,
}

fn counts(process: &Process, oracle: &Oracle, verdict: &mut Verdict) {
    let (status, late) = (process.page("/v1/status").unwrap(), process.page("/v1/late").unwrap());
    verdict.same(|| "conservation".to_owned(), &status["conservation"], &json!({"missing": 0, "exact": true}));
    for reader in Reader::ALL {
        let (of_status, of_late) = (source(&status, reader), source(&late, reader));
        for (number, counts) in oracle.counts(reader).enumerate() {
            let expected = json!({
                "records": counts.records, "applied": counts.applied, "skipped": counts.skipped, "late": counts.late,
                "tombstones": counts.tombstones, "dead_letters": counts.dead_letters,
            });
            let place = || format!("{}[{number}]", reader.source());
            verdict.same(place, &of_status["partitions"][number]["outcomes"], &expected);
            let late = &of_late["partitions"][number];
            let got = json!([late["events"], late["late"], late["corrected"]]);
            verdict.same(place, &got, &json!([counts.events, counts.late, counts.corrected]));
        }
    }
}

fn letters(process: &Process, oracle: &Oracle, seen: &mut Seen, verdict: &mut Verdict) {
    const PAGE: usize = 10_000;
    for ((reader, partition), expected) in &oracle.partitions {
        let (reader, partition) = (*reader, *partition);
        let from = seen.letters.entry((reader, partition)).or_insert(0);
        let mut missing: BTreeMap<i64, &str> =
            expected.letters.range(*from as usize..).map(|(offset, reason)| (*offset as i64, *reason)).collect();
        let mut next = *from;
        loop {
            let path = format!("/v1/dead-letters?source={}&partition={partition}&from={next}&limit={PAGE}", reader.source());
            let page = process.page(&path).unwrap();
            for letter in list(&page, "letters") {
                let (offset, reason) = (letter["offset"].as_i64().unwrap(), letter["reason"].as_str().unwrap());
                let place = format!("letter {}[{partition}]@{offset} ({reason})", reader.source());
                match missing.remove(&offset) {
                    Some(expected) if expected == reason => {}
                    Some(expected) => verdict.same(|| place, &reason.into(), &expected.into()),
                    None => verdict.doubled(place),
                }
                next = offset + 1;
            }
            if list(&page, "letters").len() < PAGE {
                break;
            }
        }
        for (offset, reason) in missing {
            verdict.lost(format!("letter {}[{partition}]@{offset} ({reason})", reader.source()));
        }
        *from = expected.counts.records as i64;
    }
}

fn values(process: &Process, oracle: &Oracle, verdict: &mut Verdict) {
    const OUTPUTS: [&str; 5] = ["page", "amount", "count", "greatest", "spent"];
    let agent = agent();
    let whole = oracle.now();
    for now in [whole, whole + 17 * 60_000_000, whole + 3 * 3_600_000_000] {
        for (reader, user) in Reader::ALL.iter().flat_map(|reader| (0..USERS as u16).map(move |user| (*reader, user))) {
            let Some(entity) = oracle.entities.get(&(reader, user)) else { continue };
            let class = reader.class();
            let outputs: Vec<String> = OUTPUTS.iter().map(|feature| format!("{class}.{feature}")).collect();
            let body = json!({"inputs": {format!("{class}.id"): format!("u{user}")}, "outputs": outputs, "now": EventTime(now).to_string()});
            let answer = process.query(&agent, &body);
            let mut got: BTreeMap<&str, &Json> =
                list(&answer, "data").iter().map(|item| (item["field"].as_str().unwrap(), &item["value"])).collect();
            for (feature, expected) in entity.features(reader, now) {
                let found = got.remove(feature.as_str()).unwrap_or(&Json::Null);
                verdict.same(|| format!("{feature} of u{user} at {}", EventTime(now)), found, &expected);
            }
            verdict.same(|| format!("more of u{user}"), &json!(got), &json!({}));
        }
    }
}

/// Records that have had their effect for good, of a directory that no process has open.
pub fn records_done(dir: &Path) -> u64 {
    let done = open(dir).source_reader().outcomes();
    done.iter().map(|partition| partition.outcomes.records).sum()
}

fn open(dir: &Path) -> Store {
    let settings = StoreSettings { shards: 3, memory: "32MiB".parse().unwrap(), ..StoreSettings::default() };
    Store::open_with_windows(dir.join("data"), &settings, Arc::new(SystemClock)).unwrap()
}

/// Every update once in the history, in versions that follow one another, and every shard where the log ends: of a directory that
/// no process has open.
pub fn history(dir: &Path, book: &Book, oracle: &Oracle, seen: &mut Seen, verdict: &mut Verdict) {
    let store = open(dir);
    let catalog = Catalog::from_text(&store.catalog_text().unwrap().unwrap()).unwrap();
    let reader_of =
        |source: SourceId| Reader::ALL.into_iter().find(|reader| catalog.source_id(reader.source()) == Some(source));
    let mut missing: HashMap<(Reader, usize, i64), bool> = HashMap::new();
    for ((reader, partition), expected) in &oracle.partitions {
        let from = seen.wrote.entry((*reader, *partition)).or_insert(0);
        missing.extend(expected.wrote[*from..].iter().map(|offset| ((*reader, *partition, *offset as i64), false)));
        *from = expected.wrote.len();
    }
    for shard in store.reader().shards() {
        let log = shard.changelog();
        let last = seen.history.entry(shard.id().0).or_insert(0);
        while let Some(changes) = log.next(*last).unwrap() {
            verdict.same(
                || format!("the incarnation of shard {}", shard.id()),
                &changes.version.incarnation.into(),
                &log.newest().incarnation.into(),
            );
            *last = changes.version.seq;
            seen.versions += 1;
            for batch in &changes.batches {
                let (source, partition) = (batch.updates.source(), batch.updates.partition());
                let Some(reader) = reader_of(source) else {
                    verdict.doubled(format!("an update of the unknown source {source:?}"));
                    continue;
                };
                for update in batch.updates.iter() {
                    let offset = update.version.offset;
                    seen.updates += 1;
                    let place = format!("update {}[{partition}]@{offset} in shard {}", reader.source(), shard.id());
                    match missing.get_mut(&(reader, partition.0 as usize, offset.0)) {
                        Some(found @ false) => *found = true,
                        Some(true) => verdict.doubled(format!("{place} is there again")),
                        None => verdict.doubled(format!("{place} should not be there (again)")),
                    }
                    if let Some(record) = book.get(partition.0 as usize).and_then(|records| records.get(offset.0 as usize)) {
                        let got = json!([update.version.event_time.0, String::from_utf8_lossy(update.key)]);
                        verdict.same(|| place, &got, &json!([record.event_time, record.user()]));
                    }
                }
            }
        }
        for (lane, through) in shard.positions() {
            let Some(reader) = reader_of(lane.source).filter(|_| !lane.is_replay()) else { continue };
            let PartitionId(partition) = lane.partition;
            let records = oracle.partitions.get(&(reader, partition as usize)).map_or(0, |state| state.counts.records);
            let place = || format!("the position of {}[{partition}] in shard {}", reader.source(), shard.id());
            verdict.same(place, &through.0.into(), &Offset(records as i64 - 1).0.into());
        }
    }
    for ((reader, partition, offset), _) in missing.into_iter().filter(|(_, found)| !found) {
        verdict.lost(format!("update {}[{partition}]@{offset}", reader.source()));
    }
}
