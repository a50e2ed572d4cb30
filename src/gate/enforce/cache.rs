//! Caches that a build imports: no daemon asks about them, and what they hold stands in for steps.
//!
//! A registry's cache is judged as the image that it names, with `input.env.cacheImport`; where that
//! rests on content, the import is pinned to it. Other types pass only if they are listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tonic::Status;

use super::build::{Build, Purpose, Verdict};
use crate::source::{ImageSource, Source, SourceOp, mask};
use crate::wire::status;

/// Option of the Dockerfile frontend: imports as JSON.
pub const IMPORTS: &str = "cache-imports";
/// Option of the Dockerfile frontend: references of registries, with commas between.
pub const FROM: &str = "cache-from";
/// Type of a cache in a registry.
const REGISTRY: &str = "registry";
/// Attribute that names an image.
const REF: &str = "ref";

/// One import, as every message and option has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its type.
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// Its attributes.
    #[serde(rename = "Attrs", default)]
    pub attrs: BTreeMap<String, String>,
}

/// Judges an import, and gives what is imported.
///
/// # Errors
/// When it is refused.
pub async fn admit(build: &Build, import: Import) -> Result<Import, Status> {
    if !build.begun().settings.allows_cache(&import.kind) {
        let why = format!(
            "caches of type {:?} are not allowed here (--cache-types); import from a registry instead",
            import.kind
        );
        return Err(status::denial(&format!("cache import of type {}", import.kind), &[why], &[]));
    }
    if import.kind != REGISTRY {
        return Ok(import);
    }
    let named = import.attrs.get(REF).map(String::as_str).unwrap_or_default();
    let refused = |message: String| status::denial(&mask(named), &[message], &[]);
    let image = ImageSource::parse(named).map_err(|error| refused(error.to_string()))?;
    let image = image.or_latest();
    let op = SourceOp::new(image.identifier());
    let instead = match build.judge(&op, None, Purpose::Cache).await {
        Verdict::Allow => return Ok(import),
        Verdict::Deny(messages) => return Err(status::denial(&op.masked(), &messages, &[])),
        Verdict::Convert(instead) => instead,
        Verdict::Redirect(_) => return Err(refused("nobody has decided about it".to_owned())),
    };
    match Source::parse(&instead) {
        Ok(Source::Image(pinned)) => {
            let mut import = import;
            import.attrs.insert(REF.to_owned(), pinned.reference());
            Ok(import)
        }
        Ok(_) | Err(_) => {
            Err(refused("a policy puts something in its place that is no image".to_owned()))
        }
    }
}

/// Judges the imports that options of a frontend name, and gives those options that change.
///
/// # Errors
/// When one is refused, or an option cannot be read.
pub async fn admit_options(
    build: &Build,
    options: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, String)>, Status> {
    let mut changed = Vec::new();
    if let Some(text) = options.get(IMPORTS).filter(|text| !text.is_empty()) {
        let imports = parse(text)?;
        let mut admitted = Vec::with_capacity(imports.len());
        for import in imports {
            admitted.push(admit(build, import).await?);
        }
        // In our words, always: other readers of JSON may see more in theirs.
        let text = serde_json::to_string(&admitted)
            .map_err(|error| Status::internal(format!("buildgate: {IMPORTS}: {error}")))?;
        changed.push((IMPORTS, text));
    }
    if let Some(text) = options.get(FROM).filter(|text| !text.is_empty()) {
        let mut admitted = Vec::new();
        for named in text.split(',') {
            let attrs = BTreeMap::from([(REF.to_owned(), named.to_owned())]);
            let import = admit(build, Import { kind: REGISTRY.to_owned(), attrs }).await?;
            admitted.push(import.attrs.get(REF).cloned().unwrap_or_default());
        }
        let admitted = admitted.join(",");
        if admitted != *text {
            changed.push((FROM, admitted));
        }
    }
    Ok(changed)
}

/// Reads `cache-imports`. Go's decoder takes names of fields in any case, and the last of several;
/// what could be read in two ways is refused.
fn parse(text: &str) -> Result<Vec<Import>, Status> {
    let unread = |why: &dyn std::fmt::Display| {
        Status::invalid_argument(format!("buildgate: the option {IMPORTS} cannot be read: {why}"))
    };
    let entries: Vec<Option<serde_json::Map<String, serde_json::Value>>> =
        serde_json::from_str(text).map_err(|error| unread(&error))?;
    let mut imports = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry = entry.ok_or_else(|| unread(&"an entry is null"))?;
        if let Some(name) = entry.keys().find(|name| !["Type", "Attrs"].contains(&name.as_str())) {
            return Err(unread(&format!("an entry has the field {name:?}")));
        }
        let import = serde_json::from_value(entry.into()).map_err(|error| unread(&error))?;
        imports.push(import);
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, wanted) in [
            (r#"[{"Type":"registry","Attrs":{"ref":"a"}}]"#, Some(1)),
            (r#"[]"#, Some(0)),
            (r#"[{"Type":"registry","Attrs":{"ref":"a"},"attrs":{"ref":"evil"}}]"#, None),
            (r#"[{"Type":"registry","ATTRS":{"ref":"evil"}}]"#, None),
            (r#"[null]"#, None),
            (r#"{"Type":"registry"}"#, None),
            (r#"[{"Type":1}]"#, None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok().map(|it| it.len()), wanted, "{text}");
        }
    }
}
