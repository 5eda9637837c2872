//! Logins and card payments, and the features by which fraud is told: `make fraud`, or `cargo run --example fraud`. See README.md.
//!
//! EVENTS changes how many there are (20,000). The exit status is 0 only if all features equal an independent computation, every attack
//! was told by them when it came to its end, and nobody else was suspected then.
#![allow(clippy::print_stdout)] // it talks to a person

mod declare;
#[path = "../support/expect.rs"]
mod expect;
mod generate;
mod oracle;
mod rules;

use std::{env, process::ExitCode, time::Duration};

use karst::{BrokerTime, Engine, KafkaProducer, KafkaSource, connectors::kafka::mock::MockBroker};

use expect::Checks;
use generate::{CARDS, Event, History, LOGIN_PARTITIONS, PAYMENT_PARTITIONS};
use oracle::{DEADLINE, Oracle};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(replay())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn replay() -> Result<bool, Failure> {
    let count = env::var("EVENTS").ok().filter(|text| !text.is_empty()).map_or(Ok(20_000), |text| text.parse());
    let History { events, attacks } = generate::history(count.map_err(|error| format!("EVENTS: {error}"))?);

    let broker = MockBroker::start(&[("logins", LOGIN_PARTITIONS), ("payments", PAYMENT_PARTITIONS)])?;
    let dir = tempfile::tempdir()?;
    let source =
        |topic: &str| KafkaSource::new(topic).bootstrap_server(broker.bootstrap_servers()).late_arrival_deadline(DEADLINE);
    let builder = Engine::builder(dir.path()).source(source("logins")).source(source("payments"));
    let engine = builder.resolver(declare::on_login).resolver(declare::on_payment).start().await?;
    let handle = engine.handle();
    let producer = KafkaProducer::new(broker.bootstrap_servers())?;

    let (mut oracle, mut checks, mut sent, mut told, mut suspected) = (Oracle::default(), Checks::new(&handle), 0, 0, 0);
    let ends = attacks.iter().map(|(end, on)| (*end, Some(on))).chain([(events.len(), None)]);
    for (end, attack) in ends {
        send(&producer, &events[sent..end])?;
        events[sent..end].iter().for_each(|event| oracle.add(event));
        applied(&engine, end as u64).await?;
        compare(&mut checks, &oracle, &events[sent..end]);
        sent = end;
        if let Some(attack) = attack {
            let suspects = rules::suspects(&handle, oracle.newest, CARDS);
            told += usize::from(suspects.contains(attack));
            suspected += suspects.iter().filter(|suspect| *suspect != attack).count();
            println!("{}  {}", karst::EventTime(oracle.newest * 1_000), rules::in_words(&handle, oracle.newest, attack));
        }
    }

    let outcomes = handle.status().outcomes();
    let (compared, mut wrong) = (checks.compared, checks.differences);
    if (outcomes.applied, outcomes.late, outcomes.dead_letters) != (oracle.applied, oracle.late, oracle.dead) {
        wrong.push(format!(
            "expected {} applied, {} late, {} dead letters; got {outcomes:?}",
            oracle.applied, oracle.late, oracle.dead
        ));
    }
    wrong.iter().take(10).for_each(|difference| println!("WRONG {difference}"));
    drop(handle);
    engine.shutdown().await?;
    println!(
        "fraud events={} applied={} late={} dead_letters={} compared={compared} wrong={} attacks={} told={told} false_alarms={suspected}",
        events.len(),
        outcomes.applied,
        outcomes.late,
        outcomes.dead_letters,
        wrong.len(),
        attacks.len(),
    );
    Ok(wrong.is_empty() && told == attacks.len() && suspected == 0)
}

fn send(producer: &KafkaProducer, events: &[Event]) -> Result<(), Failure> {
    for event in events {
        let (time, value) = (BrokerTime(event.arrives * 1_000), event.json());
        producer.send(event.topic(), event.partition(), time, Some(event.key().as_bytes()), Some(value.as_bytes()))?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

/// Waits until so many records have had their effect.
async fn applied(engine: &Engine, records: u64) -> Result<(), Failure> {
    while engine.handle().status().outcomes().records < records {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(engine.drain().await?)
}

/// Asks for whoever the last events were about, at the newest event, and later, while nothing more comes.
fn compare(checks: &mut Checks<'_>, oracle: &Oracle, last: &[Event]) {
    const MINUTE: i64 = 60_000;
    for (nth, event) in last.iter().rev().take(60).enumerate() {
        let later = [0, 1, 7, 59, 61, 24 * 60, 8 * 24 * 60][nth % 7];
        let now = oracle.newest + later * MINUTE;
        match &event.what {
            generate::What::Login(login) => checks.check("user", &login.user, now * 1_000, &oracle.user(&login.user, now)),
            generate::What::Payment(payment) => {
                checks.check("card", &payment.card, now * 1_000, &oracle.card(&payment.card, now));
                checks.check("merchant", &payment.merchant, now * 1_000, &oracle.merchant(&payment.merchant, now));
                checks.check("user", &payment.user, now * 1_000, &oracle.user(&payment.user, now));
            }
        }
    }
    // And somebody who never came.
    checks.check("card", "nobody", oracle.newest * 1_000, &oracle.card("nobody", oracle.newest));
}
