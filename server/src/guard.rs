//! What every request passes: the acknowledgement of its first bytes, the check of its `Host`, its count; and the body reader.

use std::{net::IpAddr, time::Duration};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::Next,
    rt::time::timeout,
    web::{Bytes, BytesMut, Data, Payload},
};
use futures::StreamExt;
use serde_json::json;

use crate::{metrics, quickack::QuickAck, server::Shared, wire::Fault};

/// The middleware around every route.
pub(crate) async fn guard(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Some(socket) = request.conn_data::<QuickAck>() {
        socket.arm(); // before the body is awaited: its sender may be waiting for this acknowledgement
    }
    let shared = request.app_data::<Data<Shared>>().expect("every app has it").clone();
    let refused = misdirected(&shared, request.request());
    let response = match refused {
        Some(fault) => request.into_response(respond(&fault)),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    let route = Route::of(response.request());
    metrics::requests(route.0, response.status().as_u16()).increment(1);
    Ok(response)
}

/// The route for metrics: one of ours, or `other`.
struct Route(&'static str);

impl Route {
    fn of(request: &HttpRequest) -> Self {
        const ROUTES: [&str; 13] = [
            "/",
            "/v1/query/online",
            "/v1/status",
            "/v1/subscribe",
            "/v1/late",
            "/v1/watermarks",
            "/v1/dead-letters",
            "/v1/dead-letters/replay",
            "/healthz",
            "/metrics",
            "/topology",
            "/v1/sources/accept-gap",
            "/v1/backups",
        ];
        Self(ROUTES.into_iter().find(|route| *route == request.path()).unwrap_or("other"))
    }
}

/// A server on a loopback address answers to loopback names alone: a page in a browser could otherwise reach it under a name
/// that its own author points here.
fn misdirected(shared: &Shared, request: &HttpRequest) -> Option<Fault> {
    if !shared.settings.bind.ip().is_loopback() {
        return None;
    }
    let host = request.headers().get(header::HOST)?; // HTTP/1.0 has none, and no browser
    let host = host.to_str().unwrap_or_default();
    let name = host_name(host);
    let known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || shared.settings.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    (!known).then(|| {
        let name: String = name.chars().take(80).collect();
        Fault::new(
            421,
            format!(
                "this server listens to this machine alone and is not called \"{}\"; see allowed_hosts",
                name.escape_default()
            ),
        )
    })
}

/// The `Host` header without its port.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// A fault as a response.
pub(crate) fn respond(fault: &Fault) -> HttpResponse {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if matches!(fault.status, 408 | 413) {
        response.force_close(); // the rest of the body is not read
    }
    response.json(fault)
}

/// Reads the body, up to the limits of size and time.
pub(crate) async fn body(shared: &Shared, request: &HttpRequest, payload: Payload) -> Result<Bytes, Fault> {
    let limit = shared.settings.max_body;
    let too_large = |size: &str| Fault::new(413, format!("the body has {size} bytes; at most {limit} are taken (max_body)"));
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length.filter(|length| *length > limit.0) {
        return Err(too_large(&length.to_string()));
    }
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let encoding = encoding.to_str().unwrap_or("unreadable").escape_default();
        return Err(Fault::new(415, format!("the body's Content-Encoding is \"{encoding}\"; only plain JSON is taken")));
    }
    let within = shared.settings.request_timeout;
    let read = timeout(within.to_duration(), collect(payload, limit.bytes(), length.unwrap_or(0) as usize));
    match read.await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::TooLarge)) => Err(too_large(&format!("more than {}", limit.0))),
        Ok(Err(Unread::Broken(why))) => Err(Fault::bad_request(format!("the body ended before its end: {why}"))),
        Err(_) => Err(Fault::new(408, format!("the body did not arrive within {within} (request_timeout)"))),
    }
}

enum Unread {
    TooLarge,
    Broken(String),
}

async fn collect(mut payload: Payload, limit: usize, expected: usize) -> Result<Bytes, Unread> {
    let mut body = BytesMut::with_capacity(expected.min(64 << 10)); // a client that only claims a length gets no more
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Unread::Broken(error.to_string()))?;
        if body.len() + chunk.len() > limit {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// 404 and 405, in the form of all other errors.
pub(crate) async fn no_such_route(request: HttpRequest) -> HttpResponse {
    const KNOWN: [(&str, &str); 12] = [
        ("/", "GET"),
        ("/v1/query/online", "POST"),
        ("/v1/status", "GET"),
        ("/v1/subscribe", "GET"),
        ("/v1/late", "GET"),
        ("/v1/watermarks", "GET"),
        ("/v1/dead-letters", "GET"),
        ("/v1/dead-letters/{source}/{partition}/{offset}", "GET"),
        ("/v1/dead-letters/replay", "POST"),
        ("/healthz", "GET"),
        ("/metrics", "GET"),
        ("/topology", "GET"),
    ];
    let path: String = request.path().chars().take(120).collect::<String>().escape_default().to_string();
    if let Some((_, method)) = KNOWN.iter().find(|(known, _)| *known == request.path()) {
        let fault = Fault::new(405, format!("{path} takes {method}, not {}", request.method()));
        return HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, *method)).json(json!(fault));
    }
    let known: Vec<_> = KNOWN.iter().map(|(path, method)| format!("{method} {path}")).collect();
    respond(&Fault::new(404, format!("there is nothing at {path}; there are {}", known.join(", "))))
}

/// How often histograms are folded.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_without_its_port() {
        for (host, name) in
            [("localhost:8080", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:80", "::1"), ("a.b", "a.b"), ("", "")]
        {
            assert_eq!(host_name(host), name);
        }
    }
}
