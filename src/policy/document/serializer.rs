//! From what serde can write to a regorus value, with no JSON in between.
//!
//! It takes what the documents of this crate consist of: structs, maps with strings for keys,
//! lists, strings, numbers and booleans. Anything else is an error.

use std::collections::BTreeMap;
use std::fmt;

use regorus::Value;
use regorus::value::Object;
use serde::ser::{self, Impossible, Serialize};

/// Something that no document consists of.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unsupported(String);

impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Result<T> = std::result::Result<T, Unsupported>;

fn unsupported<T>(what: &str) -> Result<T> {
    Err(Unsupported(format!("{what} cannot be a part of a document")))
}

/// Writes a regorus value.
pub(super) struct Serializer;

/// A list being written.
pub(super) struct List(Vec<Value>);

/// An object being written.
#[derive(Default)]
pub(super) struct Fields {
    entries: Vec<(Value, Value)>,
    key: Option<Value>,
}

impl Fields {
    fn finish(self) -> Value {
        // Collected at once, which is cheaper than entry by entry.
        Object::from(self.entries.into_iter().collect::<BTreeMap<_, _>>()).into_value()
    }
}

impl ser::Serializer for Serializer {
    type Ok = Value;
    type Error = Unsupported;
    type SerializeSeq = List;
    type SerializeTuple = Impossible<Value, Unsupported>;
    type SerializeTupleStruct = Impossible<Value, Unsupported>;
    type SerializeTupleVariant = Impossible<Value, Unsupported>;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Value, Unsupported>;

    fn serialize_bool(self, value: bool) -> Result<Value> {
        Ok(Value::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Value> {
        Ok(Value::from(i64::from(value)))
    }

    fn serialize_i16(self, value: i16) -> Result<Value> {
        Ok(Value::from(i64::from(value)))
    }

    fn serialize_i32(self, value: i32) -> Result<Value> {
        Ok(Value::from(i64::from(value)))
    }

    fn serialize_i64(self, value: i64) -> Result<Value> {
        Ok(Value::from(value))
    }

    fn serialize_u8(self, value: u8) -> Result<Value> {
        Ok(Value::from(u64::from(value)))
    }

    fn serialize_u16(self, value: u16) -> Result<Value> {
        Ok(Value::from(u64::from(value)))
    }

    fn serialize_u32(self, value: u32) -> Result<Value> {
        Ok(Value::from(u64::from(value)))
    }

    fn serialize_u64(self, value: u64) -> Result<Value> {
        Ok(Value::from(value))
    }

    fn serialize_f32(self, _: f32) -> Result<Value> {
        unsupported("a float")
    }

    fn serialize_f64(self, _: f64) -> Result<Value> {
        unsupported("a float")
    }

    fn serialize_char(self, value: char) -> Result<Value> {
        Ok(Value::from(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> Result<Value> {
        Ok(Value::String(value.into()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value> {
        unsupported("a string of bytes")
    }

    fn serialize_none(self) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Value> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value> {
        unsupported(name)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List> {
        Ok(List(Vec::with_capacity(len.unwrap_or_default())))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        unsupported("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct> {
        unsupported(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        unsupported(name)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Fields> {
        Ok(Fields { entries: Vec::with_capacity(len.unwrap_or_default()), key: None })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Fields> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        unsupported(name)
    }
}

impl ser::SerializeSeq for List {
    type Ok = Value;
    type Error = Unsupported;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        self.0.push(value.serialize(Serializer)?);
        Ok(())
    }

    fn end(self) -> Result<Value> {
        Ok(Value::from(self.0))
    }
}

impl ser::SerializeMap for Fields {
    type Ok = Value;
    type Error = Unsupported;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<()> {
        let key = key.serialize(Serializer)?;
        if !matches!(key, Value::String(_)) {
            return unsupported("an object with a key that is no string");
        }
        self.key = Some(key);
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<()> {
        let Some(key) = self.key.take() else { return unsupported("a value without a key") };
        self.entries.push((key, value.serialize(Serializer)?));
        Ok(())
    }

    fn end(self) -> Result<Value> {
        Ok(self.finish())
    }
}

impl ser::SerializeStruct for Fields {
    type Ok = Value;
    type Error = Unsupported;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        self.entries.push((Value::String(key.into()), value.serialize(Serializer)?));
        Ok(())
    }

    fn end(self) -> Result<Value> {
        Ok(self.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::input::{Commit, Env, Git, Http, Image, ImageProvenance, Input, SignatureKind};

    /// What is written is what JSON would have said.
    fn check(value: &impl Serialize) {
        let by_json = Value::deserialize(serde_json::to_value(value).unwrap()).unwrap();
        assert_eq!(value.serialize(Serializer).unwrap(), by_json);
    }

    #[test]
    fn values_are_those_of_json() {
        check(&json!({"a": [1, -2, "x", null, true, {}], "": {"b": []}, "z": u64::MAX}));
        check(&SignatureKind::SelfSigned);
        check(&(1_u8 as char));
        let material = Input {
            http: Some(Http {
                query: [("q".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
                ..Http::default()
            }),
            ..Input::default()
        };
        check(&Input {
            env: Env {
                args: [("A".to_owned(), None), ("B".to_owned(), Some("b".to_owned()))].into(),
                depth: 3,
                ..Env::default()
            },
            image: Some(Image {
                reference: "docker.io/library/alpine".to_owned(),
                is_canonical: true,
                labels: [("k".to_owned(), "v".to_owned())].into(),
                provenance: Some(ImageProvenance {
                    hermetic: Some(false),
                    materials: vec![material],
                    ..ImageProvenance::default()
                }),
                ..Image::default()
            }),
            git: Some(Git { commit: Some(Commit::default()), ..Git::default() }),
            ..Input::default()
        });
    }

    #[test]
    fn what_no_document_consists_of_is_refused() {
        assert!(1.5_f64.serialize(Serializer).is_err());
        assert!((1, 2).serialize(Serializer).is_err());
        assert!(HashMap::from([(1, 2)]).serialize(Serializer).is_err());
        assert!(Ok::<u8, u8>(1).serialize(Serializer).is_err());
    }
}
