//! From a source and what is resolved of it to the document that rules read.
//!
//! What a rule could still learn by resolving is in [`Input::unresolved`]; a field that was asked for
//! and not answered stays there, so that it is never taken for absent.

use std::borrow::Cow;

use super::document::{Blob, Env, Http, Image, Input, Local, OciLayout};
use super::error::InputError;
use super::material::{self, MaterialSource};
use super::provenance::{self, MAX_MATERIALS, Statement};
use super::{Field, FieldSet, config, git};
use crate::meta::{AttestationChain, HttpMeta, ImageMeta, Known, NodePath};
use crate::source::{HttpSource, ImageSource, Platform, Source, SourceOp};

/// How deep materials of materials are followed.
pub const MAX_DEPTH: usize = 24;

/// What the config of an image says.
const CONFIG_FIELDS: FieldSet = FieldSet::EMPTY
    .with(Field::ImageCreatedTime)
    .with(Field::ImageLabels)
    .with(Field::ImageUser)
    .with(Field::ImageVolumes)
    .with(Field::ImageWorkingDir)
    .with(Field::ImageEnv);

/// What the attestations of an image say.
const ATTESTATION_FIELDS: FieldSet = FieldSet::EMPTY
    .with(Field::ImageHasProvenance)
    .with(Field::ImageProvenance)
    .with(Field::ImageSignatures);

/// A source of the document: what metadata of it is asked for by.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// The source as it was put to us, or as a material names it.
    pub op: Cow<'a, SourceOp>,
    /// The same, parsed.
    pub source: Cow<'a, Source>,
    /// The platform it is loaded for.
    pub platform: Cow<'a, Platform>,
    /// Its materials, in the order of `input.image.provenance.materials`.
    pub children: Vec<Node<'static>>,
}

impl Node<'_> {
    /// The node at `path` below this one.
    pub fn at(&self, path: &[usize]) -> Option<&Node<'_>> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        self.children.get(*first)?.at(rest)
    }
}

/// Something that is there and cannot be read, so that its field is absent: for logs and messages,
/// which must tell *invalid* from *absent*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which source.
    pub path: NodePath,
    /// Which field.
    pub field: Field,
    /// What is wrong with it.
    pub reason: String,
}

/// The document, and what belongs to it that rules do not see.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    /// What rules see.
    pub input: Input,
    /// Its sources, in the same tree.
    pub node: Node<'a>,
    /// What could not be read.
    pub notes: Vec<Note>,
}

/// Builds the document of one source.
///
/// # Errors
/// When what is known may not be believed, or is too large.
pub fn build<'a>(
    op: &'a SourceOp,
    source: &'a Source,
    platform: &'a Platform,
    known: &Known,
    env: &Env,
) -> Result<Document<'a>, InputError> {
    let node = Node {
        op: Cow::Borrowed(op),
        source: Cow::Borrowed(source),
        platform: Cow::Borrowed(platform),
        children: Vec::new(),
    };
    let mut builder = Builder { known, env, path: Vec::new(), materials: 0, notes: Vec::new() };
    let (input, node) = builder.node(node)?;
    Ok(Document { input, node, notes: builder.notes })
}

struct Builder<'b> {
    known: &'b Known,
    env: &'b Env,
    path: NodePath,
    materials: usize,
    notes: Vec<Note>,
}

