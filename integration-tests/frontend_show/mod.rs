//! The frontend at length: builds that are those of the stock frontend, denials before anything is
//! fetched, builds that end when something dies, and the image itself.

pub mod builds;
mod buildx;
mod calls;
pub mod clients;
mod containers;
mod denials;
pub mod failures;
mod hardened;
mod image;
pub mod oci;
mod process;
mod words;

use std::path::Path;
use std::sync::OnceLock;

use self::clients::Frontend;
use crate::peers::{self, World};

/// The org's policy: nothing that is named `refused` comes in, no submodule, no cache of the client.
pub const ORG: &str = r#"package docker

default allow := false

names contains input.image.repo
names contains input.http.url
names contains input.git.remote
names contains input.ociLayout.name
names contains input.blob.fullRepo
names contains input.local.name

refused contains name if {
	some name in names
	some word in ["refused", "unjudged"]
	contains(name, word)
}

refused contains "a cache of the client" if {
	input.ociLayout
	input.env.cacheImport
}

allow if {
	count(names) > 0
	count(refused) == 0
}

deny_msg contains sprintf("the org refuses %s", [name]) if {
	some name in refused
}

decision := {"allow": allow, "deny_msg": deny_msg}
"#;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_buildgate"))
}

/// The image as `make image` makes it, with the org's policy in it.
fn gate(world: &World) -> Frontend {
    static GATE: OnceLock<Frontend> = OnceLock::new();
    let made = GATE.get_or_init(|| {
        let made = peers::make_image(world, "gate:made", binary(), "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let from = world.image("gate:made");
        Frontend::of(world, peers::push_org(world, &from, "gate:1", binary(), ORG))
    });
    made.clone()
}

/// The stock frontend, as an image too.
pub fn stock(world: &World) -> Frontend {
    static STOCK: OnceLock<Frontend> = OnceLock::new();
    STOCK.get_or_init(|| Frontend::of(world, peers::push_stock(world, "stock:1"))).clone()
}
