//! LLB that a client hands over itself: what the daemon asks us about only the first time.
//!
//! The daemon asks about each source of it. Two kinds of steps load more while they run, and are asked
//! about only where they run: not where their result is in the daemon's cache, from a build under
//! other policies, and by another build's session where two builds share the step.
//!
//! * A build inside the build (`BuildOp`) reads LLB from a file. It is refused, unless the operator lets
//!   it pass.
//! * A command's HTTP is judged where policies want it. Commands of such a build carry a name that is
//!   new, in their `/etc/hosts`, so that they are nobody else's: LLB gets it here, and the Dockerfile
//!   frontend by the option that says what hosts there are.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tonic::Status;

use super::build::{Build, Verdict};
use super::ruling::Audited;
use crate::gate::ops::BuildOp;
use crate::session::{NoId, SessionId};
use crate::source::SourceOp;
use crate::wire::nested::{Inputs, nested};
use crate::wire::raw::{self, Field, Part, RawError, RawMessage};
use crate::wire::rewrite::{self, Hosts, RewriteError};
use crate::wire::status;

/// What stands for a build inside a build, in logs and messages.
const NESTED: &str = "build-op";

const ONCE: &str = "LLB that is read from a file inside the build is judged only where it runs anew, and \
                    not where its result is cached; hand the LLB over itself (or allow it with --build-op)";
const PROXIED: &str = "commands of LLB that is read from a file inside the build are not judged, and the \
                       policies want them to be (exec.proxy)";
const BROKEN: &str = "one of its inputs is empty, over which the daemon would end";

/// Option of the Dockerfile frontend: more lines of `/etc/hosts` for every command.
const HOSTS: &str = "add-hosts";
/// What names of ours end in. They lead to the machine itself.
const OURS: &str = ".buildgate.invalid";
/// Option of daemons before 0.34: a frontend gets the options behind `gateway-` in place of those that
/// are judged.
const DEVEL: &str = "gateway-devel";
const DEVELOPS: &str = "it gives a frontend other options than those that are judged";
const HOST: &str = "hosts ending in .buildgate.invalid are ours";
/// Digits of a name.
const DIGITS: usize = 32;
/// The value of a map's entry.
const VALUE: u32 = 2;

/// Where a `Control/Solve` has LLB: one definition, and those of inputs by name.
pub const CONTROL: [Field; 2] =
    [Field::CONTROL_SOLVE_DEFINITION, Field::CONTROL_SOLVE_FRONTEND_INPUTS];
/// Where a `Solve` of the gateway has it.
pub const GATEWAY: [Field; 2] =
    [Field::GATEWAY_SOLVE_DEFINITION, Field::GATEWAY_SOLVE_FRONTEND_INPUTS];

fn unread(error: impl std::error::Error) -> Status {
    Status::invalid_argument(format!("buildgate: {error}"))
}

fn broken(error: RawError) -> Status {
    unread(RewriteError::from(error))
}

/// A name that no other build's commands carry.
///
/// # Errors
/// When the system has no randomness to give.
pub fn name() -> Result<String, NoId> {
    let id = SessionId::random()?;
    let digits: String = id.reveal().chars().take(DIGITS).collect();
    Ok(format!("{digits}{OURS}"))
}

/// Refuses builds inside a build, and ops that are more than one thing.
///
/// # Errors
/// When one is refused, or an op cannot be read.
pub async fn admit(build: &Build, definitions: &[Bytes]) -> Result<(), Status> {
    let mut found = Vec::new();
    for definition in definitions {
        found.extend(nested(definition).map_err(unread)?);
    }
    let (why, audited) = match build.begun().settings.build_op {
        _ if found.is_empty() => return Ok(()),
        BuildOp::Refuse | BuildOp::Allow if found.contains(&Inputs::Broken) => {
            (BROKEN, Audited::Stands)
        }
        BuildOp::Refuse => (ONCE, Audited::Passes),
        BuildOp::Allow if build.commands().await?.is_some() => (PROXIED, Audited::Passes),
        BuildOp::Allow => return Ok(()),
    };
    match build.refuse(&SourceOp::new(NESTED), why.to_owned(), audited).await {
        Verdict::Allow => Ok(()),
        Verdict::Deny(messages) => Err(status::denial(NESTED, &messages, &[])),
        Verdict::Convert(_) | Verdict::Redirect(_) => {
            Err(status::denial(NESTED, &[why.to_owned()], &[]))
        }
    }
}

