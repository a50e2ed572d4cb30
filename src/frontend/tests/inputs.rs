//! What a build brings as inputs, and what was read of them.

use super::*;

/// The child takes the Dockerfile from an input of this name, and its policy lies beside it.
#[tokio::test]
async fn the_policy_in_an_input_is_read() {
    let commit = "c".repeat(40);
    let dockerfile = |host: &str| -> Inputs {
        let source = pb::SourceOp {
            identifier: format!("git://{host}/a.git#main"),
            attrs: [("git.checksum".to_owned(), commit.clone())].into(),
        };
        [("dockerfile".to_owned(), of(pb::op::Op::Source(source)))].into()
    };
    let org =
        format!("{RULES}\nallow if input.git.host == \"r.example\"\n").replace("ours", "the org");
    let wide = format!("{org}allow if input.image\n");
    for (rego, host, name, wanted) in [
        (org.as_str(), "r.example", "evil.example/a:1", "the org says no"),
        // What the org allows, the input's own policy denies.
        (&wide, "r.example", "evil.example/a:1", "the input says no"),
        (&org, "r.example", "r.example/a:1", ""),
        (&org, "evil.example", "r.example/a:1", "the org says no"),
        ("", "r.example", "r.example/a:1", "would be fetched before any policy is known"),
    ] {
        let peers = Peers::with(rego, dockerfile(host)).await;
        let request = gateway::SolveRequest {
            definition: Some(source(&format!("docker-image://{name}"))),
            ..Default::default()
        };
        let solved = peers.call::<_, gateway::SolveResponse>("Solve", &request).await;
        let said = solved.err().map(|status| messages(&status)).unwrap_or_default();
        assert_eq!(said.is_empty(), wanted.is_empty(), "{host} {name}: {said}");
        assert!(said.contains(wanted), "{host} {name}: {said}");
        let reached = peers.reached("Solve");
        let git = reached.iter().filter(|it| String::from_utf8_lossy(it).contains("git://"));
        let fetched = host == "r.example" && !rego.is_empty();
        assert_eq!(git.clone().count(), usize::from(fetched), "{host} {name}");
        for solve in git {
            assert!(String::from_utf8_lossy(solve).contains("git.skipsubmodules"));
        }
    }
}

/// What a rule has read of a source, its content, is what is loaded, however often and in whatever
/// manner it is asked for; and it is decided once.
#[tokio::test]
async fn what_was_read_is_pinned_in_the_llb() {
    let commit = "c".repeat(40);
    let rules = format!(
        "{RULES}allow if input.http.checksum == \"{}\"\nallow if input.git.checksum == \"{commit}\"\n",
        digest()
    );
    for (identifier, name, value, manner) in [
        ("https://evil.example/f", "http.checksum", digest(), ("http.perm", "493")),
        (
            "git://evil.example/a.git#main",
            "git.checksum",
            commit.clone(),
            ("git.keepgitdir", "true"),
        ),
    ] {
        let peers = Peers::new(&rules).await;
        let skip = identifier.starts_with("git").then_some(("git.skipsubmodules", "true"));
        for manner in [None, Some(manner)] {
            let attrs = manner.into_iter().chain(skip).map(|(n, v)| (n.to_owned(), v.to_owned()));
            let asked = pb::SourceOp { identifier: identifier.into(), attrs: attrs.collect() };
            let request = gateway::SolveRequest {
                definition: Some(of(pb::op::Op::Source(asked.clone()))),
                ..Default::default()
            };
            peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap();
            let solved =
                gateway::SolveRequest::decode(peers.reached("Solve").pop().unwrap()).unwrap();
            let loaded = pb::Op::decode(solved.definition.unwrap().def[0].clone()).unwrap();
            let Some(pb::op::Op::Source(loaded)) = loaded.op else { panic!("{loaded:?}") };
            let mut wanted = asked;
            wanted.attrs.insert(name.into(), value.clone());
            assert_eq!(loaded, wanted);
        }
        let asked = peers.asked.lock().unwrap();
        let of_it = asked.iter().filter(|(method, message)| {
            let wire = gateway::ResolveSourceMetaRequest::decode(message.clone());
            method == "ResolveSourceMeta"
                && wire.unwrap().source.is_some_and(|it| it.identifier == identifier)
        });
        assert_eq!(of_it.count(), 1, "{identifier}");
    }
}
