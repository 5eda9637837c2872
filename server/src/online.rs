//! `POST /v1/query/online`: from wire to query, from answer to wire.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use karst::{
    AnswerValue, ErrorCode, QueryAnswer, QueryError, QueryRequest,
    types::{Value, ValueType},
};
use serde_json::{Map, Value as Json, json};

use crate::{
    guard,
    server::Shared,
    wire::{
        Fault, OnlineRequest, OnlineResponse, WireError,
        response::{Item, ItemMeta, QueryMeta},
        value,
    },
};

/// Answers one query.
pub(crate) async fn query(shared: Data<Shared>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let id = shared.next_id();
    let answered = match guard::body(&shared, &request, payload).await {
        // A fault of ours must not take the connections of others with it.
        Ok(body) => catch_unwind(AssertUnwindSafe(|| answer(&shared, &body, &id))).unwrap_or_else(|_| {
            tracing::error!(id, "a query panicked");
            Err(Fault::new(500, "the server failed on this query; its log says more under this trace"))
        }),
        Err(fault) => Err(fault),
    };
    match answered {
        Ok(response) => HttpResponse::Ok().json(response),
        Err(fault) => {
            tracing::debug!(id, status = fault.status, detail = fault.detail, "query refused");
            guard::respond(&fault.traced(id))
        }
    }
}

fn answer(shared: &Shared, body: &[u8], id: &str) -> Result<OnlineResponse, Fault> {
    let asked = OnlineRequest::parse(body)?;
    let outputs_max = shared.settings.max_outputs;
    if asked.outputs.len() > outputs_max {
        let (asked, hint) = (asked.outputs.len(), "ask for fewer, or for a whole class");
        return Err(Fault::bad_request(format!("{asked} outputs are asked for; at most {outputs_max} (max_outputs); {hint}")));
    }
    let request = to_query(shared, &asked)?;
    let answer = shared.engine.query(&request);
    shared.metrics.seconds.record(answer.took.as_secs_f64());
    shared.metrics.outputs.record(answer.data.len() as f64);
    refused(&answer.errors)?;
    let explain = asked.explain.then(|| shared.engine.explain(&request));
    let meta = (asked.include_meta || asked.explain).then(|| query_meta(shared, &asked, answer.took, id, explain));
    Ok(to_wire(answer, asked.include_meta, meta))
}

/// The engine's query; mistakes in values are told here, mistakes in names by the plan.
fn to_query(shared: &Shared, asked: &OnlineRequest) -> Result<QueryRequest, Fault> {
    let mut wrong = Vec::new();
    let mut inputs = Vec::with_capacity(asked.inputs.len());
    for (name, json) in &asked.inputs {
        match read_input(shared.engine.registry().value_type(name), json) {
            Ok(value) => inputs.push((name.clone(), value)),
            Err(why) => {
                wrong.push(WireError::request("VALIDATION_FAILED", format!("input \"{name}\": {why}")).about(name.as_str()));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Fault::query(wrong));
    }
    Ok(QueryRequest {
        inputs,
        outputs: asked.outputs.clone(),
        staleness: asked.staleness.clone(),
        now: asked.now,
        committed_only: asked.committed_only,
    })
}

fn read_input(ty: Option<ValueType>, json: &Json) -> Result<Value, String> {
    match ty {
        Some(ty) => value::from_json(json, ty),
        None => Ok(value::guess(json)), // the plan says that there is no such feature, and which one may be meant
    }
}

/// A query with mistakes is refused as a whole: half an answer to a misspelt question helps nobody.
fn refused(errors: &[QueryError]) -> Result<(), Fault> {
    if errors.is_empty() {
        return Ok(());
    }
    let ours = errors.iter().any(|error| matches!(error.code, ErrorCode::InternalServerError | ErrorCode::UpstreamFailed));
    let fault = Fault::query(errors.iter().map(wire_error).collect());
    Err(if ours { Fault { status: 500, ..fault } } else { fault })
}

fn wire_error(error: &QueryError) -> WireError {
    WireError {
        code: error.code.as_str().to_owned(),
        category: error.code.category().to_owned(),
        message: error.message.clone(),
        feature: error.feature.clone(),
        resolver: error.resolver.clone(),
    }
}

fn query_meta(shared: &Shared, asked: &OnlineRequest, took: Duration, id: &str, explain_output: Option<String>) -> QueryMeta {
    let correlation = asked.correlation_id.as_ref().map(|id| ("correlation_id".to_owned(), json!(id)));
    QueryMeta {
        execution_duration_s: took.as_secs_f64(),
        query_id: id.to_owned(),
        query_timestamp: Some(shared.engine.clock().now().to_string()),
        query_hash: query_hash(asked),
        explain_output,
        more: Map::from_iter(correlation),
    }
}

/// The same for queries with the same features, whatever their values; not the same across builds.
fn query_hash(asked: &OnlineRequest) -> String {
    let mut hasher = DefaultHasher::new();
    asked.inputs.iter().for_each(|(name, _)| name.hash(&mut hasher));
    (&asked.outputs, &asked.staleness).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn to_wire(answer: QueryAnswer, include_meta: bool, meta: Option<QueryMeta>) -> OnlineResponse {
    let errors = answer.data.iter().filter_map(|value| value.error.as_ref()).map(wire_error).collect();
    let data = answer.data.into_iter().map(|value| item(value, include_meta)).collect();
    OnlineResponse { data, errors, meta }
}

fn item(answer: AnswerValue, include_meta: bool) -> Item {
    Item {
        value: value::to_json(&answer.value),
        pkey: answer.pkey.as_ref().map(value::to_json),
        valid: answer.error.is_none(),
        error: answer.error.as_ref().map(wire_error),
        ts: answer.ts,
        meta: include_meta.then(|| ItemMeta {
            chosen_resolver_fqn: answer.source,
            cache_hit: answer.cache_hit,
            version: 1,
            stored_at: answer.stored_at.map(|at| at.to_string()),
        }),
        field: answer.field,
    }
}
