//! Making, widening and deleting topics and their records: for the demo and for tests. An engine does none of that.

use std::time::Duration;

use karst_types::Retry;
use rdkafka::{
    ClientConfig, Offset as TopicOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

use crate::{Error, Result};

/// How long the brokers may take.
const WITHIN: Duration = Duration::from_secs(15);

/// Makes a topic with one replica. `settings` are those of the topic, such as `("retention.ms", "-1")`. Returns `false` if there
/// is one of this name already, whatever its settings. Blocks for up to 15 s.
///
/// # Errors
/// [`Error::Send`] with what the broker says.
pub fn create_topic(bootstrap_servers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<bool> {
    let failed = |why: String| Error::Send { to: topic.to_owned(), why, retry: Retry::Backoff };
    let client = client(bootstrap_servers).map_err(&failed)?;
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let wanted = settings.iter().fold(wanted, |topic, (name, value)| topic.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
    let made = futures::executor::block_on(client.create_topics([&wanted], &options));
    match made.map_err(|error| failed(error.to_string()))?.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("the broker did not answer".to_owned())),
    }
}

/// Raises the number of partitions of a topic to `partitions`. Blocks for up to 15 s.
///
/// # Errors
/// [`Error::Send`] with what the broker says, such as that there are as many already.
pub fn raise_partitions(bootstrap_servers: &str, topic: &str, partitions: usize) -> Result<()> {
    let failed = |why: String| Error::Send { to: topic.to_owned(), why, retry: Retry::Backoff };
    let client = client(bootstrap_servers).map_err(&failed)?;
    let wanted = NewPartitions::new(topic, partitions);
    let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
    let made = futures::executor::block_on(client.create_partitions([&wanted], &options));
    match made.map_err(|error| failed(error.to_string()))?.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("the broker did not answer".to_owned())),
    }
}

/// Deletes a topic. Brokers do so in their own time: it may be there for a moment still. Blocks for up to 15 s.
///
/// # Errors
/// [`Error::Send`] with what the broker says.
pub fn delete_topic(bootstrap_servers: &str, topic: &str) -> Result<()> {
    let failed = |why: String| Error::Send { to: topic.to_owned(), why, retry: Retry::Backoff };
    let client = client(bootstrap_servers).map_err(&failed)?;
    let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
    let deleted = futures::executor::block_on(client.delete_topics(&[topic], &options));
    match deleted.map_err(|error| failed(error.to_string()))?.into_iter().next() {
        Some(Err((_, code))) => Err(failed(code.to_string())),
        _ => Ok(()),
    }
}

/// Deletes the records of a partition before `offset`, as retention does. Blocks for up to 15 s.
///
/// # Errors
/// [`Error::Send`] with what the broker says.
pub fn delete_records(bootstrap_servers: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
    let failed = |why: String| Error::Send { to: topic.to_owned(), why, retry: Retry::Backoff };
    let client = client(bootstrap_servers).map_err(&failed)?;
    let options = AdminOptions::new().operation_timeout(Some(WITHIN)).request_timeout(Some(WITHIN));
    let mut before = TopicPartitionList::new();
    let told = |error: rdkafka::error::KafkaError| failed(error.to_string());
    before.add_partition_offset(topic, partition, TopicOffset::Offset(offset)).map_err(told)?;
    let deleted = futures::executor::block_on(client.delete_records(&before, &options)).map_err(told)?;
    deleted.elements().iter().try_for_each(|element| element.error()).map_err(told)
}

fn client(bootstrap_servers: &str) -> std::result::Result<AdminClient<DefaultClientContext>, String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers).set("client.id", "karst/admin");
    config.create().map_err(|error| error.to_string())
}
