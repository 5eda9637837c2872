//! `karst query`: asks a running engine for features, and prints them as a table.

use std::process::ExitCode;

use serde_json::{Map, Value as Json, json};

use super::pages::text;
use crate::{
    args::QueryArgs,
    client::Client,
    report::{Report, say},
    table::{escaped, table},
};

pub(crate) fn query(args: &QueryArgs) -> Result<ExitCode, Report> {
    let answer = Client::new(&args.at)?.post("/v1/query/online", &body(args)?)?;
    if answer.status != 200 {
        return Err(answer.refusal());
    }
    let response = answer.json()?;
    if args.json {
        say(&answer.body);
    } else {
        print(&response);
    }
    let failed = response["errors"].as_array().is_some_and(|errors| !errors.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn body(args: &QueryArgs) -> Result<Json, Report> {
    let inputs = args.inputs.iter().map(|given| {
        let (name, value) = split(given, "--in", "user.id=ada")?;
        // JSON where it is JSON, text otherwise: 42 is a number, ada and "42" are texts.
        Ok((name, serde_json::from_str::<Json>(&value).unwrap_or_else(|_| Json::from(value))))
    });
    let staleness = args.staleness.iter().map(|given| {
        let (name, span) = split(given, "--staleness", "user.visits=10m")?;
        Ok((name, Json::from(span)))
    });
    let inputs = inputs.collect::<Result<Map<_, _>, Report>>()?;
    let staleness = staleness.collect::<Result<Map<_, _>, Report>>()?;
    Ok(json!({
        "inputs": inputs, "outputs": args.outputs, "staleness": staleness, "now": args.now,
        "include_meta": true, "explain": args.explain,
    }))
}

fn split(given: &str, flag: &str, example: &str) -> Result<(String, String), Report> {
    let wrong =
        || Report::usage(format!("{flag} {given}: expected FEATURE=VALUE")).hint(format!("for example {flag} {example}"));
    let (name, value) = given.split_once('=').ok_or_else(wrong)?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn print(response: &Json) {
    let items = response["data"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |item: &Json| {
        let from = text(&item["meta"]["chosen_resolver_fqn"]);
        let value = if item["valid"] == false { "(none)".to_owned() } else { text(&item["value"]) };
        vec![text(&item["field"]), value, text(&item["ts"]), from]
    };
    say(table(&["FEATURE", "VALUE", "EVENT TIME", "FROM"], &items.iter().map(row).collect::<Vec<_>>()));
    for error in response["errors"].as_array().into_iter().flatten() {
        say(format_args!("{}: {}", escaped(&text(&error["code"])), escaped(&text(&error["message"]))));
    }
    if let Some(plan) = response["meta"]["explain_output"].as_str() {
        say(format_args!("\n{plan}"));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn parsed(line: &str) -> QueryArgs {
        let Command::Query(args) = Args::parse_from(line.split(' ')).command else { panic!("not a query") };
        args
    }

    #[test]
    fn a_query_is_the_servers_json() {
        let args = parsed("karst query --in user.id=ada --in user.n=42 --in user.t=\"42\" --out user --staleness user=1h");
        let body = body(&args).unwrap();
        assert_eq!(body["inputs"], json!({"user.id": "ada", "user.n": 42, "user.t": "42"}));
        assert_eq!((&body["outputs"], &body["staleness"]), (&json!(["user"]), &json!({"user": "1h"})));
    }

    #[test]
    fn an_input_without_a_value_is_a_mistake_of_the_command_line() {
        let report = body(&parsed("karst query --in user.id --out user")).unwrap_err();
        assert_eq!((report.code, report.error.as_str()), (2, "--in user.id: expected FEATURE=VALUE"));
    }
}
