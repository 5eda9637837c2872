//! The command line. The texts teach: every command has an example that works.

use std::path::PathBuf;

use clap::{Args as Flags, Parser, Subcommand};

/// The `karst` command.
#[derive(Parser, Debug)]
#[command(
    name = "karst",
    version,
    about = "Karst: event streams in, fresh feature values out.",
    after_help = "Start here:\n  \
        karst check --config karst.toml      is the configuration right? tells everything at once\n  \
        karst run   --config karst.toml      read the sources, keep the features fresh, serve them\n  \
        karst query --in user.id=ada --out user.last_page\n\n\
        `karst run --help` explains the configuration file."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Read the sources, keep the features fresh, and serve them until Ctrl-C
    #[command(long_about = RUN, after_long_help = FILE)]
    Run(RunArgs),
    /// Check the whole configuration without starting anything
    #[command(after_help = "Example:\n  karst check --config karst.toml\n\n\
        Tells every mistake at once, each with its line, and ends with exit code 2 if there is one.")]
    Check(ConfigArgs),
    /// Predict how much state the windows of the configuration will take, without starting anything
    #[command(after_help = "Examples:\n  \
        karst plan --config karst.toml --keys user=1e6\n  \
        karst plan --config karst.toml --keys user=1e6 --events-per-day user=40 --json\n\n\
        Bytes are those of the tiles before compression, and an upper bound: without --events-per-day every tile is full.")]
    Plan(PlanArgs),
    /// Ask a running engine for features
    #[command(after_help = "Examples:\n  \
        karst query --in user.id=ada --out user.last_page --out user.visits\n  \
        karst query --in user.id=ada --out user                      all features of the class\n  \
        karst query --in user.id=ada --out user.visits --staleness user.visits=10m --json\n\n\
        The value of --in is read as JSON where it is JSON (42, true), and as text otherwise.\n\
        Text that looks like a number: --in 'account.id=\"42\"'.")]
    Query(QueryArgs),
    /// Print the path that events take in a running engine, as a diagram (mermaid) with mailbox capacities
    #[command(after_help = "Examples:\n  karst topology > topology.mmd\n  karst topology --json")]
    Topology(PageArgs),
    /// Print positions, lag, watermarks and counts of a running engine
    #[command(after_help = "Example:\n  karst status --url http://127.0.0.1:8080")]
    Status(PageArgs),
    /// Print how far each source of a running engine has come in event time, which partition holds it back, and what to do
    #[command(after_help = "Example:\n  karst watermarks")]
    Watermarks(PageArgs),
    /// Print how late the events of a running engine are, and how many each deadline would have judged late
    #[command(after_help = "Example:\n  karst late\n\n\
        The numbers are exact, of all events since the state directory was made, each judged under the disorder of its time:\n\
        choose the least deadline whose number of late events you can live with, and set it as late_arrival_deadline of the\n\
        source. Of a deadline between two of those that are counted, only the range is known. What the resolvers did is\n\
        counted since the start of the engine.")]
    Late(PageArgs),
    /// Look at records that could not pass, and send them through again once the cause is mended
    #[command(after_help = "Examples:\n  \
        karst dead-letters list --source clicks --reason schema_mismatch\n  \
        karst dead-letters show 'clicks[3]@1842'\n  \
        karst dead-letters replay --source clicks --reason schema_mismatch --limit 10000")]
    DeadLetters(DeadLetterArgs),
    /// Copy the state of a running engine, whole and of one moment, into the folder `backups` of its directory
    #[command(after_help = "Example:\n  karst backup monday && rsync -a data/backups/monday elsewhere:\n\n\
        It is made of links, so it costs little and protects from a lost disk only once it is copied to another one.")]
    Backup(BackupArgs),
    /// Make a state directory from a backup; the engine that runs on it reads what came since again
    #[command(after_help = "Example:\n  karst restore elsewhere/monday data && karst run --directory data")]
    Restore(RestoreArgs),
    /// Decide how a source goes on that cannot go on by itself
    Source(SourceArgs),
    /// Print whether a running engine is well, and if not, what is not and why; exit code 1 if it is not
    #[command(after_help = "Example:\n  karst health || echo 'something is wrong'")]
    Health(PageArgs),
}

