//! What of a client's request is looked into, read without decoding the rest.
//!
//! Two bytes of a message can decode to a hundred of memory, and a message has 16 MiB: of LLB and of static
//! rules, which are most of an honest one, nothing is kept but the bytes they came in, and of what is
//! decoded there are only so many elements.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::proto::{control, gateway};
use super::raw::{self, Part, RawError};

/// Most options, entitlements, inputs and caches of one request, their attributes counted too. Large ones
/// have some hundreds.
pub const MAX_ELEMENTS: usize = 10_000;
/// Most bytes of a request for metadata, besides static rules.
pub const MAX_METADATA: usize = 1 << 20;
/// Attribute of an image: what it is loaded as. Frontends are `frontend`.
pub const RECORD_TYPE: &str = "image.recordtype";

/// The value of a map's entry.
const VALUE: u32 = 2;
/// The key of a map's entry.
const KEY: u32 = 1;
/// `sourcepolicy.Policy.rules`.
const RULES: u32 = 2;
/// `sourcepolicy.Rule.action`.
const ACTION: u32 = 1;
/// `sourcepolicy.Rule.updates`.
const UPDATES: u32 = 3;
/// `sourcepolicy.Update.attrs`, a map.
const ATTRS: u32 = 2;
/// `ALLOW` and `DENY`; what a later daemon may have added counts as what puts others in place.
const JUDGING: std::ops::RangeInclusive<u64> = 0..=1;

/// A request that cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is no message.
    #[error(transparent)]
    Malformed(#[from] RawError),
    /// It is not the message that its method takes.
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    /// A field is not of its type.
    #[error("field {0} is not of its type")]
    Type(u32),
    /// More than is looked into.
    #[error("it has more than {MAX_ELEMENTS} options, inputs, entitlements and caches")]
    TooMany,
    /// More than is looked into.
    #[error("it has {0} bytes besides static rules, more than {MAX_METADATA}")]
    TooLarge(usize),
}

/// What is looked into of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked<T> {
    /// The request without LLB, static rules, and what is passed on unread.
    pub request: T,
    /// Its LLB: the definition, and those of its inputs.
    pub definitions: Vec<Bytes>,
    /// Its static rules.
    pub rules: Rules,
}

/// What static rules could do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// There are some.
    pub any: bool,
    /// One puts something in place of a source.
    pub converts: bool,
    /// One says what an image is loaded as.
    pub renames: bool,
}

/// Where a request has what.
struct Layout {
    /// A definition, in parts or whole.
    definition: u32,
    /// Inputs: a map of definitions.
    inputs: u32,
    /// Static rules.
    rules: u32,
    /// What is decoded, and how deep in it elements are.
    decoded: &'static [(u32, u8)],
}

/// `moby.buildkit.v1.SolveRequest`: reference, session, frontend, its options, caches, entitlements, and the
/// policy session.
const CONTROL: Layout = Layout {
    definition: 2,
    inputs: 10,
    rules: 12,
    decoded: &[(1, 0), (5, 0), (6, 0), (7, 0), (8, 2), (9, 0), (15, 0)],
};
/// `moby.buildkit.v1.frontend.SolveRequest`: frontend, its options, caches.
const GATEWAY: Layout =
    Layout { definition: 1, inputs: 13, rules: 15, decoded: &[(2, 0), (3, 0), (12, 1)] };
/// `moby.buildkit.v1.frontend.ResolveSourceMetaRequest.SourcePolicies`.
const METADATA_RULES: u32 = 8;

/// Looks into a `Control/Solve`.
///
/// # Errors
/// When it cannot be.
pub fn control(message: &Bytes) -> Result<Looked<control::SolveRequest>, RequestError> {
    look(message, &CONTROL)
}

/// Looks into a `Solve` of the gateway.
///
/// # Errors
/// When it cannot be.
pub fn gateway(message: &Bytes) -> Result<Looked<gateway::SolveRequest>, RequestError> {
    look(message, &GATEWAY)
}

/// Looks into a request for metadata.
///
/// # Errors
/// When it cannot be.
pub fn metadata(
    message: &Bytes,
) -> Result<Looked<gateway::ResolveSourceMetaRequest>, RequestError> {
    let mut rules = Rules::default();
    let mut decoded = BytesMut::new();
    for part in raw::each(message) {
        let part = part?;
        match part.number {
            METADATA_RULES => rules.read(content(part)?)?,
            _ => decoded.put_slice(part.whole),
        }
        if decoded.len() > MAX_METADATA {
            return Err(RequestError::TooLarge(decoded.len()));
        }
    }
    let request = gateway::ResolveSourceMetaRequest::decode(decoded)?;
    Ok(Looked { request, definitions: Vec::new(), rules })
}

