//! What must hold at every moment of a run, whatever was done to the engine until then.

use karst::{AnswerValue, EngineHandle, ErrorCode, EventTime, Offset, PartitionStatus, QueryRequest, Value};

use crate::{
    broker::Broker,
    oracle::{Entity, Oracle, Partition, Write},
    random::Random,
    report::Sums,
};

/// What was seen before.
pub struct Looks {
    /// Committed of each partition. Goes back only with a loss of power.
    committed: Vec<Option<Offset>>,
    /// Watermarks of partitions, as of what is committed: the same is said of them.
    watermarks: Vec<Option<EventTime>>,
    /// Partitions that the engine knows.
    seen: usize,
    /// Of the source, in this incarnation.
    progress: Option<EventTime>,
}

impl Looks {
    pub fn new(partitions: usize) -> Self {
        let (committed, watermarks) = (vec![None; partitions], vec![None; partitions]);
        Self { committed, watermarks, seen: 0, progress: None }
    }

    /// The engine has come to its end.
    pub fn incarnation(&mut self, committed_may_go_back: bool) {
        (self.seen, self.progress) = (0, None);
        if committed_may_go_back {
            self.committed.fill(None);
            self.watermarks.fill(None);
        }
    }

    /// Every record of every partition has had its effect for good.
    pub fn is_drained(&self, oracle: &Oracle) -> bool {
        if self.seen < oracle.partitions.len() {
            return false;
        }
        let last = oracle.partitions.iter().map(|partition| partition.offsets.last().map(|last| Offset(*last)));
        self.committed.iter().zip(last).all(|(committed, last)| *committed >= last)
    }

    /// Compares what the engine says of itself, and the value of some entity, with the oracle.
    pub fn look(&mut self, world: &World<'_>, random: &mut Random, sums: &mut Sums, wrong: &mut Vec<String>) {
        sums.looks += 1;
        let status = world.engine.status();
        self.seen = status.sources.iter().map(|source| source.partitions.len()).sum();
        for partition in status.sources.iter().flat_map(|source| &source.partitions) {
            let nth = partition.partition.0 as usize;
            if let Err(why) = self.partition(world, &world.oracle.partitions[nth], nth, partition) {
                wrong.push(format!("clicks[{nth}]: {why}; {partition:?}"));
            }
        }
        for source in world.engine.watermarks() {
            if source.watermark < self.progress {
                wrong.push(format!("the progress watermark went back from {:?} to {:?}", self.progress, source.watermark));
            }
            self.progress = source.watermark;
            for partition in &source.partitions {
                let nth = partition.partition.0 as usize;
                let (before, now) = (self.watermarks[nth], partition.watermark);
                let known = &world.oracle.partitions[nth];
                let known = &known.watermarks[..=known.through(self.committed[nth])];
                if now < before || known.binary_search(&now.map(|at| at.0)).is_err() {
                    wrong.push(format!("clicks[{nth}]: its watermark was {before:?}, and is {partition:?}"));
                }
                self.watermarks[nth] = now;
            }
        }
        let entities: Vec<Entity> = world.oracle.writes.keys().copied().collect();
        if !entities.is_empty() {
            let entity = random.one_of(&entities);
            sums.answers += 1;
            if let Err(why) = self.answer(world, entity) {
                wrong.push(format!("{entity:?}: {why}"));
            }
        }
    }

    fn partition(&mut self, world: &World<'_>, oracle: &Partition, nth: usize, now: &PartitionStatus) -> Result<(), String> {
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let there = world.broker.there(nth);
        must(now.committed >= self.committed[nth], "what is committed went back")?;
        self.committed[nth] = now.committed;
        let through = oracle.through(now.committed);
        must(
            now.committed.is_none_or(|offset| oracle.offsets.get(through.wrapping_sub(1)) == Some(&offset.0)),
            "no record is there",
        )?;
        must(through <= there, "more is committed than was written")?;

        let records = now.outcomes.records as usize;
        must(now.outcomes.conserved(), "records have no outcome, or two")?;
        must((through..=there).contains(&records), "as many records cannot be applied")?;
        let expected = oracle.outcomes[records];
        must(now.outcomes == expected, &format!("expected {expected:?}"))?;

        must(now.tripped.is_none() && now.halted.is_none(), "it stands still")?;
        // It goes back with a rewind, and what was under way before that may tell its own a moment later.
        let known = &oracle.watermarks[..=there];
        must(known.binary_search(&now.watermark.map(|at| at.0)).is_ok(), "the log has no such watermark")
    }

