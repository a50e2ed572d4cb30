//! Decisions in words: what was admitted, what was fetched for it, why it could not be judged.

use crate::check::CheckError;
use crate::gateway::wanted;
use crate::meta::MetaRequest;
use crate::source::{SourceOp, mask_text};

/// What was admitted, in few words: where it is, or only what it is pinned to.
pub fn shown(op: &SourceOp, admitted: &SourceOp) -> String {
    if op.identifier != admitted.identifier {
        return admitted.masked();
    }
    let new = admitted.attrs.iter().filter(|(name, value)| op.attrs.get(*name) != Some(value));
    let new: Vec<String> = new.map(|(name, value)| format!("{name}={value}")).collect();
    new.join(", ")
}

/// What was asked for, in few words.
pub fn fetched(request: &MetaRequest, of: &SourceOp) -> String {
    let what = wanted(request);
    if request.source == *of { what.to_owned() } else { format!("{what} of {}", request.source) }
}

/// A source that could not be judged, in words.
pub fn could_not(error: &CheckError) -> String {
    let mut text = format!("it could not be judged, and so is refused: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    mask_text(&text)
}
