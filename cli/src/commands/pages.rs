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

/// The line that says whether anything is being lost.
fn conservation(status: &Json) -> String {
    let (sums, letters) = (&status["outcomes"], &status["dead_letters"]);
    let kept = format!("{} dead letters kept, {} let go", text(&letters["kept"]), text(&letters["let_go"]));
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
    let state = if partition["paused"] == true { "paused" } else { "" };
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
