//! Subscriptions as server-sent events: an event for each step of the engine's feed, whose `id` is the cursor behind it. A client takes an event
//! whole or not at all, so it is told everything once if it goes on from the last `id` that it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    rt::time::sleep,
    web::{self, Bytes, Data, Query},
};
use futures::stream;
use karst::{ChangeFeed, EngineHandle, Error, FeatureChange, FeatureChanges, Since, Subscription, Value, ValueType};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{guard, metrics, server::Shared, wire::Fault, wire::value::to_json};

/// A subscriber that has been told everything is looked after so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A connection on which nothing is said for so many looks gets a comment, so that one that is dead is found.
const QUIET_MAX: u32 = 750;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    features: String,
    #[serde(default)]
    keys: String,
    from: Option<String>,
}

impl Wanted {
    fn subscription(self, engine: &EngineHandle, last_event: Option<&str>, features_max: usize) -> Result<Subscription, Fault> {
        let since =
            match last_event.or(self.from.as_deref()) {
                None | Some("" | "now") => Since::Now,
                Some("oldest") => Since::Oldest,
                Some(text) => Since::Cursor(text.parse().map_err(|wrong| {
                    Fault::bad_request(format!("from: expected now, oldest or the id of an event; {wrong}"))
                })?),
            };
        let features: Vec<&str> = self.features.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if features.is_empty() || features.len() > features_max {
            let count = features.len();
            return Err(Fault::bad_request(format!(
                "features: expected 1 to {features_max} (max_outputs) by commas, got {count}"
            )));
        }
        let mut subscription = features.into_iter().fold(Subscription::new().since(since), Subscription::feature);
        for key in self.keys.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            let (name, text) = key.split_once(':').ok_or_else(|| {
                Fault::bad_request(format!("keys: expected such as user.id:ada, got \"{}\"", key.escape_default()))
            })?;
            subscription = subscription.key(name, key_value(engine, name, text));
        }
        Ok(subscription)
    }
}

/// The text as the key's type; what does not fit is told by the engine, with the name.
fn key_value(engine: &EngineHandle, name: &str, text: &str) -> Value {
    let is_int = engine.registry().feature(name).is_some_and(|(_, feature)| feature.ty == ValueType::Int);
    match text.parse() {
        Ok(number) if is_int => Value::Int(number),
        _ => Value::Str(text.into()),
    }
}

/// The place of one subscriber, given back when it is dropped.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(shared: &Shared) -> Result<Self, Fault> {
        let (taken, most) = (&shared.subscribers, shared.settings.max_subscribers);
        let seat = Self(Arc::clone(taken));
        if taken.fetch_add(1, Ordering::AcqRel) >= most {
            return Err(Fault::new(503, format!("there are {most} subscribers already (max_subscribers)")));
        }
        metrics::subscribers(taken.load(Ordering::Acquire));
        Ok(seat)
    }
}
impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        metrics::subscribers(before.saturating_sub(1));
    }
}

/// `GET /v1/subscribe`
pub(crate) async fn subscribe(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    match begin(shared, &request).await {
        Ok(response) => response,
        Err(fault) => guard::respond(&fault),
    }
}

async fn begin(shared: Data<Shared>, request: &HttpRequest) -> Result<HttpResponse, Fault> {
    let wanted = Query::<Wanted>::from_query(request.query_string())
        .map_err(|error| Fault::bad_request(format!("{error}; expected features, and keys and from, if need be")))?;
    let last_event = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let subscription = wanted.into_inner().subscription(&shared.engine, last_event, shared.settings.max_outputs)?;
    let seat = Seat::take(&shared)?;
    let engine = shared.engine.clone();
    let feed = off_thread(move || engine.subscribe(&subscription)).await?.map_err(|error| match error {
        Error::Subscription(_) => Fault::bad_request(error.to_string()),
        other => Fault::new(503, other.to_string()),
    })?;
    // Whoever has missed something is told before anything else.
    let (feed, first) = step(feed).await?;
    let first = match first {
        Err(error @ Error::Missed { .. }) => {
            return Ok(HttpResponse::build(StatusCode::GONE).json(missed(&error)));
        }
        first => first,
    };
    let told = Telling { shared, feed: Some(feed), next: Some(first), quiet: 0, _seat: seat };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream::unfold(told, Telling::next)))
}

type Step = karst::Result<Option<FeatureChanges>>;

/// Runs what reads the disk where no query waits for it.
async fn off_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    web::block(run).await.map_err(|_| Fault::new(503, "the server is stopping"))
}
async fn step(mut feed: ChangeFeed) -> Result<(ChangeFeed, Step), Fault> {
    off_thread(move || {
        let told = feed.poll();
        (feed, told)
    })
    .await
}

/// One connection.
struct Telling {
    shared: Data<Shared>,
    /// `None`: nothing more will be said.
    feed: Option<ChangeFeed>,
    /// A step that was taken already.
    next: Option<Step>,
    quiet: u32,
    _seat: Seat,
}

impl Telling {
    /// The next bytes. It is asked for them when the connection takes more: a client that does not read stops its own feed, and nothing else.
    async fn next(mut self) -> Option<(Result<Bytes, actix_web::Error>, Self)> {
        loop {
            if self.shared.stopping.load(Ordering::Acquire) {
                return None;
            }
            let (feed, taken) = match self.next.take() {
                Some(taken) => (self.feed.take()?, taken),
                None => step(self.feed.take()?).await.ok()?,
            };
            match taken {
                Ok(Some(told)) => {
                    self.feed = Some(feed);
                    if !told.changes.is_empty() {
                        self.quiet = 0;
                        metrics::changes_told(told.changes.len());
                        let event = event("changes", Some(&told.cursor.to_string()), &changes(&told));
                        return Some((Ok(event), self));
                    }
                }
                // The feed is let go: the client begins another.
                Err(error @ Error::Missed { .. }) => return Some((Ok(event("missed", None, &missed(&error))), self)),
                // An error passes, such as of a shard that is being opened again; `/healthz` tells it if not.
                Ok(None) | Err(_) => {
                    self.feed = Some(feed);
                    self.quiet += 1;
                    if self.quiet == QUIET_MAX {
                        self.quiet = 0;
                        return Some((Ok(Bytes::from_static(b": nothing new\n\n")), self));
                    }
                    sleep(LOOK_EVERY).await;
                }
            }
        }
    }
}

fn event(name: &str, id: Option<&str>, data: &Json) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: {name}\ndata: {data}\n\n"))
}

fn changes(told: &FeatureChanges) -> Json {
    json!({ "changes": told.changes.iter().map(change).collect::<Vec<_>>() })
}

fn change(change: &FeatureChange) -> Json {
    json!({
        "feature": &*change.feature,
        "pkey": to_json(&change.key),
        "value": to_json(&change.value),
        "kind": change.kind.as_str(),
        "ts": change.ts.to_string(),
        "from": change.from.map(|from| from.to_string()),
        "corrected": change.corrected,
        "version": { "shard": change.shard, "incarnation": change.version.incarnation, "seq": change.version.seq },
    })
}

fn missed(error: &Error) -> Json {
    let resume = match error {
        Error::Missed { resume, .. } => Some(resume.to_string()),
        _ => None,
    };
    json!({ "detail": error.to_string(), "errors": [], "resume": resume })
}
