//! What the Dockerfile frontend never asks for: processes in containers, which pass through as they are,
//! and frontends inside the child, which do not. The child here is one of ours, on BuildKit's own library.

use std::sync::OnceLock;
use std::time::Instant;

use super::clients::{self, Ended, Frontend};
use super::gate;
use crate::peers::{self, NoPeer, World, folder, need};

/// The child as a frontend of its own, and behind buildgate.
struct Children {
    world: &'static World,
    bare: Frontend,
    gated: Frontend,
}

impl Children {
    fn start() -> Result<Self, NoPeer> {
        let world = peers::world()?;
        let program = peers::pinned("child")?;
        let bare = "FROM scratch\nCOPY child /child\nENTRYPOINT [\"/child\"]\n";
        let context = folder(&[("Dockerfile", bare)]);
        std::fs::copy(&program, context.path().join("child")).unwrap();
        let reference = world.image("child:bare");
        world.buildkit.push(context.path(), &reference, &[], "");
        Ok(Self { world, bare: Frontend::of(world, reference), gated: gated(world) })
    }

    /// What the child does by these options, and the file that it makes.
    fn build(&self, frontend: &Frontend, options: &[(&str, &str)]) -> (Ended, String) {
        let (context, out) = (folder(&[]), folder(&[]));
        let mut all: Vec<String> =
            options.iter().map(|(name, value)| format!("--opt={name}={value}")).collect();
        all.push("--no-cache".to_owned());
        all.push(format!("--output=type=local,dest={}", out.path().display()));
        let ended = clients::buildctl(&self.world.buildkit, frontend, context.path(), &all);
        (ended, std::fs::read_to_string(out.path().join("out")).unwrap_or_default())
    }
}

/// buildgate before the child of ours.
pub fn gated(world: &World) -> Frontend {
    static GATED: OnceLock<Frontend> = OnceLock::new();
    let made = GATED.get_or_init(|| {
        let context = folder(&[(
            "Dockerfile",
            &format!("FROM {}\nCOPY child /bin/dockerfile-frontend\n", gate(world).image),
        )]);
        std::fs::copy(peers::pinned("child").unwrap(), context.path().join("child")).unwrap();
        let reference = world.image("child:gated");
        world.buildkit.push(context.path(), &reference, &[], "");
        Frontend::of(world, reference)
    });
    made.clone()
}

/// One that gives back what it gets, one that fails, one that is killed: as without us.
#[test]
fn processes_in_containers_are_those_of_the_daemon() {
    let children = need!(Children::start());
    let base = children.world.image("base:1");
    let options = [("do", "run"), ("image", base.as_str())];
    let [bare, gated] = [&children.bare, &children.gated].map(|frontend| {
        let (ended, out) = children.build(frontend, &options);
        ended.passed(&frontend.image);
        out
    });
    assert_eq!(bare, "echoed 1048576\nsaid\ncomplained\nfailed with 7\nkilled with 137\nbusybox\n");
    assert_eq!(gated, bare);
    // And there is no container of what is refused.
    let refused = children.world.image("refused:1");
    let (ended, _) = children.build(&children.gated, &[("do", "run"), ("image", &refused)]);
    assert!(!ended.passed && ended.said.contains("the org refuses"), "{}", ended.said);
    assert_eq!(children.world.registry.accesses(&["/refused/"]).len(), 0);
}

/// A call may take as long as it takes.
#[test]
fn a_child_that_waits_for_a_process_is_left_alone() {
    let children = need!(Children::start());
    let base = children.world.image("base:1");
    let started = Instant::now();
    let options = [("do", "wait"), ("image", base.as_str()), ("seconds", "12")];
    let (ended, out) = children.build(&children.gated, &options);
    ended.passed("waiting");
    assert_eq!(out, "waited\n");
    assert!(started.elapsed().as_secs() >= 12);
}

#[test]
fn frontends_inside_the_child_are_refused() {
    let children = need!(Children::start());
    let (bare, refused) = (&children.bare, children.world.image("refused:1"));
    for (frontend, image) in
        [("gateway.v0", bare.image.as_str()), ("gateway.v0", &refused), ("dockerfile.v0", "")]
    {
        let options = [("do", "nested"), ("frontend", frontend), ("image", image)];
        let (ended, _) = children.build(&children.gated, &options);
        let wanted = "would run inside this one, where buildgate cannot see what it loads";
        assert!(!ended.passed && ended.said.contains(wanted), "{frontend}: {}", ended.said);
        // Without us it runs: the one that does nothing says so itself.
        if image == bare.image {
            let (ended, _) = children.build(bare, &options);
            let wanted = "do= is nothing that this frontend does";
            assert!(!ended.passed && ended.said.contains(wanted), "{}", ended.said);
        }
    }
    assert_eq!(children.world.registry.accesses(&["/refused/"]).len(), 0);
}
