#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "the ratios are for people")]
//! What one verification costs, by kind of signature; and what it costs again, when it is known. How many
//! times less that is is printed, and held against a limit where all is optimised.

#[path = "../integration-tests/forge/mod.rs"]
mod forge;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildgate::check::{Outcome, Question, Step, step};
use buildgate::input::gitobject::{GitObject, Kind};
use buildgate::input::{Env, Http, Input};
use buildgate::meta::{
    AttestationBlob, AttestationChain, ChecksumResponse, Content, ImageMeta, ImageSignatures,
    Known, SourceMeta,
};
use buildgate::policy::{Policy, PolicyFiles, Round};
use buildgate::source::{Platform, SourceOp};
use buildgate::verify::chain::{BUNDLE, PROVENANCE, SIMPLE_SIGNING, verify_chain};
use buildgate::verify::sigstore::{
    Artifact, HardenedKey, Log, PublicKey, Signer, SimpleSigning, TrustRoot, TrustRoots,
    VerificationCache,
};
use buildgate::verify::{DetachedSignature, ObjectFormat, SignerCache, Trust};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forge::{AT, Forge, Rekor, Who, about, b64, digest, key, public_pem, sha256, statement};
use serde_json::json;
use sha2::{Digest as _, Sha512};

const ARTIFACT: &[u8] = b"a tarball";
const NOW: i64 = AT + 86_400;

