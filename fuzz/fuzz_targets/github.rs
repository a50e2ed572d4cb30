#![no_main]
//! GitHub's list of attestations, and a bundle that is stored elsewhere in Snappy's format; parted by a
//! line of `--8<--`. No answer of a stranger attests anything.

use std::sync::OnceLock;

use buildgate::input::{Http, Input};
use buildgate::meta::Content;
use buildgate::policy::{Policy, PolicyFiles, Round};
use buildgate::source::SourceOp;
use libfuzzer_sys::fuzz_target;

mod parts;

const RULE: &str = "package docker\ndefault allow := false\n\
                    allow if github_attestation(input.http, \"org/app\")\n\
                    decision := {\"allow\": allow}\n";
/// Where a seed says that its bundle is stored.
const STORED: &str = "https://storage.example.com/bundle.json.sn";

fuzz_target!(|data: &[u8]| {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let files = [("p.rego".to_owned(), RULE.as_bytes().to_vec().into())];
        Policy::load("fuzz", PolicyFiles::memory(files.into()), &["p.rego".to_owned()]).unwrap()
    });
    let [list, bundle] = parts::of(data);
    let checksum = format!("sha256:{}", "a".repeat(64));
    let mut api = SourceOp::new(format!(
        "https://api.github.com/repos/org/app/attestations/{checksum}\
         ?predicate_type=https%3A%2F%2Fslsa.dev%2Fprovenance%2Fv1"
    ));
    api.attrs.insert("http.header.accept".into(), "application/vnd.github+json".into());
    api.attrs.insert("http.filename".into(), "attestations.json".into());
    let content = |source, data: &[u8]| Content { source, data: Some(data.to_vec().into()) };
    let contents = vec![content(api, list), content(SourceOp::new(STORED), bundle)];
    let http = Http { checksum, contents, ..Http::default() };
    let input = Input { http: Some(http), ..Input::default() };
    if let Ok(evaluated) = policy.judge(&input) {
        if let Round::Decided(decision) = evaluated.round {
            assert!(!decision.allow);
        }
    }
});
