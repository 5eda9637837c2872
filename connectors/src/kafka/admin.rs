//! Making topics: for the demo and for tests. An engine never makes one.

use std::time::Duration;

use karst_types::Retry;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
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
    let client: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("client.id", "karst/admin")
        .create()
        .map_err(|error| failed(error.to_string()))?;
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
