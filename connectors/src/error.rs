//! What can go wrong with a source, sorted by what the caller can do about it.
//!
//! Messages name the source, the position, what was expected and what was found. Secrets and payloads never appear in them.

use karst_types::{Domain, Offset, PartitionId, Position, Retry, SourceName};

/// See [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a source could not do what was asked of it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The declaration is wrong. All problems at once.
    #[error("source \"{name}\" is not configured correctly:{}", list(.problems))]
    Config {
        /// The source.
        name: SourceName,
        /// One sentence each.
        problems: Vec<String>,
    },
    /// The records from here on have been deleted: retention was faster than we were.
    #[error(
        "records are missing: {position} is wanted, but the log of that partition now starts at {low}; records from {} up to {} \
         are gone and cannot be applied; hint: bring the log back and restart karst, or accept the loss: \
         karst source accept-gap {} --partition {}", .position.offset, .low.0 - 1, .position.source, .position.partition
    )]
    SourceGap {
        /// What was wanted.
        position: Position,
        /// The first offset that is still there.
        low: Offset,
    },
    /// The log is shorter than what was already read: it was deleted and made anew, or truncated.
    #[error(
        "the log went backwards: {position} is wanted, but the log of that partition ends at {high}; the topic or file was \
         deleted and made anew, or truncated; hint: bring the log back, or, if it is a new log, give the source another name, or begin \
         with an empty state directory: then it is read by its start setting"
    )]
    SourceRegressed {
        /// What was wanted.
        position: Position,
        /// The offset that will be written next.
        high: Offset,
    },
    /// At a place that was applied stands another record: the log was deleted and made anew, or another one has its name.
    #[error(
        "the log is another one: at {position} stands another record than the one that was applied; the topic or file was deleted and \
         made anew; hint: bring the old log back and restart karst, or, if the new one is meant, give the source another name, or begin \
         with an empty state directory: then it is read by its start setting"
    )]
    SourceDiverged {
        /// The record that was compared, the last one that is known to be applied everywhere.
        position: Position,
    },
    /// There is no such partition.
    #[error("source \"{name}\" has no partition {partition}; it has {known}")]
    UnknownPartition {
        /// The source.
        name: SourceName,
        /// What was asked for.
        partition: PartitionId,
        /// Number of its partitions.
        known: usize,
    },
    /// The topic does not exist (yet).
    #[error(
        "topic \"{topic}\" of source \"{name}\" does not exist at {brokers}; create it, or correct .topic(…): it is looked for \
         again and again"
    )]
    UnknownTopic {
        /// The source.
        name: SourceName,
        /// The topic.
        topic: String,
        /// Where it was looked for.
        brokers: String,
    },
    /// No broker answers.
    #[error("source \"{name}\": broker {brokers} cannot be reached: {why}")]
    BrokerUnreachable {
        /// The source.
        name: SourceName,
        /// The bootstrap servers.
        brokers: String,
        /// What the client says.
        why: String,
    },
    /// A broker answered with an error that is about this partition or this client.
    #[error("source \"{name}\" partition {partition}: the broker refuses to serve it: {why} ({code})")]
    Broker {
        /// The source.
        name: SourceName,
        /// The partition.
        partition: PartitionId,
        /// The stable name of the error, such as `TOPIC_AUTHORIZATION_FAILED`.
        code: String,
        /// In words.
        why: String,
    },
    /// A file cannot be read.
    #[error("source \"{name}\" cannot read {path}: {why}")]
    Unreadable {
        /// The source.
        name: SourceName,
        /// The file.
        path: String,
        /// What the system says.
        why: String,
    },
    /// Another reader of this partition was made; this one is done.
    #[error("the reader of source \"{name}\" partition {partition} was replaced by a newer one")]
    ReaderReplaced {
        /// The source.
        name: SourceName,
        /// The partition.
        partition: PartitionId,
    },
    /// [`PartitionReader::next`](crate::PartitionReader::next) before the first [`seek`](crate::PartitionReader::seek).
    #[error("the reader of source \"{name}\" partition {partition} was asked for records before seek() told it where to start")]
    NotStarted {
        /// The source.
        name: SourceName,
        /// The partition.
        partition: PartitionId,
    },
    /// The source has been stopped.
    #[error("source \"{name}\" has been stopped")]
    Stopped {
        /// The source.
        name: SourceName,
    },
    /// A record could not be sent (producer of the demo and the tests; memory source).
    #[error("could not send a record to {to}: {why}")]
    Send {
        /// Topic or source.
        to: String,
        /// What the client says.
        why: String,
        /// Whether to try again.
        retry: Retry,
    },
}

impl Error {
    /// Who is at fault.
    pub fn domain(&self) -> Domain {
        match self {
            Self::Config { .. } | Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => Domain::User,
            Self::ReaderReplaced { .. } | Self::NotStarted { .. } => Domain::Internal,
            _ => Domain::External,
        }
    }

    /// Whether it is for a person to decide how to go on: going on would be a guess.
    pub fn needs_a_decision(&self) -> bool {
        matches!(self, Self::SourceGap { .. } | Self::SourceRegressed { .. } | Self::SourceDiverged { .. })
    }

    /// Whether a later try may work. A gap or a regression needs a person: data is gone.
    pub fn retry(&self) -> Retry {
        match self {
            Self::UnknownTopic { .. } | Self::BrokerUnreachable { .. } | Self::Broker { .. } | Self::Unreadable { .. } => {
                Retry::Backoff
            }
            Self::Send { retry, .. } => *retry,
            _ => Retry::Never,
        }
    }
}

fn list(problems: &[String]) -> String {
    match problems {
        [only] => format!(" {only}"),
        many => many.iter().map(|problem| format!("\n  - {problem}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_what_was_expected_and_what_to_do() {
        let position = Position { source: "clicks".into(), partition: PartitionId(3), offset: Offset(7) };
        let gap = Error::SourceGap { position, low: Offset(10) };
        assert_eq!(
            gap.to_string(),
            "records are missing: clicks[3]@7 is wanted, but the log of that partition now starts at 10; records from 7 up to 9 are \
             gone and cannot be applied; hint: bring the log back and restart karst, or accept the loss: \
             karst source accept-gap clicks --partition 3"
        );
        let position = Position { source: "clicks".into(), partition: PartitionId(3), offset: Offset(7) };
        let regressed = Error::SourceRegressed { position, high: Offset(2) }.to_string();
        assert!(
            regressed.contains("clicks[3]@7") && regressed.contains("ends at 2") && regressed.contains("hint: "),
            "{regressed}"
        );
        assert_eq!((gap.domain(), gap.retry()), (Domain::External, Retry::Never));
        let one = Error::Config { name: "clicks".into(), problems: vec!["no topic".into()] };
        assert_eq!(one.to_string(), "source \"clicks\" is not configured correctly: no topic");
        let two = Error::Config { name: "clicks".into(), problems: vec!["a".into(), "b".into()] };
        assert_eq!(two.to_string(), "source \"clicks\" is not configured correctly:\n  - a\n  - b");
    }
}
