//! The broker, the engine, and what came of it.

use std::time::Duration;

use karst::{BrokerTime, Engine, KafkaProducer, KafkaSource, ResolverStatus, connectors::kafka::mock::MockBroker};

use super::{declare, oracle};

/// What must be there, and what is.
pub(crate) struct Report {
    pub(crate) expected: oracle::Expected,
    pub(crate) got: oracle::Expected,
    pub(crate) resolvers: Vec<ResolverStatus>,
}

const TOPIC: &str = "user_events";

/// Sends `count` events through an embedded broker and an engine.
///
/// # Errors
/// What the broker or the engine say.
pub(crate) async fn run(count: u64) -> karst::Result<Report> {
    let broker = MockBroker::start(&[(TOPIC, 3)])?;
    let dir = tempfile::tempdir()?;
    let source = KafkaSource::new(TOPIC).bootstrap_server(broker.bootstrap_servers());
    let builder = Engine::builder(dir.path()).source(source);
    let engine = builder.resolver(declare::resolve_logins).resolver(declare::resolve_clicks).start().await?;

    let events = oracle::events(count);
    let producer = KafkaProducer::new(broker.bootstrap_servers())?;
    for event in &events {
        let time = BrokerTime(event.at_ms * 1000);
        producer.send(TOPIC, event.partition, time, Some(event.user.as_bytes()), Some(event.json().as_bytes()))?;
    }
    producer.flush(Duration::from_secs(60))?;
    loop {
        engine.drain().await?;
        // What was sent last may not have been seen at the broker yet.
        if engine.handle().status().outcomes().records >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let resolvers = engine.handle().status().sources.remove(0).resolvers;
    let report = Report { expected: oracle::expect(TOPIC, &events), got: oracle::got(&engine.handle())?, resolvers };
    engine.shutdown().await?;
    Ok(report)
}
