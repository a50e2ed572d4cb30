//! The peers that all tests share: a registry, a BuildKit daemon, and the images that one pushed
//! to the other.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::json;
use tempfile::TempDir;

use super::buildkit::Buildkit;
use super::registry::Registry;
use super::{NoPeer, tools};

/// What the shared peers hold. Every image is `HOST/NAME`:
///
/// | name                   | what                                                                  |
/// |------------------------|-----------------------------------------------------------------------|
/// | `base:1`               | busybox, user `app`, a label, a volume, no attestations               |
/// | `app:plain`            | one OCI manifest, no index                                            |
/// | `app:docker`           | one Docker manifest (schema 2)                                        |
/// | `app:attested`         | from `base:1`, provenance v1, mode max, build argument `VERSION=2`    |
/// | `app:slsa02`           | the same with provenance v0.2                                         |
/// | `counted:1`            | for the test that counts what the registry is asked                   |
/// | `app:multi`            | linux/amd64 and linux/arm64, no attestations                          |
/// | `app:multi-docker`     | the same as a Docker manifest list                                    |
/// | `app:multi-attested`   | both platforms, each with provenance                                  |
/// | `app:docker-unknown`   | a Docker manifest list of `app:docker`, also for `unknown/unknown`    |
/// | `app:no-mediatype`     | `app:attested`, its index without a media type of its own             |
pub struct World {
    /// The registry.
    pub registry: Registry,
    /// The daemon.
    pub buildkit: Buildkit,
}

/// The shared peers, started by the first test that asks.
pub fn world() -> Result<&'static World, NoPeer> {
    static WORLD: OnceLock<Result<World, NoPeer>> = OnceLock::new();
    WORLD.get_or_init(World::start).as_ref().map_err(Clone::clone)
}

impl World {
    fn start() -> Result<Self, NoPeer> {
        let busybox = tools::installed("busybox", "busybox-static")?;
        let registry = Registry::start()?;
        let buildkit = Buildkit::start(registry.host())?;
        let world = Self { registry, buildkit };
        world.push_images(&busybox);
        Ok(world)
    }

    /// The reference of an image in the registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    fn push_images(&self, busybox: &Path) {
        let base = context(
            "FROM scratch\n\
             COPY busybox /bin/busybox\n\
             RUN [\"/bin/busybox\", \"mkdir\", \"/data\"]\n\
             ENV MODE=prod\n\
             LABEL org.example.tier=base\n\
             VOLUME /data\n\
             WORKDIR /srv\n\
             USER app\n",
        );
        std::fs::copy(busybox, base.path().join("busybox")).unwrap();
        let small = context("FROM scratch\nCOPY Dockerfile /Dockerfile\nLABEL a.b/c=d\n");
        let app = context(&format!(
            "FROM {}\nARG VERSION\nLABEL version=$VERSION\n",
            self.image("base:1")
        ));

        let both = "platform=linux/amd64,linux/arm64";
        let max = "attest:provenance=mode=max,version=v1";
        let old = "attest:provenance=mode=max,version=v0.2";
        let version = "build-arg:VERSION=2";
        let docker = ",oci-mediatypes=false";
        let table: [(&TempDir, &str, &[&str], &str); 9] = [
            (&base, "base:1", &[], ""),
            (&small, "app:plain", &[], ",oci-mediatypes=true"),
            (&small, "app:docker", &[], docker),
            (&app, "app:attested", &[max, version], ""),
            (&app, "app:slsa02", &[old, version], ""),
            (&small, "counted:1", &[], ""),
            (&small, "app:multi", &[both], ",oci-mediatypes=true"),
            (&small, "app:multi-docker", &[both], docker),
            (&small, "app:multi-attested", &[both, max], ""),
        ];
        for (context, name, options, export) in table {
            self.buildkit.push(context.path(), &self.image(name), options, export);
        }
        self.put_odd_images();
    }

    /// Images that no builder makes.
    fn put_odd_images(&self) {
        let digest = self.registry.digest("app", "docker");
        let manifest = |os: &str, architecture: &str| {
            json!({
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "digest": digest,
                "size": self.registry.blob(&digest).len(),
                "platform": {"os": os, "architecture": architecture},
            })
        };
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        let unknown = json!({
            "schemaVersion": 2,
            "mediaType": list,
            "manifests": [manifest("linux", "amd64"), manifest("unknown", "unknown")],
        });
        self.registry.put("app", "docker-unknown", list, unknown.to_string().as_bytes());
        let attested = self.registry.blob(&self.registry.digest("app", "attested"));
        let mut untyped: serde_json::Value = serde_json::from_slice(&attested).unwrap();
        let index = untyped.as_object_mut().unwrap().remove("mediaType").unwrap();
        let index = index.as_str().unwrap();
        self.registry.put("app", "no-mediatype", index, untyped.to_string().as_bytes());
    }
}

fn context(dockerfile: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), dockerfile).unwrap();
    dir
}