fn look<T: Message + Default>(message: &Bytes, at: &Layout) -> Result<Looked<T>, RequestError> {
    let mut decoded = BytesMut::new();
    let (mut definition, mut definitions) = (Merged::default(), Vec::new());
    let (mut rules, mut room) = (Rules::default(), MAX_ELEMENTS);
    for part in raw::each(message) {
        let part = part?;
        if part.number == at.definition {
            definition.add(message, content(part)?);
        } else if part.number == at.inputs {
            take(&mut room)?;
            definitions.push(input(message, content(part)?)?);
        } else if part.number == at.rules {
            rules.read(content(part)?)?;
        } else if let Some((_, depth)) = at.decoded.iter().find(|(it, _)| *it == part.number) {
            take(&mut room)?;
            elements(part.content.unwrap_or_default(), *depth, &mut room)?;
            decoded.put_slice(part.whole);
        }
    }
    definitions.extend(definition.whole());
    Ok(Looked { request: T::decode(decoded)?, definitions, rules })
}

/// The definition of an input.
fn input(message: &Bytes, entry: &[u8]) -> Result<Bytes, RequestError> {
    let mut definition = Merged::default();
    for part in self::entry(entry) {
        let (number, content) = part?;
        if number == VALUE {
            definition.add(message, content);
        }
    }
    Ok(definition.whole().unwrap_or_default())
}

/// The key and the value of a map's entry. The daemon's decoder takes fields 1 and 2 for them whatever type they
/// say they are of, and reads on behind them: so what is not plainly one of the two is refused.
fn entry(entry: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), RequestError>> {
    raw::each(entry).map(|part| {
        let part = part?;
        match part.number {
            KEY | VALUE => Ok((part.number, content(part)?)),
            other => Err(RequestError::Type(other)),
        }
    })
}

/// What a field holds that must hold a message.
fn content(part: Part<'_>) -> Result<&[u8], RequestError> {
    part.content.ok_or(RequestError::Type(part.number))
}

fn take(room: &mut usize) -> Result<(), RequestError> {
    *room = room.checked_sub(1).ok_or(RequestError::TooMany)?;
    Ok(())
}

/// Counts what a message holds, and so deep in it. Text that happens to look like fields counts as well.
fn elements(message: &[u8], depth: u8, room: &mut usize) -> Result<(), RequestError> {
    let Some(deeper) = depth.checked_sub(1) else { return Ok(()) };
    // What is no field is for its decoder to refuse.
    for part in raw::each(message).map_while(Result::ok) {
        take(room)?;
        elements(part.content.unwrap_or_default(), deeper, room)?;
    }
    Ok(())
}

/// A message that may come in parts, which are one after the other what a peer merges them into.
#[derive(Default)]
struct Merged {
    first: Option<Bytes>,
    all: BytesMut,
}

impl Merged {
    fn add(&mut self, message: &Bytes, part: &[u8]) {
        match &self.first {
            None => self.first = Some(message.slice_ref(part)),
            Some(first) => {
                if self.all.is_empty() {
                    self.all.put_slice(first);
                }
                self.all.put_slice(part);
            }
        }
    }

    fn whole(self) -> Option<Bytes> {
        if self.all.is_empty() { self.first } else { Some(self.all.freeze()) }
    }
}

impl Rules {
    /// Reads a `Policy`.
    fn read(&mut self, policy: &[u8]) -> Result<(), RequestError> {
        self.any = true;
        for part in raw::each(policy) {
            let part = part?;
            if part.number == RULES {
                self.rule(content(part)?)?;
            }
        }
        Ok(())
    }

    fn rule(&mut self, rule: &[u8]) -> Result<(), RequestError> {
        for part in raw::each(rule) {
            let part = part?;
            match part.number {
                ACTION => {
                    let action = part.varint().ok_or(RequestError::Type(ACTION))?;
                    self.converts |= !JUDGING.contains(&action);
                }
                UPDATES => self.updates(content(part)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn updates(&mut self, updates: &[u8]) -> Result<(), RequestError> {
        for part in raw::each(updates) {
            let part = part?;
            if part.number != ATTRS {
                continue;
            }
            for part in entry(content(part)?) {
                let (number, content) = part?;
                self.renames |= number == KEY && content == RECORD_TYPE.as_bytes();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
