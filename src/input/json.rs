//! JSON read as Go's `encoding/json` reads it into a struct: names in any case, the last of several
//! wins, `null` is as good as absent, and what nobody asks for is skipped, however deep.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// An object whose values have not been read yet.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads the bytes of one value: an object, or `null` for an empty one.
    pub(super) fn from_slice(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice::<Option<Self>>(json).map(Option::unwrap_or_default)
    }

    /// The value of `name`, unread; `None` where it is absent or `null`.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self
            .0
            .iter()
            .rev()
            .find(|(key, raw)| key.eq_ignore_ascii_case(name) && raw.get() != "null")?;
        Some(*raw)
    }

    /// The value of `name`; the type's default where it is absent or `null`.
    pub(super) fn get<T: DeserializeOwned + Default>(&self, name: &str) -> serde_json::Result<T> {
        Ok(self.optional(name)?.unwrap_or_default())
    }

    /// The value of `name`; `None` where it is absent or `null`.
    pub(super) fn optional<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> serde_json::Result<Option<T>> {
        self.raw(name).map(|raw| serde_json::from_str(raw.get())).transpose()
    }

    /// The object of `name`; an empty one where it is absent or `null`.
    pub(super) fn object(&self, name: &str) -> serde_json::Result<Object<'a>> {
        Ok(self.optional_object(name)?.unwrap_or_default())
    }

    /// The object of `name`; `None` where it is absent or `null`.
    pub(super) fn optional_object(&self, name: &str) -> serde_json::Result<Option<Object<'a>>> {
        self.raw(name).map(|raw| serde_json::from_str(raw.get())).transpose()
    }

    /// A map of strings, where `null` is the empty string.
    pub(super) fn strings(&self, name: &str) -> serde_json::Result<BTreeMap<String, String>> {
        let map: BTreeMap<String, Option<String>> = self.get(name)?;
        Ok(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }

    /// The objects of a list, at most `MOST` of them and one more, to tell that there were too many.
    pub(super) fn list<const MOST: usize>(
        &self,
        name: &str,
    ) -> serde_json::Result<Vec<Object<'a>>> {
        let list: Option<Bounded<'a, MOST>> =
            self.raw(name).map(|raw| serde_json::from_str(raw.get())).transpose()?;
        Ok(list.map(|list| list.0).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for Entries<'de> {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Name(key), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    entries.push((key, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A key, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A list of objects, cut off behind `MOST` and one.
struct Bounded<'a, const MOST: usize>(Vec<Object<'a>>);

impl<'de, const MOST: usize> Deserialize<'de> for Bounded<'de, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<const MOST: usize>;
        impl<'de, const MOST: usize> Visitor<'de> for Items<MOST> {
            type Value = Bounded<'de, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() <= MOST {
                    match list.next_element::<Option<Object<'de>>>()? {
                        Some(item) => items.push(item.unwrap_or_default()),
                        None => return Ok(Bounded(items)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Bounded(items))
            }
        }
        deserializer.deserialize_seq(Items::<MOST>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object<'_> {
        Object::from_slice(json.as_bytes()).unwrap()
    }

    #[test]
    fn names_match_in_any_case_and_the_last_wins() {
        let json = object(
            r#"{"buildinvocationid": "a", "BuildInvocationId": "b", "buildInvocationID": null}"#,
        );
        assert_eq!(json.get::<String>("buildInvocationID").unwrap(), "b");
        assert_eq!(object(r#"{"\u0061b": "x"}"#).get::<String>("ab").unwrap(), "x");
    }

    #[test]
    fn absent_and_null_are_the_default() {
        let json = object(r#"{"a": null, "m": {"k": null, "l": "v"}}"#);
        assert_eq!(json.optional::<bool>("a").unwrap(), None);
        assert_eq!(json.get::<Vec<String>>("b").unwrap(), Vec::<String>::new());
        let map = BTreeMap::from([("k".into(), String::new()), ("l".into(), "v".into())]);
        assert_eq!(json.strings("m").unwrap(), map);
        assert!(Object::from_slice(b"null").unwrap().0.is_empty());
    }

    #[test]
    fn another_type_is_an_error() {
        for json in ["[]", "1", "\"x\"", "{", "", "{\"a\": \"\u{0}\"}"] {
            assert!(Object::from_slice(json.as_bytes()).is_err(), "{json}");
        }
        assert!(object(r#"{"a": 1}"#).get::<String>("a").is_err());
        assert!(object(r#"{"a": 1}"#).object("a").is_err());
        assert!(object(r#"{"a": [1]}"#).list::<9>("a").is_err());
    }

    #[test]
    fn what_nobody_asks_for_may_be_as_deep_as_it_likes() {
        let deep = format!(r#"{{"x": {}{}, "a": "b"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(object(&deep).get::<String>("a").unwrap(), "b");
    }

    #[test]
    fn a_list_stops_behind_its_bound() {
        let json = object(r#"{"l": [{}, null, {}, {}, {}]}"#);
        assert_eq!(json.list::<2>("l").unwrap().len(), 3);
        assert_eq!(json.list::<5>("l").unwrap().len(), 5);
    }
}
