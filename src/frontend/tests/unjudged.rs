//! What nobody has judged is not loaded.

use super::*;

#[tokio::test]
async fn what_would_load_unjudged_is_refused() {
    let peers = Peers::new(RULES).await;
    let solve =
        |definition| gateway::SolveRequest { definition: Some(definition), ..Default::default() };
    let nested = gateway::SolveRequest {
        frontend: "gateway.v0".into(),
        frontend_opt: [("source".to_owned(), "r.example/other:1".to_owned())].into(),
        ..Default::default()
    };
    let build = pb::BuildOp {
        def: Some(source("docker-image://evil.example/built:1")),
        ..Default::default()
    };
    let cache = |kind: &str, name: &str, value: &str| gateway::SolveRequest {
        cache_imports: vec![gateway::CacheOptionsEntry {
            r#type: kind.into(),
            attrs: [(name.to_owned(), value.to_owned())].into(),
        }],
        ..Default::default()
    };
    let own = gateway::SolveRequest {
        source_policies: vec![Default::default()],
        ..solve(source("docker-image://r.example/a:1"))
    };
    let given = gateway::SolveRequest {
        frontend_inputs: [("x".to_owned(), source("docker-image://evil.example/input:1"))].into(),
        ..Default::default()
    };
    let blob = format!("docker-image+blob://evil.example/a@{}", digest());
    for (what, request, wanted) in [
        ("image", solve(source("docker-image://evil.example/a:1")), "ours says no"),
        ("file", solve(source("https://evil.example/f")), "ours says no"),
        ("layout", solve(source(&format!("oci-layout://x@{}", digest()))), "ours says no"),
        ("blob", solve(source(&blob)), "ours says no"),
        ("nothing known", solve(source("npm://left-pad")), "npm"),
        ("frontend", nested, "would run inside this one"),
        ("build", solve(of(pb::op::Op::Build(build))), "out of buildgate's sight"),
        ("own rules", own, "static source policies of its own"),
        ("inputs", given, "ours says no"),
        ("cache", cache("registry", "ref", "evil.example/c:1"), "ours says no"),
        ("cache of a cloud", cache("s3", "bucket", "b"), "no rule can judge a cache of this type"),
    ] {
        let before = peers.reached("Solve").len();
        let refused = peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap_err();
        assert!(messages(&refused).contains(wanted), "{what}: {}", messages(&refused));
        let reached = peers.reached("Solve");
        let policies = reached[before..].iter().all(|it| {
            let wire = gateway::SolveRequest::decode(it.clone()).unwrap();
            assert_eq!(wire.source_policies.len(), 1, "nothing else may come of it");
            let text = String::from_utf8_lossy(&wire.definition.unwrap().def[0]).into_owned();
            text.contains("local://dockerfile")
        });
        assert!(policies, "{what}: the daemon was asked");
    }
    let inputs = gateway::InputsRequest::default();
    let refused = peers.call::<_, gateway::InputsResponse>("Inputs", &inputs).await.unwrap_err();
    assert!(messages(&refused).contains("ours says no"), "{}", messages(&refused));
}

#[tokio::test]
async fn what_is_passed_on_may_load_only_what_was_judged() {
    let peers = Peers::new(RULES).await;
    let request = gateway::SolveRequest {
        definition: Some(source("docker-image://r.example/a:1")),
        ..Default::default()
    };
    peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap();
    let last = peers.reached("Solve").pop().unwrap();
    let last = gateway::SolveRequest::decode(last).unwrap();
    assert_eq!(last.definition, request.definition);
    let [guard] = last.source_policies.as_slice() else { panic!("{:?}", last.source_policies) };
    assert_eq!(guard.rules[0].action(), crate::wire::proto::sourcepolicy::PolicyAction::Deny);
}

/// A daemon may read the client's words as another image than we do.
#[tokio::test]
async fn a_cache_goes_on_by_the_name_that_was_judged() {
    let peers = Peers::new(RULES).await;
    for (written, wanted) in [
        ("r.example/c", "r.example/c:latest"),
        ("r.example/c:1", "r.example/c:1"),
        ("r.example/c:1@DIGEST", "r.example/c:1@DIGEST"),
    ] {
        let named = |text: &str| text.replace("DIGEST", &digest());
        let import = gateway::CacheOptionsEntry {
            r#type: "registry".into(),
            attrs: [("ref".to_owned(), named(written))].into(),
        };
        let request = gateway::SolveRequest { cache_imports: vec![import], ..Default::default() };
        peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap();
        let solved = gateway::SolveRequest::decode(peers.reached("Solve").pop().unwrap()).unwrap();
        assert_eq!(solved.cache_imports[0].attrs["ref"], named(wanted));
    }
}

#[tokio::test]
async fn configs_are_judged_however_they_are_asked_for() {
    let rules = format!("{RULES}\nallow if pin_image(input.image, \"{}\")\n", digest());
    let peers = Peers::new(&rules.replace("input.image.host == \"r.example\"", "false")).await;
    let ask = |name: &str| gateway::ResolveImageConfigRequest {
        r#ref: name.into(),
        ..Default::default()
    };
    let answered: gateway::ResolveImageConfigResponse =
        peers.call("ResolveImageConfig", &ask("r.example/a:1")).await.unwrap();
    assert_eq!(answered.r#ref, format!("r.example/a:1@{}", digest()));
    let asked = gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp {
            identifier: "docker-image://r.example/a:1".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answered: gateway::ResolveSourceMetaResponse =
        peers.call("ResolveSourceMeta", &asked).await.unwrap();
    let pinned = format!("docker-image://r.example/a:1@{}", digest());
    assert_eq!(answered.source.unwrap().identifier, pinned);

    let peers = Peers::new(RULES).await;
    for layout in [0, 1, 2] {
        let name = format!("evil.example/a@{}", digest());
        let request = gateway::ResolveImageConfigRequest { resolver_type: layout, ..ask(&name) };
        let refused = peers
            .call::<_, gateway::ResolveImageConfigResponse>("ResolveImageConfig", &request)
            .await
            .unwrap_err();
        let wanted = if layout == 2 { "something new" } else { "ours says no" };
        assert!(messages(&refused).contains(wanted), "{}", messages(&refused));
    }
    assert_eq!(peers.reached("ResolveImageConfig").len(), 0);
}
