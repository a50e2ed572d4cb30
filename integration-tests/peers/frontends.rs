//! Frontends as images in the test registry: buildgate's, through the script behind `make image`, and
//! the stock one that it stands before.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{Buildkit, World};

/// The labels of BuildKit's own image of its Dockerfile frontend.
const STOCK: &str = "FROM scratch\n\
    COPY dockerfile-frontend /bin/dockerfile-frontend\n\
    LABEL moby.buildkit.frontend.network.none=\"true\" \
    moby.buildkit.frontend.caps=\"moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,\
    moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring,\
    moby.buildkit.frontend.contexts.zstd\"\n\
    ENTRYPOINT [\"/bin/dockerfile-frontend\"]\n";

/// Pushes the stock Dockerfile frontend, and gives its reference.
pub fn push_stock(world: &World, name: &str) -> String {
    let context = folder(&[("Dockerfile", STOCK)]);
    let program = tools().join("dockerfile-frontend");
    std::fs::copy(program, context.path().join("dockerfile-frontend")).unwrap();
    let reference = world.image(name);
    world.buildkit.push(context.path(), &reference, &[], "");
    reference
}

/// Runs `frontend-image/build.sh` as `make image` does, with this binary. `policies` is `POLICIES`.
pub fn make_image(world: &World, name: &str, binary: &Path, policies: &str) -> Output {
    make_image_with(world, name, binary, (policies, "pinned"))
}

/// The same with `POLICIES` and `CHILD`.
pub fn make_image_with(world: &World, name: &str, binary: &Path, with: (&str, &str)) -> Output {
    make_image_by(&world.buildkit, &world.image(name), binary, with)
}

/// The same by this daemon, under a whole reference.
pub fn make_image_by(
    daemon: &Buildkit,
    reference: &str,
    binary: &Path,
    (policies, child): (&str, &str),
) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("frontend-image/build.sh");
    Command::new(script)
        .arg(reference)
        .env("BUILDKIT_HOST", daemon.address())
        .env("BIN", tools())
        .env("BINARY", binary)
        .env("CHILD", child)
        .env("POLICIES", policies)
        .output()
        .unwrap()
}

/// The image of an org: over the one that `make image` makes, with this policy.
pub fn push_org(world: &World, from: &str, name: &str, binary: &Path, rego: &str) -> String {
    push_over(world, from, name, binary, &[("policies/org.rego", rego)])
}

/// An image of the registry as it is, but able to run here.
pub fn push_runnable(world: &World, from: &str, name: &str, binary: &Path) -> String {
    push_over(world, &world.image(from), name, binary, &[])
}

/// The three lines of an org, and the libraries of this machine: the binary of a test is linked with them.
fn push_over(
    world: &World,
    from: &str,
    name: &str,
    binary: &Path,
    policies: &[(&str, &str)],
) -> String {
    let copied = if policies.is_empty() { "" } else { "COPY policies/ /etc/buildgate/policy/\n" };
    let dockerfile = format!("FROM {from}\n{copied}COPY libraries/ /\n");
    let context = folder(&[policies, &[("Dockerfile", &dockerfile)]].concat());
    copy_libraries(binary, &context.path().join("libraries"));
    let reference = world.image(name);
    world.buildkit.push(context.path(), &reference, &[], "");
    reference
}

/// The libraries that a program was linked with, as they lie on this machine.
fn copy_libraries(program: &Path, root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(library, place).unwrap();
    }
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/tools/bin")
}

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}
