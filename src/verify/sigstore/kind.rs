//! Who stands behind a signature, by Docker's names
//! (<https://github.com/moby/policy-helpers/blob/main/types/name.go>).

use super::VerifiedSignature;
use super::root::{TrustRoot, TrustRoots};
use super::signed::{SignatureKind, SignatureType, SignerInfo};

const GITHUB: &str = "https://github.com/";
const SIGSTORE: &str = "CN=sigstore-intermediate,O=sigstore.dev";
const BUILDERS: [&str; 2] = [
    "https://github.com/docker/github-builder/.github/workflows/",
    "https://github.com/docker/github-builder-experimental/.github/workflows/",
];

/// Tells who. Only the public instance knows Docker and GitHub: whoever runs another one could give
/// its authority the same name. A file that takes the place of that root (`--trust-root FILE`) stands
/// for it in this too: whoever names it says that it is the public instance's.
pub(super) fn kind(signature: &VerifiedSignature, root: Option<&TrustRoot>) -> SignatureKind {
    if signature.is_dhi() && !signature.docker_reference().is_empty() {
        return SignatureKind::DockerHardenedImage;
    }
    let public = root.is_some_and(|root| root.name() == TrustRoots::DEFAULT);
    let signer = signature.signer().filter(|it| public && it.certificate_issuer == SIGSTORE);
    match signer {
        Some(signer) if is_docker_builder(signature, signer) => SignatureKind::DockerGithubBuilder,
        Some(signer) if is_own_workflow(signer) => SignatureKind::SelfSignedGithubRepo,
        Some(_) => SignatureKind::SelfSigned,
        None => SignatureKind::Untrusted,
    }
}

fn is_docker_builder(signature: &VerifiedSignature, signer: &SignerInfo) -> bool {
    let by_builder = |uri: &str| BUILDERS.iter().any(|builder| uri.starts_with(builder));
    by_builder(&signer.build_signer_uri)
        && by_builder(&signer.subject_alternative_name)
        && is_hosted(signer)
        && signer.source_repository_uri.starts_with(GITHUB)
        && !signature.timestamps().is_empty()
        && signature.signature_type() == SignatureType::BundleV03
}

/// A workflow of the repository that was built.
fn is_own_workflow(signer: &SignerInfo) -> bool {
    let workflows = format!("{}/.github/workflows/", signer.source_repository_uri);
    is_hosted(signer)
        && signer.source_repository_uri.starts_with(GITHUB)
        && signer.build_signer_uri.starts_with(&workflows)
        && signer.subject_alternative_name.starts_with(&workflows)
}

fn is_hosted(signer: &SignerInfo) -> bool {
    signer.issuer == crate::verify::trust::GITHUB_ISSUER
        && signer.runner_environment == "github-hosted"
}