/// Where settings come from.
#[derive(Flags, Debug, Clone, Default)]
pub struct ConfigArgs {
    /// The configuration file; without it, only the environment and flags count
    #[arg(long, short, value_name = "FILE", env = "KARST_CONFIG")]
    pub config: Option<PathBuf>,
    /// Overrides one setting of [engine] or [server]: --set server.workers=2
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Of `karst plan`.
#[derive(Flags, Debug, Clone, Default)]
pub struct PlanArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How many entities a class is expected to have (1 if not given): --keys user=1e6
    #[arg(long, value_name = "CLASS=NUMBER", value_parser = parse_expected)]
    pub keys: Vec<(String, f64)>,
    /// How many events each of them has in a day; as many as there can be if not given
    #[arg(long, value_name = "CLASS=NUMBER", value_parser = parse_expected)]
    pub events_per_day: Vec<(String, f64)>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_expected(text: &str) -> Result<(String, f64), String> {
    let read = text.split_once('=').and_then(|(class, number)| Some((class.to_owned(), number.parse::<f64>().ok()?)));
    read.filter(|(_, number)| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "expected a class and a number, such as user=1e6".to_owned())
}

/// Of `karst run`.
#[derive(Flags, Debug, Clone, Default)]
pub struct RunArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where to listen; the same as --set server.bind=ADDRESS
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub bind: Option<String>,
    /// Where the state is kept; the same as --set engine.directory=DIRECTORY
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<String>,
    /// What to log: error, warn, info, debug, trace, or by part: warn,karst_actors=debug
    #[arg(long, value_name = "FILTER", env = "KARST_LOG", default_value = "warn")]
    pub log: String,
}

impl RunArgs {
    /// All overrides; the flags with names of their own come last, since the last one wins.
    pub fn overrides(&self) -> Vec<String> {
        let named = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
        let named = [named("server.bind", &self.bind), named("engine.directory", &self.directory)];
        self.config.set.iter().cloned().chain(named.into_iter().flatten()).collect()
    }
}

/// Where a running engine is.
#[derive(Flags, Debug, Clone)]
pub struct UrlArgs {
    /// Where the engine serves
    #[arg(long, env = "KARST_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_span)]
    pub timeout: karst::types::TimeSpan,
}

/// Of `karst query`.
#[derive(Flags, Debug, Clone)]
pub struct QueryArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// A known value, usually the key: user.id=ada
    #[arg(long = "in", value_name = "FEATURE=VALUE", required = true)]
    pub inputs: Vec<String>,
    /// A wanted feature (user.last_page), or a class (user) for all of its features
    #[arg(long = "out", value_name = "FEATURE", required = true)]
    pub outputs: Vec<String>,
    /// How old a value may be: user.visits=10m, or for a class user=1h
    #[arg(long, value_name = "FEATURE=DURATION")]
    pub staleness: Vec<String>,
    /// The time at which staleness is judged, RFC 3339; default: now
    #[arg(long, value_name = "TIME")]
    pub now: Option<String>,
    /// Print the plan too
    #[arg(long)]
    pub explain: bool,
    /// Print the answer as JSON, as it came
    #[arg(long)]
    pub json: bool,
}

/// Of the commands that print a page.
#[derive(Flags, Debug, Clone)]
pub struct PageArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `karst dead-letters`.
#[derive(Flags, Debug, Clone)]
pub struct DeadLetterArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub what: LetterCommand,
}

/// What can be done with dead letters.
#[derive(Subcommand, Debug, Clone)]
pub enum LetterCommand {
    /// Print dead letters that were not replayed yet, by position
    List(LetterArgs),
    /// Print one dead letter whole: key, headers, value, error
    Show(ShowArgs),
    /// Send dead letters through decoding and their resolvers again
    #[command(
        after_help = "Safe to repeat: a letter that is under way or was replayed is not replayed again. One that fails again stays,\n\
        with one attempt more. Late events that are kept (reason late) are replayed with --reason late only, whatever their lateness."
    )]
    Replay(ReplayArgs),
}

