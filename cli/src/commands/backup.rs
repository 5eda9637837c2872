//! `karst backup` and `karst restore`.

use std::process::ExitCode;

use karst::{runtime::SystemClock, types::Clock};
use serde_json::json;

use super::pages::{ok, text};
use crate::{
    args::{BackupArgs, RestoreArgs},
    client::Client,
    report::{Report, say},
};

pub(crate) fn backup(args: &BackupArgs) -> Result<ExitCode, Report> {
    let made = ok(Client::new(&args.at)?.post("/v1/backups", &json!({ "name": args.name }))?)?.json()?;
    say(format_args!("made {}", text(&made["path"])));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode, Report> {
    karst::state::restore(&args.backup, &args.directory, SystemClock.now()).map_err(|error| {
        let what = format!("{} was not restored into {}", args.backup.display(), args.directory.display());
        let report = Report::new(what).detail(&error);
        error.hint().into_iter().fold(report, Report::hint)
    })?;
    say(format_args!("restored into {}; `karst run` reads what came since again", args.directory.display()));
    Ok(ExitCode::SUCCESS)
}