fn bundles(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let statement = statement("https://slsa.dev/provenance/v1", ARTIFACT);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let keyless = Signer::Keyless(&root);
    let artifact = digest(ARTIFACT);
    let artifact = Artifact::Digest(&artifact);
    for (name, bundle, by) in [
        ("bundle, Rekor v1", forge.attest(&leaf, &statement, Rekor::V1), keyless),
        ("bundle, Rekor v2", forge.attest(&leaf, &statement, Rekor::V2), keyless),
        (
            "bundle by key, logged",
            forge.attest_by_key(&key(50), &statement, Some(Rekor::V1)),
            Signer::Key(&ours, Log::Required(&root)),
        ),
        (
            "bundle by key, timestamp (RFC 3161)",
            forge.attest_by_key(&key(50), &statement, Some(Rekor::None)),
            Signer::Key(&ours, Log::WherePresent(&root)),
        ),
        (
            "bundle by key alone",
            forge.attest_by_key(&key(50), &statement, None),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let bundle = bundle.to_string();
        twice(c, &format!("verify: {name}"), VerificationCache::default, |cache| {
            black_box(cache.bundle(bundle.as_bytes(), artifact, by, NOW).unwrap());
        });
    }
    c.bench_function("read a trust root", |b| {
        b.iter(|| black_box(TrustRoot::parse("sigstore", json.as_bytes()).unwrap()));
    });
}

fn simple_signing(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let manifest = digest(b"a manifest");
    for (name, (payload, annotations), by) in [
        ("simple signing", forge.simple(&leaf, &manifest), Signer::Keyless(&root)),
        (
            "simple signing by key alone",
            forge.simple_by_key(&key(50), &manifest, false),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let signed = SimpleSigning { payload: &payload, annotations: &annotations };
        twice(c, &format!("verify: {name}"), VerificationCache::default, |cache| {
            black_box(cache.simple_signing(&signed, &manifest, by, NOW).unwrap());
        });
    }
}

/// How often the first asking is timed, and the second.
const TIMES: [u32; 2] = if cfg!(debug_assertions) { [3, 20] } else { [20, 200] };
/// How many times less the second asking of a verifier takes, at least, once all is optimised: what is left
/// of it is a digest of a few kilobytes.
const LESS: f64 = 4.0;

/// What is asked of something fresh, and of something that was asked before.
fn twice<T>(c: &mut Criterion, name: &str, fresh: impl Fn() -> T, ask: impl Fn(&T)) {
    c.bench_function(&format!("{name}, cold"), |b| {
        // What was asked is dropped when the clock stands still.
        let ask = |it: T| {
            ask(&it);
            it
        };
        b.iter_batched(&fresh, ask, BatchSize::PerIteration);
    });
    let known = fresh();
    ask(&known);
    c.bench_function(&format!("{name}, warm"), |b| b.iter(|| ask(&known)));

    // The best of each, which is what the work costs, whatever else the machine does.
    let best = |times: u32, it: &dyn Fn() -> Duration| (0..times).map(|_| it()).min().unwrap();
    let [colds, warms] = TIMES;
    let time = |it: &T| {
        let started = Instant::now();
        ask(it);
        started.elapsed()
    };
    let cold = best(colds, &|| time(&fresh()));
    let warm = best(warms, &|| time(&known));
    let ratio = cold.as_secs_f64() / warm.as_secs_f64().max(1e-9);
    println!("{name}: cold {cold:.1?}, warm {warm:.1?}: {ratio:.0} times less");
    // Where a policy is evaluated or a chain is walked, that stays.
    let is_alone = name.starts_with("verify:");
    assert!(cfg!(debug_assertions) || !is_alone || ratio > LESS, "{name}: {ratio:.1} times less");
}

/// Trust in a forge as Sigstore's public instance, and in key 50 for hardened images; with an empty memory.
fn trust(json: &str) -> Trust {
    let mut roots = TrustRoots::embedded().unwrap();
    roots.insert(TrustRoot::parse("sigstore", json.as_bytes()).unwrap()).unwrap();
    let key = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    Trust::new(roots).with_hardened(HardenedKey::new(key, AT))
}

/// A layer of a signature manifest: media type, content, annotations.
type Layer = (&'static str, Vec<u8>, serde_json::Value);

/// A chain of attestations with one signature.
fn chain(hardened: bool, layer: &dyn Fn(&str) -> Layer) -> AttestationChain {
    let mut chain = AttestationChain::default();
    let mut put = |data: Vec<u8>, media_type: &str| {
        let (name, size) = (digest(&data), data.len());
        let blob = AttestationBlob { data: data.into(), ..AttestationBlob::default() };
        chain.blobs.insert(name.clone(), blob);
        json!({"mediaType": media_type, "digest": name, "size": size})
    };
    let bytes = |json: serde_json::Value| json.to_string().into_bytes();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let mut image = put(bytes(json!({"layers": []})), manifest);
    let statement = json!({
        "mediaType": "application/vnd.in-toto+json", "digest": digest(b"{}"), "size": 2,
        "annotations": {"in-toto.io/predicate-type": PROVENANCE[0]},
    });
    let attestation = put(bytes(json!({"layers": [statement], "subject": image})), manifest);
    let (kind, content, annotations) = layer(attestation["digest"].as_str().unwrap());
    let mut layer = put(content, kind);
    layer["annotations"] = annotations;
    let signature = json!({"artifactType": kind, "layers": [layer], "subject": attestation});
    let signature = put(bytes(signature), manifest);
    let mut index = json!({});
    if hardened {
        image["annotations"] = json!({"com.docker.dhi.build.id": "7"});
        index["annotations"] = json!({"org.opencontainers.image.title": "dhi/app"});
        index["manifests"] = json!([image]);
    } else {
        let mut listed = attestation.clone();
        listed["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        });
        index["manifests"] = json!([image, listed]);
    }
    let index = put(bytes(index), manifest);
    let text = |it: &serde_json::Value| it["digest"].as_str().unwrap().to_owned();
    chain.root = text(&index);
    chain.image_manifest = text(&image);
    chain.attestation_manifest = text(&attestation);
    chain.signature_manifests = vec![text(&signature)];
    chain
}

/// A signature of attestations by Jane, and one as Docker makes those of hardened images.
fn layers(forge: &Forge) -> [(&'static str, bool, AttestationChain); 2] {
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let by_jane = chain(false, &|digest| {
        let bundle = forge.attest(&leaf, &about(PROVENANCE[0], digest), Rekor::V1);
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    });
    let by_docker = chain(true, &|digest| {
        let (payload, annotations) = forge.simple_by_key(&key(50), digest, false);
        (SIMPLE_SIGNING, payload, json!(annotations))
    });
    [("a chain of attestations", false, by_jane), ("a hardened image", true, by_docker)]
}

fn chains(c: &mut Criterion) {
    let forge = Forge::new(10);
    let root = forge.trusted_root().to_string();
    for (name, is_dhi, chain) in layers(&forge) {
        twice(
            c,
            &format!("verify {name}"),
            || trust(&root),
            |trust| {
                let signers = verify_chain(&chain, trust, NOW).unwrap();
                assert!(signers.verified.len() == 1 && signers.verified[0].is_dhi() == is_dhi);
            },
        );
    }
}

/// A policy with a memory of its own.
fn policy(rule: &str, root: &str) -> Policy {
    let text = format!(
        "package docker\ndefault allow := false\nallow if {rule}\ndecision := {{\"allow\": allow}}\n"
    );
    let key = public_pem(&key(50)).into_bytes();
    let files =
        [("p.rego".to_owned(), text.into_bytes().into()), ("key.pub".to_owned(), key.into())];
    let files = PolicyFiles::memory(files.into());
    let policy = Policy::load("bench", files, &["p.rego".to_owned()]).unwrap();
    policy.with_trust(Arc::new(trust(root)))
}

/// What a build pays: a decision of a policy that asks who signed, by what is known already.
fn decisions(c: &mut Criterion) {
    let forge = Forge::new(10);
    let root = forge.trusted_root().to_string();
    let ask = |policies: &[Policy; 1], known: &Known| {
        let op = SourceOp::new("docker-image://registry.example.com/app:1");
        let question = Question { op, platform: Platform::default(), env: Env::default() };
        let stepped = step(policies, &question, known).unwrap();
        let is_allowed = matches!(&stepped.step, Step::Decided(outcome)
            if matches!(**outcome, Outcome::Allowed(_)));
        assert!(is_allowed, "{:?} {:?}", stepped.step, stepped.notes);
    };
    for (name, _, chain) in layers(&forge) {
        let image = ImageMeta {
            digest: Some(chain.root.clone()),
            attestations: Some(chain),
            ..ImageMeta::default()
        };
        let known = Known {
            root: SourceMeta { image: Some(image), ..SourceMeta::default() },
            ..Known::default()
        };
        let fresh = || [policy("count(input.image.signatures) == 1", &root)];
        twice(c, &format!("decide by {name}"), fresh, |policies| ask(policies, &known));
    }
    let manifest = digest(b"a manifest");
    let (payload, annotations) = forge.simple_by_key(&key(50), &manifest, false);
    let blob = AttestationBlob {
        media_type: SIMPLE_SIGNING.to_owned(),
        annotations,
        data: payload.into(),
    };
    let image = ImageMeta { digest: Some(manifest.clone()), ..ImageMeta::default() };
    let known = Known {
        root: SourceMeta { image: Some(image), ..SourceMeta::default() },
        signatures: Some(ImageSignatures { digest: manifest, found: vec![blob] }),
        ..Known::default()
    };
    let rule = "verify_image_signature(input.image, {\"key\": \"key.pub\"})";
    let fresh = || [policy(rule, &root)];
    twice(c, "decide by an image's signature", fresh, |policies| ask(policies, &known));
}

/// GitHub's answer about a download, with one attestation in it.
fn github(c: &mut Criterion) {
    let forge = Forge::new(10);
    let root = forge.trusted_root().to_string();
    let mut who = Who::person("jane@example.com");
    who.extensions = vec![
        (8, "https://token.actions.githubusercontent.com".to_owned()),
        (12, "https://github.com/org/app".to_owned()),
    ];
    let leaf = forge.leaf(&who, 100);
    let checksum = digest(ARTIFACT);
    let bundle = forge.attest(&leaf, &about(PROVENANCE[0], &checksum), Rekor::V1);
    let list = json!({"attestations": [{"bundle": bundle, "repository_id": 1}]}).to_string();
    let mut api = SourceOp::new(format!(
        "https://api.github.com/repos/org/app/attestations/{checksum}\
         ?predicate_type=https%3A%2F%2Fslsa.dev%2Fprovenance%2Fv1"
    ));
    api.attrs.insert("http.header.accept".into(), "application/vnd.github+json".into());
    api.attrs.insert("http.filename".into(), "attestations.json".into());
    let contents = vec![Content { source: api, data: Some(list.into_bytes().into()) }];
    let http = Http { checksum, contents, ..Http::default() };
    let input = Input { http: Some(http), ..Input::default() };
    let fresh = || policy("github_attestation(input.http, \"org/app\")", &root);
    twice(c, "decide by GitHub's list", fresh, |policy| {
        let evaluated = policy.judge(&input).unwrap();
        let is_allowed = matches!(&evaluated.round, Round::Decided(it) if it.allow);
        assert!(is_allowed, "{:?} {:?}", evaluated.round, evaluated.notes);
    });
}

fn run(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A commit, but for its signature: what stands before that, and after.
const COMMIT: [&str; 2] = [
    "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
     author A <a@b.c> 1735689600 +0000\ncommitter A <a@b.c> 1735689600 +0000\n",
    "\nmessage\n",
];

/// A git object by itself, and again.
fn git(c: &mut Criterion, name: &str, signature: &str, keys: &[u8], now: i64) {
    let [head, tail] = COMMIT;
    let header = signature.trim_end().replace('\n', "\n ");
    let raw = format!("{head}gpgsig {header}\n{tail}");
    let object = GitObject::parse(Kind::Commit, raw.into()).unwrap();
    twice(c, &format!("verify: git commit, {name}"), SignerCache::default, |cache| {
        let _ = black_box(cache.git(&object, ObjectFormat::Sha1, keys, now).unwrap());
    });
}

fn openpgp(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let gpg = |args: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(home.path()).args(["--batch", "--yes", "--quiet"]);
        run(gpg.args(["--pinentry-mode", "loopback", "--passphrase", ""]).args(args))
    };
    let now = jiff::Timestamp::now().as_second();
    for algorithm in ["ed25519", "nistp256", "rsa2048", "rsa4096"] {
        gpg(&["--quick-generate-key", algorithm, algorithm, "sign,cert", "never"]);
        let sign = |content: &[u8]| {
            let path = home.path().join("content");
            std::fs::write(&path, content).unwrap();
            let options = ["--armor", "--digest-algo", "SHA512", "-u", algorithm, "-o", "-"];
            gpg(&[&options[..], &["--detach-sign", path.to_str().unwrap()]].concat())
        };
        let keys = gpg(&["--export", algorithm]);
        let name = format!("OpenPGP {algorithm}");
        let of_commit = String::from_utf8(sign(COMMIT.concat().as_bytes())).unwrap();
        git(c, &name, &of_commit, &keys, now);

        let of_file = sign(ARTIFACT);
        let asked = DetachedSignature::parse(&of_file).unwrap().checksum_request().unwrap();
        let hash = Sha512::new().chain_update(ARTIFACT).chain_update(&asked.suffix).finalize();
        let digest = format!("sha512:{}", hex::encode(hash));
        let response = ChecksumResponse { digest, suffix: asked.suffix };
        twice(c, &format!("verify: http, {name}"), SignerCache::default, |cache| {
            let _ = black_box(cache.http(&of_file, &response, &keys, now).unwrap());
        });
    }
    run(Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]));
}

fn ssh(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (key, commit) = (home.path().join(kind), home.path().join(format!("{kind}.commit")));
        std::fs::write(&commit, COMMIT.concat()).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key));
        let mut sign = Command::new("ssh-keygen");
        run(sign.args(["-q", "-Y", "sign", "-n", "git", "-f"]).args([&key, &commit]));
        let signature = std::fs::read_to_string(home.path().join(format!("{kind}.commit.sig")));
        let keys = std::fs::read(key.with_extension("pub")).unwrap();
        git(c, &format!("SSH {kind}"), &signature.unwrap(), &keys, NOW);
    }
    for (kind, (signature, public)) in
        [("sk-ed25519", sk(SkKind::Ed25519)), ("sk-ecdsa", sk(SkKind::P256))]
    {
        git(c, &format!("SSH {kind}"), &signature, public.as_bytes(), NOW);
    }
}