/// Which dead letters.
#[derive(Flags, Debug, Clone)]
pub struct Wanted {
    /// Of this partition
    #[arg(long)]
    pub partition: Option<i32>,
    /// With this reason, such as malformed, schema_mismatch, resolver_error
    #[arg(long)]
    pub reason: Option<String>,
    /// From this offset on
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<i64>,
    /// Up to this offset
    #[arg(long, value_name = "OFFSET")]
    pub through: Option<i64>,
    /// At most so many, 1 to 10000
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// Of `karst dead-letters list`.
#[derive(Flags, Debug, Clone)]
pub struct LetterArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// Of this source
    #[arg(long)]
    pub source: Option<String>,
    /// Which.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Those that were replayed too
    #[arg(long)]
    pub replayed: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `karst backup`.
#[derive(Flags, Debug, Clone)]
pub struct BackupArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// How it is to be called
    pub name: String,
}

/// Of `karst restore`.
#[derive(Flags, Debug, Clone)]
pub struct RestoreArgs {
    /// The backup
    pub backup: PathBuf,
    /// The directory to make; it must not be there, or be empty
    pub directory: PathBuf,
}

/// Of `karst source`.
#[derive(Flags, Debug, Clone)]
pub struct SourceArgs {
    /// What to decide.
    #[command(subcommand)]
    pub what: SourceCommand,
}

/// What can be decided about a source.
#[derive(Subcommand, Debug, Clone)]
pub enum SourceCommand {
    /// Accept that records which were deleted before they were read are lost, and go on behind them
    #[command(after_help = "Example:\n  karst source accept-gap clicks --partition 3\n\n\
        `karst health` names the partitions that have a gap, and the records that are gone. Nothing is skipped without this.")]
    AcceptGap(AcceptGapArgs),
}

/// Of `karst source accept-gap`.
#[derive(Flags, Debug, Clone)]
pub struct AcceptGapArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// The source
    pub source: String,
    /// Its partition
    #[arg(long)]
    pub partition: i32,
}

/// Of `karst dead-letters show`.
#[derive(Flags, Debug, Clone)]
pub struct ShowArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// Which: 'clicks[3]@1842', as list prints it
    pub position: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `karst dead-letters replay`.
#[derive(Flags, Debug, Clone)]
pub struct ReplayArgs {
    /// Where a running engine is.
    #[command(flatten)]
    pub at: UrlArgs,
    /// Of this source
    #[arg(long)]
    pub source: String,
    /// Which.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_span(text: &str) -> Result<karst::types::TimeSpan, String> {
    text.parse()
}

const RUN: &str = "Read the sources, keep the features fresh, and serve them until Ctrl-C.

Ctrl-C (or SIGTERM) stops gracefully: what has been read is applied and stored, at most 18 s. A second one ends at once with
exit code 75. Nothing is lost either way: the next start goes on from the stored positions.";

const FILE: &str = r#"Example, karst.toml:

  [engine]
  directory = "./data"            # KARST_ENGINE_DIRECTORY, --directory
  [server]
  bind = "127.0.0.1:8080"         # KARST_SERVER_BIND, --bind

  [[class]]
  name = "user"
  key = "id"
  [class.features]
  id = "str"                      # bool, int, float, time, str, bytes; a ? behind it allows null
  last_page = "str"
  visits = { type = "int?", max_staleness = "30d", description = "visits so far" }
  pages = { windows = ["10m", "1d", "all"], aggregate = "approx_count_distinct(last_page)" }
  checkouts = { windows = ["1d"], aggregate = "count", filter = 'last_page == "/checkout"' }

  [[source]]
  name = "clicks"
  kind = "file"                   # or "kafka", with bootstrap_servers = "localhost:9092"
  path = "clicks.jsonl"
  late_arrival_deadline = "30m"
  late_lane = "drop"              # or "dead_letter", "correct"

  [[resolver]]
  name = "on_click"
  source = "clicks"
  skip_if_null = ["user_id"]      # such messages write nothing
  where = { type = "click" }      # others write nothing
  [resolver.set]                  # feature = field of the JSON message; a.b is field b of object a
  "user.id" = "user_id"
  "user.last_page" = "page.url"
  "user.visits" = "visits"

The field `event_time` of a message (RFC 3339 text, or whole microseconds) is its event time; a source names another one by
event_time = "meta.at", and what numbers in it count by event_time_unit = "ms"; where it is null the record's broker time
stands in. Settings come from the file, then the environment (KARST_SERVER_BIND), then flags; the later one wins."#;
