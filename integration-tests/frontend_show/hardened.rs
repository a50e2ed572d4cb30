//! Docker Hardened Images behind the frontend: what attests them refers to them, and their index alone
//! tells. A registry that does not show BuildKit the index leaves it unknown, and unknown is not absent.

use serde_json::{Value, json};

use super::clients::{self, Frontend};
use crate::frontend_work::ask;
use crate::peers::{self, HttpServer, Response, World, folder, need};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LABEL: &str = "com.docker.dhi.name=dhi/app";

/// Puts an index of one image under a tag, as Docker writes those of its hardened ones, and gives its
/// reference. The image is built with these labels.
fn push(world: &World, tag: &str, labels: &[&str], title: &str) -> String {
    let context = folder(&[("Dockerfile", &format!("FROM scratch\nCOPY Dockerfile /{tag}\n"))]);
    let options: Vec<String> = labels.iter().map(|label| format!("label:{label}")).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let one = world.image(&format!("hard:{tag}-one"));
    world.buildkit.push(context.path(), &one, &options, ",oci-mediatypes=true");
    let digest = world.registry.digest("hard", &format!("{tag}-one"));
    let data = world.registry.blob(&digest);
    let manifest: Value = serde_json::from_slice(&data).unwrap();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": data.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
            "annotations": {"com.docker.dhi.build.id": "7"},
        }],
        "annotations": {"org.opencontainers.image.title": title},
    });
    world.registry.put("hard", tag, INDEX, index.to_string().as_bytes());
    world.image(&format!("hard:{tag}"))
}

/// A way to the registry that shows no index to whoever does not ask for one by its type, and none as a blob,
/// as registries may.
fn hiding(world: &World) -> HttpServer {
    let host = world.registry.host().to_owned();
    HttpServer::start(move |request| {
        let response = ask(&host, &request.method, &request.path);
        let accept = request.headers.get("accept").map(String::as_str).unwrap_or_default();
        let is_index = String::from_utf8_lossy(&response.body).contains(INDEX);
        match is_index && !accept.contains(INDEX) {
            true => Response::status(404),
            false => response,
        }
    })
}

/// The rules let in what has no provenance, and of what could not be looked at nobody knows that.
#[test]
fn what_attests_them_is_not_taken_for_absent() {
    let world = need!(peers::world());
    let frontend = Frontend::of(world, crate::frontend::image(world).to_owned());
    let hiding = hiding(world);
    let elsewhere = hiding.url("").trim_start_matches("http://").to_owned();
    let hidden = |image: String| image.replace(world.registry.host(), &elsewhere);
    let absent = "package docker\n\
        default allow := false\n\
        allow if input.local\n\
        allow if { input.image; not input.image.hasProvenance }\n\
        decision := {\"allow\": allow}\n";
    let present = absent.replace("not input", "input");
    let unknown = Some("by its name or its labels it may be a Docker Hardened Image");
    for (image, rules, wanted) in [
        // The daemon looks for them, and there are none.
        (push(world, "one", &[LABEL], "dhi/app"), absent, Some("no attestation referrers found")),
        (hidden(push(world, "two", &[LABEL], "dhi/app")), absent, unknown),
        (hidden(push(world, "three", &[LABEL], "dhi/app")), &present, unknown),
        // What is built on one says the same of itself.
        (push(world, "four", &[LABEL], "app"), absent, None),
        (hidden(push(world, "five", &[LABEL], "app")), absent, unknown),
        // Others have none, as ever.
        (push(world, "six", &[], "app"), absent, None),
        (hidden(push(world, "seven", &[], "app")), absent, None),
        (hidden(push(world, "eight", &[], "app")), &present, Some("no rule of Dockerfile.rego")),
    ] {
        let dockerfile = format!("FROM {image}\nCOPY Dockerfile /x\n");
        let context = folder(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", rules)]);
        let ended = clients::buildctl(&world.buildkit, &frontend, context.path(), &[]);
        assert_eq!(ended.passed, wanted.is_none(), "{image}: {}", ended.said);
        for part in wanted.into_iter().flat_map(|wanted| [wanted, "1 | >>> FROM "]) {
            assert!(ended.said.contains(part), "{image}: {part:?} in:\n{}", ended.said);
        }
        let says_where = ended.said.contains("the gate and `buildgate check` see it");
        assert_eq!(says_where, wanted == unknown, "{image}: {}", ended.said);
    }
}
