//! `karst watermarks` and `karst late`: what holds time back, how late events are, and what another deadline would do.

use std::process::ExitCode;

use serde_json::Value as Json;

use super::pages::{list, ok, text};
use crate::{
    args::PageArgs,
    client::Client,
    report::{Report, say},
    table::{escaped, table},
};

pub(crate) fn watermarks(args: &PageArgs) -> Result<ExitCode, Report> {
    let answer = ok(Client::new(&args.at)?.get("/v1/watermarks")?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    for source in list(&answer.json()?["sources"]) {
        say(progress_of(source));
    }
    Ok(ExitCode::SUCCESS)
}

fn progress_of(source: &Json) -> String {
    let (name, held_by) = (text(&source["name"]), &source["held_by"]);
    let since = source["since"].as_str().map_or_else(String::new, |since| format!(" (the slowest since {since})"));
    let rows: Vec<Vec<String>> = list(&source["partitions"])
        .map(|partition| {
            let mut notes = Vec::new();
            if partition["partition"] == *held_by {
                notes.push("<- the slowest".to_owned());
            }
            if !partition["waits_for"].is_null() {
                notes.push(format!("waits for {name}[{}]", text(&partition["waits_for"])));
            }
            notes.extend(partition["fault"].as_str().map(str::to_owned));
            let mut row = vec![format!("{name}[{}]", text(&partition["partition"]))];
            row.extend(["state", "since", "watermark", "reach", "lag"].map(|field| text(&partition[field])));
            row.push(notes.join("; "));
            row
        })
        .collect();
    let headings = ["PARTITION", "STATE", "SINCE", "LOG WATERMARK", "HAS REACHED", "LAG", ""];
    format!(
        "{}\n{}\n  held back by: {}{since}\n  hint: {}\n",
        escaped(&format!("{name}: {}", text(&source["watermark"]))),
        table(&headings, &rows),
        escaped(&text(&source["why"])),
        escaped(&text(&source["hint"])),
    )
}

pub(crate) fn late(args: &PageArgs) -> Result<ExitCode, Report> {
    let answer = ok(Client::new(&args.at)?.get("/v1/late")?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    for source in list(&answer.json()?["sources"]) {
        say(of_source(source));
    }
    Ok(ExitCode::SUCCESS)
}

fn of_source(source: &Json) -> String {
    let deadline = text(&source["late_arrival_deadline"]);
    let head = format!(
        "{}: {} events, {} judged late, {} corrected (late_arrival_deadline {deadline}, late_lane {})",
        text(&source["name"]),
        text(&source["events"]),
        text(&source["late"]),
        text(&source["corrected"]),
        text(&source["late_lane"]),
    );
    let rows: Vec<Vec<String>> = list(&source["candidates"])
        .map(|candidate| {
            let now = if text(&candidate["deadline"]) == deadline { "as set now" } else { "" };
            let share = candidate["share"].as_f64().unwrap_or_default() * 100.0;
            vec![text(&candidate["deadline"]), text(&candidate["late"]), format!("{share:.4} %"), now.to_owned()]
        })
        .collect();
    let did = ["withheld", "corrected", "nothing", "skipped", "failed", "cut_off"];
    let resolvers: Vec<Vec<String>> = list(&source["resolvers"])
        .map(|resolver| {
            let counts = did.map(|did| text(&resolver["did_since_start"][did]));
            [text(&resolver["name"]), text(&resolver["late_since_start"])].into_iter().chain(counts).collect()
        })
        .collect();
    let headings = ["RESOLVER", "LATE SINCE START", "WITHHELD", "CORRECTED", "NOTHING", "SKIPPED", "FAILED", "CUT OFF"];
    let candidates = table(&["DEADLINE", "WOULD BE LATE", "OF ALL", ""], &rows);
    format!("{}\n{candidates}\n{}\n", escaped(&head), table(&headings, &resolvers))
}
