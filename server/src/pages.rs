//! What operators read: health, topology, status, metrics, and a list of it all.

use std::sync::atomic::Ordering;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Data,
};
use karst::{
    Health, Outcomes, PartitionStatus, Problem, ResolverStatus, ShardStatus, SourceStatus, StageView, Status, Topology,
};
use serde_json::{Map, Value as Json, json};

use crate::{guard, metrics, server::Shared, wire::Fault};

const INDEX: &str = "Karst\n\n\
    POST /v1/query/online   features by key: {\"inputs\": {\"user.id\": \"ada\"}, \"outputs\": [\"user.last_page\"]}\n\
    GET  /v1/status         positions, lag, watermarks and counts (JSON)\n\
    GET  /v1/watermarks     how far each source has come, which partition holds it back, and what to do (JSON)\n\
    GET  /v1/subscribe      changes by ?features=, keys=, from=, as server-sent events\n\
    GET  /v1/late           how late events are, and what other deadlines would do (JSON)\n\
    GET  /v1/dead-letters   records that could not pass, by ?source=, partition=, reason=, from=, through=, limit=\n\
    GET  /v1/dead-letters/SOURCE/PARTITION/OFFSET   one of them, whole\n\
    POST /v1/dead-letters/replay   {\"source\": \"clicks\"} and the same filters: send them through again\n\
    POST /v1/sources/accept-gap    {\"source\": \"clicks\", \"partition\": 3}: what a gap has taken is lost, go on behind it\n\
    POST /v1/backups               {\"name\": \"monday\"}: a copy of the state directory\n\
    GET  /healthz           200, or 503 with what is not well, why, and what to do (JSON)\n\
    GET  /topology          the path of events as a mermaid diagram; ?format=json for the stages as they run\n\
    GET  /metrics           for Prometheus\n";

/// `GET /`
pub(crate) async fn index() -> HttpResponse {
    text("text/plain; charset=utf-8", INDEX.to_owned())
}

fn text(content_type: &'static str, body: String) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, content_type)).body(body)
}

/// `GET /healthz`
pub(crate) async fn health(shared: Data<Shared>) -> HttpResponse {
    let mut health = shared.engine.health();
    if shared.stopping.load(Ordering::Acquire) {
        health.healthy = false;
        let (why, hint) = ("karst is shutting down", "send requests elsewhere");
        health.problems.push(Problem { what: "karst".into(), why: why.into(), since: None, hint: hint.into() });
    }
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(health_json(&health))
}

fn health_json(health: &Health) -> Json {
    let problem = |problem: &Problem| {
        let since = problem.since.map(|since| since.to_string());
        json!({ "what": problem.what, "why": problem.why, "since": since, "hint": problem.hint })
    };
    json!({
        "healthy": health.healthy,
        "problems": health.problems.iter().map(problem).collect::<Vec<_>>(),
        "looked_at": health.looked_at,
    })
}

/// `GET /metrics`
pub(crate) async fn metrics() -> HttpResponse {
    match metrics::render() {
        Some(rendered) => text("text/plain; version=0.0.4; charset=utf-8", rendered),
        None => {
            let fault = "another metrics recorder is installed in this process; call karst_server::install_metrics() before it";
            guard::respond(&Fault::new(503, fault))
        }
    }
}

/// `GET /topology`
pub(crate) async fn topology(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    let topology = shared.engine.topology();
    if wants_json(&request) {
        HttpResponse::Ok().json(topology_json(&topology))
    } else {
        text("text/plain; charset=utf-8", topology.diagram)
    }
}

fn wants_json(request: &HttpRequest) -> bool {
    let format = request.query_string().split('&').find_map(|pair| pair.strip_prefix("format="));
    let accepted = || request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match format {
        Some(format) => format == "json",
        None => accepted().is_some_and(|accept| accept.contains("application/json")),
    }
}

fn topology_json(topology: &Topology) -> Json {
    let stage = |stage: &StageView| {
        json!({
            "id": stage.id, "hop": stage.hop, "thread": stage.thread, "state": stage.state, "healthy": stage.healthy,
            "depth": stage.depth, "capacity": stage.capacity, "handled": stage.handled, "poisoned": stage.poisoned,
            "restarts": stage.restarts, "last_cause": stage.last_cause,
        })
    };
    json!({ "diagram": topology.diagram, "stages": topology.stages.iter().map(stage).collect::<Vec<_>>() })
}

/// `GET /v1/status`
pub(crate) async fn status(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(status_json(&shared.engine.status()))
}

fn status_json(status: &Status) -> Json {
    json!({
        "outcomes": outcomes_json(&status.outcomes()),
        "lag": status.lag(),
        "watermark": status.watermark().map(|watermark| watermark.to_string()),
        "sources": status.sources.iter().map(source_json).collect::<Vec<_>>(),
        "conservation": { "missing": status.outcomes().missing(), "exact": status.is_conserved() },
        "dead_letters": status.dead_letters.map(|counts| {
            json!({ "kept": counts.kept, "bytes": counts.bytes, "let_go": counts.let_go,
                "let_go_unsent": counts.let_go_unsent })
        }),
        "shards": status.shards.iter().map(shard_json).collect::<Vec<_>>(),
    })
}

fn source_json(source: &SourceStatus) -> Json {
    let partitions: Vec<_> = source.partitions.iter().map(partition_json).collect();
    let resolvers: Vec<_> = source.resolvers.iter().map(resolver_json).collect();
    json!({ "name": source.name, "kind": source.kind, "partitions": partitions, "resolvers": resolvers })
}

fn resolver_json(resolver: &ResolverStatus) -> Json {
    json!({
        "name": resolver.name, "applied": resolver.applied, "nothing": resolver.nothing, "skipped": resolver.skipped,
        "failed": resolver.failed,
    })
}

fn partition_json(partition: &PartitionStatus) -> Json {
    let reasons: Map<_, _> = partition.reasons.iter().map(|(reason, count)| (reason.to_string(), json!(count))).collect();
    json!({
        "partition": partition.partition.0,
        "committed": partition.committed.map(|offset| offset.0),
        "fetched": partition.fetched.map(|offset| offset.0),
        "end": partition.end.map(|offset| offset.0),
        "lag": partition.lag,
        "watermark": partition.watermark.map(|watermark| watermark.to_string()),
        "tripped": partition.tripped,
        "halted": partition.halted,
        "paused": partition.paused,
        "rewinds": partition.rewinds,
        "outcomes": outcomes_json(&partition.outcomes),
        "missing": partition.outcomes.missing(),
        "dead_letters": reasons,
    })
}

fn shard_json(shard: &ShardStatus) -> Json {
    json!({
        "shard": shard.shard, "commit": shard.commit,
        "hot_entities": shard.hot_entities, "hot_bytes": shard.hot_bytes.0,
    })
}

fn outcomes_json(outcomes: &Outcomes) -> Json {
    json!({
        "records": outcomes.records, "applied": outcomes.applied, "skipped": outcomes.skipped, "late": outcomes.late,
        "tombstones": outcomes.tombstones, "dead_letters": outcomes.dead_letters,
    })
}
