//! Hop 7: answers queries from applied state, on the caller's thread: no mailbox, no queue (`docs/semantics.md`, Queries).
//!
//! Invariants:
//! - every output is answered: with a value, or with an error that names it; never a silent gap;
//! - a value is as applied (at most one commit ahead of what a crash would keep), or, if asked for, as committed;
//! - one row is read once per query, so all features of an entity in one answer are of one moment.

use std::{collections::HashMap, sync::Arc, time::Duration};

use karst_features::{
    Catalog, Freshness, Plan, PlanError, PlanErrorKind, PlanRequest, PlannedOutput, Read, Registry, staleness,
};
use karst_state::{Cell, Row, Store, StoreReader, WindowRead, WindowValue};
use karst_types::{Clock, EventTime, FeatureSlot, ProcessingTime, TimeSpan, Value, WindowKind};
use metrics::{Histogram, counter, histogram};
use parking_lot::RwLock;

use crate::protocol::reached;

/// Plans that are kept; past it the cache starts anew. A service asks a handful of queries, not thousands.
const PLANS_MAX: usize = 1024;

/// What to look up.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// Known values by feature name, the keys among them: `("user.id", "ada")`.
    pub inputs: Vec<(String, Value)>,
    /// Features (`user.last_page`) or whole classes (`user`).
    pub outputs: Vec<String>,
    /// How old values may be, by feature or class; over the declaration.
    pub staleness: Vec<(String, TimeSpan)>,
    /// The time that ages are counted to; default: the clock's.
    pub now: Option<EventTime>,
    /// Only what a crash would keep, as the rows on disk have it: in a flood up to two seconds behind.
    pub committed_only: bool,
}

impl QueryRequest {
    /// An empty query.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a known value.
    #[must_use]
    pub fn input(mut self, feature: impl Into<String>, value: impl IntoValue) -> Self {
        self.inputs.push((feature.into(), value.into_value()));
        self
    }
    /// Adds a feature, or a whole class, to be answered.
    #[must_use]
    pub fn output(mut self, feature: impl Into<String>) -> Self {
        self.outputs.push(feature.into());
        self
    }
    /// Sets how old a feature's value, or those of a class, may be.
    #[must_use]
    pub fn max_staleness(mut self, feature: impl Into<String>, span: TimeSpan) -> Self {
        self.staleness.push((feature.into(), span));
        self
    }
    /// Answers only with what a crash would keep.
    #[must_use]
    pub fn committed_only(mut self) -> Self {
        self.committed_only = true;
        self
    }
}

/// What can be written where a [`Value`] is wanted.
pub trait IntoValue {
    /// The value.
    fn into_value(self) -> Value;
}
impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}
impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::Str(self.into())
    }
}
impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::Str(self.into())
    }
}
impl IntoValue for i64 {
    fn into_value(self) -> Value {
        Value::Int(self)
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct QueryAnswer {
    /// One entry for each output, in the order of the query; a class is spread out.
    pub data: Vec<AnswerValue>,
    /// What is wrong with the query as a whole, or with outputs that are not in `data`.
    pub errors: Vec<QueryError>,
    /// Time in the engine.
    pub took: Duration,
}

impl QueryAnswer {
    /// The value of a feature; `None` if it was not asked for or has an error.
    pub fn get(&self, feature: &str) -> Option<&Value> {
        self.data.iter().find(|value| value.field == feature && value.error.is_none()).map(|value| &value.value)
    }
}

/// One feature of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct AnswerValue {
    /// `user.last_page`.
    pub field: String,
    /// The value; null also where there is an error.
    pub value: Value,
    /// The key of the entity it belongs to.
    pub pkey: Option<Value>,
    /// The event time of the value.
    pub ts: Option<EventTime>,
    /// When it was stored.
    pub stored_at: Option<ProcessingTime>,
    /// Where it comes from: `input`, or the resolvers that write it.
    pub source: String,
    /// Whether it was stored before.
    pub cache_hit: bool,
    /// Why there is no value.
    pub error: Option<QueryError>,
}

/// The class of an error, as clients of Chalk's public protocol know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request could not be read.
    ParseFailed,
    /// There is no such feature, or nothing can make its value.
    ResolverNotFound,
    /// The request makes no sense as a whole.
    InvalidQuery,
    /// A value is not of the type it should be.
    ValidationFailed,
    /// The store could not be read.
    UpstreamFailed,
    /// A fault of ours.
    InternalServerError,
}

