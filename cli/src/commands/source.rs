//! `karst source`: decides how a source goes on that cannot go on by itself.

use std::process::ExitCode;

use serde_json::json;

use super::pages::{ok, text};
use crate::{
    args::{AcceptGapArgs, SourceCommand},
    client::Client,
    report::{Report, say},
};

pub(crate) fn source(command: &SourceCommand) -> Result<ExitCode, Report> {
    match command {
        SourceCommand::AcceptGap(args) => accept_gap(args),
    }
}

fn accept_gap(args: &AcceptGapArgs) -> Result<ExitCode, Report> {
    let body = json!({ "source": args.source, "partition": args.partition });
    let accepted = ok(Client::new(&args.at)?.post("/v1/sources/accept-gap", &body)?)?.json()?;
    let (place, first, last) = (format!("{}[{}]", args.source, args.partition), &accepted["first"], &accepted["last"]);
    say(format_args!("{place} goes on; its records from {} up to {} are lost", text(first), text(last)));
    Ok(ExitCode::SUCCESS)
}
