//! Names and numbers of the contract.

use std::collections::BTreeSet;

use prost::Message;

use super::super::proto::control;

#[test]
fn services_are_called_by_their_names() {
    let methods = |generated: &str| -> BTreeSet<String> {
        let path = regex::Regex::new(r#""(/[a-zA-Z0-9.]+/[a-zA-Z]+)""#).unwrap();
        path.captures_iter(generated).map(|found| found[1].to_owned()).collect()
    };
    let of = |service: &str, names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| format!("/{service}/{name}")).collect()
    };
    macro_rules! generated {
        ($package:literal) => {
            methods(include_str!(concat!(env!("OUT_DIR"), "/", $package, ".rs")))
        };
    }
    let bridge = "ResolveImageConfig ResolveSourceMeta Solve ReadFile ReadDir StatFile Evaluate \
                  Ping Return Inputs NewContainer ReleaseContainer ExecProcess ReadFileContainer \
                  ReadDirContainer StatFileContainer Warn";
    let bridge: Vec<_> = bridge.split_whitespace().collect();
    assert_eq!(
        generated!("moby.buildkit.v1.frontend"),
        of("moby.buildkit.v1.frontend.LLBBridge", &bridge)
    );
    let control = "DiskUsage Prune Solve Status Session ListWorkers Info ListenBuildHistory \
                   UpdateBuildHistory";
    let control: Vec<_> = control.split_whitespace().collect();
    assert_eq!(generated!("moby.buildkit.v1"), of("moby.buildkit.v1.Control", &control));
    assert_eq!(
        generated!("moby.buildkit.v1.sourcepolicy.policysession"),
        of("moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier", &["CheckPolicy"])
    );
    assert_eq!(generated!("grpc.health.v1"), of("grpc.health.v1.Health", &["Check", "Watch"]));
}

#[test]
fn the_session_of_a_solve_is_field_15() {
    let solve = control::SolveRequest { source_policy_session: "s".into(), ..Default::default() };
    assert_eq!(solve.encode_to_vec(), [15 << 3 | 2, 1, b's']);
}
