//! Changing a message without losing what we do not know of it.
//!
//! A message that is decoded and encoded again loses the fields of newer peers. So it stays bytes,
//! and a field is set by appending its encoding: of a scalar field the last value wins, and to a
//! repeated field the appended value is one more element. (A single submessage would be merged
//! with the one before it: not for this.)
//!
//! What is appended to must be whole. Behind a message whose last field is cut off, the appended
//! bytes would count as that field's content, and the peer would see a valid message without them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

/// Number of a field that we set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(u32);

impl Field {
    /// `moby.buildkit.v1.SolveRequest.Ref`, a string.
    pub const CONTROL_SOLVE_REF: Self = Self(1);
    /// `moby.buildkit.v1.SolveRequest.Session`, a string.
    pub const CONTROL_SOLVE_SESSION: Self = Self(5);
    /// `moby.buildkit.v1.StatusRequest.Ref` and `UpdateBuildHistoryRequest.Ref`, strings.
    pub const CONTROL_STATUS_REF: Self = Self(1);
    /// `moby.buildkit.v1.BuildHistoryRequest.Ref`, a string.
    pub const CONTROL_HISTORY_REF: Self = Self(2);
    /// `moby.buildkit.v1.SolveRequest.Definition`, a message.
    pub const CONTROL_SOLVE_DEFINITION: Self = Self(2);
    /// `moby.buildkit.v1.SolveRequest.FrontendInputs`, a map of messages.
    pub const CONTROL_SOLVE_FRONTEND_INPUTS: Self = Self(10);
    /// `moby.buildkit.v1.SolveRequest.SourcePolicySession`, a string.
    pub const CONTROL_SOLVE_SOURCE_POLICY_SESSION: Self = Self(15);
    /// `moby.buildkit.v1.SolveRequest.FrontendAttrs`, a map: its last entry of a name wins.
    pub const CONTROL_SOLVE_FRONTEND_ATTRS: Self = Self(7);
    /// `moby.buildkit.v1.SolveRequest.Cache`, a message.
    pub const CONTROL_SOLVE_CACHE: Self = Self(8);
    /// `moby.buildkit.v1.SolveRequest.ProxyNetwork`, a bool.
    pub const CONTROL_SOLVE_PROXY_NETWORK: Self = Self(17);
    /// `moby.buildkit.v1.CacheOptions.ImportRefsDeprecated`, repeated.
    pub const CACHE_IMPORT_REFS: Self = Self(2);
    /// `moby.buildkit.v1.CacheOptions.Imports`, repeated.
    pub const CACHE_IMPORTS: Self = Self(5);
    /// `moby.buildkit.v1.frontend.SolveRequest.Definition`, a message.
    pub const GATEWAY_SOLVE_DEFINITION: Self = Self(1);
    /// `moby.buildkit.v1.frontend.SolveRequest.FrontendInputs`, a map of messages.
    pub const GATEWAY_SOLVE_FRONTEND_INPUTS: Self = Self(13);
    /// `moby.buildkit.v1.frontend.SolveRequest.FrontendOpt`, a map.
    pub const GATEWAY_SOLVE_FRONTEND_OPT: Self = Self(3);
    /// `moby.buildkit.v1.frontend.SolveRequest.CacheImports`, repeated.
    pub const GATEWAY_SOLVE_CACHE_IMPORTS: Self = Self(12);
    /// `moby.buildkit.v1.frontend.ResolveSourceMetaRequest.Source`, a message.
    pub const GATEWAY_RESOLVE_SOURCE: Self = Self(1);
    /// `moby.buildkit.v1.frontend.ResolveImageConfigRequest.Ref`, a string.
    pub const GATEWAY_RESOLVE_REF: Self = Self(1);
    /// `moby.buildkit.v1.frontend.ResolveSourceMetaRequest.SourcePolicies`, repeated.
    pub const GATEWAY_RESOLVE_SOURCE_POLICIES: Self = Self(8);
    /// `moby.buildkit.v1.frontend.ResolveImageConfigRequest.SourcePolicies`, repeated.
    pub const GATEWAY_CONFIG_SOURCE_POLICIES: Self = Self(8);
    /// `moby.buildkit.v1.frontend.SolveRequest.SourcePolicies`, repeated.
    pub const GATEWAY_SOLVE_SOURCE_POLICIES: Self = Self(15);
}

