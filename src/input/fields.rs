//! The fields that may have to be resolved before a rule can read them.

/// A field of the document that a source does not say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// `image.checksum`
    ImageChecksum,
    /// `image.createdTime`
    ImageCreatedTime,
    /// `image.labels`
    ImageLabels,
    /// `image.user`
    ImageUser,
    /// `image.volumes`
    ImageVolumes,
    /// `image.workingDir`
    ImageWorkingDir,
    /// `image.env`
    ImageEnv,
    /// `image.hasProvenance`
    ImageHasProvenance,
    /// `image.provenance`
    ImageProvenance,
    /// `image.signatures`
    ImageSignatures,
    /// `http.checksum`
    HttpChecksum,
    /// `git.tagName`
    GitTagName,
    /// `git.branch`
    GitBranch,
    /// `git.ref`
    GitRef,
    /// `git.checksum`
    GitChecksum,
    /// `git.commitChecksum`
    GitCommitChecksum,
    /// `git.isAnnotatedTag`
    GitIsAnnotatedTag,
    /// `git.isSHA256`
    GitIsSha256,
    /// `git.tag`
    GitTag,
    /// `git.commit`
    GitCommit,
}

impl Field {
    /// Every field, in the order of their bits.
    pub const ALL: [Field; 20] = [
        Field::ImageChecksum,
        Field::ImageCreatedTime,
        Field::ImageLabels,
        Field::ImageUser,
        Field::ImageVolumes,
        Field::ImageWorkingDir,
        Field::ImageEnv,
        Field::ImageHasProvenance,
        Field::ImageProvenance,
        Field::ImageSignatures,
        Field::HttpChecksum,
        Field::GitTagName,
        Field::GitBranch,
        Field::GitRef,
        Field::GitChecksum,
        Field::GitCommitChecksum,
        Field::GitIsAnnotatedTag,
        Field::GitIsSha256,
        Field::GitTag,
        Field::GitCommit,
    ];

    /// The object it stands in, and its name there, as rules write them.
    pub const fn path(self) -> (&'static str, &'static str) {
        match self {
            Field::ImageChecksum => ("image", "checksum"),
            Field::ImageCreatedTime => ("image", "createdTime"),
            Field::ImageLabels => ("image", "labels"),
            Field::ImageUser => ("image", "user"),
            Field::ImageVolumes => ("image", "volumes"),
            Field::ImageWorkingDir => ("image", "workingDir"),
            Field::ImageEnv => ("image", "env"),
            Field::ImageHasProvenance => ("image", "hasProvenance"),
            Field::ImageProvenance => ("image", "provenance"),
            Field::ImageSignatures => ("image", "signatures"),
            Field::HttpChecksum => ("http", "checksum"),
            Field::GitTagName => ("git", "tagName"),
            Field::GitBranch => ("git", "branch"),
            Field::GitRef => ("git", "ref"),
            Field::GitChecksum => ("git", "checksum"),
            Field::GitCommitChecksum => ("git", "commitChecksum"),
            Field::GitIsAnnotatedTag => ("git", "isAnnotatedTag"),
            Field::GitIsSha256 => ("git", "isSHA256"),
            Field::GitTag => ("git", "tag"),
            Field::GitCommit => ("git", "commit"),
        }
    }
}

/// A set of [`Field`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u32);

impl FieldSet {
    /// No field at all.
    pub const EMPTY: Self = Self(0);

    /// The set of `fields`.
    pub fn of(fields: &[Field]) -> Self {
        fields.iter().fold(Self::default(), |set, field| set.with(*field))
    }

    /// This set and `field`.
    #[must_use]
    pub const fn with(self, field: Field) -> Self {
        Self(self.0 | 1 << field as u8)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Adds `field`; tells whether it was new.
    pub fn insert(&mut self, field: Field) -> bool {
        let before = self.0;
        *self = self.with(field);
        self.0 != before
    }

    /// Adds `field`.
    pub const fn add(&mut self, field: Field) {
        *self = self.with(field);
    }

    /// Whether `field` is in it.
    pub const fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |field| self.contains(*field))
    }
}
