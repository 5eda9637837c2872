//! A schema registry for tests: the few answers that a reader needs, on a port of its own, and as ill as the test wants it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

/// How the stub behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StubMode {
    /// It answers.
    Well,
    /// It closes every connection at once, as if it were not there.
    Down,
    /// It takes requests and never answers them.
    Silent,
    /// It answers with this status, and with words that are no registry's.
    Status(u16),
}

/// A schema registry on loopback; stopped when dropped.
pub struct StubRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    requests: AtomicU64,
    stopped: AtomicBool,
}

struct State {
    mode: StubMode,
    /// What requests must bring in `Authorization`.
    authorization: Option<String>,
    schemas: BTreeMap<u32, Json>,
    subjects: BTreeMap<(String, i64), Json>,
    /// Connections that wait for an answer.
    silent: Vec<TcpStream>,
}

impl StubRegistry {
    /// Starts one with a thread of its own.
    ///
    /// # Errors
    /// There is no port on loopback.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = State {
            mode: StubMode::Well,
            authorization: None,
            schemas: BTreeMap::new(),
            subjects: BTreeMap::new(),
            silent: Vec::new(),
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), requests: AtomicU64::new(0), stopped: AtomicBool::new(false) });
        let serving = Arc::clone(&shared);
        thread::Builder::new().name("stub-registry".into()).spawn(move || {
            for connection in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::Acquire) {
                    break;
                }
                let _ = serving.answer(connection); // a client that went away is its own business
            }
        })?;
        Ok(Self { address, shared })
    }
    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
    /// From now on it behaves like this.
    pub fn set_mode(&self, mode: StubMode) {
        self.shared.state.lock().mode = mode;
    }
    /// From now on it wants this value of `Authorization`.
    pub fn require(&self, authorization: &str) {
        self.shared.state.lock().authorization = Some(authorization.to_owned());
    }
    /// It has this schema; `kind` is `AVRO`, `PROTOBUF` or `JSON`, `references` are (name, subject, version).
    pub fn put(&self, id: u32, kind: &str, schema: &str, references: &[(&str, &str, i64)]) {
        let answer = json!({ "schema": schema, "schemaType": kind, "references": list(references) });
        self.shared.state.lock().schemas.insert(id, answer);
    }
    /// It has this version of a subject.
    pub fn put_version(&self, subject: &str, version: i64, schema: &str, references: &[(&str, &str, i64)]) {
        let answer = json!({ "schema": schema, "references": list(references) });
        self.shared.state.lock().subjects.insert((subject.to_owned(), version), answer);
    }
    /// It has the schema no more.
    pub fn delete(&self, id: u32) {
        self.shared.state.lock().schemas.remove(&id);
    }
    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }
}

fn list(references: &[(&str, &str, i64)]) -> Vec<Json> {
    let one = |(name, subject, version): &(&str, &str, i64)| json!({ "name": name, "subject": subject, "version": version });
    references.iter().map(one).collect()
}

impl Drop for StubRegistry {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // wakes the thread, which then ends
    }
}

impl Shared {
    fn answer(&self, mut connection: TcpStream) -> std::io::Result<()> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        match self.state.lock() {
            state if state.mode == StubMode::Down => return Ok(()),
            mut state if state.mode == StubMode::Silent => {
                state.silent.push(connection);
                return Ok(());
            }
            _ => {}
        }
        let mut lines = BufReader::new(connection.try_clone()?.take(64 << 10)).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut authorization = None;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = Some(value.trim().to_owned());
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (status, body) = self.respond(path, authorization.as_deref());
        write!(
            connection,
            "HTTP/1.1 {status} stub\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn respond(&self, path: &str, authorization: Option<&str>) -> (u16, String) {
        let state = self.state.lock();
        if let StubMode::Status(status) = state.mode {
            return (status, "<html>out of order</html>".to_owned());
        }
        if state.authorization.is_some() && state.authorization.as_deref() != authorization {
            return (401, json!({ "error_code": 401, "message": "Unauthorized" }).to_string());
        }
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let found = match segments[..] {
            ["schemas", "ids", id] => id.parse().ok().and_then(|id: u32| state.schemas.get(&id)),
            ["subjects", subject, "versions", version] => {
                version.parse().ok().and_then(|version| state.subjects.get(&(subject.to_owned(), version)))
            }
            _ => None,
        };
        match found {
            Some(answer) => (200, answer.to_string()),
            None => (404, json!({ "error_code": 40_403, "message": "Schema not found" }).to_string()),
        }
    }
}
