//! What stock clients print of a denial: word by word what they print of the same denial by a policy
//! session of their own on the bare daemon.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use buildgate::gate::proxy::{Answer, Call, Handle, ListenOptions};
use buildgate::rpc;
use buildgate::session::{PolicySession, SessionId, Verifier, Verifying};
use buildgate::source::SourceOp;
use buildgate::wire::policy;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::policysession::CheckPolicyRequest;
use futures_util::future::BoxFuture;
use prost::Message as _;

use super::between::stand;
use super::clients::{TCP, fed, raw, tcp};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::gate_enforce::SOLVE;
use crate::gate_process::Gate;
use crate::peers::{self, HttpServer, llb, need};

/// Two reasons, one of them with what terminals and formats might stumble over.
const REASONS: [&str; 2] = ["100% \"ours\": see https://example.com/why?a=b&c", "ours says no"];

/// The same as a policy.
fn rego() -> String {
    format!(
        "package docker\ndefault allow := false\nallow if input.local\n\
         allow if endswith(input.image.repo, \"base\")\n\
         deny_msg contains {:?} if not allow\ndeny_msg contains {:?} if not allow\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n",
        REASONS[0], REASONS[1]
    )
}

/// The same as a verifier.
struct Ours;

impl Verifier for Ours {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        let source = question.source.unwrap().source.unwrap().identifier;
        let answer = match source.starts_with("local://") || source.contains("/base:1") {
            true => policy::Answer::Allow,
            false => policy::Answer::Deny { messages: REASONS.map(str::to_owned).into() },
        };
        Box::pin(async move { Ok(answer.into()) })
    }
}

/// Gives each solve that verifier, as buildctl cannot itself, and leaves all else to the daemon.
struct Judged;

impl Handle for Judged {
    fn handle(&self, mut call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if call.method() != SOLVE {
                return call.forward().await;
            }
            let id = SessionId::random().unwrap();
            let session = PolicySession::open(call.channel(), id, Arc::new(Ours)).await.unwrap();
            let body = std::mem::replace(call.request.body_mut(), rpc::one(b""));
            let message = rpc::read_one(body).await.unwrap().0.unwrap();
            let mut request = SolveRequest::decode(message).unwrap();
            session.id().reveal().clone_into(&mut request.source_policy_session);
            *call.request.body_mut() = rpc::one(&request.encode_to_vec());
            call.forward().await
        })
    }
}

/// What a client says in the end, behind the last line of progress: where it failed, and why.
fn end(said: &str) -> Vec<&str> {
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let behind = lines.iter().rposition(|line| line.starts_with('#')).map_or(0, |last| last + 1);
    let mut end = lines[behind..].to_vec();
    // Where Buildx judges, the step that failed is its own judging, which it shows once more.
    if end.get(1).is_some_and(|line| line.starts_with(" > loading policies ")) {
        let block = end.iter().skip(1).position(|line| *line == "------").unwrap();
        end.drain(..block + 2);
    }
    end
}

#[test]
fn denials_read_as_those_of_a_policy_session() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let gate = Gate::before(world, &rego(), &TCP);
    let (bare, gated) = (need!(Buildx::get(world)), need!(Buildx::at(&tcp(&gate))));
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix://{}", dir.path().join("judged.sock").display());
    let options = ListenOptions::at(address.parse().unwrap());
    let _daemon = stand(world, options, Arc::new(Judged));
    let buildctl = |address: &str| {
        let mut command = Command::new(peers::pinned("buildctl").unwrap());
        command.args(["--addr", address]).env("OTEL_TRACES_EXPORTER", "none");
        command
    };
    let socket = format!("unix://{}", gate.path("gate.sock").display());
    let by_buildctl = |address: &str, context: &Path| -> Ended {
        let mut build = buildctl(address);
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        let local = |name| format!("--local={name}={}", context.display());
        build.args(["context", "dockerfile"].map(local)).output().unwrap().into()
    };
    let check = |what: &str, bare: &Ended, gated: &Ended, prefix: &str| {
        assert!(!bare.passed && !gated.passed, "{what}: {}\n{}", bare.said, gated.said);
        let (bare_end, gated_end) = (end(&bare.said), end(&gated.said));
        assert_eq!(bare_end, gated_end, "{what}\n{}\n{}", bare.said, gated.said);
        for reason in REASONS {
            let line = format!("{prefix}{reason}");
            assert!(gated_end.contains(&line.as_str()), "{what}: {line:?}: {gated_end:?}");
        }
        let words = "not allowed by policy: action DENY";
        assert!(gated_end.iter().any(|line| line.contains(words)), "{what}: {gated_end:?}");
    };
    let evil = world.image("words-evil:1");
    let from = format!("FROM {}\n", world.image("base:1"));
    let never = files.url("/never");
    for (what, dockerfile) in [
        ("an image", format!("FROM {evil}\n")),
        ("a stage's image", format!("{from}COPY --from={evil} / /\n")),
        ("a mount", format!("{from}RUN --mount=from={evil} true\n")),
        ("a file", format!("{from}ADD {never} /\n")),
        ("a syntax", format!("# syntax={evil}\n{from}")),
    ] {
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let [one, other] = [&address, &socket].map(|it| by_buildctl(it, context.path()));
        check(&format!("{what}, by buildctl"), &one, &other, "policy deny: ");
        let through = gated.build(context.path(), &[]);
        // Buildx reads the same rules beside the Dockerfile.
        std::fs::write(context.path().join("Dockerfile.rego"), rego()).unwrap();
        let own = bare.build(context.path(), &[]);
        check(&format!("{what}, by Buildx"), &own, &through, "Policy: ");
    }
    let definition = llb(&[SourceOp::new(never)]);
    let mut build = buildctl(&address);
    build.args(["build", "--progress=plain", "--no-cache"]);
    let own: Ended = fed(build, &definition).wait_with_output().unwrap().into();
    check("raw LLB", &own, &raw(&gate, &definition, &[]), "policy deny: ");
    assert_eq!(files.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["words-evil"]), [""; 0]);
}