impl ErrorCode {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ParseFailed => "PARSE_FAILED",
            Self::ResolverNotFound => "RESOLVER_NOT_FOUND",
            Self::InvalidQuery => "INVALID_QUERY",
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::UpstreamFailed => "UPSTREAM_FAILED",
            Self::InternalServerError => "INTERNAL_SERVER_ERROR",
        }
    }
    /// What it is about, as on the wire: `REQUEST`, `FIELD` or `NETWORK`.
    pub const fn category(self) -> &'static str {
        match self {
            Self::ParseFailed | Self::InvalidQuery | Self::ValidationFailed => "REQUEST",
            Self::ResolverNotFound => "FIELD",
            Self::UpstreamFailed | Self::InternalServerError => "NETWORK",
        }
    }
}

/// One error of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryError {
    /// Its class.
    pub code: ErrorCode,
    /// In words, with a hint.
    pub message: String,
    /// The feature it is about.
    pub feature: Option<String>,
    /// The resolver it is about.
    pub resolver: Option<String>,
}

impl From<&PlanError> for QueryError {
    fn from(error: &PlanError) -> Self {
        let code = match error.kind {
            PlanErrorKind::UnknownFeature => ErrorCode::ResolverNotFound,
            PlanErrorKind::WrongType => ErrorCode::ValidationFailed,
            PlanErrorKind::NotInCatalog => ErrorCode::InternalServerError,
            _ => ErrorCode::InvalidQuery,
        };
        Self { code, message: error.to_string(), feature: error.feature.clone(), resolver: None }
    }
}

/// Names only: plans do not depend on values.
type PlanKey = (Vec<String>, Vec<String>, Vec<(String, TimeSpan)>);

/// What is stored of one entity, ready to be asked for some features or for many.
enum Found {
    Nothing,
    /// A search goes through the row: right for a few features.
    Row(Row),
    /// Every cell, by rising slot: one pass, right for many.
    Cells(Vec<(FeatureSlot, Cell)>),
}

impl Found {
    fn new(row: Option<Row>, outputs: usize) -> Self {
        match row {
            None => Self::Nothing,
            Some(row) if outputs <= 4 => Self::Row(row),
            Some(row) => Self::Cells(row.cells().collect()),
        }
    }
    fn get(&self, slot: FeatureSlot) -> Option<Cell> {
        match self {
            Self::Nothing => None,
            Self::Row(row) => row.get(slot),
            Self::Cells(cells) => {
                let at = cells.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
                Some(cells[at].1.clone())
            }
        }
    }
}

/// What is stored of one entity of a query.
struct Entity {
    found: Found,
    /// By the index of the output.
    windows: HashMap<usize, WindowValue>,
}

/// The value of a window, and the instant it is of.
fn windows_answer(
    output: &PlannedOutput,
    read: Result<Option<&WindowValue>, &QueryError>,
    default: &Value,
    now: EventTime,
) -> Result<(Value, EventTime), QueryError> {
    let failed = |code, message| QueryError { code, message, feature: Some(output.fqn.clone()), resolver: None };
    match read {
        Err(error) => Err(failed(error.code, error.message.clone())),
        Ok(Some(WindowValue::Value { value: Value::Null, as_of })) => Ok((default.clone(), *as_of)),
        Ok(Some(WindowValue::Value { value, as_of })) => Ok((value.clone(), *as_of)),
        Ok(Some(WindowValue::Expired)) => Err(failed(
            ErrorCode::ResolverNotFound,
            format!(
                "what \"{}\" was at {now} is not known any more: it is kept for `retention` before the watermark",
                output.fqn
            ),
        )),
        Ok(Some(WindowValue::Unknown) | None) => {
            Err(failed(ErrorCode::InternalServerError, format!("no tiles are kept for \"{}\"", output.fqn)))
        }
    }
}

