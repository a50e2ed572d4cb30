//! Caches that a build imports: no daemon asks about them, and what they hold stands in for steps.
//!
//! A registry's cache is judged as the image that it names, with `input.env.cacheImport`; where that
//! rests on content, the import is pinned to it. Other types pass only if they are listed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tonic::Status;

use super::build::{Build, Purpose, Verdict};
use super::ruling::Audited;
use crate::source::{ImageSource, Source, SourceOp};
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
        let what = SourceOp::new(format!("cache import of type {}", import.kind));
        refuse(build, &what, why, Audited::Passes).await?;
        return Ok(import);
    }
    if import.kind != REGISTRY {
        return Ok(import);
    }
    let named = import.attrs.get(REF).map(String::as_str).unwrap_or_default();
    let (op, image) = match ImageSource::parse(named) {
        Ok(image) => {
            let image = image.or_latest();
            (SourceOp::new(image.identifier()), image)
        }
        Err(error) => {
            let what = SourceOp::new(format!("cache import from {named}"));
            refuse(build, &what, error.to_string(), Audited::Stands).await?;
            return Err(status::denial(&what.masked(), &[], &[]));
        }
    };
    let judged = build.judge(&op, None, Purpose::Cache).await;
    let (loaded, why) = match judged {
        Verdict::Allow => (Some(image), ""),
        Verdict::Deny(messages) => return Err(status::denial(&op.masked(), &messages, &[])),
        Verdict::Convert(instead) => match Source::parse(&instead) {
            Ok(Source::Image(pinned)) => (Some(pinned), ""),
            Ok(_) | Err(_) => (None, "a policy puts something in its place that is no image"),
        },
        Verdict::Redirect(_) => (None, "nobody has decided about it"),
    };
    let Some(loaded) = loaded else {
        refuse(build, &op, why.to_owned(), Audited::Stands).await?;
        return Err(status::denial(&op.masked(), &[why.to_owned()], &[]));
    };
    // In our words, always: the daemon may read theirs as another image.
    let mut import = import;
    import.attrs.insert(REF.to_owned(), loaded.reference());
    Ok(import)
}

/// Writes down that an import is refused; where ours are only written down, it may pass.
async fn refuse(
    build: &Build,
    what: &SourceOp,
    why: String,
    audited: Audited,
) -> Result<(), Status> {
    match build.refuse(what, why, audited).await {
        Verdict::Allow => Ok(()),
        Verdict::Deny(messages) => Err(status::denial(&what.masked(), &messages, &[])),
        Verdict::Convert(_) | Verdict::Redirect(_) => Err(status::denial(&what.masked(), &[], &[])),
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
            let admitted_as = import.attrs.get(REF).cloned();
            let lost = || Status::internal("buildgate: a cache import lost its reference");
            admitted.push(admitted_as.ok_or_else(lost)?);
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
