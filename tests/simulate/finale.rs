//! What must be there once everything is read: compared value by value with the oracle.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use karst::{EngineHandle, EventTime, LetterFilter, Offset, QueryRequest, Reason, Value, runtime::VirtualClock, state::Store};

use crate::{
    choices::{Choices, MINUTE},
    look::row,
    oracle::{Entity, Oracle},
    report::Sums,
};

/// Outcomes, dead letters, latest values and windows of an engine that has read everything.
pub fn compare(engine: &EngineHandle, oracle: &Oracle, choices: &Choices, sums: &mut Sums, wrong: &mut Vec<String>) {
    let status = engine.status();
    for (nth, partition) in oracle.partitions.iter().enumerate() {
        let Some(got) = status.sources[0].partitions.iter().find(|status| status.partition.0 as usize == nth) else {
            wrong.push(format!("clicks[{nth}] is not known"));
            continue;
        };
        let expected = partition.outcomes[partition.offsets.len()];
        let mut reasons: BTreeMap<Reason, u64> = BTreeMap::new();
        partition
            .letters
            .values()
            .filter(|reason| reason.is_fault())
            .for_each(|reason| *reasons.entry(*reason).or_default() += 1);
        let got_reasons: BTreeMap<Reason, u64> = got.reasons.iter().copied().collect();
        if got.outcomes != expected || got_reasons != reasons {
            wrong.push(format!("clicks[{nth}]: expected {expected:?} {reasons:?}, got {:?} {got_reasons:?}", got.outcomes));
        }
        sums.records += expected.records;
        sums.applied += expected.applied;
        sums.skipped += expected.skipped;
        sums.late += expected.late;
        sums.tombstones += expected.tombstones;
        sums.dead += expected.dead_letters;
        let filter = LetterFilter {
            limit: usize::MAX,
            partition: Some(got.partition),
            replayed: true,
            ..LetterFilter::source("clicks")
        };
        let letters = engine.find_dead_letters(&filter).unwrap_or_else(|error| panic!("dead letters: {error}"));
        let letters: BTreeMap<i64, Reason> =
            letters.into_iter().map(|found| (found.stored.letter.offset.0, found.stored.letter.reason)).collect();
        if letters != partition.letters {
            wrong.push(format!("clicks[{nth}]: expected letters {:?}, got {letters:?}", partition.letters));
        }
    }
    for lateness in engine.lateness() {
        for of in &lateness.partitions {
            let expected = &oracle.partitions[of.partition.0 as usize];
            if of.corrected != expected.corrected {
                wrong.push(format!(
                    "clicks[{}]: {} late events corrected, expected {}",
                    of.partition, of.corrected, expected.corrected
                ));
            }
        }
    }
    for entity in oracle.writes.keys() {
        for after in [0, 5 * MINUTE, 3 * 60 * MINUTE] {
            values(engine, oracle, *entity, oracle.newest + after, sums, wrong);
        }
    }
    let classes: &[&str] = if choices.pages { &["user", "page"] } else { &["user"] };
    for class in classes {
        let expected = oracle.writes.keys().filter(|entity| entity.class() == *class).count();
        let rows = engine.scan(class).unwrap_or_else(|error| panic!("rows: {error}"));
        let known = oracle.writes.keys().map(|entity| Value::Str(entity.key().into()));
        let known: Vec<Value> = known.collect();
        if rows.len() > expected || rows.iter().any(|(key, _)| !known.contains(key)) {
            wrong.push(format!("{class}: {} rows, expected at most {expected}", rows.len()));
        }
    }
}

fn values(engine: &EngineHandle, oracle: &Oracle, entity: Entity, now: i64, sums: &mut Sums, wrong: &mut Vec<String>) {
    let class = entity.class();
    let newest = oracle.writes[&entity].iter().max().expect("an entity was written");
    let names: &[&str] = if class == "user" { &["serial", "page", "amount"] } else { &["serial", "user"] };
    let latest = std::iter::once(Value::Int(newest.serial)).chain(row(entity, newest));
    let mut expected: Vec<(String, Value)> = names.iter().map(|name| format!("{class}.{name}")).zip(latest).collect();
    let windows = oracle.windows(entity, now);
    sums.windows += windows.len() as u64;
    expected.extend(windows.into_iter().map(|(name, value)| (name, value.map_or(Value::Null, Value::Int))));
    let request = QueryRequest { now: Some(EventTime(now)), ..QueryRequest::new() };
    let request = request.input(format!("{class}.id"), entity.key());
    let request = expected.iter().fold(request, |request, (name, _)| request.output(name.as_str()));
    let answer = engine.query(&request);
    let got: Vec<(String, Value)> = answer.data.iter().map(|value| (value.field.clone(), value.value.clone())).collect();
    let errors: Vec<_> = answer.data.iter().filter_map(|value| value.error.as_ref()).collect();
    if got != expected || !errors.is_empty() || !answer.errors.is_empty() {
        wrong.push(format!("{entity:?} at {now}: expected {expected:?}, got {got:?} {errors:?} {:?}", answer.errors));
    }
}

/// The history on disk holds every update once, in the order of its partition. The engine is gone.
pub fn history(dir: &Path, oracle: &Oracle, choices: &Choices, sums: &mut Sums, wrong: &mut Vec<String>) {
    let clock = Arc::new(VirtualClock::default());
    let store = match Store::open_with_windows(dir, &choices.engine.store, clock) {
        Ok(store) => store,
        Err(error) => return wrong.push(format!("it does not open: {error}")),
    };
    let mut told: Vec<(usize, i64, String)> = Vec::new();
    for shard in store.reader().shards() {
        let log = shard.changelog();
        let mut seq = 0;
        let mut last: BTreeMap<i32, Offset> = BTreeMap::new();
        while let Some(changes) = log.next(seq).unwrap_or_else(|error| panic!("history: {error}")) {
            seq = changes.version.seq;
            for update in changes.batches.iter().flat_map(|batch| batch.updates.iter()) {
                let (partition, offset) = (update.version.partition.0, update.version.offset);
                if last.insert(partition, offset) > Some(offset) {
                    wrong.push(format!("shard {}: clicks[{partition}]@{offset} comes again", shard.id().0));
                }
                told.push((partition as usize, offset.0, format!("{:?}", update.entity())));
            }
        }
    }
    sums.changes += told.len() as u64;
    told.sort_unstable();
    let count = told.len();
    told.dedup();
    if told.len() != count {
        wrong.push(format!("{} updates stand twice in the history", count - told.len()));
    }
    let places: Vec<(usize, i64)> = told.into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
    let mut expected: Vec<(usize, i64)> =
        oracle.writes.values().flatten().map(|write| (write.partition, write.offset)).collect();
    expected.sort_unstable();
    if places != expected {
        wrong.push(format!("the history holds {} updates, expected {}", places.len(), expected.len()));
    }
}