/// Answers queries. Shared by all threads.
pub(crate) struct OnlineQuery {
    registry: Arc<Registry>,
    catalog: Arc<Catalog>,
    store: Store,
    reader: StoreReader,
    clock: Arc<dyn Clock>,
    plans: RwLock<HashMap<PlanKey, Arc<Plan>>>,
    seconds: Histogram,
}

impl OnlineQuery {
    pub(crate) fn new(registry: Arc<Registry>, catalog: Arc<Catalog>, store: Store, clock: Arc<dyn Clock>) -> Self {
        let seconds = histogram!("karst_actors_query_seconds");
        let reader = store.reader();
        Self { registry, catalog, store, reader, clock, plans: RwLock::default(), seconds }
    }

    pub(crate) fn plan(&self, request: &QueryRequest) -> Arc<Plan> {
        let inputs: Vec<String> = request.inputs.iter().map(|(name, _)| name.clone()).collect();
        let key = (inputs, request.outputs.clone(), request.staleness.clone());
        if let Some(plan) = self.plans.read().get(&key) {
            return Arc::clone(plan);
        }
        let asked = PlanRequest { inputs: &key.0, outputs: &key.1, staleness: &key.2 };
        let plan = Arc::new(Plan::new(&self.registry, &self.catalog, &asked));
        let mut plans = self.plans.write();
        // Mistakes are not kept: whoever makes them makes many.
        if plan.errors.is_empty() {
            if plans.len() >= PLANS_MAX {
                plans.clear();
            }
            plans.insert(key, Arc::clone(&plan));
        }
        plan
    }

    pub(crate) fn answer(&self, request: &QueryRequest) -> QueryAnswer {
        let began = self.clock.elapsed();
        let plan = self.plan(request);
        let now = request.now.unwrap_or_else(|| EventTime(self.clock.now().0));
        let values: Vec<Value> = request.inputs.iter().map(|(_, value)| value.clone()).collect();
        let mut errors: Vec<QueryError> = plan.errors.iter().map(QueryError::from).collect();
        let rows: Vec<_> =
            (0..plan.entities.len()).map(|entity| self.look_up(&plan, entity, &values, now, request.committed_only)).collect();
        for (entity, row) in plan.entities.iter().zip(&rows) {
            if let Err(error) = row
                && error.code == ErrorCode::ValidationFailed
            {
                errors.push(QueryError { feature: Some(entity.key_fqn.clone()), ..error.clone() });
            }
        }
        let data: Vec<_> = (0..plan.outputs.len()).map(|index| self.output(&plan, index, &values, &rows, now)).collect();
        let all = errors.iter().chain(data.iter().filter_map(|value| value.error.as_ref()));
        all.for_each(|error| counter!("karst_actors_query_errors_total", "code" => error.code.as_str()).increment(1));
        let took = self.clock.elapsed().saturating_sub(began);
        self.seconds.record(took.as_secs_f64());
        reached("online_query", "query", data.len());
        QueryAnswer { data, errors, took }
    }

    /// What is stored of an entity, as far as the query asks for it.
    fn look_up(
        &self,
        plan: &Plan,
        entity: usize,
        values: &[Value],
        now: EventTime,
        committed_only: bool,
    ) -> Result<Entity, QueryError> {
        let planned = &plan.entities[entity];
        let key = plan.key(planned, values).map_err(|error| QueryError::from(&error))?;
        let failed = |error: karst_state::Error| {
            let message = error.to_string();
            QueryError { code: ErrorCode::UpstreamFailed, message, feature: None, resolver: None }
        };
        let (stored, windows) = self.wanted(plan, entity);
        let found = match stored {
            0 => Found::Nothing,
            outputs => {
                let row = if committed_only { self.reader.get_committed(&key) } else { self.reader.get(&key) };
                Found::new(row.map_err(failed)?, outputs)
            }
        };
        let is_session = |(_, read): &(usize, WindowRead)| matches!(read.kind, WindowKind::Session { .. });
        let (sessions, windows): (Vec<_>, Vec<_>) = windows.into_iter().partition(is_session);
        let mut values = HashMap::new();
        if let Some(layout) = self.store.windows().of(planned.class).filter(|_| !windows.is_empty()) {
            let (outputs, reads): (Vec<_>, Vec<_>) = windows.into_iter().unzip();
            let read = self.reader.windows(layout, &key, &reads, now, committed_only).map_err(failed)?;
            values.extend(outputs.into_iter().zip(read));
        }
        if let Some(layout) = self.store.windows().sessions_of(planned.class).filter(|_| !sessions.is_empty()) {
            let (outputs, slots): (Vec<_>, Vec<_>) = sessions.into_iter().map(|(index, read)| (index, read.slot)).unzip();
            let read = self.reader.sessions(layout, &key, &slots, now, committed_only).map_err(failed)?;
            values.extend(outputs.into_iter().zip(read));
        }
        Ok(Entity { found, windows: values })
    }

