//! `karst plan`: how much state the windows of the configuration will take.

use std::process::ExitCode;

use karst::features::budget::{ClassBudget, Expected, LevelBudget, of_class};
use serde_json::{Value as Json, json};

use crate::{
    args::PlanArgs,
    config::Config,
    report::{Report, say},
    table::table,
};

pub(crate) fn plan(args: &PlanArgs) -> Result<ExitCode, Report> {
    let config = Config::load(&args.config, args.config.set.clone())?;
    let classes = &config.declared.classes;
    let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    let unknown = args.keys.iter().chain(&args.events_per_day).find(|(class, _)| !names.contains(&class.as_str()));
    if let Some((class, _)) = unknown {
        let report = Report::usage(format!("there is no feature class \"{class}\""));
        return Err(report.hint(format!("the configuration has {}", names.join(", "))));
    }
    let last =
        |given: &[(String, f64)], class: &str| given.iter().rev().find(|(name, _)| name == class).map(|(_, value)| *value);
    let expected = |class: &str| Expected {
        keys: last(&args.keys, class).unwrap_or(1.0),
        events_per_day: last(&args.events_per_day, class),
    };
    let budgets: Vec<ClassBudget> = classes.iter().filter_map(|class| of_class(class, expected(&class.name))).collect();
    if args.json {
        say(format_args!("{:#}", Json::Array(budgets.iter().map(to_json).collect())));
    } else if budgets.is_empty() {
        say(format_args!("no class has windowed features: the state is one row for each entity"));
    } else {
        say(format_args!("{}", budgets.iter().map(to_text).collect::<Vec<_>>().join("\n\n")));
    }
    Ok(ExitCode::SUCCESS)
}

fn to_text(budget: &ClassBudget) -> String {
    let Expected { keys, events_per_day } = budget.expected;
    let each =
        events_per_day.map_or_else(|| "as many events as can be".to_owned(), |events| format!("{events} events a day each"));
    let levels: Vec<String> = budget.levels.iter().map(level).collect();
    let row = |what: String, features: String, each: Option<f64>| {
        vec![what, features, bytes(each), bytes(each.map(|each| each * keys))]
    };
    let mut rows: Vec<Vec<String>> = budget
        .aggregates
        .iter()
        .map(|aggregate| row(aggregate.aggregate.clone(), aggregate.features.join(", "), aggregate.bytes))
        .collect();
    rows.push(row("(times and lengths)".to_owned(), String::new(), budget.overhead));
    rows.push(row("all, before compression, at most".to_owned(), String::new(), budget.bytes_per_entity()));
    format!(
        "{}: keys: {keys}; {each}\ntiles: {}\n\n{}",
        budget.class,
        levels.join("; "),
        table(&["AGGREGATE", "FEATURES", "BYTES OF A KEY", "BYTES IN ALL"], &rows)
    )
}

fn level(level: &LevelBudget) -> String {
    let archived = match level.archived {
        Some(0.0) => String::new(),
        Some(tiles) => format!(", and {tiles:.0} archived"),
        None => ", and archived for ever".to_owned(),
    };
    format!("{:.0} of {}{archived}", level.tiles, level.hop)
}

/// As people read it.
fn bytes(bytes: Option<f64>) -> String {
    let Some(bytes) = bytes else { return "no bound".to_owned() };
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, bits)| bytes >= f64::from(*bits).exp2());
    unit.map_or_else(|| format!("{bytes:.0} B"), |(unit, bits)| format!("{:.1} {unit}", bytes / f64::from(bits).exp2()))
}

fn to_json(budget: &ClassBudget) -> Json {
    let levels = budget
        .levels
        .iter()
        .map(|level| json!({ "hop": level.hop.to_string(), "tiles": level.tiles, "archived": level.archived }));
    let aggregates = budget.aggregates.iter().map(|aggregate| {
        json!({ "aggregate": aggregate.aggregate, "features": aggregate.features, "bytes_per_key": aggregate.bytes })
    });
    json!({
        "class": budget.class,
        "keys": budget.expected.keys,
        "events_per_day": budget.expected.events_per_day,
        "levels": levels.collect::<Vec<_>>(),
        "aggregates": aggregates.collect::<Vec<_>>(),
        "overhead_bytes_per_key": budget.overhead,
        "bytes_per_key": budget.bytes_per_entity(),
        "bytes": budget.bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_the_largest_unit_that_they_fill() {
        let written = [0.0, 1023.0, 1024.0, 1.5 * 1024.0 * 1024.0, 3e12].map(|size| bytes(Some(size)));
        assert_eq!(written, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.7 TiB"]);
        assert_eq!(bytes(None), "no bound");
    }
}
