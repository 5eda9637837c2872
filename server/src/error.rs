//! Why the server does not start or stop. What goes wrong in a request is [`Fault`](crate::wire::Fault).

use std::{io, net::SocketAddr};

use karst::types::{Domain, Retry};

/// The server's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings do not hold.
    #[error("the server's settings do not hold: {}", .problems.join("; "))]
    Settings {
        /// All that is wrong, a sentence each.
        problems: Vec<String>,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server's thread cannot be started, or ended while it started.
    #[error("the server's thread did not start: {0}")]
    Thread(String),
    /// Another metrics recorder is installed in this process, so that `/metrics` would stay empty.
    #[error("another metrics recorder is installed in this process: {0}")]
    Recorder(String),
}

impl Error {
    /// Whose fault it is.
    pub const fn domain(&self) -> Domain {
        match self {
            Self::Settings { .. } | Self::Bind { .. } | Self::Recorder(_) => Domain::User,
            Self::Thread(_) => Domain::Internal,
        }
    }
    /// Whether trying again may help.
    pub const fn retry(&self) -> Retry {
        Retry::Never
    }
    /// What would help.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                format!(
                    "something else listens at port {}: stop it, or choose another port (0 takes a free one)",
                    address.port()
                )
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                "the address is none of this machine's".to_owned()
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 belong to root; choose a higher one".to_owned()
            }
            Self::Recorder(_) => "install Karst's recorder first: karst_server::install_metrics()".to_owned(),
            _ => return None,
        })
    }
}
