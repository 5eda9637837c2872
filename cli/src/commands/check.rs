//! `karst check`: the whole configuration, without starting anything.

use std::process::ExitCode;

use crate::{
    args::ConfigArgs,
    config::Config,
    report::{Report, say},
};

pub(crate) fn check(args: &ConfigArgs) -> Result<ExitCode, Report> {
    let config = Config::load(args, args.set.clone())?;
    let declared = &config.declared;
    say(format_args!(
        "the configuration holds: {} classes, {} sources, {} resolvers; state in {}, served at {}",
        declared.classes.len(),
        declared.sources.len(),
        declared.resolvers.len(),
        config.directory.display(),
        config.server.bind,
    ));
    Ok(ExitCode::SUCCESS)
}
