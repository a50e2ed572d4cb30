//! A small HTTP/1.1 server that remembers what it was asked. One request a connection; it answers
//! with whatever its handler says, right or wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A client that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`…
    pub method: String,
    /// Path without the query, as sent.
    pub path: String,
    /// Query without `?`; empty where there is none.
    pub query: String,
    /// Headers by lower-case name; of a repeated one the last.
    pub headers: BTreeMap<String, String>,
    /// The body, chunks put together.
    pub body: Vec<u8>,
}

/// What the server answers.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers; `Content-Length` is added where none is given.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A running server; it stops when it is dropped.
pub struct HttpServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves what `handler` answers.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let acceptor = std::thread::spawn({
            let (asked, stopping) = (asked.clone(), stopping.clone());
            move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (asked, handler) = (asked.clone(), handler.clone());
                    std::thread::spawn(move || serve(stream, &asked, &*handler));
                }
            }
        });
        Self { address, asked, stopping, acceptor: Some(acceptor) }
    }

    /// Serves `files` by path; everything else is 404.
    pub fn files(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let files: BTreeMap<&str, Vec<u8>> = files.into_iter().collect();
        Self::start(move |request| match files.get(request.path.as_str()) {
            Some(body) => Response::ok(body.clone()),
            None => Response::status(404),
        })
    }

    /// `http://host:port` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far, in order of arrival.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // A connection of our own wakes the acceptor up.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Answers one connection. A client that goes away early is its own business.
fn serve(stream: TcpStream, asked: &Mutex<Vec<Request>>, handler: &Handler) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut reader = BufReader::new(stream);
    let Ok(request) = read_request(&mut reader) else {
        return;
    };
    asked.lock().unwrap().push(request.clone());
    let response = handler(&request);
    let _ = write_response(reader.get_mut(), &request, &response);
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let line = read_line(reader)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(std::io::ErrorKind::InvalidData.into());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.get("expect").is_some_and(|e| e == "100-continue") {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = read_body(reader, &headers)?;
    Ok(Request { method: method.into(), path: path.into(), query: query.into(), headers, body })
}

fn read_body(
    reader: &mut BufReader<TcpStream>,
    headers: &BTreeMap<String, String>,
) -> std::io::Result<Vec<u8>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|e| e == "chunked") {
        loop {
            let size = usize::from_str_radix(&read_line(reader)?, 16).map_err(|_| invalid())?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk)?;
            body.append(&mut chunk);
            read_line(reader)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().map_err(|_| invalid())?, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(body)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn write_response(
    stream: &mut TcpStream,
    request: &Request,
    response: &Response,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed = ["content-length", "transfer-encoding"];
    let is_framed = |name: &str| framed.contains(&name.to_ascii_lowercase().as_str());
    if !response.headers.iter().any(|(name, _)| is_framed(name)) {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&response.body)?;
    }
    stream.flush()
}