/// Strings of SSH's wire format, one after the other.
fn wire(parts: &[&[u8]]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_be_bytes();
    parts.iter().flat_map(|part| [&length(part), *part].concat()).collect()
}

/// A kind of key that lives in a security key.
#[derive(Clone, Copy)]
enum SkKind {
    Ed25519,
    P256,
}

/// A signature of the commit as a security key makes it, and its public key; no such key is at hand here.
fn sk(kind: SkKind) -> (String, String) {
    let content = Sha512::digest(COMMIT.concat());
    let signed = [b"SSHSIG", &wire(&[b"git", b"", b"sha512", &content])[..]].concat();
    // Touched, and its ninth signature.
    let tail = [1, 0, 0, 0, 9];
    let touched = [&sha256("ssh:")[..], &tail, &sha256(signed)].concat();
    let (name, public, signature) = match kind {
        SkKind::Ed25519 => {
            let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
            let name = "sk-ssh-ed25519@openssh.com";
            let by = ed25519_dalek::Signer::sign(&secret, &touched);
            let public = wire(&[name.as_bytes(), secret.verifying_key().as_bytes(), b"ssh:"]);
            (name, public, by.to_bytes().to_vec())
        }
        SkKind::P256 => {
            let secret = key(7);
            let point = secret.verifying_key().to_encoded_point(false);
            let name = "sk-ecdsa-sha2-nistp256@openssh.com";
            let by: p256::ecdsa::Signature =
                p256::ecdsa::signature::Signer::sign(&secret, &touched);
            // Numbers that would be negative have a zero before them.
            let number = |it: &[u8]| match it {
                [high, ..] if *high >= 0x80 => [&[0], it].concat(),
                it => it.to_vec(),
            };
            let (r, s) = by.split_bytes();
            let public = wire(&[name.as_bytes(), b"nistp256", point.as_bytes(), b"ssh:"]);
            (name, public, wire(&[&number(&r), &number(&s)]))
        }
    };
    let inner = [&wire(&[name.as_bytes(), &signature])[..], &tail].concat();
    let parts = wire(&[&public, b"git", b"", b"sha512", &inner]);
    let blob = b64([b"SSHSIG\0\0\0\x01", &parts[..]].concat());
    let lines: Vec<_> = blob.as_bytes().chunks(70).map(String::from_utf8_lossy).collect();
    let blob = lines.join("\n");
    let armored = format!("-----BEGIN SSH SIGNATURE-----\n{blob}\n-----END SSH SIGNATURE-----\n");
    (armored, format!("{name} {}", b64(&public)))
}

criterion_group!(benches, bundles, simple_signing, chains, decisions, github, openpgp, ssh);
criterion_main!(benches);
