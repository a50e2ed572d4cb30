//! What a build made, as an OCI layout, in a form that two builds can be compared in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::clients::Frontend;
use crate::peers::Buildkit;

/// Fields of provenance that are ids and times of the build.
const LEFT_OUT: [&str; 5] =
    ["invocationId", "startedOn", "finishedOn", "buildStartedOn", "buildFinishedOn"];

/// Everything that a layout holds: each image with its config and layers, each attestation with its
/// statements, and the names that it all has; what is the frontend's own by one word. The daemon that built
/// it has the layers of the steps in between, of which provenance tells.
pub fn content(layout: &Path, frontend: &Frontend, daemon: &Buildkit) -> Value {
    let reader = Reader { layout, frontend, blobs: daemon.blobs() };
    reader.node(&reader.file(&layout.join("index.json")))
}

/// One document, with the same left out and the same words.
pub fn statement(document: Value, frontend: &Frontend) -> Value {
    Reader { layout: Path::new(""), frontend, blobs: PathBuf::new() }.same(document)
}

/// The digest of the one thing in a layout.
pub fn digest(layout: &Path) -> String {
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

/// Where two documents differ: the path, and what is there in each.
pub fn differences(path: &str, one: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(path, one, other, &mut found);
    found
}

/// Whether a difference is that the layers of a step are told by one alone.
pub fn is_of_one(difference: &str) -> bool {
    let mut lines = difference.lines();
    let path = lines.next().unwrap_or_default();
    path.contains("/layers/step") && lines.any(|line| line == "  - null" || line == "  + null")
        || path.ends_with("/layers") && difference.contains(" null")
}

fn compare(path: &str, one: &Value, other: &Value, into: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let get = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(&format!("{path}/{name}"), &get(a), &get(b), into);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (one, other)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}/{at}"), one, other, into);
            }
        }
        _ if one == other => {}
        _ => into.push(format!("{path}\n  - {one}\n  + {other}")),
    }
}

struct Reader<'a> {
    layout: &'a Path,
    frontend: &'a Frontend,
    /// Where the daemon keeps content by its digest.
    blobs: PathBuf,
}

