//! What can be set about the server. Every limit has a default that a laptop survives.

use std::net::SocketAddr;

use karst::types::{ByteSize, TimeSpan};

use crate::{Error, Result};

/// The settings of the server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerSettings {
    /// Where to listen. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Whether [`ServerSettings::bind`] may be an address that other machines reach. There is no authentication yet, so this is
    /// for a trusted network, or behind a proxy that has it. Default: no.
    pub allow_remote: bool,
    /// Names by which a server on a loopback address may be called in the `Host` header, besides `localhost` and loopback
    /// addresses: a page in a browser cannot then reach it under a name of its own (DNS rebinding).
    pub allowed_hosts: Vec<String>,
    /// A longer body is refused with 413. Default 1 MiB.
    pub max_body: ByteSize,
    /// More outputs in one query are refused with 400. Default 1024.
    pub max_outputs: usize,
    /// More subscribers at a time are refused with 503. Default 64.
    pub max_subscribers: usize,
    /// A request whose body has not arrived by then is refused with 408. Default 5 s.
    pub request_timeout: TimeSpan,
    /// A connection whose headers have not arrived by then is closed. Default 5 s.
    pub header_timeout: TimeSpan,
    /// A connection without requests is closed after this. Default 60 s.
    pub keep_alive: TimeSpan,
    /// Connections per worker; more wait in the listener's backlog. Default 10,000.
    pub max_connections: usize,
    /// Threads that answer requests. Default 1: ingest shares the machine, and one answers tens of thousands per second.
    pub workers: usize,
    /// How long a graceful stop waits for requests under way. Default 5 s.
    pub stop_timeout: TimeSpan,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allow_remote: false,
            allowed_hosts: Vec::new(),
            max_body: ByteSize::mib(1),
            max_outputs: 1024,
            max_subscribers: 64,
            request_timeout: TimeSpan::from_secs(5),
            header_timeout: TimeSpan::from_secs(5),
            keep_alive: TimeSpan::from_secs(60),
            max_connections: 10_000,
            workers: 1,
            stop_timeout: TimeSpan::from_secs(5),
        }
    }
}

impl ServerSettings {
    /// The defaults, listening at `bind`.
    pub fn at(bind: SocketAddr) -> Self {
        Self { bind, ..Self::default() }
    }

    /// Everything that is wrong: the setting, and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, setting, problem: &str| {
            if !holds {
                problems.push((setting, problem.to_owned()));
            }
        };
        require(
            self.allow_remote || self.bind.ip().is_loopback(),
            "bind",
            "other machines can reach this address, and the server asks nobody who they are; \
             bind to 127.0.0.1, or set allow_remote = true on a network you trust",
        );
        require((1..=1 << 30).contains(&self.max_body.0), "max_body", "expected a size from 1B to 1GiB");
        require((1..=1 << 20).contains(&self.max_outputs), "max_outputs", "expected a number from 1 to 1048576");
        require(self.max_subscribers <= 1 << 16, "max_subscribers", "expected a number from 0 to 65536");
        require((1..=256).contains(&self.workers), "workers", "expected a number from 1 to 256");
        require((1..=1 << 20).contains(&self.max_connections), "max_connections", "expected a number from 1 to 1048576");
        for (setting, span) in [
            ("request_timeout", self.request_timeout),
            ("header_timeout", self.header_timeout),
            ("keep_alive", self.keep_alive),
            ("stop_timeout", self.stop_timeout),
        ] {
            let holds = span > TimeSpan::ZERO && span <= TimeSpan::from_secs(3600);
            require(holds, setting, "expected a duration above 0 and up to 1h");
        }
        problems
    }

    /// Whether the settings hold.
    ///
    /// # Errors
    /// [`Error::Settings`] with all problems.
    pub fn check(&self) -> Result<()> {
        match self.problems() {
            problems if problems.is_empty() => Ok(()),
            problems => {
                Err(Error::Settings { problems: problems.into_iter().map(|(name, why)| format!("{name}: {why}")).collect() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_a_word() {
        let mut settings = ServerSettings::at("0.0.0.0:8080".parse().unwrap());
        assert_eq!(settings.problems().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["bind"]);
        settings.allow_remote = true;
        assert_eq!(settings.problems(), []);
        assert_eq!(ServerSettings::at("[::1]:0".parse().unwrap()).problems(), []);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings =
            ServerSettings { workers: 0, max_body: ByteSize(0), keep_alive: TimeSpan::INFINITY, ..Default::default() };
        let names: Vec<_> = settings.problems().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["max_body", "workers", "keep_alive"]);
    }
}
