//! The answer to an online query.

use karst::types::EventTime;
use serde::Serialize;
use serde_json::{Map, Value as Json};

/// An answer, as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OnlineResponse {
    /// One item per value, in the order asked for.
    pub data: Vec<Item>,
    /// What went wrong with single features; the others are answered all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<WireError>,
    /// About the query as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<QueryMeta>,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Item {
    /// The fully qualified name of the feature.
    pub field: String,
    /// Its value; null also where there is none (`valid` tells).
    pub value: Json,
    /// The key of the entity, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkey: Option<Json>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
    /// Whether `value` is the feature's value: false where nothing is stored, or it is too old, or `error` says why.
    pub valid: bool,
    /// The event time of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<EventTime>,
    /// Where it came from, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<ItemMeta>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemMeta {
    /// The resolver that wrote it.
    pub chosen_resolver_fqn: String,
    /// Whether it was read from the store.
    pub cache_hit: bool,
    /// The version of the feature: always 1.
    pub version: u32,
    /// When it was stored, if known. Not of Chalk's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<String>,
}

/// About a query as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueryMeta {
    /// What the engine took, in seconds.
    pub execution_duration_s: f64,
    /// The same id as in the server's log.
    pub query_id: String,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_timestamp: Option<String>,
    /// The same for every query with the same features, whatever their values.
    pub query_hash: String,
    /// The plan, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain_output: Option<String>,
    /// What else there is to say; clients keep unknown names.
    #[serde(flatten)]
    pub more: Map<String, Json>,
}

/// An error in the form of Chalk's protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WireError {
    /// One of the protocol's codes, such as `INVALID_QUERY`.
    pub code: String,
    /// `REQUEST`, `FIELD` or `NETWORK`.
    pub category: String,
    /// In words.
    pub message: String,
    /// The feature, or class, that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The resolver that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
}

impl WireError {
    /// An error of the request as a whole.
    pub fn request(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), category: "REQUEST".to_owned(), message: message.into(), ..Self::default() }
    }
    /// Says which feature it is about.
    #[must_use]
    pub fn about(mut self, feature: impl Into<String>) -> Self {
        self.feature = Some(feature.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_more_is_the_protocols_minimum_and_whether_it_is_valid() {
        let item = Item { field: "user.name".into(), value: json!("Ada"), valid: true, ..Item::default() };
        let response = OnlineResponse { data: vec![item], ..OnlineResponse::default() };
        let sent = serde_json::to_string(&response).unwrap();
        assert_eq!(sent, r#"{"data":[{"field":"user.name","value":"Ada","valid":true}]}"#);
    }

    #[test]
    fn a_full_answer_is_as_pinned() {
        let response = OnlineResponse {
            data: vec![Item {
                field: "user.score".into(),
                value: json!(0.5),
                pkey: Some(json!("ada")),
                error: None,
                valid: true,
                ts: Some(EventTime::from_secs(1_357_034_400)),
                meta: Some(ItemMeta {
                    chosen_resolver_fqn: "on_score".into(),
                    cache_hit: true,
                    version: 1,
                    stored_at: Some("2013-01-01T10:00:01Z".into()),
                }),
            }],
            errors: vec![WireError::request("INVALID_QUERY", "no").about("user.x")],
            meta: Some(QueryMeta {
                execution_duration_s: 0.25,
                query_id: "q".into(),
                query_timestamp: Some("2013-01-01T10:00:02Z".into()),
                query_hash: "h".into(),
                explain_output: Some("plan".into()),
                more: Map::from_iter([("correlation_id".to_owned(), json!("c"))]),
            }),
        };
        let expected = json!({
            "data": [{"field": "user.score", "value": 0.5, "pkey": "ada", "valid": true, "ts": "2013-01-01T10:00:00Z",
                "meta": {"chosen_resolver_fqn": "on_score", "cache_hit": true, "version": 1, "stored_at": "2013-01-01T10:00:01Z"}}],
            "errors": [{"code": "INVALID_QUERY", "category": "REQUEST", "message": "no", "feature": "user.x"}],
            "meta": {"execution_duration_s": 0.25, "query_id": "q", "query_timestamp": "2013-01-01T10:00:02Z", "query_hash": "h",
                "explain_output": "plan", "correlation_id": "c"},
        });
        assert_eq!(serde_json::to_value(&response).unwrap(), expected);
    }
}
