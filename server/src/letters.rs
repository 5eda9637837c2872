//! Dead letters over HTTP: a list, one of them whole, and asking for replays.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Path, Payload, Query},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use karst::{FoundLetter, LetterFilter, Offset, PartitionId, Reason, types::Domain};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{guard, server::Shared, wire::Fault};

/// More letters in one answer, or in one replay, are refused.
const LIMIT_MAX: usize = 10_000;

/// Which letters: the query of a list, and the body of a replay.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    source: Option<String>,
    partition: Option<i32>,
    reason: Option<String>,
    from: Option<i64>,
    through: Option<i64>,
    replayed: bool,
    limit: Option<usize>,
}

impl Wanted {
    fn filter(self) -> Result<LetterFilter, Fault> {
        let reason = self.reason.map(|name| {
            let known = || Reason::ALL.map(Reason::as_str).join(", ");
            Reason::parse(&name).ok_or_else(|| Fault::bad_request(format!("no reason \"{name}\"; there are {}", known())))
        });
        let limit = self.limit.unwrap_or(LetterFilter::default().limit);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Fault::bad_request(format!("limit: expected 1 to {LIMIT_MAX}, got {limit}")));
        }
        Ok(LetterFilter {
            source: self.source,
            partition: self.partition.map(PartitionId),
            reason: reason.transpose()?,
            from: self.from.map(Offset),
            through: self.through.map(Offset),
            replayed: self.replayed,
            limit,
        })
    }
}

fn refused(error: &karst::Error) -> Fault {
    let status = match (error, error.domain()) {
        (karst::Error::UnknownSource { .. }, _) => 404,
        (_, Domain::User) => 400,
        (_, Domain::External) => 503,
        (_, Domain::Internal) => 500,
    };
    Fault::new(status, error.to_string())
}

fn answer(answered: Result<Json, Fault>) -> HttpResponse {
    match answered {
        Ok(json) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json),
        Err(fault) => guard::respond(&fault),
    }
}

/// `GET /v1/dead-letters`
pub(crate) async fn list(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    answer(found(&shared, &request).await)
}

async fn found(shared: &Shared, request: &HttpRequest) -> Result<Json, Fault> {
    let wanted = Query::<Wanted>::from_query(request.query_string()).map_err(|error| Fault::bad_request(error.to_string()))?;
    let letters = find(shared, wanted.into_inner().filter()?).await?;
    Ok(json!({ "letters": letters.iter().map(summary).collect::<Vec<_>>() }))
}

/// Reads the disk, so not on the thread that serves connections.
async fn find(shared: &Shared, filter: LetterFilter) -> Result<Vec<FoundLetter>, Fault> {
    let engine = shared.engine.clone();
    let found = web::block(move || engine.find_dead_letters(&filter)).await;
    found.map_err(|_| Fault::new(503, "the server is stopping"))?.map_err(|error| refused(&error))
}

/// `GET /v1/dead-letters/{source}/{partition}/{offset}`
pub(crate) async fn show(shared: Data<Shared>, path: Path<(String, i32, i64)>) -> HttpResponse {
    answer(whole(&shared, path.into_inner()).await)
}

async fn whole(shared: &Shared, (source, partition, offset): (String, i32, i64)) -> Result<Json, Fault> {
    let filter = LetterFilter {
        partition: Some(PartitionId(partition)),
        from: Some(Offset(offset)),
        through: Some(Offset(offset)),
        replayed: true,
        limit: 1,
        ..LetterFilter::source(source.as_str())
    };
    let found = find(shared, filter).await?;
    let place: String = format!("{source}[{partition}]@{offset}").chars().take(200).collect();
    let letter =
        found.first().ok_or_else(|| Fault::new(404, format!("there is no dead letter {place}; see /v1/dead-letters")))?;
    let mut json = summary(letter);
    let stored = &letter.stored.letter;
    json["key"] = stored.key.as_deref().map_or(Json::Null, bytes);
    json["value"] = stored.value.as_deref().map_or(Json::Null, bytes);
    let headers = stored.headers.iter();
    json["headers"] =
        headers.map(|(name, value)| json!({ "name": name, "value": value.as_deref().map_or(Json::Null, bytes) })).collect();
    Ok(json)
}

/// Text where it is text.
fn bytes(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn summary(found: &FoundLetter) -> Json {
    let (stored, letter) = (&found.stored, &found.stored.letter);
    let outcome = match stored.state {
        karst::state::LetterState::Replayed(outcome) => Some(format!("{outcome:?}").to_lowercase()),
        _ => None,
    };
    json!({
        "position": format!("{}[{}]@{}", found.source, stored.partition, letter.offset),
        "source": found.source, "partition": stored.partition.0, "offset": letter.offset.0,
        "broker_time": letter.broker_time.to_string(), "stored_at": stored.stored_at.to_string(),
        "stage": letter.stage, "reason": letter.reason.as_str(), "error": letter.error, "attempt": letter.attempt,
        "state": stored.state.as_str(), "outcome": outcome, "value_bytes": letter.value_len, "cut": letter.is_cut(),
    })
}

/// `POST /v1/dead-letters/replay`
pub(crate) async fn replay(shared: Data<Shared>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(queued(&shared, &request, payload).await)
}

async fn queued(shared: &Shared, request: &HttpRequest, payload: Payload) -> Result<Json, Fault> {
    let body = guard::body(shared, request, payload).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| Fault::bad_request(error.to_string()))?;
    if wanted.source.is_none() {
        return Err(Fault::bad_request("source: which source's letters are to be replayed?"));
    }
    let replays = shared.engine.replay(&wanted.filter()?).await.map_err(|error| refused(&error))?;
    Ok(json!({ "queued": replays.queued, "under_way": replays.under_way, "cut": replays.cut, "more": replays.more }))
}
