//! The body of `POST /v1/query/online`.
//!
//! Fields of the protocol that only describe the caller (`context`, `correlation_id`, `meta`, …) are taken and ignored, unknown
//! ones too, since clients of later versions send them. Fields that would change the answer and that Karst does not know yet
//! are refused: an answer to another question is worse than none.

use std::{fmt, marker::PhantomData};

use karst::types::{EventTime, TimeSpan, time::parse_iso};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

use super::Fault;

/// An online query as it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnlineRequest {
    /// Values by fully qualified feature name, as written; a name that stands twice is here twice.
    pub inputs: Vec<(String, Json)>,
    /// Features, or classes, that are wanted.
    pub outputs: Vec<String>,
    /// Limits by feature or class.
    pub staleness: Vec<(String, TimeSpan)>,
    /// The time at which staleness is judged; default: now.
    pub now: Option<EventTime>,
    /// Whether every value is to say where it came from.
    pub include_meta: bool,
    /// Whether the plan is to be answered too.
    pub explain: bool,
    /// Whether only values that a crash would keep may be answered. Not of Chalk's protocol.
    pub committed_only: bool,
    /// The caller's own id of this query, echoed in the meta.
    pub correlation_id: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    inputs: Pairs<Json>,
    outputs: Vec<String>,
    #[serde(default)]
    staleness: Option<Pairs<String>>,
    #[serde(default)]
    now: Option<String>,
    #[serde(default)]
    include_meta: Option<bool>,
    #[serde(default)]
    explain: Option<bool>,
    #[serde(default)]
    committed_only: Option<bool>,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    expression_outputs: Option<Vec<Json>>,
    #[serde(default)]
    overlay_graph: Option<Json>,
    #[serde(default)]
    query_name: Option<String>,
}

const EXAMPLE: &str = r#"{"inputs": {"user.id": "ada"}, "outputs": ["user.last_page"]}"#;

impl OnlineRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// A 400 that names the place: line, column and field.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(Fault::bad_request(format!("the body is empty; expected a query such as {EXAMPLE}")));
        }
        let mut reader = serde_json::Deserializer::from_slice(body);
        let body: Body = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { format!(" in \"{path}\"") };
            Fault::bad_request(format!("the body is not an online query: {}{place}; expected {EXAMPLE}", error.inner()))
        })?;
        reader.end().map_err(|error| Fault::bad_request(format!("behind the query's JSON stands something else: {error}")))?;
        body.check()
    }
}

impl Body {
    fn check(self) -> Result<OnlineRequest, Fault> {
        let unsupported = [
            ("expression_outputs", self.expression_outputs.is_some_and(|outputs| !outputs.is_empty())),
            ("overlay_graph", self.overlay_graph.is_some_and(|graph| !graph.is_null())),
            ("query_name", self.query_name.is_some() && self.outputs.is_empty()),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, given)| *given) {
            return Err(Fault::bad_request(format!(
                "\"{field}\" is not supported by this server, and leaving it out would change the answer"
            )));
        }
        let now =
            self.now.map(|text| parse_iso(&text).map_err(|why| Fault::bad_request(format!("\"now\": {why}")))).transpose()?;
        let staleness = self
            .staleness
            .map_or_else(Vec::new, |pairs| pairs.0)
            .into_iter()
            .map(|(name, span)| match span.parse::<TimeSpan>() {
                Ok(span) if span >= TimeSpan::ZERO => Ok((name, span)),
                Ok(_) => Err(Fault::bad_request(format!("\"staleness.{name}\": expected a duration of 0 or more, got {span}"))),
                Err(why) => Err(Fault::bad_request(format!("\"staleness.{name}\": {why}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(OnlineRequest {
            inputs: self.inputs.0,
            outputs: self.outputs,
            staleness,
            now,
            include_meta: self.include_meta.unwrap_or(false),
            explain: self.explain.unwrap_or(false),
            committed_only: self.committed_only.unwrap_or(false),
            correlation_id: self.correlation_id,
        })
    }
}

/// A JSON object in the order as written, names that stand twice included.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Visitor<V> {
            type Value = Pairs<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with feature names as keys")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(Visitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As recorded from chalkpy 2.166.1.
    const RECORDED: &str = r#"{"inputs":{"user.id":1},"outputs":["user.name"],"expression_outputs":[],"now":null,"staleness":{},
        "context":{"environment":null,"tags":null,"required_resolver_tags":null},"include_meta":false,"explain":false,
        "correlation_id":null,"query_name":null,"query_name_version":null,"deployment_id":null,"branch_id":null,"meta":null,
        "store_plan_stages":false,"encoding_options":{"encode_structs_as_objects":false},"planner_options":null,
        "query_context":null,"value_metrics_tag_by_features":[],"overlay_graph":null,"input_schema_hint":null}"#;

