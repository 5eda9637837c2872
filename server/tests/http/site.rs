//! An engine and its server on a port of their own, and a client that shows every byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use karst::Engine;
use karst_server::{RunningServer, ServerSettings, install_metrics, serve};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Stopped when it is dropped; the state goes with it, unless it is [closed](Site::close).
pub(crate) struct Site {
    pub(crate) runtime: Runtime,
    pub(crate) engine: Option<Engine>,
    pub(crate) server: Option<RunningServer>,
    pub(crate) address: SocketAddr,
    dir: Option<TempDir>,
}

impl Site {
    /// The server of the engine that `start` starts in a directory.
    pub(crate) fn over(
        dir: TempDir,
        change: impl FnOnce(ServerSettings) -> ServerSettings,
        start: impl AsyncFnOnce(&Path) -> Engine,
    ) -> Self {
        install_metrics().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = change(ServerSettings::at("127.0.0.1:0".parse().unwrap()));
        let (engine, server) = runtime.block_on(async {
            let engine = start(dir.path()).await;
            let server = serve(engine.handle(), settings).await.unwrap();
            (engine, server)
        });
        Self { runtime, engine: Some(engine), address: server.address(), server: Some(server), dir: Some(dir) }
    }

    /// Waits until the engine has done all that there is to do.
    pub(crate) fn drain(&self) {
        self.runtime.block_on(self.engine.as_ref().unwrap().drain()).unwrap();
    }

    /// Stops it, and hands back the directory.
    pub(crate) fn close(mut self) -> TempDir {
        self.dir.take().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let (engine, server) = (self.engine.take(), self.server.take());
        self.runtime.block_on(async {
            // In the order of `karst run`.
            if let Some(engine) = engine {
                engine.shutdown().await.unwrap();
            }
            if let Some(server) = server {
                server.stop().await;
            }
        });
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn read(stream: &TcpStream) -> Reply {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let from = head.len();
        reader.read_line(&mut head).unwrap();
        if head[from..].trim().is_empty() {
            break;
        }
    }
    let header =
        |name: &str| head.lines().find_map(|line| line.to_lowercase().strip_prefix(name).map(|rest| rest.trim().to_owned()));
    let length: usize = header("content-length:").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: String::from_utf8(body).unwrap() }
}

impl Site {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
    pub(crate) fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read(&stream)
    }
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
    pub(crate) fn post(&self, body: &str) -> Reply {
        self.send(&format!("{}{body}", post_head(body.len())))
    }
    pub(crate) fn post_to(&self, path: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"))
    }
    pub(crate) fn query(&self, body: Json) -> Reply {
        self.post(&body.to_string())
    }
}

pub(crate) fn post_head(length: usize) -> String {
    format!("POST /v1/query/online HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}