    /// How many stored values a plan reads of an entity, and which windows, by the index of the output.
    fn wanted(&self, plan: &Plan, of: usize) -> (usize, Vec<(usize, WindowRead)>) {
        let (mut stored, mut windows) = (0, Vec::new());
        for (index, output) in plan.outputs.iter().enumerate() {
            match &output.read {
                Read::Stored { entity, .. } if *entity == of => stored += 1,
                Read::Windowed { entity, feature, window, aggregate, .. } if *entity == of => {
                    let class = self.registry.class(&plan.entities[of].class_name);
                    if let Some(declared) = class.and_then(|class| class.windowed_features().get(*feature)) {
                        let (slot, hop) = (aggregate.0, declared.hop_of(*window));
                        let (length, kind, exact) = (*window, declared.kind, declared.exact);
                        windows.push((index, WindowRead { slot, length, kind, hop, exact }));
                    }
                }
                _ => {}
            }
        }
        (stored, windows)
    }

    fn output(
        &self,
        plan: &Plan,
        index: usize,
        values: &[Value],
        rows: &[Result<Entity, QueryError>],
        now: EventTime,
    ) -> AnswerValue {
        let output = &plan.outputs[index];
        let mut answer = AnswerValue {
            field: output.fqn.clone(),
            value: Value::Null,
            pkey: None,
            ts: None,
            stored_at: None,
            source: "input".to_owned(),
            cache_hit: false,
            error: None,
        };
        let (entity, feature, limit, writers) = match &output.read {
            Read::Input(index) => {
                answer.value = values[*index].clone();
                return answer;
            }
            Read::Stored { entity, feature, limit, writers } => (*entity, *feature, limit, writers),
            Read::Windowed { entity, default, .. } => {
                answer.pkey = Some(values[plan.entities[*entity].input].clone());
                answer.source = "windows".to_owned();
                let windows = rows[*entity].as_ref().map(|entity| entity.windows.get(&index));
                match windows_answer(output, windows, default, now) {
                    Ok((value, as_of)) => {
                        (answer.value, answer.ts, answer.cache_hit) = (value, Some(as_of), true);
                    }
                    Err(error) => answer.error = Some(error),
                }
                return answer;
            }
        };
        answer.pkey = Some(values[plan.entities[entity].input].clone());
        answer.source = writers.join(", ");
        let failed = |code, message| {
            Some(QueryError { code, message, feature: Some(output.fqn.clone()), resolver: writers.first().cloned() })
        };
        let cell = match &rows[entity] {
            Ok(entity) => entity.found.get(feature.slot),
            Err(error) => {
                answer.error = failed(error.code, error.message.clone());
                return answer;
            }
        };
        let key = &plan.entities[entity].key_fqn;
        match staleness::freshness(cell.as_ref().map(|cell| cell.version.event_time), now, limit.span) {
            Freshness::Missing => {
                let message = format!("no value of \"{}\" is stored for this \"{key}\"", output.fqn);
                answer.error = failed(ErrorCode::ResolverNotFound, message);
            }
            Freshness::Stale { age } => {
                let message = format!("the stored value of \"{}\" is {age} old: expected at most {limit}", output.fqn);
                answer.error = failed(ErrorCode::ResolverNotFound, message);
            }
            Freshness::Fresh => {
                if let Some(cell) = cell {
                    answer.ts = Some(cell.version.event_time);
                    answer.stored_at = Some(cell.stored_at);
                    answer.value = cell.value;
                    answer.cache_hit = true;
                }
            }
        }
        answer
    }
}