    #[test]
    fn the_body_that_chalks_client_sends_is_read() {
        let request = OnlineRequest::parse(RECORDED.as_bytes()).unwrap();
        let expected = OnlineRequest {
            inputs: vec![("user.id".into(), json!(1))],
            outputs: vec!["user.name".into()],
            ..OnlineRequest::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn what_changes_the_answer_is_read() {
        let body = json!({"inputs": {"user.id": "ada"}, "outputs": ["user"], "staleness": {"user.score": "10m"},
            "now": "2013-01-01T10:00:00+00:00", "include_meta": true, "explain": true, "correlation_id": "c"});
        let request = OnlineRequest::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(request.staleness, [("user.score".into(), TimeSpan::from_secs(600))]);
        assert_eq!(request.now, Some(EventTime::from_secs(1_357_034_400)));
        assert!(request.include_meta && request.explain);
    }

    #[test]
    fn a_wrong_body_says_what_and_where() {
        let check = |body: &str, parts: &[&str]| {
            let fault = OnlineRequest::parse(body.as_bytes()).unwrap_err();
            assert_eq!(fault.status, 400);
            for part in parts {
                assert!(fault.detail.contains(part), "{body}: \"{}\" lacks \"{part}\"", fault.detail);
            }
        };
        check("", &["empty", "expected"]);
        check("{\"inputs\": {},\n \"outputs\": [1]}", &["expected a string", "line 2", "column 14", "\"outputs[0]\""]);
        check("{\"inputs\": {}, ", &["EOF", "line 1"]);
        check("[]", &["not an online query"]);
        check("{\"outputs\": []}", &["missing field `inputs`"]);
        check("{\"inputs\": [], \"outputs\": []}", &["an object with feature names as keys", "\"inputs\""]);
        check("{\"inputs\": {}, \"outputs\": []} x", &["something else", "column"]);
        check("{\"inputs\": {}, \"outputs\": [], \"now\": \"today\"}", &["\"now\"", "RFC 3339"]);
        check("{\"inputs\": {}, \"outputs\": [], \"staleness\": {\"a.b\": \"10 m\"}}", &["staleness.a.b", "not a duration"]);
        check("{\"inputs\": {}, \"outputs\": [], \"staleness\": {\"a.b\": \"-1m\"}}", &["staleness.a.b", "0 or more"]);
        check("{\"inputs\": {}, \"outputs\": [], \"query_name\": \"q\"}", &["query_name", "not supported"]);
        check("{\"inputs\": {}, \"outputs\": [], \"expression_outputs\": [\"x\"]}", &["expression_outputs"]);
        check(&"[".repeat(100_000), &["not an online query"]);
        check(&format!("{{\"inputs\": {{\"a.b\": {}", "[".repeat(100_000)), &["recursion limit"]);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_a_bad_request() {
        assert_eq!(OnlineRequest::parse(b"{\"inputs\": {\"\xff\": 1}}").unwrap_err().status, 400);
    }
}
