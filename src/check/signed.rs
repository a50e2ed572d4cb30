//! Signatures in the document: `input.image.signatures` of a source and of each of its materials,
//! verified from the chains of attestations that were resolved.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::input::{Field, FieldSet, Input};
use crate::meta::{AttestationChain, Known, NodePath};
use crate::verify::chain::verify_chain;
use crate::verify::{NotVerified, Trust};

/// Puts verified signatures into the document, by whom is trusted; gives the reasons of those that are
/// not there. Where it cannot be told, the field cannot be read.
pub fn verify(input: &mut Input, known: &Known, trust: &Trust) -> Vec<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    verify_at(input, known, trust, now)
}

/// The same at a given time; `None` where there is no telling it.
pub(super) fn verify_at(
    input: &mut Input,
    known: &Known,
    trust: &Trust,
    now: Option<i64>,
) -> Vec<String> {
    let mut walk = Walk { known, trust, now, path: NodePath::new(), notes: Vec::new() };
    walk.node(input);
    walk.notes
}

#[cfg(test)]
mod tests;

struct Walk<'w> {
    known: &'w Known,
    trust: &'w Trust,
    now: Option<i64>,
    path: NodePath,
    notes: Vec<String>,
}

impl Walk<'_> {
    fn node(&mut self, input: &mut Input) {
        let Some(image) = &mut input.image else { return };
        let meta = self.known.get(&self.path).and_then(|meta| meta.image.as_ref());
        if let Some(chain) = meta.and_then(|meta| meta.attestations.as_ref()) {
            let outcome = self.chain(chain, &image.checksum);
            let name = self.name(&image.reference);
            image.signatures.clear();
            match outcome {
                Ok((signatures, reasons)) => {
                    image.signatures = signatures;
                    input.unverifiable = without_signatures(input.unverifiable);
                    let note = |reason| format!("{name}.signatures: {reason}");
                    self.notes.extend(reasons.into_iter().map(note));
                }
                Err(because) => {
                    input.unverifiable.add(Field::ImageSignatures);
                    input.unverifiable_because = because;
                }
            }
        }
        let materials = image.provenance.iter_mut().flat_map(|it| &mut it.materials);
        for (at, material) in materials.enumerate() {
            self.path.push(at);
            self.node(material);
            self.path.pop();
        }
    }

    /// What a chain is signed by, and why it is not signed otherwise. A signature that cannot be
    /// judged is no matter where another one holds.
    fn chain(
        &self,
        chain: &AttestationChain,
        checksum: &str,
    ) -> Result<(Vec<crate::input::AttestationSignature>, Vec<String>), String> {
        if !chain.root.is_empty() && chain.root != checksum {
            return Err(match checksum {
                "" => format!(
                    "the attestations are of {}, and the digest of the image was not returned",
                    chain.root
                ),
                checksum => format!("the attestations are of {}, not of {checksum}", chain.root),
            });
        }
        let now = self.now.ok_or("this machine's clock is before 1970")?;
        let signers = match verify_chain(chain, self.trust, now) {
            Ok(signers) => signers,
            Err(NotVerified::Absent) => {
                let reason = match chain.attestation_manifest.as_str() {
                    "" => "the image has no attestations",
                    _ => "the image's attestations are not signed",
                };
                return Ok((Vec::new(), vec![reason.to_owned()]));
            }
            Err(error @ NotVerified::Invalid(_)) => {
                return Ok((Vec::new(), vec![error.to_string()]));
            }
            Err(error @ NotVerified::CouldNot(_)) => return Err(error.to_string()),
        };
        let undecided = signers.refused.iter().find(|it| matches!(it, NotVerified::CouldNot(_)));
        if let (true, Some(error)) = (signers.verified.is_empty(), undecided) {
            return Err(error.to_string());
        }
        let documents = signers.verified.iter().map(|it| it.document()).collect();
        Ok((documents, signers.refused.iter().map(ToString::to_string).collect()))
    }

    /// The image as a rule would call it.
    fn name(&self, reference: &str) -> String {
        match self.path.as_slice() {
            [] => "input.image".to_owned(),
            _ => format!("material {reference}: image"),
        }
    }
}

fn without_signatures(fields: FieldSet) -> FieldSet {
    let rest: Vec<Field> = fields.iter().filter(|it| *it != Field::ImageSignatures).collect();
    FieldSet::of(&rest)
}
