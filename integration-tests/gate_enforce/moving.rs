//! What was judged is what is fetched, where the same name leads to something else a moment later.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use buildgate::source::SourceOp;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{As, Gate, folder, of, only, reasons};
use crate::peers::{self, HttpServer, git, need};

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

/// A repository whose branch leads elsewhere once somebody has asked where it leads.
struct Branch {
    server: HttpServer,
    bare: PathBuf,
    good: String,
    evil: String,
    _dir: TempDir,
}

impl Branch {
    fn start() -> Result<Self, peers::NoPeer> {
        let dir = tempfile::tempdir().unwrap();
        let (work, served) = (dir.path().join("work"), dir.path().join("served"));
        std::fs::create_dir(&work).unwrap();
        std::fs::create_dir(&served).unwrap();
        git(&work, &["init", "-q", "-b", "main"]);
        let [good, evil] = ["good", "evil"].map(|text| {
            std::fs::write(work.join("x"), text).unwrap();
            git(&work, &["add", "x"]);
            git(&work, &["commit", "-q", "-m", text]);
            git(&work, &["rev-parse", "HEAD"]).trim().to_owned()
        });
        let bare = served.join("top.git");
        git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        git(&bare, &["update-ref", "refs/heads/main", &good]);
        let (moved, to) = (bare.clone(), evil.clone());
        let server = peers::serve_git_then(served, move |request| {
            if request.method == "POST" {
                git(&moved, &["update-ref", "refs/heads/main", &to]);
            }
        })?;
        Ok(Self { server, bare, good, evil, _dir: dir })
    }
}

#[test]
fn a_branch_that_moves_is_not_followed() {
    let world = need!(peers::world());
    for declared in [false, true] {
        let branch = need!(Branch::start());
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
        assert_eq!(git(&branch.bare, &["rev-parse", "main"]).trim(), evil);
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
