//! What operators read about time: what holds it back, how late events are, and what another deadline would do.

use actix_web::{HttpResponse, http::header, web::Data};
use karst::{LatenessHistogram, PartitionTime, ResolverLateness, SourceLateness, SourceWatermark};
use serde_json::{Map, Value as Json, json};

use crate::server::Shared;

/// `GET /v1/watermarks`
pub(crate) async fn watermarks(shared: Data<Shared>) -> HttpResponse {
    let sources: Vec<Json> = shared.engine.watermarks().iter().map(watermark_json).collect();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({ "sources": sources }))
}

fn watermark_json(source: &SourceWatermark) -> Json {
    let partition = |time: &PartitionTime| {
        json!({
            "partition": time.partition.0,
            "state": time.state.name(),
            "since": time.since.to_string(),
            "watermark": time.watermark.map(|at| at.to_string()),
            "reach": time.reach.map(|at| at.to_string()),
            "lag": time.lag,
            "waits_for": time.waits_for.map(|slowest| slowest.0),
            "fault": time.fault,
        })
    };
    json!({
        "name": source.name,
        "watermark": source.watermark.map(|at| at.to_string()),
        "held_by": source.held_by.map(|partition| partition.0),
        "since": source.since.map(|since| since.to_string()),
        "why": source.why,
        "hint": source.hint,
        "disorder": source.disorder.to_string(),
        "max_drift": source.max_drift.to_string(),
        "partitions": source.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

/// `GET /v1/late`
pub(crate) async fn late(shared: Data<Shared>) -> HttpResponse {
    let sources: Vec<Json> = shared.engine.lateness().iter().map(source_json).collect();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({ "sources": sources }))
}

fn source_json(source: &SourceLateness) -> Json {
    let candidates: Vec<Json> = source
        .candidates()
        .iter()
        .map(|candidate| {
            json!({
                "deadline": candidate.deadline.to_string(), "deadline_us": candidate.deadline.micros(),
                "late": candidate.late, "share": candidate.share,
            })
        })
        .collect();
    let partitions: Vec<Json> = source
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition.0, "late": partition.late, "corrected": partition.corrected,
                "events": partition.events.events(), "buckets": buckets_json(&partition.events),
            })
        })
        .collect();
    let resolver = |(name, did): &(String, ResolverLateness)| {
        let did_since_start: Map<String, Json> = did.counts().map(|(what, count)| (what.to_owned(), json!(count))).collect();
        json!({ "name": name, "late": source.late(), "late_since_start": did.late(), "did_since_start": did_since_start })
    };
    json!({
        "name": source.name,
        "late_arrival_deadline": source.deadline.to_string(),
        "late_lane": source.lane.as_str(),
        "events": source.events().events(),
        "late": source.late(),
        "corrected": source.corrected(),
        "resolvers": source.resolvers.iter().map(resolver).collect::<Vec<_>>(),
        "candidates": candidates,
        "partitions": partitions,
    })
}

/// Only those that hold something: at most so many microseconds late (null: more than the last border), and how many.
fn buckets_json(events: &LatenessHistogram) -> Json {
    let borders = karst::types::lateness::BORDERS.iter().map(|border| Some(border.micros())).chain([None]);
    let filled = borders.zip(events.counts()).filter(|(_, count)| **count > 0);
    filled.map(|(at_most_us, events)| json!({ "at_most_us": at_most_us, "events": events })).collect()
}
