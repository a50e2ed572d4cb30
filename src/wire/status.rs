//! A denial as stock clients print it: the daemon's own message, the policy's reasons, the lines of
//! the Dockerfile.
//!
//! Details of a gRPC status are protobuf `Any`s by form, but BuildKit's hold JSON.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use regex::Regex;
use serde_json::{Map, Value, json};
use tonic::Code;

use super::proto::{errdefs, pb, rpc};

/// Type of the detail that holds the reasons: clients print `Policy: <message>` for each.
pub const DECISION_TYPE: &str = "github.com/moby/buildkit/policysession.DecisionResponse+json";

/// Type of the detail that holds lines of a source file: clients print them with an arrow.
pub const SOURCE_TYPE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// A denial of the source `identifier`, for these reasons, at these lines.
///
/// Code and message are those of a daemon that denies; clients tell a denial by the message.
#[must_use]
pub fn denial(identifier: &str, messages: &[String], lines: &[errdefs::Source]) -> tonic::Status {
    worded(denial_message(identifier), messages, lines)
}

/// The call in which a daemon comes to deny a source, which it says before all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// `ResolveSourceMeta` and `ResolveImageConfig`.
    Metadata,
    /// `Solve`, while it reads the LLB.
    Solve,
}

/// The same as the daemon answers it to the call of a frontend.
#[must_use]
pub fn denial_in(
    call: Denied,
    identifier: &str,
    messages: &[String],
    lines: &[errdefs::Source],
) -> tonic::Status {
    let first = match call {
        Denied::Metadata => "could not resolve image due to policy",
        Denied::Solve => "failed to load LLB: error evaluating the source policy",
    };
    worded(format!("{first}: {}", denial_message(identifier)), messages, lines)
}

fn worded(message: String, messages: &[String], lines: &[errdefs::Source]) -> tonic::Status {
    let code = Code::Unknown;
    let reasons = (!messages.is_empty()).then(|| decision_detail(messages));
    let details = reasons.into_iter().chain(lines.iter().map(source_detail)).collect();
    let status = rpc::Status { code: code as i32, message: message.clone(), details };
    tonic::Status::with_details(code, message, status.encode_to_vec().into())
}

/// The words of a daemon that denies `identifier`.
#[must_use]
pub fn denial_message(identifier: &str) -> String {
    format!("source {} not allowed by policy: action DENY", quoted(identifier))
}

/// The reasons of a denial as a typed detail.
#[must_use]
pub fn decision_detail(messages: &[String]) -> Any {
    let messages: Vec<_> = messages.iter().map(|message| json!({ "message": message })).collect();
    detail(DECISION_TYPE, &json!({ "action": "DENY", "denyMessages": messages }))
}

/// Lines of a source file as a typed detail.
#[must_use]
pub fn source_detail(lines: &errdefs::Source) -> Any {
    let errdefs::Source { info, ranges } = lines;
    let mut body = Map::new();
    if let Some(info) = info {
        body.insert("info".into(), source_info(info));
    }
    if !ranges.is_empty() {
        body.insert("ranges".into(), ranges.iter().map(range).collect());
    }
    detail(SOURCE_TYPE, &Value::Object(body))
}

/// The typed details of a status that a peer answered with.
///
/// # Errors
/// When they are no `google.rpc.Status`.
pub fn details(status: &tonic::Status) -> Result<Vec<Any>, prost::DecodeError> {
    let body = Bytes::copy_from_slice(status.details());
    let rpc::Status { code: _, message: _, details } = rpc::Status::decode(body)?;
    Ok(details)
}

fn detail(type_url: &str, body: &Value) -> Any {
    Any { type_url: type_url.to_owned(), value: body.to_string().into_bytes() }
}

fn source_info(info: &pb::SourceInfo) -> Value {
    // The definition that the file was read from is of no use to whoever prints it.
    let pb::SourceInfo { filename, data, definition: _, language } = info;
    let mut body = Map::new();
    for (name, value) in
        [("filename", filename), ("data", &BASE64.encode(data)), ("language", language)]
    {
        if !value.is_empty() {
            body.insert(name.into(), value.as_str().into());
        }
    }
    Value::Object(body)
}

fn range(range: &pb::Range) -> Value {
    let pb::Range { start, end } = *range;
    // Clients dereference both ends.
    json!({ "start": position(start), "end": position(end) })
}

fn position(position: Option<pb::Position>) -> Value {
    let pb::Position { line, character } = position.unwrap_or_default();
    let mut body = Map::new();
    for (name, value) in [("line", line), ("character", character)] {
        if value != 0 {
            body.insert(name.into(), value.into());
        }
    }
    Value::Object(body)
}

/// What Go prints as it is: letters, marks, numbers, punctuation, symbols, and the plain space.
static PRINTABLE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$").ok());

/// A Go string literal (`%q`): clients search for the message with it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn is_printable(c: char) -> bool {
    let mut buffer = [0; 4];
    PRINTABLE.as_ref().is_some_and(|printable| printable.is_match(c.encode_utf8(&mut buffer)))
}
