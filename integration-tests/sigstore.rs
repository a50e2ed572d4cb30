//! Runs the `bundle-verify` cases of sigstore-conformance through our own verifier: `sigstore DIR`,
//! where DIR is a checkout of <https://github.com/sigstore/sigstore-conformance>. A line for each
//! case that comes out otherwise than its name says, and a sum. (The cases are the suite's, and are
//! not kept here.)
//!
//! As in the suite, a case whose name ends in `_fail` must not verify, and any other must: by the key
//! beside it, else by the identity beside it or the suite's own; by the trust root beside it, else
//! by the public instance's.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use buildgate::verify::sigstore::{
    Artifact, Identity, Log, PublicKey, Signer, TrustRoot, TrustRoots, VerifiedSignature,
    verify_bundle,
};

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: sigstore CHECKOUT");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder)) {
        Ok((passed, failed)) => {
            println!("sigstore: {passed} passed, {failed} failed");
            ExitCode::from(u8::from(failed > 0))
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many cases came out as they should, and how many did not.
fn run(checkout: &Path) -> anyhow::Result<(usize, usize)> {
    let folder = checkout.join("test/assets/bundle-verify");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    cases.retain(|path| path.is_dir());
    cases.sort();
    if cases.is_empty() {
        bail!("{}: there is no case", folder.display());
    }
    let (mut passed, mut failed) = (0, 0);
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy();
        let outcome = verify(case, &folder);
        if outcome.is_ok() != name.ends_with("_fail") {
            passed += 1;
        } else {
            failed += 1;
            match outcome {
                Ok(_) => println!("{name}: it verifies, and must not"),
                Err(error) => println!("{name}: {error:#}"),
            }
        }
        if std::env::var_os("VERBOSE").is_some() {
            println!("{name}: {:?}", verify(case, &folder).err().map(|error| error.to_string()));
        }
    }
    Ok((passed, failed))
}

fn verify(case: &Path, folder: &Path) -> anyhow::Result<VerifiedSignature> {
    let read = |name: &str| fs::read(case.join(name)).ok();
    let bundle = read("bundle.sigstore.json").context("it has no bundle")?;
    let artifact = match read("artifact") {
        Some(artifact) => artifact,
        None => fs::read(folder.join("a.txt")).context("a.txt")?,
    };
    let embedded = TrustRoots::embedded()?;
    let root = match read("trusted_root.json") {
        Some(data) => TrustRoot::parse("custom", &data)?,
        None => embedded.get(None)?.as_ref().clone(),
    };
    let now = jiff::Timestamp::now().as_second();
    let artifact = Artifact::Bytes(&artifact);
    if let Some(key) = read("key.pub") {
        let key = PublicKey::from_pem(&key)?;
        let by = Signer::Key(&key, Log::Required(&root));
        return Ok(verify_bundle(&bundle, artifact, by, now)?);
    }
    let text = |name, default: &str| {
        read(name).map_or_else(
            || default.to_owned(),
            |text| String::from_utf8_lossy(&text).trim().to_owned(),
        )
    };
    let wanted = Identity { subject: text("identity", IDENTITY), issuer: text("issuer", ISSUER) };
    let verified = verify_bundle(&bundle, artifact, Signer::Keyless(&root), now)?;
    verified.is_by(&wanted)?;
    Ok(verified)
}