fn has_ours(bytes: &[u8]) -> bool {
    bytes.windows(OURS.len()).any(|part| part.eq_ignore_ascii_case(OURS.as_bytes()))
}

/// What stays refused where ours are only written down.
async fn never(build: &Build, what: &str, why: &str) -> Status {
    let verdict = build.refuse(&SourceOp::new(what), why.to_owned(), Audited::Stands).await;
    match verdict {
        Verdict::Deny(messages) => status::denial(what, &messages, &[]),
        Verdict::Allow | Verdict::Convert(_) | Verdict::Redirect(_) => {
            status::denial(what, &[why.to_owned()], &[])
        }
    }
}

/// Refuses options by which a frontend would do what cannot be seen from here, and gives the one that
/// changes so that its commands are this build's alone.
///
/// # Errors
/// When one is refused.
pub async fn options(
    build: &Build,
    given: &BTreeMap<String, String>,
) -> Result<Option<(&'static str, String)>, Status> {
    if given.contains_key(DEVEL) {
        return Err(never(build, &format!("the option {DEVEL}"), DEVELOPS).await);
    }
    let theirs = given.get(HOSTS).map_or("", String::as_str);
    if has_ours(theirs.as_bytes()) {
        return Err(never(build, &format!("the option {HOSTS}"), HOST).await);
    }
    Ok(build.commands().await?.map(|name| (HOSTS, hosts(name, theirs))))
}

/// Ours is first: what stands before it could take it in.
fn hosts(name: &str, given: &str) -> String {
    match given {
        "" => format!("{name}=127.0.0.1"),
        given => format!("{name}=127.0.0.1,{given}"),
    }
}

/// Makes the commands of a message's LLB this build's alone, where their HTTP is judged, and takes names of
/// ours from them otherwise: what a build made is LLB that carries that build's.
///
/// # Errors
/// When the LLB cannot be read.
pub async fn apart(build: &Build, raw: &mut RawMessage, at: [Field; 2]) -> Result<(), Status> {
    let hosts = Hosts { suffix: OURS, name: build.commands().await? };
    if hosts.name.is_none() && !has_ours(raw.as_bytes()) {
        return Ok(());
    }
    let [definition, inputs] = at;
    let whole = raw.take(definition).map_err(broken)?;
    if !whole.is_empty() {
        let whole = rewrite::with_hosts(&whole, hosts).map_err(unread)?;
        raw.append_bytes_field(definition, &whole);
    }
    for entry in raw.take_each(inputs).map_err(broken)? {
        raw.append_bytes_field(inputs, &input(&entry, hosts)?);
    }
    Ok(())
}

/// The entry of an input, with its definition made this build's.
fn input(entry: &Bytes, hosts: Hosts<'_>) -> Result<Bytes, Status> {
    let mut out = BytesMut::with_capacity(entry.len());
    for part in raw::each(entry) {
        let Part { number, whole, content } = part.map_err(broken)?;
        match content {
            Some(definition) if number == VALUE => {
                let definition = entry.slice_ref(definition);
                let definition = rewrite::with_hosts(&definition, hosts).map_err(unread)?;
                raw::put(&mut out, VALUE, &definition);
            }
            Some(_) | None => out.extend_from_slice(whole),
        }
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_client_stay_and_ours_are_nobodys() {
        let name = name().unwrap();
        assert_ne!(name, super::name().unwrap());
        assert_eq!(hosts(&name, ""), format!("{name}=127.0.0.1"));
        assert_eq!(hosts(&name, "a=::1"), format!("{name}=127.0.0.1,a=::1"));
        assert!(!has_ours(b"a=::1,b.invalid=::1"));
        for theirs in [format!("{name}=::1"), format!("a=::1,{}=::1", name.to_uppercase())] {
            assert!(has_ours(theirs.as_bytes()), "{theirs}");
        }
    }
}
