//! What a daemon remembers of builds before: its git asks for a submodule where its name first came from.

use tempfile::TempDir;

use crate::frontend_show::clients::Ended;
use crate::gate_enforce::only;
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, git, need};

/// A repository whose submodule is elsewhere in its second version, and at both places the same.
struct Moved {
    server: HttpServer,
    _dir: TempDir,
}

impl Moved {
    fn start() -> Result<Self, peers::NoPeer> {
        let dir = tempfile::tempdir().unwrap();
        let (work, served) = (dir.path().join("work"), dir.path().join("served"));
        let publish = |from: &str, to: &str| {
            let bare = served.join(to);
            git(&work.join(from), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
            git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        };
        let commit = |repository: &str, message: &str| {
            // A commit of its own each time: a daemon that has it fetches nothing.
            let message = format!("{message} of {}", dir.path().display());
            git(&work.join(repository), &["add", "."]);
            git(&work.join(repository), &["commit", "-q", "-m", &message]);
            git(&work.join(repository), &["rev-parse", "HEAD"]).trim().to_owned()
        };
        for repository in ["lib", "top"] {
            std::fs::create_dir_all(work.join(repository)).unwrap();
            git(&work.join(repository), &["init", "-q", "-b", "main"]);
        }
        let top = work.join("top");
        for (version, place) in [("v1", "old"), ("v2", "new")] {
            std::fs::write(work.join("lib/version"), version).unwrap();
            let link = format!("160000,{},lib", commit("lib", version));
            let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = ../{place}.git\n");
            std::fs::write(top.join(".gitmodules"), modules).unwrap();
            git(&top, &["update-index", "--add", "--cacheinfo", &link]);
            git(&top, &["add", ".gitmodules"]);
            let message = format!("{version} of {}", dir.path().display());
            git(&top, &["commit", "-q", "-m", &message]);
            git(&top, &["tag", version]);
        }
        publish("top", "top.git");
        publish("lib", "old.git");
        publish("lib", "new.git");
        Ok(Self { server: peers::serve_git(served)?, _dir: dir })
    }

    /// How often the old place was asked.
    fn old(&self) -> usize {
        self.server.asked().iter().filter(|it| it.path.contains("old.git")).count()
    }
}

#[test]
fn a_submodule_is_judged_where_it_was_before() {
    let world = need!(peers::world());
    let moved = need!(Moved::start());
    // Where it was is good for builds that say so.
    let rego = only(
        "regex.match(\"/(top|new).git$\", input.git.remote)\n\
         allow if {\n endswith(input.git.remote, \"/old.git\")\n input.env.args.OLD == \"yes\"\n}",
    );
    let gate = Gate::before(world, &rego, &[]);
    let build = |version: &str, old: &str| -> Ended {
        let add = format!("FROM scratch\nADD {}#{version} /\n", moved.server.url("/top.git"));
        let context = peers::folder(&[("Dockerfile", &add)]);
        let local = |name| format!("--local={name}={}", context.path().display());
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        build.args([local("context"), local("dockerfile")]);
        build.arg(format!("--opt=build-arg:OLD={old}"));
        build.output().unwrap().into()
    };
    let refused = build("v1", "no");
    assert!(!refused.passed && moved.old() == 0, "{}", refused.said);
    build("v1", "yes").passed("the first version");
    let asked = moved.old();
    assert!(asked > 0);
    // Its git would ask there again for what is elsewhere now.
    let refused = build("v2", "no");
    let words = "its submodule `lib` had another URL in a build before";
    assert!(!refused.passed && refused.said.contains(words), "{}", refused.said);
    assert_eq!(moved.old(), asked, "{:?}", moved.server.asked());
    build("v2", "yes").passed("the second version");
}