impl Builder<'_> {
    fn node<'a>(&mut self, mut node: Node<'a>) -> Result<(Input, Node<'a>), InputError> {
        let meta = self.known.get(&self.path);
        let mut input = Input { env: self.env(), ..Input::default() };
        match node.source.as_ref() {
            Source::Image(source) => {
                let meta = meta.and_then(|meta| meta.image.as_ref());
                let (mut image, statement) =
                    self.image(source, &node.platform, meta, &mut input)?;
                if self.path.is_empty() {
                    image.signed_by.clone_from(&self.known.signatures);
                }
                input.image = Some(image);
                if let Some(statement) = statement {
                    node.children = self.provenance(statement, &node.platform, &mut input)?;
                }
            }
            Source::Http(source) => {
                let meta = meta.and_then(|meta| meta.http.as_ref());
                let (mut http, unresolved) = http(source, meta);
                if self.path.is_empty() {
                    http.checksums = self.known.checksums(meta);
                    http.contents.clone_from(&self.known.contents);
                }
                input.http = Some(http);
                input.unresolved = unresolved;
            }
            Source::Git(source) => {
                let meta = meta.and_then(|meta| meta.git.as_ref());
                git::fill(&mut input, source, meta)?;
            }
            Source::Local(source) => input.local = Some(Local { name: source.name.clone() }),
            Source::OciLayout(source) => {
                let digest = source.digest.clone().unwrap_or_default();
                input.oci_layout = Some(OciLayout { name: source.name.clone(), digest });
            }
            Source::Blob(source) => {
                input.blob = Some(Blob {
                    scheme: source.scheme.clone(),
                    host: source.host.clone().unwrap_or_default(),
                    full_repo: source.full_repo.clone(),
                    digest: source.digest.clone(),
                });
            }
        }
        Ok((input, node))
    }

    fn env(&self) -> Env {
        let depth = u32::try_from(self.path.len()).unwrap_or(u32::MAX);
        Env { depth, ..self.env.clone() }
    }

    fn image(
        &mut self,
        source: &ImageSource,
        platform: &Platform,
        meta: Option<&ImageMeta>,
        input: &mut Input,
    ) -> Result<(Image, Option<Statement>), InputError> {
        let mut image = named(source, platform);
        let digest = meta.and_then(|meta| meta.digest.as_deref()).unwrap_or_default();
        match &source.digest {
            // A material is not what is fetched, and its own digest stays the evidence.
            Some(own) if self.path.is_empty() && !digest.is_empty() && own != digest => {
                let (reference, resolved) = (image.reference, digest.into());
                return Err(InputError::OtherImage { reference, resolved });
            }
            Some(_) => {}
            None if digest.is_empty() => input.unresolved.add(Field::ImageChecksum),
            None => image.checksum = digest.into(),
        }
        match meta.and_then(|meta| meta.config.as_ref()) {
            Some(json) => config::fill(&mut image, json)?,
            None => input.unresolved = input.unresolved.union(CONFIG_FIELDS),
        }
        let statement = match meta.and_then(|meta| meta.attestations.as_ref()) {
            Some(chain) => self.attestations(chain, &mut image, input)?,
            None => {
                input.unresolved = input.unresolved.union(ATTESTATION_FIELDS);
                None
            }
        };
        Ok((image, statement))
    }

    fn attestations(
        &mut self,
        chain: &AttestationChain,
        image: &mut Image,
        input: &mut Input,
    ) -> Result<Option<Statement>, InputError> {
        let found = provenance::read(chain)?;
        self.notes.extend(found.malformed.into_iter().map(|reason| Note {
            path: self.path.clone(),
            field: Field::ImageProvenance,
            reason,
        }));
        image.has_provenance = !chain.attestation_manifest.is_empty() || found.statement.is_some();
        // Only who verifies signatures may put them into the document, or say that there are none.
        if !chain.signature_manifests.is_empty() {
            input.unverifiable.add(Field::ImageSignatures);
            input.unverifiable_because = "nobody has verified it".to_owned();
        }
        Ok(found.statement)
    }

    /// Puts the statement into the image, each of its materials as an input of its own.
    fn provenance(
        &mut self,
        statement: Statement,
        platform: &Platform,
        input: &mut Input,
    ) -> Result<Vec<Node<'static>>, InputError> {
        let mut provenance = statement.provenance;
        let mut children = Vec::with_capacity(statement.materials.len());
        self.materials += statement.materials.len();
        if self.materials > MAX_MATERIALS {
            return Err(InputError::TooManyMaterials { limit: MAX_MATERIALS });
        }
        for (index, material) in statement.materials.into_iter().enumerate() {
            // As in Docker's engine, `materials` holds only what is a source. What is none stays
            // visible beside it.
            let source = match material::resolve(&material) {
                Ok(source) => source,
                Err(error) => {
                    let reason = format!("material {index}, `{}`: {error}", material.uri);
                    let path = self.path.clone();
                    self.notes.push(Note { path, field: Field::ImageProvenance, reason });
                    provenance.unsupported_materials.push(material.uri);
                    continue;
                }
            };
            self.path.push(children.len());
            if self.path.len() > MAX_DEPTH {
                return Err(InputError::Depth { limit: MAX_DEPTH });
            }
            let (child, node) = self.material(material.uri, source, platform)?;
            self.path.pop();
            provenance.materials.push(child);
            children.push(node);
        }
        if let Some(image) = &mut input.image {
            image.provenance = Some(provenance);
        }
        Ok(children)
    }

    fn material(
        &mut self,
        uri: String,
        MaterialSource { op, source, platform: own }: MaterialSource,
        platform: &Platform,
    ) -> Result<(Input, Node<'static>), InputError> {
        let node = Node {
            op: Cow::Owned(op),
            source: Cow::Owned(source),
            platform: Cow::Owned(own.unwrap_or_else(|| platform.clone())),
            children: Vec::new(),
        };
        self.node(node).map_err(|source| InputError::Material { uri, source: Box::new(source) })
    }
}

/// What a reference says of an image.
fn named(source: &ImageSource, platform: &Platform) -> Image {
    Image {
        reference: source.reference(),
        host: source.host.clone(),
        repo: source.familiar_repo(),
        full_repo: source.full_repo(),
        tag: source.tag.clone().unwrap_or_default(),
        platform: platform.to_string(),
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        is_canonical: source.digest.is_some(),
        checksum: source.digest.clone().unwrap_or_default(),
        ..Image::default()
    }
}

fn http(source: &HttpSource, meta: Option<&HttpMeta>) -> (Http, FieldSet) {
    let checksum = meta.map(|meta| meta.checksum.clone()).unwrap_or_default();
    let unresolved =
        if checksum.is_empty() { FieldSet::of(&[Field::HttpChecksum]) } else { FieldSet::EMPTY };
    let http = Http {
        url: source.url.clone(),
        schema: source.scheme.clone(),
        host: source.host.clone(),
        path: source.path.clone(),
        query: source.query.clone(),
        has_auth: source.has_auth,
        checksum,
        declared_checksum: source.declared_checksum.clone().unwrap_or_default(),
        checksums: Vec::new(),
        contents: Vec::new(),
    };
    (http, unresolved)
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
