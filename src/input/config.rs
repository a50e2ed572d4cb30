//! What rules read of an image's config (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::document::Image;
use super::json::Object;
use super::moment::Moment;

/// An image config that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON, or a field has another type.
    #[error("image config: {0}")]
    Json(#[from] serde_json::Error),
    /// The time it was made is none.
    #[error("image config: `created` is `{created}`, which is no RFC 3339 time")]
    Created {
        /// What stands there.
        created: String,
    },
}

/// Fills the fields of `image` that come from its config.
///
/// # Errors
/// When `config` is not an image config.
pub(super) fn fill(image: &mut Image, config: &[u8]) -> Result<(), ConfigError> {
    let json = Object::from_slice(config)?;
    if let Some(created) = json.optional::<String>("created")? {
        image.created_time = Moment::parse(&created)
            .and_then(Moment::rfc3339)
            .ok_or(ConfigError::Created { created })?;
    }
    let config = json.object("config")?;
    image.labels = config.strings("Labels")?;
    image.env = config
        .get::<Vec<Option<String>>>("Env")?
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    image.user = config.get("User")?;
    image.volumes = config.get::<BTreeMap<String, IgnoredAny>>("Volumes")?.into_keys().collect();
    image.working_dir = config.get("WorkingDir")?;
    Ok(())
}
