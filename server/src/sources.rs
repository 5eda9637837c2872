//! What operators decide about sources.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use karst::PartitionId;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{guard, server::Shared, wire::Fault};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gap {
    source: String,
    partition: i32,
}

/// `POST /v1/sources/accept-gap`
pub(crate) async fn accept_gap(shared: Data<Shared>, request: HttpRequest, payload: Payload) -> HttpResponse {
    match accepted(&shared, &request, payload).await {
        Ok(json) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json),
        Err(fault) => guard::respond(&fault),
    }
}

async fn accepted(shared: &Shared, request: &HttpRequest, payload: Payload) -> Result<Json, Fault> {
    let body = guard::body(shared, request, payload).await?;
    let gap: Gap = serde_json::from_slice(&body).map_err(|error| Fault::bad_request(error.to_string()))?;
    let accepted = shared.engine.accept_gap(&gap.source, PartitionId(gap.partition)).map_err(|error| {
        let status = if matches!(error, karst::Error::UnknownSource { .. }) { 404 } else { 409 };
        Fault::new(status, error.to_string())
    })?;
    Ok(json!({ "source": gap.source, "partition": gap.partition, "first": accepted.first.0, "last": accepted.last.0 }))
}