impl Field {
    /// The last value of this field in a message, where it is text and not empty. Whatever is wrong
    /// with the message is for its reader to say.
    #[must_use]
    pub fn string_in(self, message: &Bytes) -> Option<String> {
        let mut last = None;
        for part in each(message) {
            let part = part.ok()?;
            if part.number == self.0 {
                last = part.content;
            }
        }
        String::from_utf8(last?.to_vec()).ok().filter(|text| !text.is_empty())
    }
}

/// Most fields of a message that are kept at once, as [`fields`] does. Whoever looks at messages of
/// anybody takes them [one by one](each).
pub const MAX_FIELDS: usize = 100_000;

/// Bytes that are no protobuf message, or too much of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// They are none.
    #[error("not a whole protobuf message (at byte {offset})")]
    Cut {
        /// Where the field starts that cannot be read.
        offset: usize,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
    /// More than [`MAX_FIELDS`].
    #[error("a message has more than {MAX_FIELDS} fields")]
    TooMany,
}

/// One field of a message as its peer encoded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'m> {
    /// Its number.
    pub number: u32,
    /// All of it, key included.
    pub whole: &'m [u8],
    /// What it holds, where it is of a type with a length: text, bytes, or a message.
    pub content: Option<&'m [u8]>,
}

impl Part<'_> {
    /// Its value, where it is a varint.
    #[must_use]
    pub fn varint(&self) -> Option<u64> {
        let mut rest = self.whole;
        match decode_key(&mut rest) {
            Ok((_, WireType::Varint)) => decode_varint(&mut rest).ok(),
            Ok(_) | Err(_) => None,
        }
    }
}

/// The fields of a message, in the order they stand in. Nothing is kept of them; what is no field is the
/// last that comes.
#[derive(Clone, Debug)]
pub struct Each<'m> {
    length: usize,
    rest: &'m [u8],
}

/// Takes a message apart, one field after the other.
#[must_use]
pub fn each(message: &[u8]) -> Each<'_> {
    Each { length: message.len(), rest: message }
}

impl<'m> Each<'m> {
    fn part(&mut self) -> Result<Part<'m>, RawError> {
        let all = self.rest;
        let offset = self.length - all.len();
        let wrong = |source| RawError::Cut { offset, source };
        let (number, wire_type) = decode_key(&mut self.rest).map_err(wrong)?;
        let mut value = self.rest;
        skip_field(wire_type, number, &mut self.rest, DecodeContext::default()).map_err(wrong)?;
        let end = all.len() - self.rest.len();
        let content = match wire_type {
            WireType::LengthDelimited => {
                value = value.get(..value.len() - self.rest.len()).unwrap_or_default();
                decode_varint(&mut value).map_err(wrong)?;
                Some(value)
            }
            WireType::Varint
            | WireType::SixtyFourBit
            | WireType::ThirtyTwoBit
            | WireType::StartGroup
            | WireType::EndGroup => None,
        };
        Ok(Part { number, whole: all.get(..end).unwrap_or_default(), content })
    }
}

impl<'m> Iterator for Each<'m> {
    type Item = Result<Part<'m>, RawError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.rest = &[];
        }
        Some(part)
    }
}

/// One field of a message, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawField {
    /// Its number.
    pub number: u32,
    /// All of it, key included.
    pub whole: Bytes,
    /// What it holds, where it is of a type with a length: text, bytes, or a message.
    pub content: Option<Bytes>,
}

/// Takes a message apart into its fields, in the order they stand in.
///
/// # Errors
/// When it is cut off or no message at all, or has more than [`MAX_FIELDS`].
pub fn fields(message: &Bytes) -> Result<Vec<RawField>, RawError> {
    let mut found = Vec::new();
    for part in each(message) {
        let Part { number, whole, content } = part?;
        if found.len() == MAX_FIELDS {
            return Err(RawError::TooMany);
        }
        let (whole, content) = (message.slice_ref(whole), content.map(|it| message.slice_ref(it)));
        found.push(RawField { number, whole, content });
    }
    Ok(found)
}

/// Appends a field that has a length: text, bytes, or a message.
pub fn put(into: &mut BytesMut, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(content.len() as u64, into);
    into.put_slice(content);
}

/// A message as its peer encoded it, known to be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage(BytesMut);

impl RawMessage {
    /// Looks through the fields of `message`, whatever they are.
    ///
    /// # Errors
    /// When it is cut off or no message at all.
    pub fn parse(message: Bytes) -> Result<Self, RawError> {
        each(&message).try_for_each(|part| part.map(|_| ()))?;
        Ok(Self(message.into()))
    }

