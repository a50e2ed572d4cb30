//! Many builds at once through the gate, and that it keeps nothing of them.

use std::path::Path;

use buildgate::rpc::Channel;
use tokio::net::UnixStream;

use crate::gate_enforce::{open_session, unique};
use crate::gate_show::clients::{open, ping};
use crate::peers::{self, GateProcess, need};

/// Builds at once. `make bench-gate` has more.
const BUILDS: usize = 50;
/// Memory that the gate may have with them, in KiB.
const MEMORY: u64 = 150 << 10;

const POLICY: &str = "package docker\nallow if endswith(input.image.repo, \"base\")\n\
                      decision := {\"allow\": allow}\ndefault allow := false\n";

#[test]
fn nothing_of_many_builds_at_once_is_kept() {
    let world = need!(peers::world());
    let gate = GateProcess::start(
        Path::new(env!("CARGO_BIN_EXE_buildgate")),
        world.buildkit.address(),
        POLICY,
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let builds = |count| {
        runtime.block_on(peers::builds_at_once(&gate.address(), &world.image("base:1"), count))
    };
    // The first one opens what stays: the line to the daemon that asks for its health.
    builds(1);
    gate.until("the first build is over", |gate| {
        gate.metric("open_connections") == 0 && gate.metric("open_upstream_connections") <= 1
    });
    let before = gate.open();
    assert_eq!(before[2..5], [0, 0, 0], "builds, calls and clients");
    // What is open is seen: each of the numbers would tell of one build that stayed.
    runtime.block_on(async {
        let address = gate.address();
        let path = address.trim_start_matches("unix://");
        let (channel, connection) =
            Channel::over(UnixStream::connect(path).await.unwrap()).await.unwrap();
        let connection = tokio::spawn(connection);
        let (reference, session) = (unique(), unique());
        let held = open_session(&channel, &[&session]).await.unwrap();
        let running = open(&channel, &reference);
        ping(&channel, &reference).await.unwrap();
        let now = gate.open();
        for (at, what) in
            ["descriptors", "tasks", "builds", "calls", "clients", "daemons"].iter().enumerate()
        {
            assert!(now[at] > before[at], "{what}: {now:?} are open, {before:?} before");
        }
        // The build, its session and its client's.
        assert!(now[2] == 1 && now[3] >= 2 && now[4] == 1, "{now:?}");
        running.abort();
        connection.abort();
        drop(held);
    });
    gate.until_closed(before);
    let mut memory = Vec::new();
    for _ in 0..2 {
        assert_eq!(builds(BUILDS).len(), BUILDS);
        // File descriptors, tasks, sessions, which are calls to the daemon, and what carries them.
        gate.until_closed(before);
        memory.push(gate.status("VmRSS"));
    }
    assert_eq!(gate.latencies().len(), 1 + 2 * BUILDS, "each build is decided, and once");
    assert_eq!(gate.revisions(), [1].into(), "no build changes a policy");
    assert!(gate.status("VmHWM") < MEMORY, "{} KiB", gate.status("VmHWM"));
    // The second fifty find room in what the first left.
    assert!(memory[1] < memory[0] + (4 << 10), "{memory:?} KiB");
}
