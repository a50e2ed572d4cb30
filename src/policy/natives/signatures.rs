//! `verify_git_signature` and `verify_http_pgp_signature`.
//!
//! What is *absent* or *invalid* is undefined (or false, where Docker's engine says so), and a note
//! says why. What *could not be verified* is an error: no rule may take it for either.

use std::sync::Arc;

use regorus::Value;

use super::{Called, Natives, Wanted};
use crate::policy::error::EvalError;
use crate::policy::files::FileError;
use crate::verify::{
    CouldNot, DetachedSignature, KeyFile, KeyFileError, MAX_KEY_FILE, MAX_SIGNATURE, NotVerified,
    ObjectFormat, VerifiedSigner,
};

/// Why a call comes to no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Limit(Box<EvalError>),
    #[error("this machine's clock is before 1970: nothing can be said to be in force")]
    Clock,
    #[error("could not verify: {0}")]
    File(#[from] FileError),
    #[error("could not verify by `{path}`: {source}")]
    Keys { path: Arc<str>, source: KeyFileError },
    #[error("could not verify {what} by `{path}`: {source}")]
    NotVerified { what: String, path: Arc<str>, source: NotVerified },
    #[error("could not verify `{path}`: it is no detached OpenPGP signature: {source}")]
    Signature { path: Arc<str>, source: NotVerified },
    #[error("could not verify: the file holds SSH keys, and OpenPGP's are wanted: `{path}`")]
    NotOpenPgp { path: Arc<str> },
    #[error("could not verify by {what}: {source}")]
    Attestation { what: String, source: NotVerified },
    #[error("could not verify by {what}: the answer cannot be read: {source}")]
    GithubAnswer { what: String, source: Arc<serde_json::Error> },
    #[error("could not verify by {what}: a bundle cannot be read: {why}")]
    GithubBundle { what: String, why: String },
    #[error("could not verify by {what}: {why}")]
    GithubList { what: String, why: String },
    #[error("the result is no document: {0}")]
    Document(Box<EvalError>),
    #[error("verify_image_signature: {0}")]
    Options(String),
    #[error("could not verify input.image by `{path}`: {source}")]
    Key { path: Arc<str>, source: KeyFileError },
    #[error("could not verify input.image: {0}")]
    Image(NotVerified),
    #[error(
        "could not verify input.image: its signatures were looked for by {found}, and it is {judged}"
    )]
    OtherImage { found: String, judged: String },
}

impl Natives<'_> {
    /// Verifies the commit or the tag that is judged.
    pub(super) fn verify_git(
        &mut self,
        object: &Value,
        path: &Arc<str>,
    ) -> Result<Called, CallError> {
        let Some(git) = self.verifying.and_then(|input| input.git.as_ref()) else {
            return Ok(Called::Value(Value::Bool(false)));
        };
        let format = if git.is_sha256 { ObjectFormat::Sha256 } else { ObjectFormat::Sha1 };
        let commit = git.commit.as_ref().and_then(|commit| commit.raw.as_ref());
        let tag = git.tag.as_ref().and_then(|tag| tag.raw.as_ref());
        let (what, raw) = if self.commit.as_ref() == Some(object) {
            ("input.git.commit", commit)
        } else if self.tag.as_ref() == Some(object) {
            ("input.git.tag", tag)
        } else {
            return Ok(self.not_judged("verify_git_signature", "input.git.commit or input.git.tag"));
        };
        let Some(raw) = raw else {
            return Ok(self.not_judged("verify_git_signature", "an object that was resolved"));
        };
        let keys = self.shared.files.read(path, MAX_KEY_FILE as u64)?;
        let now = self.seconds()?;
        match self.shared.trust.signers.git(raw, format, &keys, now) {
            Err(NotVerified::CouldNot(CouldNot::Keys(source))) => {
                Err(CallError::Keys { path: path.clone(), source })
            }
            verified => self.concluded(verified, what, path),
        }
    }

    fn concluded(
        &mut self,
        verified: Result<VerifiedSigner, NotVerified>,
        what: &str,
        path: &Arc<str>,
    ) -> Result<Called, CallError> {
        match verified {
            Ok(signer) => Ok(proven(&signer)),
            Err(source @ NotVerified::CouldNot(_)) => {
                Err(CallError::NotVerified { what: what.to_owned(), path: path.clone(), source })
            }
            Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                self.notes.push(format!("{what} is not verified by `{path}`: {error}"));
                Ok(Called::Undefined)
            }
        }
    }

    /// Verifies the file that is judged, by a digest that the daemon makes of it.
    pub(super) fn verify_http(
        &mut self,
        http: &Value,
        signature_path: &Arc<str>,
        path: &Arc<str>,
    ) -> Result<Called, CallError> {
        let Some(judged) = self.verifying.and_then(|input| input.http.as_ref()) else {
            return Ok(Called::Value(Value::Bool(false)));
        };
        if self.http.as_ref() != Some(http) {
            return Ok(self.not_judged("verify_http_pgp_signature", "input.http"));
        }
        let data = self.shared.files.read(signature_path, MAX_SIGNATURE as u64)?;
        let keys = self.shared.files.read(path, MAX_KEY_FILE as u64)?;
        let signers = &self.shared.trust.signers;
        match signers.keys(&keys).as_deref() {
            Ok(KeyFile::OpenPgp(_)) => {}
            Ok(KeyFile::Ssh(_)) => return Err(CallError::NotOpenPgp { path: path.clone() }),
            Err(source) => {
                return Err(CallError::Keys { path: path.clone(), source: source.clone() });
            }
        }
        let about = format!("input.http is not verified by `{signature_path}` and `{path}`");
        let unreadable = |source| CallError::Signature { path: signature_path.clone(), source };
        let signature = DetachedSignature::parse(&data).map_err(unreadable)?;
        let request = match signature.checksum_request() {
            Ok(request) => request,
            Err(source @ NotVerified::CouldNot(_)) => {
                let path = signature_path.clone();
                return Err(CallError::NotVerified { what: "input.http".to_owned(), path, source });
            }
            Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                self.notes.push(format!("{about}: {error}"));
                return Ok(Called::Undefined);
            }
        };
        let Some(response) = judged.checksums.iter().find(|it| request.is_answered_by(it)) else {
            return Ok(Called::Needs(Wanted::Checksum(request)));
        };
        let now = self.seconds()?;
        match self.shared.trust.signers.http(&data, response, &keys, now) {
            Ok(signer) => Ok(proven(&signer)),
            Err(source @ NotVerified::CouldNot(_)) => Err(CallError::NotVerified {
                what: "input.http".to_owned(),
                path: path.clone(),
                source,
            }),
            Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                self.notes.push(format!("{about}: {error}"));
                Ok(Called::Value(Value::Bool(false)))
            }
        }
    }

    /// As in Docker's engine, only what is judged can be verified; anything else is undefined.
    pub(super) fn not_judged(&mut self, builtin: &str, wanted: &str) -> Called {
        self.notes.push(format!("{builtin}: its first argument is not {wanted}"));
        Called::Undefined
    }

    /// The time of this evaluation, in seconds since 1970.
    pub(super) fn seconds(&mut self) -> Result<i64, CallError> {
        const NANOS: u64 = 1_000_000_000;
        let Value::Number(nanos) = self.now()? else { return Err(CallError::Clock) };
        let nanos = nanos.as_u64().ok_or(CallError::Clock)?;
        i64::try_from(nanos / NANOS).map_err(|_| CallError::Clock)
    }
}

/// True, by proof.
fn proven(_: &VerifiedSigner) -> Called {
    Called::Value(Value::Bool(true))
}
