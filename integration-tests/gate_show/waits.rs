//! Builds that wait at the gate: for longer than a daemon waits for a build that it is asked about.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::frontend_show::clients::{Buildx, Ended};
use crate::gate_enforce::only;
use crate::gate_process::Gate;
use crate::peers::{self, HttpServer, Response, need};

/// A daemon waits 6 s for the build whose progress it is asked for, and 3 s for the one that a frontend
/// builds in.
const LONG: Duration = Duration::from_secs(8);

#[test]
fn a_build_that_waits_for_its_caches_is_not_given_up() {
    let world = need!(peers::world());
    // Rules want to know more than the registry tells for a while; then there is nothing.
    let rego = only("input.image.labels.x == \"y\"");
    let gate = Gate::before(world, &rego, &["--mode", "audit", "--decision-log", "log"]);
    let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let slow = || {
        let since = OnceLock::new();
        HttpServer::start(move |_| {
            let since: &Instant = since.get_or_init(Instant::now);
            std::thread::sleep(LONG.saturating_sub(since.elapsed()));
            Response::status(404)
        })
    };
    let buildx = need!(Buildx::at(&format!("unix://{}", gate.path("gate.sock").display())));
    let builds: [&(dyn Fn(&str) -> Ended + Sync); 2] = [
        &|import| {
            let local = |name| format!("--local={name}={}", context.path().display());
            let mut build = gate.buildctl("gate.sock");
            build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
            build.args([local("context"), local("dockerfile")]);
            build.arg(format!("--import-cache={import}"));
            build.output().unwrap().into()
        },
        &|import| buildx.build(context.path(), &[format!("--cache-from={import}")]),
    ];
    std::thread::scope(|threads| {
        for build in builds {
            threads.spawn(move || {
                let registry = slow();
                let at = registry.url("/slow:1");
                let import = format!("type=registry,ref={}", at.trim_start_matches("http://"));
                let began = Instant::now();
                let ended = build(&import).passed("a build whose cache is slow to judge");
                assert!(began.elapsed() > LONG && !registry.asked().is_empty(), "{}", ended.said);
            });
        }
    });
    assert!(gate.read("log").contains("slow:1"), "{}", gate.read("log"));
}
