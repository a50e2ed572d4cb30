//! The client's own verifier beside ours, in either mode.

use std::sync::Arc;

use buildgate::gate::ops::{Mode, Settings};
use buildgate::rpc::Channel;
use buildgate::session::{PolicySession, SessionId, Verifier, Verifying};
use buildgate::source::SourceOp;
use buildgate::wire::policy::Answer;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use buildgate::wire::proto::policysession::CheckPolicyRequest;
use tonic::Status;

use super::{As, Gate, of, only, open_session, reasons, unique};
use crate::peers::{self, need};

/// What a verifier of the client's answers about an identifier.
type Rule = Box<dyn Fn(&str) -> Result<Answer, Status> + Send + Sync>;

/// A verifier of the client's.
struct Theirs(Rule);

impl Verifier for Theirs {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        let source = question.source.unwrap().source.unwrap();
        let answer = self.0(&source.identifier);
        Box::pin(async move { answer.map(Into::into) })
    }
}

/// One solve that brings this verifier along.
fn solve(
    gate: &Gate,
    channel: &Channel,
    rule: Rule,
    source: &str,
) -> Result<SolveResponse, Status> {
    let id = SessionId::random().unwrap();
    let opening = PolicySession::open(channel, id, Arc::new(Theirs(rule)));
    let session = gate.runtime.block_on(opening).unwrap();
    let id = session.id().reveal().to_owned();
    let request = SolveRequest { source_policy_session: id, ..of(SourceOp::new(source)) };
    gate.solve(channel, request)
}

/// It passed, or was refused in these words.
fn check(what: &str, got: Result<SolveResponse, Status>, wanted: Option<&str>) {
    match (got, wanted) {
        (Ok(_), None) => {}
        (Err(status), Some(wanted)) => {
            assert!(status.message().contains("not allowed by policy"), "{what}: {status:?}");
            let said = reasons(&status);
            assert!(said.contains(wanted), "{what}: {status:?}: {said}");
        }
        (got, wanted) => panic!("{what}: {got:?} is not {wanted:?}"),
    }
}

fn denies() -> Rule {
    Box::new(|_| Ok(Answer::Deny { messages: vec!["theirs says no".to_owned()] }))
}

fn allows() -> Rule {
    Box::new(|_| Ok(Answer::Allow))
}

/// Puts another source in the place of each.
fn converts(into: &str) -> Rule {
    let into = SourceOp::new(into);
    Box::new(move |_| Ok(Answer::Convert(into.clone())))
}

fn fails() -> Rule {
    Box::new(|_| Err(Status::internal("theirs is broken")))
}

#[test]
fn the_clients_own_verifier_and_ours_must_both_allow() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let channel = gate.connect(As::User);
    let base = format!("docker-image://{}", world.image("base:1"));
    let no = format!("docker-image://{}", world.image("swapped-by-client:1"));
    for (what, rule, source, wanted) in [
        ("both allow", allows(), &base, None),
        ("we deny", allows(), &no, Some("ours says no")),
        ("they deny", denies(), &base, Some("theirs says no")),
        ("they convert into what we deny", converts(&no), &base, Some("ours says no")),
        ("they fail", fails(), &base, Some("theirs is broken")),
    ] {
        check(what, solve(&gate, &channel, rule, source), wanted);
    }
    // A session that says nothing of policies.
    let session = unique();
    let _held = gate.runtime.block_on(open_session(&channel, &[&session])).unwrap();
    let request =
        SolveRequest { source_policy_session: session, ..of(SourceOp::new(base.as_str())) };
    let status = gate.solve(&channel, request).unwrap_err();
    assert!(status.message().contains("serves no CheckPolicy"), "{status:?}");
    assert_eq!(world.registry.accesses(&["swapped-by-client"]).len(), 0);
}

/// What we would deny is loaded where we only audit; what the client's own policies deny is not.
#[test]
fn auditing_ours_leaves_the_clients_own_verifier_in_force() {
    let world = need!(peers::world());
    let audit = Settings { mode: Mode::Audit, ..Settings::default() };
    // Denied by ours, undecided by ours, and allowed.
    let rego = only("input.image.tag == \"docker\"\nallow := 1 if input.image.tag == \"plain\"");
    let gate = Gate::with(world, &rego, audit);
    let channel = gate.connect(As::User);
    let image = |name: &str| format!("docker-image://{}", world.image(name));
    let never = image("audit-evil:1");
    let instead = image("counted:1");
    for source in [image("base:1"), image("app:plain"), image("app:docker")] {
        for (what, rule, wanted) in [
            ("they allow", allows(), None),
            ("they deny", denies(), Some("theirs says no")),
            ("they fail", fails(), Some("theirs is broken")),
            ("they convert", converts(&instead), None),
        ] {
            check(&format!("{what} {source}"), solve(&gate, &channel, rule, &source), wanted);
        }
    }
    check("never", solve(&gate, &channel, denies(), &never), Some("theirs says no"));
    // What we would have said is written down all the same, and what takes a source's place is asked about.
    let lines = gate.lines();
    let of_never = lines.iter().find(|line| line["source"] == never.as_str()).unwrap();
    let ours = "would be denied: ours says no";
    assert_eq!((&of_never["action"], &of_never["warnings"][0]), (&"deny".into(), &ours.into()));
    assert_eq!(lines.iter().filter(|line| line["source"] == instead.as_str()).count(), 3);
    assert_eq!(world.registry.accesses(&["audit-evil"]).len(), 0);
}
