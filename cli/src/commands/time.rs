//! `karst watermarks` and `karst late`: what holds time back, how late events are, and what another deadline would do.

use std::process::ExitCode;

use karst::types::TimeSpan;
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

fn micros(deadline: &str) -> i64 {
    deadline.parse::<TimeSpan>().map_or(i64::MAX, TimeSpan::micros)
}

/// The row of a deadline that is set and is none of the candidates: what it would have judged late lies between its neighbours.
fn between(source: &Json, deadline: &str) -> Option<Vec<String>> {
    let set = micros(deadline);
    let candidates = || list(&source["candidates"]);
    let late = |candidate: &Json| candidate["late"].as_u64().unwrap_or_default();
    let place = |candidate: &&Json| micros(&text(&candidate["deadline"])).cmp(&set);
    if candidates().any(|candidate| place(&candidate).is_eq()) {
        return None;
    }
    let all = source["events"].as_u64().unwrap_or_default();
    let most = if set == i64::MAX { 0 } else { candidates().filter(|one| place(one).is_lt()).map(late).min().unwrap_or(all) };
    let least = candidates().filter(|one| place(one).is_gt()).map(late).max().unwrap_or_default();
    let share = |late: u64| if late == 0 { 0.0 } else { late as f64 * 100.0 / all as f64 };
    let (count, of_all) = if least == most {
        (least.to_string(), format!("{:.4} %", share(least)))
    } else {
        (format!("{least}..{most}"), format!("{:.4}..{:.4} %", share(least), share(most)))
    };
    let judged = format!("as set now: {} judged late", text(&source["late"]));
    Some(vec![deadline.to_owned(), count, of_all, judged])
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
    let mut rows: Vec<Vec<String>> = list(&source["candidates"])
        .map(|candidate| {
            let now = if text(&candidate["deadline"]) == deadline { "as set now" } else { "" };
            let share = candidate["share"].as_f64().unwrap_or_default() * 100.0;
            vec![text(&candidate["deadline"]), text(&candidate["late"]), format!("{share:.4} %"), now.to_owned()]
        })
        .collect();
    rows.extend(between(source, &deadline));
    rows.sort_by_key(|row| micros(&row[0]));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deadline_between_two_that_are_counted_has_a_row_with_its_range() {
        let late = |deadline: &str| {
            let candidates =
                json!([{"deadline": "1h", "late": 40, "share": 0.4}, {"deadline": "2h", "late": 10, "share": 0.1}]);
            let source = json!({"events": 100, "late": 17, "late_arrival_deadline": deadline, "candidates": candidates});
            let page = of_source(&source);
            let rows = page.lines().skip(2).take_while(|line| !line.starts_with("RESOLVER"));
            rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let (hour, two) = ("1h 40 40.0000 %", "2h 10 10.0000 %");
        assert_eq!(late("1h30m"), [hour, "1h30m 10..40 10.0000..40.0000 % as set now: 17 judged late", two]);
        assert_eq!(late("1h"), ["1h 40 40.0000 % as set now", two]);
        assert_eq!(late("59m")[0], "59m 40..100 40.0000..100.0000 % as set now: 17 judged late");
        assert_eq!(late("3h")[2], "3h 0..10 0.0000..10.0000 % as set now: 17 judged late");
        assert_eq!(late("infinity")[2], "infinity 0 0.0000 % as set now: 17 judged late");
    }
}
