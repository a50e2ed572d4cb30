//! What was judged is what is fetched, where the same name leads to something else a moment later.

use std::sync::atomic::{AtomicUsize, Ordering};

use buildgate::source::SourceOp;
use sha2::{Digest as _, Sha256};

use super::{As, Gate, folder, of, only, reasons};
use crate::peers::{self, Branch, HttpServer, need};

#[test]
fn what_was_judged_is_what_is_fetched() {
    let world = need!(peers::world());
    let turns = AtomicUsize::new(0);
    let files = HttpServer::start(move |_| {
        let turn = turns.fetch_add(1, Ordering::SeqCst);
        peers::Response::ok(if turn == 0 { "judged" } else { "swapped" })
    });
    let judged = format!("sha256:{}", hex::encode(Sha256::digest("judged")));
    let gate = Gate::start(world, &only(&format!("input.http.checksum == \"{judged}\"")));
    let context = folder(&[("Dockerfile", &format!("FROM scratch\nADD {} /f\n", files.url("/f")))]);
    let (passed, said) = gate.build(context.path(), &[]);
    // It is asked for once more to be loaded, and by then it is another one.
    assert!(said.contains(&format!("http.checksum={judged}")), "{said}");
    let swapped = format!("sha256:{}", hex::encode(Sha256::digest("swapped")));
    let refused = format!("digest mismatch {swapped}: {judged}");
    assert!(!passed && said.contains(&refused), "{said}");
    let labelled = only("input.image.labels[\"org.example.tier\"] == \"base\"");
    let gate = Gate::start(world, &labelled);
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    gate.solve(&gate.connect(As::User), of(base)).unwrap();
    let decisions = gate.decisions();
    assert_eq!(decisions[0].0, "convert");
    assert!(
        decisions[1].0 == "allow" && decisions[1].1.contains("base:1@sha256:"),
        "{decisions:?}"
    );
}

#[test]
fn a_branch_that_moves_is_not_followed() {
    let world = need!(peers::world());
    for declared in [false, true] {
        let branch = need!(Branch::start(true));
        let Branch { good, evil, .. } = &branch;
        let gate = Gate::start(world, &only(&format!("input.git.checksum == {good:?}")));
        let url = branch.server.url("/top.git");
        let host = url.trim_start_matches("http://");
        let mut op = SourceOp::new(format!("git://{host}#main"));
        op.attrs.insert("git.fullurl".to_owned(), url.clone());
        if declared {
            // BuildKit takes a prefix for a checksum.
            op.attrs.insert("git.checksum".to_owned(), good[..7].to_owned());
        }
        let channel = gate.connect(As::User);
        let solved = gate.solve(&channel, of(op.clone()));
        assert_eq!(&branch.leads_to(), evil);
        let lines = gate.lines();
        let pin = format!("git.checksum={good}");
        let converted = lines[0]["converted"].as_str().unwrap_or_default();
        assert!(converted.ends_with(&pin), "{declared}: {lines:?}");
        let status = solved.expect_err("the branch is elsewhere");
        assert!(status.message().contains(good), "{declared}: {status:?}");
        // Asked anew, it is the other commit, which the rule refuses.
        let status = gate.solve(&channel, of(op)).unwrap_err();
        let wanted = if declared { &good[..7] } else { "ours says no" };
        assert!(reasons(&status).contains(wanted), "{declared}: {status:?}");
    }
}