    /// Sets a scalar field of a varint type (`bool`, `int32`, `uint64`, an enum).
    pub fn append_varint_field(&mut self, field: Field, value: u64) {
        encode_key(field.0, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
    }

    /// Sets a `string` or `bytes` field, or adds one element to a repeated one (a message too).
    pub fn append_bytes_field(&mut self, field: Field, value: &[u8]) {
        encode_key(field.0, WireType::LengthDelimited, &mut self.0);
        encode_varint(value.len() as u64, &mut self.0);
        self.0.put_slice(value);
    }

    /// Puts `value` in place of a submessage (or `string`), wherever it stands.
    ///
    /// # Errors
    /// As [`RawMessage::parse`].
    pub fn replace_bytes_field(&mut self, field: Field, value: &[u8]) -> Result<(), RawError> {
        self.take(field)?;
        self.append_bytes_field(field, value);
        Ok(())
    }

    /// Adds an entry to a `map<string, string>`. It stands in place of an earlier one of its name.
    pub fn append_map_entry(&mut self, field: Field, name: &str, value: &str) {
        let mut entry = Self(BytesMut::new());
        entry.append_bytes_field(Field(1), name.as_bytes());
        entry.append_bytes_field(Field(2), value.as_bytes());
        self.append_bytes_field(field, &entry.0);
    }

    /// Takes all values of a field out. Those of a submessage are one after the other, which is what
    /// a peer merges them into.
    ///
    /// # Errors
    /// As [`RawMessage::parse`].
    pub fn take(&mut self, field: Field) -> Result<Bytes, RawError> {
        Ok(self.take_each(field)?.concat().into())
    }

    /// Takes all values of a field out, each by itself: elements, or entries of a map.
    ///
    /// # Errors
    /// As [`RawMessage::parse`].
    pub fn take_each(&mut self, field: Field) -> Result<Vec<Bytes>, RawError> {
        let all = self.0.split().freeze();
        let mut taken = Vec::new();
        for part in each(&all) {
            let Part { number, whole, content } = part?;
            match content.filter(|_| number == field.0) {
                Some(content) => taken.push(all.slice_ref(content)),
                // Of another type, it is not what a peer reads under this number.
                None if number == field.0 => {}
                None => self.0.put_slice(whole),
            }
        }
        Ok(taken)
    }

    /// The bytes as they are.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes to pass on.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::proto::{control, gateway, sourcepolicy};
    use super::*;

    /// Field 999, a string that no peer of today knows.
    const UNKNOWN: &[u8] = b"\xba\x3e\x03new";

    fn parse(message: Vec<u8>) -> RawMessage {
        RawMessage::parse(message.into()).unwrap()
    }

    #[test]
    fn a_scalar_is_set_and_unknown_fields_survive() {
        let solve = control::SolveRequest {
            r#ref: "r1".into(),
            source_policy_session: "of the client".into(),
            ..Default::default()
        };
        let sent = [solve.encode_to_vec().as_slice(), UNKNOWN].concat();
        let mut raw = parse(sent.clone());
        raw.append_bytes_field(Field::CONTROL_SOLVE_SOURCE_POLICY_SESSION, b"ours");
        let got = raw.into_bytes();
        assert!(got.starts_with(&sent));
        let got = control::SolveRequest::decode(got).unwrap();
        let wanted = control::SolveRequest { source_policy_session: "ours".into(), ..solve };
        assert_eq!(got, wanted);
    }

    #[test]
    fn an_element_is_added_to_a_repeated_field() {
        let policy = |version| sourcepolicy::Policy { version, rules: Vec::new() };
        let solve =
            gateway::SolveRequest { source_policies: vec![policy(1)], ..Default::default() };
        let mut raw = parse([UNKNOWN, solve.encode_to_vec().as_slice()].concat());
        let added = policy(2).encode_to_vec();
        raw.append_bytes_field(Field::GATEWAY_SOLVE_SOURCE_POLICIES, &added);
        let got = raw.into_bytes();
        assert!(got.starts_with(UNKNOWN));
        let got = gateway::SolveRequest::decode(got).unwrap();
        assert_eq!(got.source_policies, [policy(1), policy(2)]);
    }

    #[test]
    fn what_is_taken_is_what_a_peer_would_merge() {
        let options = |reference: &str| control::CacheOptions {
            import_refs_deprecated: vec![reference.to_owned()],
            ..Default::default()
        };
        let solve = |cache| control::SolveRequest { cache: Some(cache), ..Default::default() };
        let (one, two) = (solve(options("a")).encode_to_vec(), solve(options("b")).encode_to_vec());
        let mut raw = parse([&one[..], UNKNOWN, &two].concat());
        let taken = raw.take(Field::CONTROL_SOLVE_CACHE).unwrap();
        let taken = control::CacheOptions::decode(taken).unwrap();
        assert_eq!(taken.import_refs_deprecated, ["a", "b"]);
        raw.append_map_entry(Field::CONTROL_SOLVE_FRONTEND_ATTRS, "target", "one");
        raw.append_map_entry(Field::CONTROL_SOLVE_FRONTEND_ATTRS, "target", "two");
        let got = raw.into_bytes();
        assert!(got.starts_with(UNKNOWN));
        let got = control::SolveRequest::decode(got).unwrap();
        assert_eq!((got.cache, got.frontend_attrs["target"].as_str()), (None, "two"));
    }

    #[test]
    fn a_text_is_found_where_it_is_one() {
        let of = |message: &[u8]| {
            Field::CONTROL_SOLVE_SESSION.string_in(&Bytes::copy_from_slice(message))
        };
        let solve = |session: &str| {
            let session = session.to_owned();
            control::SolveRequest { session, ..Default::default() }.encode_to_vec()
        };
        for (message, wanted) in [
            (solve("a"), Some("a")),
            ([solve("a"), UNKNOWN.to_vec(), solve("b")].concat(), Some("b")),
            (solve(""), None),
            (b"\x2a\x01\xff".to_vec(), None),
            (b"\x28\x01".to_vec(), None),
            ([solve("a"), b"\x2a\x05x".to_vec()].concat(), None),
            (UNKNOWN.to_vec(), None),
        ] {
            assert_eq!(of(&message).as_deref(), wanted, "{message:?}");
        }
    }

    #[test]
    fn fields_come_as_they_stand() {
        let message = Bytes::from_static(b"\x0a\x01a\x10\x96\x01\x0d\0\0\0\0\x0a\x00");
        let parts: Vec<_> = each(&message).map(Result::unwrap).collect();
        let told = parts.iter().map(|it| {
            let content = it.content.map(|content| content.to_vec());
            format!("{} {} {content:?} {:?}", it.number, it.whole.len(), it.varint())
        });
        let wanted =
            ["1 3 Some([97]) None", "2 3 None Some(150)", "1 5 None None", "1 2 Some([]) None"];
        assert!(told.eq(wanted), "{parts:?}");
        let kept = fields(&message).unwrap();
        assert!(kept.iter().zip(&parts).all(|(kept, part)| {
            kept.number == part.number
                && kept.whole == part.whole
                && kept.content.as_deref() == part.content
        }));
        let most = [0x10, 0].repeat(MAX_FIELDS);
        assert_eq!(fields(&most.clone().into()).unwrap().len(), MAX_FIELDS);
        let more = [&most[..], &[0x10, 0]].concat();
        assert_eq!(fields(&more.clone().into()), Err(RawError::TooMany));
        assert_eq!(each(&more).count(), MAX_FIELDS + 1);
    }

    #[test]
    fn a_varint_is_set_over_an_earlier_one() {
        let first = control::SolveRequest { internal: true, ..Default::default() };
        let mut raw = parse([first.encode_to_vec().as_slice(), UNKNOWN].concat());
        raw.append_varint_field(Field(11), 0);
        raw.append_varint_field(Field(16), u64::MAX);
        let got = control::SolveRequest::decode(raw.into_bytes()).unwrap();
        assert!(!got.internal);
        assert_eq!(got.compatibility_version, -1);
    }

    /// Were the first of these taken, the session would become part of the unknown field.
    #[test]
    fn what_is_not_whole_is_refused() {
        let swallowing = [b"\x0a\x02r1", &UNKNOWN[..2], b"\x06"].concat();
        for (message, offset) in [
            (swallowing.as_slice(), 4),
            (b"\x0a", 0),
            (b"\x0a\x05r1", 0),
            (b"\x58", 0),
            (b"\x58\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0),
            (b"\x58\x01\x5d\x01", 2),
            (b"\x0b\x58\x01", 0),
            (b"\x0c", 0),
            (b"\x07", 0),
            (b"\x02\x00", 0),
            (b"\xff\xff\xff\xff\xff\xff", 0),
        ] {
            let error = RawMessage::parse(Bytes::copy_from_slice(message)).unwrap_err();
            let RawError::Cut { offset: at, .. } = error else { panic!("{error}") };
            assert_eq!(at, offset, "{message:x?}");
            let mut parts = each(message);
            assert!(parts.by_ref().any(|part| part.is_err()) && parts.next().is_none());
        }
    }
}
