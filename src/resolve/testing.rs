//! A server on loopback that plays what it is told, good and bad, and keeps what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::digest;
use super::options::{Options, Retries, Sizes, Timeouts};
use crate::meta::ChecksumAlgorithm;

/// What is answered to a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Status, headers and body, well formed.
    Full(u16, Vec<(String, String)>, Vec<u8>),
    /// These bytes, and then the connection is closed.
    Raw(Vec<u8>),
    /// A head without length, and then bytes without end.
    Endless,
    /// A head, and then one byte now and then.
    Drip,
    /// Nothing at all.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Reply {
    pub(crate) fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).with("Content-Type", content_type).body(body)
    }

    pub(crate) fn status(status: u16) -> Self {
        Reply::Full(status, Vec::new(), Vec::new())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if let Reply::Full(_, headers, _) = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Reply::Full(_, _, body) = &mut self {
            *body = bytes.into();
        }
        self
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(307).with("Location", to)
    }
}

impl Server {
    /// A server that answers with `reply`, which is told the request and its number (from 0).
    pub(crate) async fn start<F>(reply: F) -> Self
    where
        F: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let reply = Arc::new(reply);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                tokio::spawn(async move { serve(stream, &log, &*reply).await });
            }
        });
        Self { host, asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// `METHOD target`, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.target)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F>(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, reply: &F)
where
    F: Fn(&Asked, usize) -> Reply,
{
    let Some(asked) = read(&mut stream).await else {
        return;
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    // A client that has seen enough hangs up: no failure of the server.
    let _ = play(&mut stream, reply(&asked, number)).await;
}

async fn play(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Full(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Played\r\nConnection: close\r\n");
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            head += &format!("Content-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await?,
        Reply::Endless => {
            stream.write_all(OPEN_HEAD).await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        Reply::Drip => {
            stream.write_all(OPEN_HEAD).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Silence => tokio::time::sleep(Duration::from_secs(60)).await,
    }
    stream.shutdown().await
}

const OPEN_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\
    Content-Type: application/vnd.oci.image.manifest.v1+json\r\n\r\n";

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, target) = (first.next()?, first.next()?);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok()?;
        body.extend_from_slice(&piece[..read]);
    }
    Some(Asked { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Options with little patience, small sizes, and a Docker config of their own.
pub(crate) fn options(docker_config: &std::path::Path) -> Options {
    Options {
        platform: Default::default(),
        docker_config: Some(docker_config.to_owned()),
        sizes: Sizes {
            manifest: 16 << 10,
            config: 8 << 10,
            attestation: 8 << 10,
            file: 64 << 10,
            git: 16 << 20,
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            idle: Duration::from_millis(600),
            total: Duration::from_millis(1500),
        },
        retries: Retries {
            count: 2,
            backoff: Duration::from_millis(5),
            patience: Duration::from_secs(2),
        },
        ..Options::default()
    }
}

/// A registry's content: what stands where, by path.
#[derive(Clone, Default)]
pub(crate) struct Store(pub BTreeMap<String, Reply>);

impl Store {
    /// Puts a document under its digest, and under a tag where one is given.
    pub(crate) fn document(&mut self, media_type: &str, tag: Option<&str>, body: &Value) -> Value {
        let bytes = serde_json::to_vec(body).unwrap();
        let digest = digest::of(ChecksumAlgorithm::Sha256, &bytes);
        let reply = Reply::ok(media_type, bytes.clone());
        for reference in [Some(digest.as_str()), tag].into_iter().flatten() {
            self.0.insert(format!("/v2/acme/app/manifests/{reference}"), reply.clone());
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Puts a blob.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest::of(ChecksumAlgorithm::Sha256, bytes);
        let reply = Reply::ok("application/octet-stream", bytes);
        self.0.insert(format!("/v2/acme/app/blobs/{digest}"), reply);
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// What stands at a path, or 404.
    pub(crate) fn get(&self, asked: &Asked) -> Reply {
        let path = asked.target.split('?').next().unwrap();
        self.0.get(path).cloned().unwrap_or(Reply::status(404))
    }
}
