//! Asking for a backup.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Payload},
};
use karst::types::Domain;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{guard, server::Shared, wire::Fault};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
}

/// `POST /v1/backups`
pub(crate) async fn make(shared: Data<Shared>, request: HttpRequest, payload: Payload) -> HttpResponse {
    match made(&shared, &request, payload).await {
        Ok(json) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json),
        Err(fault) => guard::respond(&fault),
    }
}

async fn made(shared: &Shared, request: &HttpRequest, payload: Payload) -> Result<Json, Fault> {
    let body = guard::body(shared, request, payload).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| Fault::bad_request(error.to_string()))?;
    let (engine, name) = (shared.engine.clone(), wanted.name.clone());
    // It waits for the disk, so not on the thread that serves connections.
    let made = web::block(move || engine.backup(&name)).await;
    let path = made.map_err(|_| Fault::new(503, "the server is stopping"))?.map_err(|error| {
        let status = if error.domain() == Domain::User { 409 } else { 503 };
        Fault::new(status, error.to_string())
    })?;
    Ok(json!({ "name": wanted.name, "path": path.to_string_lossy() }))
}
