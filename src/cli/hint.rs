//! What would pass: each suggestion is judged by the same policies before it is made.

use super::finding::image_with;
use super::policies::Policies;
use crate::check::{self, Checked, Outcome, Question};
use crate::resolve::Offline;
use crate::source::{ImageSource, Source, SourceOp};

/// What to write instead of a source that is denied. Nothing is fetched to find out: what is not
/// known already is not suggested.
pub(super) async fn hints(
    policies: &Policies,
    question: &Question,
    checked: &Checked,
) -> Vec<String> {
    match &checked.outcome {
        Outcome::Denied(_) => {}
        Outcome::Allowed(_) | Outcome::Converted(_) => return Vec::new(),
    }
    let mut hints = Vec::new();
    for (op, words) in candidates(checked) {
        let question = Question { op, ..question.clone() };
        let answer = check::check(policies.all(), &question, &Offline).await;
        if let Ok(Checked { outcome: Outcome::Allowed(_), .. }) = answer {
            hints.push(words);
        }
    }
    hints
}

/// Sources that differ from the denied one in what policies ask for most.
fn candidates(checked: &Checked) -> Vec<(SourceOp, String)> {
    let op = &checked.op;
    let Ok(source) = Source::parse(op) else { return Vec::new() };
    let mut found = Vec::new();
    match source {
        Source::Image(image) => {
            let digest = checked.input.image.as_ref().map_or("", |image| &image.checksum);
            if image.digest.is_none()
                && let Some(identifier) = image_with(op, digest)
            {
                let words = format!(
                    "{} would be allowed; it is what the name stands for now",
                    short(&identifier)
                );
                found.push((SourceOp { identifier, attrs: op.attrs.clone() }, words));
            }
        }
        Source::Http(file) if file.scheme == "http" => {
            if let Some(rest) = op.identifier.get("http".len()..) {
                let secure =
                    SourceOp { identifier: format!("https{rest}"), attrs: op.attrs.clone() };
                let words = format!("{secure} would be allowed, if the server has it");
                found.push((secure, words));
            }
        }
        Source::Git(repository) => {
            let commit = checked.input.git.as_ref().map_or("", |git| &git.commit_checksum);
            if !commit.is_empty() && repository.reference.as_deref() != Some(commit) {
                let base = op.identifier.split('#').next().unwrap_or_default();
                let subdir = repository.subdir.map(|dir| format!(":{dir}")).unwrap_or_default();
                let identifier = format!("{base}#{commit}{subdir}");
                let pinned = SourceOp { identifier, attrs: op.attrs.clone() };
                let words = format!(
                    "the commit {commit} in place of the reference would be allowed; it is what the \
                     reference stands for now"
                );
                found.push((pinned, words));
            }
        }
        Source::Http(_) | Source::Local(_) | Source::OciLayout(_) | Source::Blob(_) => {}
    }
    found
}

/// An image as a Dockerfile names it.
fn short(identifier: &str) -> String {
    let reference = identifier.strip_prefix("docker-image://").unwrap_or(identifier);
    let Ok(image) = ImageSource::parse(reference) else { return reference.to_owned() };
    let rest = reference.strip_prefix(&image.full_repo()).unwrap_or_default().to_owned();
    format!("{}{rest}", image.familiar_repo())
}