    /// The value is that of some prefix of each log, none shorter than what is committed.
    fn answer(&self, world: &World<'_>, entity: Entity) -> Result<(), String> {
        let fields: &[&str] = match entity {
            Entity::User(_) => &["serial", "page", "amount", "clicks__all__"],
            Entity::Page(_) => &["serial", "user", "seen__all__"],
        };
        let class = entity.class();
        let request = QueryRequest { now: Some(EventTime(i64::MAX / 4)), ..QueryRequest::new() };
        let request = request.input(format!("{class}.id"), entity.key());
        let request = fields.iter().fold(request, |request, field| request.output(format!("{class}.{field}")));
        let answer = world.engine.query(&request);
        let error =
            |value: &AnswerValue| value.error.as_ref().filter(|error| error.code != ErrorCode::ResolverNotFound).cloned();
        if let Some(error) = answer.data.iter().find_map(error) {
            return if !world.is_whole { Ok(()) } else { Err(format!("{error:?}")) };
        }
        if !answer.errors.is_empty() {
            return Err(format!("{:?}", answer.errors));
        }
        let values: Vec<&Value> = answer.data.iter().map(|value| &value.value).collect();
        let writes = world.oracle.writes.get(&entity).map_or(&[][..], Vec::as_slice);
        let at_least = writes.iter().filter(|write| self.committed[write.partition] >= Some(Offset(write.offset)));
        let known = writes.iter().filter(|write| {
            let there = world.broker.there(write.partition);
            world.oracle.partitions[write.partition].offsets[..there].contains(&write.offset)
        });
        let (least, most) = (at_least.clone().count() as i64, known.count() as i64);
        let Some(Value::Int(count)) = values.last() else { return Err(format!("no count: {values:?}")) };
        if *count > most || (*count < least && world.is_whole) {
            return Err(format!("{count} of {most} records count, and {least} are committed"));
        }
        let newest = at_least.max();
        let Value::Int(serial) = values[0] else {
            let none = values[0] == &Value::Null && (newest.is_none() || !world.is_whole);
            return if none { Ok(()) } else { Err(format!("no value, and {newest:?} is committed")) };
        };
        let Some(write) = writes.iter().find(|write| write.serial == *serial) else {
            return Err(format!("record {serial} wrote nothing to it"));
        };
        let before = writes.iter().filter(|other| other.partition == write.partition && other.offset < write.offset);
        if before.max() > Some(write) {
            return Err(format!("{write:?} came after a newer one of its partition"));
        }
        if Some(write) < newest && world.is_whole {
            return Err(format!("{write:?} is older than {newest:?}, which is committed"));
        }
        if values[1..values.len() - 1] != row(entity, write).iter().collect::<Vec<_>>()[..] {
            return Err(format!("the values are not those of {write:?}: {values:?}"));
        }
        Ok(())
    }
}

/// The other values that a record writes, in the order of the questions.
pub fn row(entity: Entity, write: &Write) -> Vec<Value> {
    let text = |letter: char, number: u64| Value::Str(format!("{letter}{number}").into());
    match entity {
        Entity::User(_) => vec![text('p', write.page), Value::Int(write.amount)],
        Entity::Page(_) => vec![text('u', write.user)],
    }
}

/// What is looked at.
pub struct World<'a> {
    pub engine: &'a EngineHandle,
    pub broker: &'a Broker,
    pub oracle: &'a Oracle,
    /// No shard has failed since the engine was opened, and each has told the first partition where it stands. One that is stopped, or
    /// that has not brought its rows up to its history yet, answers with less than is committed.
    pub is_whole: bool,
}