impl Reader<'_> {
    fn file(&self, path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        self.file(&self.layout.join("blobs").join(digest))
    }

    /// An index or a manifest.
    fn node(&self, document: &Value) -> Value {
        match document["manifests"].as_array() {
            Some(manifests) => {
                let entries = manifests.iter().map(|entry| self.entry(entry));
                json!({"manifests": entries.collect::<Vec<_>>(), "kind": document["mediaType"]})
            }
            None => self.manifest(document),
        }
    }

    /// A manifest in an index. Digests and sizes of attestations, and of the index over them, are left
    /// out: they hold times and ids, and are compared in full.
    fn entry(&self, descriptor: &Value) -> Value {
        let mut entry = descriptor.as_object().unwrap().clone();
        let attests = descriptor["annotations"]["vnd.docker.reference.type"].is_string();
        if attests || descriptor["mediaType"].as_str().unwrap().contains("index") {
            entry.remove("digest");
            entry.remove("size");
        }
        if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("org.opencontainers.image.created");
        }
        entry.insert("content".into(), self.node(&self.blob(descriptor)));
        Value::Object(entry)
    }

    fn manifest(&self, manifest: &Value) -> Value {
        let layers = manifest["layers"].as_array().unwrap();
        let attests =
            layers.iter().any(|layer| !layer["annotations"]["in-toto.io/predicate-type"].is_null());
        if attests {
            let statements = layers.iter().map(|layer| {
                json!({"annotations": layer["annotations"], "is": self.same(self.blob(layer))})
            });
            return json!({"statements": statements.collect::<Vec<_>>()});
        }
        json!({"config": self.blob(&manifest["config"]), "layers": layers,
               "annotations": manifest["annotations"]})
    }

    /// A statement without times and ids, and with one word for each frontend.
    fn same(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.word(text)),
            Value::Array(values) => values.into_iter().map(|value| self.same(value)).collect(),
            Value::Object(fields) => {
                let fields =
                    fields.into_iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
                let mut same = Map::new();
                for (name, value) in fields {
                    let value = match (name.as_str(), value) {
                        // The text of the Dockerfile, whose first line may name the frontend.
                        ("data", Value::String(text)) => Value::String(decoded(&text)),
                        ("sources", Value::Array(texts)) => texts
                            .iter()
                            .map(|text| decoded(text.as_str().unwrap_or_default()))
                            .collect(),
                        // Digests of operations: those of local directories hold the id of a session.
                        ("digestMapping", Value::Object(steps)) => {
                            sorted(steps.into_iter().map(|(_, step)| step))
                        }
                        ("layers", Value::Object(steps)) => {
                            let step = |(name, chains)| (name, self.layers(chains));
                            Value::Object(steps.into_iter().map(step).collect())
                        }
                        // Ids of the client's.
                        (name, Value::String(_)) if is_id(name) => json!("ID"),
                        ("context:named", Value::String(text)) => match text.split_once('@') {
                            Some((store, digest)) if store.starts_with("oci-layout:") => {
                                json!(digest)
                            }
                            _ => Value::String(text),
                        },
                        (_, value) => value,
                    };
                    let value = match (name.as_str(), self.same(value)) {
                        // In the order of their names, and so of the frontend's.
                        ("resolvedDependencies", Value::Array(values)) => sorted(values),
                        (_, value) => value,
                    };
                    same.insert(self.word(name), value);
                }
                Value::Object(same)
            }
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    /// The layers that a step has made, or found.
    fn layers(&self, chains: Value) -> Value {
        match chains {
            Value::Array(values) => values.into_iter().map(|value| self.layers(value)).collect(),
            Value::Object(_) => self.layer(&chains),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                panic!("no layer: {chains}")
            }
        }
    }

    /// A layer by what is in it: the dates of a step in between are those of its build. One that is not
    /// here was found, and not made.
    fn layer(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap();
        let file = self.blobs.join(digest.strip_prefix("sha256:").unwrap());
        if !file.is_file() {
            return descriptor.clone();
        }
        let tar = |what: &str| {
            let ran = Command::new("tar").args(["--numeric-owner", what]).arg(&file).output();
            let ran = ran.unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            ran.stdout
        };
        let listed = String::from_utf8(tar("-tvf")).unwrap();
        let undated = listed.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [mode, owner, size, _, _, name @ ..] = words.as_slice() else { panic!("{line}") };
            format!("{mode} {owner} {size} {}", name.join(" "))
        });
        json!({
            "mediaType": descriptor["mediaType"],
            "files": undated.collect::<Vec<_>>(),
            "content": hex::encode(Sha256::digest(tar("-xOf"))),
        })
    }

    fn word(&self, text: String) -> String {
        let repository = self.frontend.image.rsplit_once(':').unwrap();
        text.replace(&self.frontend.image, "FRONTEND")
            .replace(&format!("{}@", repository.0), "FRONTEND@")
            .replace(&escaped(&self.frontend.image), "FRONTEND")
            .replace(&self.frontend.digest, "DIGEST")
            .replace(self.frontend.digest.trim_start_matches("sha256:"), "DIGEST")
    }
}

/// A reference as it stands in a package URL.
fn escaped(image: &str) -> String {
    let (name, tag) = image.rsplit_once(':').unwrap();
    format!("{}@{tag}", name.replace(':', "%3A"))
}

/// Whether what has this name is an id that the client made up for this one build.
fn is_id(name: &str) -> bool {
    matches!(name, "oci.session" | "oci.store") || name.starts_with("local-sessionid:")
}

fn sorted(values: impl IntoIterator<Item = Value>) -> Value {
    let mut values: Vec<Value> = values.into_iter().collect();
    values.sort_by_key(Value::to_string);
    Value::Array(values)
}

fn decoded(text: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
}
