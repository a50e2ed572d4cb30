//! The submodules of an allowed repository: each is judged, and what cannot be read alike by everybody is
//! refused.

use tempfile::TempDir;

use super::{build, only, open, says};
use crate::peers::{self, HttpServer, folder, git, need};

/// Repositories by name, served over HTTP: `top` has `middle`, which has `bottom`.
pub struct Modules {
    pub server: HttpServer,
    _dir: TempDir,
}

impl Modules {
    pub fn start() -> Result<Self, peers::NoPeer> {
        Self::written(|module| (module.to_owned(), module.to_owned()))
    }

    /// The same with how the path of each is written in `.gitmodules`, and where its link is.
    pub fn written(path: impl Fn(&str) -> (String, String)) -> Result<Self, peers::NoPeer> {
        let dir = tempfile::tempdir().unwrap();
        let served = dir.path().join("served");
        std::fs::create_dir(&served).unwrap();
        let mut below: Option<(&str, String)> = None;
        for name in ["bottom", "middle", "top"] {
            let work = dir.path().join(name);
            std::fs::create_dir(&work).unwrap();
            git(&work, &["init", "-q", "-b", "main"]);
            std::fs::write(work.join(name), name).unwrap();
            if let Some((module, commit)) = &below {
                let (path, link) = path(module);
                let text =
                    format!("[submodule \"{module}\"]\n\tpath = {path}\n\turl = ../{module}.git\n");
                std::fs::write(work.join(".gitmodules"), text).unwrap();
                let link = format!("160000,{commit},{link}");
                git(&work, &["update-index", "--add", "--cacheinfo", &link]);
            }
            git(&work, &["add", "--", name]);
            if below.is_some() {
                git(&work, &["add", ".gitmodules"]);
            }
            // A commit of its own each time: a daemon that has it fetches nothing.
            let message = format!("{name} of {}", dir.path().display());
            git(&work, &["commit", "-q", "-m", &message]);
            let commit = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
            let bare = served.join(format!("{name}.git"));
            git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
            git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
            below = Some((name, commit));
        }
        Ok(Self { server: peers::serve_git(served)?, _dir: dir })
    }

    pub fn asked(&self, name: &str) -> bool {
        self.server.asked().iter().any(|it| it.path.contains(name))
    }
}

#[test]
fn submodules_are_judged_one_by_one() {
    let world = need!(peers::world());
    let run = |condition: &str| {
        let modules = Modules::start().unwrap();
        let url = modules.server.url("/top.git");
        let context = folder(&[
            ("Dockerfile", &format!("FROM scratch\nADD {url} /src\n")),
            ("Dockerfile.rego", &only(condition)),
        ]);
        let out = tempfile::tempdir().unwrap();
        let output = format!("--output=type=local,dest={}", out.path().display());
        let built = build(world, open(world), &context, &[&output]);
        let there = out.path().join("src/middle/bottom/bottom").exists();
        (built, modules, there)
    };
    let (built, _, there) = run("input.git");
    let said = built.passed();
    assert!(there, "{said}");
    says(&said, &["[policy] allowed as a submodule: git://"]);
    for (allowed, refused) in [("(top|middle)", "bottom"), ("top", "middle")] {
        let (built, modules, _) =
            run(&format!("regex.match(\"/{allowed}.git$\", input.git.remote)"));
        built.refused(&[
            &format!("its submodule `{refused}`, git://"),
            "is refused: ours says no",
            "2 | >>> ADD ",
        ]);
        assert!(
            !modules.asked(refused) && !modules.asked("bottom"),
            "{:?}",
            modules.server.asked()
        );
    }
}

/// For a module, what `.gitmodules` writes as its path, and what git reads there.
type Oddly = fn(&str) -> (String, String);

/// Paths that git reads in another way than others may.
pub const ODDLY_WRITTEN: [Oddly; 2] = [
    |module| (format!("{module}\u{a0}"), format!("{module}\u{a0}")),
    |module| (format!("a\t{module}"), format!("a {module}")),
];

#[test]
fn submodules_that_git_alone_sees_are_refused() {
    let world = need!(peers::world());
    for written in ODDLY_WRITTEN {
        let modules = need!(Modules::written(written));
        let add = format!("FROM scratch\nADD {} /src\n", modules.server.url("/top.git"));
        let rego = only("endswith(input.git.remote, \"/top.git\")");
        let context = folder(&[("Dockerfile", &add), ("Dockerfile.rego", &rego)]);
        build(world, open(world), &context, &[])
            .refused(&[".gitmodules: line 2 is not of the form that can be judged"]);
        assert!(!modules.asked("middle") && !modules.asked("bottom"));
    }
}
