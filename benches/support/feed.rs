//! The other side of the Kafka case, in a process of its own so that the engine's CPU time is the engine's alone: the broker
//! (librdkafka's mock cluster, unless `KAFKA=host:port` names a real one) and the producer.
//!
//! On standard output, a line each: where the broker listens, `sent` when all is produced. On standard input: how far the
//! engine has read, an offset for each partition; its end is the end of the process. The mock cluster keeps 5 MiB of a
//! partition, so the producer waits for the engine; a real broker keeps everything.

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use karst::{
    BrokerTime, Clock, EngineHandle, KafkaProducer, KafkaSource, SourceStatus,
    connectors::kafka::{
        admin::create_topic,
        mock::{MockBroker, SAFE_LEAD_BYTES},
    },
    runtime::SystemClock,
};

use crate::w1::partition_of;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) const PARTITIONS: u32 = 4;
/// The argument that makes this program the feeding process.
pub(crate) const FEED: &str = "--feed";

/// All records get one broker time, shortly after the last event: 2023-11-15T03:00:00Z.
const WRITTEN_AT: BrokerTime = BrokerTime(1_700_017_200_000_000);
/// What a record takes in the broker besides its value, at most.
const RECORD_OVERHEAD: u64 = 32;
const FLUSH_WITHIN: Duration = Duration::from_secs(60);
/// How often the feeding process is told how far the engine is: the broker's 5 MiB last for some 20 ms.
const TELL_EVERY: Duration = Duration::from_millis(2);

/// The feeding process, seen from the engine's.
pub(crate) struct Feed {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    servers: String,
    topic: String,
    sent: bool,
}

/// The broker that `KAFKA` names.
fn real_broker() -> Option<String> {
    env::var("KAFKA").ok().filter(|servers| !servers.is_empty())
}
/// For the line that tells the figures.
pub(crate) fn broker() -> &'static str {
    if real_broker().is_some() { " broker=real" } else { " broker=mock" }
}

impl Feed {
    /// Begins to send a file of events to a new topic. A real broker has all of it when this returns, the mock cluster hardly any.
    pub(crate) fn start(file: &Path) -> Result<Self> {
        let topic = format!("karst-bench-{}-{}", std::process::id(), SystemClock.now().0);
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.args([FEED, &topic]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or("the feeding process has no pipes")?;
        let mut feed = Self { child, input, output: BufReader::new(output), servers: String::new(), topic, sent: false };
        feed.servers = feed.line()?;
        if real_broker().is_some() {
            feed.wait_until_sent()?;
        }
        Ok(feed)
    }

    /// The topic, as a source.
    pub(crate) fn source(&self, name: &str) -> KafkaSource {
        KafkaSource::new(name).bootstrap_server(&self.servers).topic(&*self.topic)
    }

    /// Lets the producer follow an engine until that has seen so many records.
    pub(crate) async fn keep_up(&mut self, engine: &EngineHandle, records: u64) -> Result<()> {
        while engine.status().outcomes().records < records {
            let line = fetched(&engine.status().sources).iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
            writeln!(self.input, "{line}")?;
            tokio::time::sleep(TELL_EVERY).await;
        }
        Ok(())
    }

    /// Waits until everything is in the broker.
    fn wait_until_sent(&mut self) -> Result<()> {
        if !self.sent {
            let last = self.line()?;
            self.sent = last == "sent";
            if !self.sent {
                return Err(format!("the feeding process: {last}").into());
            }
        }
        Ok(())
    }

    /// Ends the process, which has sent everything.
    pub(crate) fn end(mut self) -> Result<()> {
        self.wait_until_sent()?;
        drop(self.input);
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the feeding process: {status}").into()) }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

/// The last offset read of each partition; -1 before the first.
fn fetched(sources: &[SourceStatus]) -> Vec<i64> {
    let mut fetched = vec![-1; PARTITIONS as usize];
    for partition in sources.iter().flat_map(|source| &source.partitions) {
        if let (Some(place), Some(offset)) = (fetched.get_mut(partition.partition.0 as usize), partition.fetched) {
            *place = offset.0;
        }
    }
    fetched
}

/// The feeding process itself.
pub(crate) fn run(topic: &str, file: &Path) -> Result<()> {
    let real = real_broker();
    let mock = match &real {
        Some(servers) => {
            // The records are of 2023: with the usual retention the broker would drop them at once.
            create_topic(servers, topic, PARTITIONS as i32, &[("retention.ms", "-1")])?;
            None
        }
        None => Some(MockBroker::start(&[(topic, PARTITIONS as i32)])?),
    };
    let servers = real.clone().or_else(|| mock.as_ref().map(|mock| mock.bootstrap_servers().to_owned())).unwrap_or_default();
    let fetched: Arc<Vec<AtomicI64>> = Arc::new((0..PARTITIONS).map(|_| AtomicI64::new(-1)).collect());
    let own = Arc::clone(&fetched);
    let listener = thread::spawn(move || {
        for line in io::stdin().lines().map_while(std::result::Result::ok) {
            let offsets = line.split(' ').map(|offset| offset.parse().unwrap_or(-1));
            own.iter().zip(offsets).for_each(|(place, offset)| place.store(offset, Ordering::Release));
        }
    });
    say(&servers)?;
    produce(&servers, topic, file, mock.is_some().then_some(&fetched))?;
    say("sent")?;
    listener.join().map_err(|_| "the listener panicked")?;
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// `fetched`: how far the engine is, if the broker forgets what it has not read in time.
fn produce(servers: &str, topic: &str, file: &Path, fetched: Option<&Arc<Vec<AtomicI64>>>) -> Result<()> {
    let producer = KafkaProducer::with(servers, [("linger.ms", "10"), ("queue.buffering.max.messages", "400000")])?;
    let text = fs::read(file)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    // Bytes sent with each offset: those of a new topic count from 0.
    let mut sent: Vec<Vec<u64>> = vec![Vec::new(); PARTITIONS as usize];
    for line in lines {
        let user = user_of(line).ok_or("a line without a user")?;
        let partition = partition_of(user, PARTITIONS) as usize;
        let sent = &mut sent[partition];
        let total = sent.last().copied().unwrap_or(0) + line.len() as u64 + RECORD_OVERHEAD;
        sent.push(total);
        let read = |fetched: &[AtomicI64]| {
            let offset = usize::try_from(fetched[partition].load(Ordering::Acquire));
            offset.ok().and_then(|offset| sent.get(offset)).copied().unwrap_or(0)
        };
        while fetched.is_some_and(|fetched| total - read(fetched) > SAFE_LEAD_BYTES) {
            producer.delivered(); // takes what the broker has acknowledged
            thread::park_timeout(Duration::from_millis(1));
        }
        producer.send(topic, partition as i32, WRITTEN_AT, None, Some(line))?;
    }
    Ok(producer.flush(FLUSH_WITHIN)?)
}

/// The number of the user, also in a line that was cut in half.
fn user_of(line: &[u8]) -> Option<u32> {
    const BEFORE: &[u8] = b"\"user_id\":\"user_";
    let at = line.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}
