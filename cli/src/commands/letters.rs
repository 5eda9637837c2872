//! `karst dead-letters`: look at what could not pass, and send it through again once the cause is mended.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::pages::{list, ok, text};
use crate::{
    args::{LetterArgs, LetterCommand, ReplayArgs, ShowArgs, Wanted},
    client::Client,
    report::{Report, say},
    table::{escaped, table},
};

pub(crate) fn letters(command: &LetterCommand) -> Result<ExitCode, Report> {
    match command {
        LetterCommand::List(args) => listed(args),
        LetterCommand::Show(args) => shown(args),
        LetterCommand::Replay(args) => replayed(args),
    }
}

fn listed(args: &LetterArgs) -> Result<ExitCode, Report> {
    let mut query = format!("limit={}&replayed={}", args.wanted.limit, args.replayed);
    for (name, value) in args.source.iter().map(|source| ("source", source.clone())).chain(fields(&args.wanted)) {
        query.push_str(&format!("&{name}={}", encoded(&value)));
    }
    let answer = ok(Client::new(&args.at)?.get(&format!("/v1/dead-letters?{query}"))?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    let headings = ["POSITION", "REASON", "STAGE", "ATTEMPT", "STATE", "BYTES", "STORED AT", "ERROR"];
    let row = |letter: &Json| -> Vec<String> {
        let fields = ["position", "reason", "stage", "attempt", "state", "value_bytes", "stored_at", "error"];
        fields.map(|field| text(&letter[field]).chars().take(100).collect()).to_vec()
    };
    let answer = answer.json()?;
    let rows: Vec<Vec<String>> = list(&answer["letters"]).map(row).collect();
    if rows.is_empty() {
        say("none");
        return Ok(ExitCode::SUCCESS);
    }
    say(table(&headings, &rows));
    if rows.len() == args.wanted.limit {
        say(format_args!("the first {}; --limit shows more", rows.len()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Those filters that were given, as the wire has them.
fn fields(wanted: &Wanted) -> Vec<(&'static str, String)> {
    let given = [
        ("partition", wanted.partition.map(|partition| partition.to_string())),
        ("reason", wanted.reason.clone()),
        ("from", wanted.from.map(|offset| offset.to_string())),
        ("through", wanted.through.map(|offset| offset.to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Percent-encoded, all but letters, digits and `-_.`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn shown(args: &ShowArgs) -> Result<ExitCode, Report> {
    let (source, partition, offset) = position(&args.position).ok_or_else(|| {
        Report::usage(format!("{}: expected a position", args.position)).hint("for example 'clicks[3]@1842', as list prints it")
    })?;
    let path = format!("/v1/dead-letters/{}/{partition}/{offset}", encoded(source));
    let answer = ok(Client::new(&args.at)?.get(&path)?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    let letter = answer.json()?;
    for field in
        ["position", "reason", "stage", "error", "attempt", "state", "outcome", "broker_time", "stored_at", "value_bytes"]
    {
        say(format_args!("{field:12} {}", escaped(&text(&letter[field]))));
    }
    for header in list(&letter["headers"]) {
        say(format_args!("header       {}: {}", escaped(&text(&header["name"])), content(&header["value"])));
    }
    say(format_args!("key          {}", content(&letter["key"])));
    let cut = if letter["cut"] == true { " (only its beginning is kept)" } else { "" };
    say(format_args!("value{cut}\n{}", content(&letter["value"])));
    Ok(ExitCode::SUCCESS)
}

/// Bytes as the wire has them: text, or base64.
fn content(json: &Json) -> String {
    match json["base64"].as_str() {
        Some(base64) => format!("base64:{base64}"),
        None => escaped(&text(&json["text"])),
    }
}

/// `clicks[3]@1842`
fn position(text: &str) -> Option<(&str, i32, i64)> {
    let (place, offset) = text.rsplit_once('@')?;
    let (source, partition) = place.strip_suffix(']')?.rsplit_once('[')?;
    Some((source, partition.parse().ok()?, offset.parse().ok()?))
}

fn replayed(args: &ReplayArgs) -> Result<ExitCode, Report> {
    let source = &args.source;
    let Wanted { partition, reason, from, through, limit } = &args.wanted;
    let body = json!({
        "source": source, "partition": partition, "reason": reason, "from": from, "through": through, "limit": limit,
    });
    let answer = ok(Client::new(&args.at)?.post("/v1/dead-letters/replay", &body)?)?;
    if args.json {
        say(answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    let told = answer.json()?;
    say(format_args!(
        "{} letters are being replayed; `karst dead-letters list` shows those that fail again",
        text(&told["queued"])
    ));
    let also = [("under_way", "were under way already"), ("cut", "were kept in part only: send those records again")];
    for (field, meaning) in also.into_iter().filter(|(field, _)| told[*field].as_u64().is_some_and(|count| count > 0)) {
        say(format_args!("{} {meaning}", text(&told[field])));
    }
    if told["more"] == true {
        say("there are more: repeat the command");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_from_its_end_and_names_are_encoded() {
        assert_eq!(position("clicks[3]@1842"), Some(("clicks", 3, 1842)));
        assert_eq!(position("a@b[1][2]@-1"), Some(("a@b[1]", 2, -1)));
        assert!(["clicks", "clicks[3]", "clicks@3", "clicks[x]@3", "clicks[3]@"].iter().all(|text| position(text).is_none()));
        assert_eq!(encoded("a/b&c ä"), "a%2Fb%26c%20%C3%A4");
    }
}
