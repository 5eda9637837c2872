//! `karst topology`, `status` and `health`: what a running engine tells about itself.

use std::process::ExitCode;

use serde_json::Value as Json;

use crate::{
    args::PageArgs,
    client::{Answer, Client},
    report::{Report, say},
    table::{escaped, table},
};

pub(crate) fn topology(args: &PageArgs) -> Result<ExitCode, Report> {
    let format = if args.json { "json" } else { "mermaid" };
    let answer = ok(Client::new(&args.at)?.get(&format!("/topology?format={format}"))?)?;
    say(answer.body.trim_end());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn status(args: &PageArgs) -> Result<ExitCode, Report> {
    let answer = ok(Client::new(&args.at)?.get("/v1/status")?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    let status = answer.json()?;
    let headings = [
        "SOURCE",
        "COMMITTED",
        "END",
        "LAG",
        "WATERMARK",
        "RECORDS",
        "APPLIED",
        "SKIPPED",
        "LATE",
        "TOMBSTONES",
        "DEAD",
        "STATE",
    ];
    let rows: Vec<Vec<String>> =
        list(&status["sources"]).flat_map(|source| list(&source["partitions"]).map(|p| row(source, p))).collect();
    say(table(&headings, &rows));
    stopped(&status).for_each(say);
    say(conservation(&status));
    let fields = ["name", "applied", "nothing", "skipped", "failed"];
    let resolvers = |source: &Json| -> Vec<Vec<String>> {
        list(&source["resolvers"]).map(|resolver| fields.map(|field| text(&resolver[field])).to_vec()).collect()
    };
    say(table(
        &["RESOLVER", "APPLIED", "NOTHING", "SKIPPED", "FAILED"],
        &list(&status["sources"]).flat_map(resolvers).collect::<Vec<_>>(),
    ));
    Ok(ExitCode::SUCCESS)
}

/// A line for each partition that its circuit breaker has stopped, or that waits for a decision: which, and why.
fn stopped(status: &Json) -> impl Iterator<Item = String> {
    let of_source = |source: &'_ Json| {
        let name = text(&source["name"]);
        let why = |partition: &Json| {
            let why = partition["tripped"].as_str().or(partition["halted"].as_str())?;
            Some(escaped(&format!("{name}[{}] has stopped: {why}", text(&partition["partition"]))))
        };
        list(&source["partitions"]).filter_map(why).collect::<Vec<_>>()
    };
    list(&status["sources"]).flat_map(of_source)
}

/// The line that says whether anything is being lost.
fn conservation(status: &Json) -> String {
    let (sums, letters) = (&status["outcomes"], &status["dead_letters"]);
    let unsent = match letters["let_go_unsent"].as_u64() {
        Some(unsent @ 1..) => format!(", {unsent} of those that went had not been forwarded"),
        _ => String::new(),
    };
    let kept = format!("{} dead letters kept, {} let go{unsent}", text(&letters["kept"]), text(&letters["let_go"]));
    if status["conservation"]["exact"] == true {
        return format!(
            "conservation: exact. {} records = applied + skipped + late + tombstones + dead; {kept}",
            text(&sums["records"])
        );
    }
    format!(
        "conservation: BROKEN, {} records have no outcome. This is a fault of Karst: please report it; {kept}",
        text(&status["conservation"]["missing"])
    )
}

fn row(source: &Json, partition: &Json) -> Vec<String> {
    let outcomes = &partition["outcomes"];
    let state = match partition {
        _ if !partition["tripped"].is_null() => "tripped",
        _ if !partition["halted"].is_null() => "halted",
        _ if partition["paused"] == true => "paused",
        _ => "",
    };
    let name = format!("{}[{}]", text(&source["name"]), text(&partition["partition"]));
    let mut row = vec![name];
    row.extend(["committed", "end", "lag", "watermark"].map(|field| text(&partition[field])));
    row.extend(["records", "applied", "skipped", "late", "tombstones", "dead_letters"].map(|field| text(&outcomes[field])));
    row.push(state.to_owned());
    row
}

pub(crate) fn health(args: &PageArgs) -> Result<ExitCode, Report> {
    let answer = Client::new(&args.at)?.get("/healthz")?;
    if !matches!(answer.status, 200 | 503) {
        return Err(answer.refusal());
    }
    let health = answer.json()?;
    if args.json {
        say(&answer.body);
    } else if health["healthy"] == true {
        say(format_args!("well: {} parts were looked at", text(&health["looked_at"])));
    } else {
        for problem in list(&health["problems"]) {
            let since = problem["since"].as_str().map_or_else(String::new, |since| format!(" (since {since})"));
            say(format_args!("{}: {}{since}", escaped(&text(&problem["what"])), escaped(&text(&problem["why"]))));
            say(format_args!("  hint: {}", escaped(&text(&problem["hint"]))));
        }
    }
    Ok(if answer.status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn ok(answer: Answer) -> Result<Answer, Report> {
    if answer.status == 200 { Ok(answer) } else { Err(answer.refusal()) }
}

pub(super) fn list(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().into_iter().flatten()
}

/// Text as it is, other JSON as JSON, null as `-`.
pub(crate) fn text(json: &Json) -> String {
    match json {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_partition_that_its_circuit_breaker_has_stopped_is_shown_with_why() {
        let outcomes = json!({"records": 4, "applied": 1, "skipped": 0, "late": 0, "tombstones": 0, "dead_letters": 3});
        let partition = |number: i32, tripped: Json, paused: bool| json!({"partition": number, "tripped": tripped, "paused": paused, "outcomes": outcomes});
        let partitions = [
            partition(0, Json::Null, false),
            partition(1, json!("more than 5 % failed"), true),
            partition(2, Json::Null, true),
        ];
        let source = json!({"name": "clicks", "partitions": partitions});
        let states: Vec<String> = partitions.iter().map(|partition| row(&source, partition).pop().unwrap()).collect();
        assert_eq!(states, ["", "tripped", "paused"]);
        let told: Vec<String> = stopped(&json!({"sources": [source]})).collect();
        assert_eq!(told, ["clicks[1] has stopped: more than 5 % failed"]);
    }

    #[test]
    fn letters_that_went_without_having_been_forwarded_are_told() {
        let status = |unsent: u64| {
            json!({"outcomes": {"records": 9}, "conservation": {"exact": true},
                "dead_letters": {"kept": 5, "let_go": 4, "let_go_unsent": unsent}})
        };
        assert!(conservation(&status(0)).ends_with("5 dead letters kept, 4 let go"));
        let told = conservation(&status(3));
        assert!(told.ends_with("4 let go, 3 of those that went had not been forwarded"), "{told}");
    }
}
