//! Which of several daemons a call goes to.

use super::*;
use crate::session::ID;
use crate::wire::proto::control;
use prost::Message as _;

fn solve(build: &str, session: &str) -> Request<Body> {
    let message = control::SolveRequest {
        r#ref: build.to_owned(),
        session: session.to_owned(),
        ..Default::default()
    };
    request("/moby.buildkit.v1.Control/Solve", rpc::one(&message.encode_to_vec()))
}

fn with(path: &str, header: &str, value: &str) -> Request<Body> {
    let mut request = request(path, empty());
    request.headers_mut().extend(headers(&[(header, value)]));
    request
}

fn status(build: &str) -> Request<Body> {
    let message = control::StatusRequest { r#ref: build.to_owned() };
    request("/moby.buildkit.v1.Control/Status", rpc::one(&message.encode_to_vec()))
}

fn session(id: &str) -> Request<Body> {
    with("/moby.buildkit.v1.Control/Session", "x-docker-expose-session-uuid", id)
}

fn gateway(build: &str) -> Request<Body> {
    with("/t.S/Name", "buildkit-controlapi-buildid", build)
}

#[tokio::test]
async fn builds_spread_and_what_belongs_to_one_stays_with_it() {
    let (one, two) = (Peer::start("one"), Peer::start("two"));
    let gate = Proxied::start(vec![one.options(), two.options()]).await;
    until(|| gate.upstreams.all().iter().all(|up| *up.health() == Health::Up)).await;
    let mut homes = Vec::new();
    let mut channels = Vec::new();
    for number in 0..4 {
        let channel = gate.connect().await;
        let home = call(&channel, session(&format!("s{number}"))).await.unwrap();
        assert_eq!(call(&channel, solve(&format!("b{number}"), "")).await.unwrap(), home);
        homes.push(home);
        channels.push(channel);
    }
    assert_eq!(homes.iter().filter(|home| *home == "one").count(), 2, "{homes:?}");
    // From any other connection, old or new, the same daemon is found.
    channels.push(gate.connect().await);
    for channel in &channels {
        for (number, home) in homes.iter().enumerate() {
            let (build, id) = (format!("b{number}"), format!("s{number}"));
            for request in [
                solve("another", &id),
                solve(&build, ""),
                status(&build),
                gateway(&build),
                session(&id),
            ] {
                let path = request.uri().path().to_owned();
                assert_eq!(&call(channel, request).await.unwrap(), home, "{path}");
            }
            assert_eq!(&call(channel, request("/t.S/Name", empty())).await.unwrap(), home);
        }
    }
    // What is only named is not remembered: whoever names it may make it up.
    let made_up = |gate: &Proxied, name: &str| {
        [Key::Build(name.to_owned()), Key::Session(name.to_owned())]
            .iter()
            .filter(|key| gate.upstreams.of(key).is_some())
            .count()
    };
    let channel = gate.connect().await;
    for request in
        [status("made up"), gateway("made up"), with("/t.S/Name", ID.as_str(), "made up")]
    {
        call(&channel, request).await.unwrap();
    }
    assert_eq!(made_up(&gate, "made up"), 0);
    call(&channel, solve("begun", "begun")).await.unwrap();
    assert_eq!(made_up(&gate, "begun"), 2);
    // A solve that comes before its session leads it.
    let (first, second) = (gate.connect().await, gate.connect().await);
    let home = call(&first, solve("early", "late")).await.unwrap();
    assert_eq!(call(&second, session("late")).await.unwrap(), home);
}

#[tokio::test]
async fn a_daemon_that_goes_down_is_left() {
    let (one, two) = (Peer::start("one"), Peer::start("two"));
    let gate = Proxied::start(vec![one.options(), two.options()]).await;
    until(|| gate.upstreams.all().iter().all(|up| *up.health() == Health::Up)).await;
    let mut of_two = None;
    for _ in 0..2 {
        let channel = gate.connect().await;
        if call(&channel, session("mine")).await.unwrap() == "two" {
            assert_eq!(call(&channel, solve("build", "mine")).await.unwrap(), "two");
            of_two = Some(channel);
            break;
        }
        assert_eq!(call(&channel, solve("fill", "")).await.unwrap(), "one");
        std::mem::forget(channel);
        gate.upstreams.forget(&gate.upstreams.all()[0]);
    }
    let channel = of_two.unwrap();
    two.stop().await;
    // What it had is gone with it, once said so; then the client begins anew elsewhere.
    until(|| channel.is_closed() || one.seen.open.load(Ordering::SeqCst) == 0).await;
    let lost = call(&channel, solve("next", "mine")).await.unwrap_err();
    assert_eq!(lost.code(), tonic::Code::Unavailable);
    assert!(
        lost.message().contains("the daemon of this build is gone")
            || lost.message().contains("the connection to the daemon ended"),
        "{}",
        lost.message()
    );
    until(|| matches!(*gate.upstreams.all()[1].health(), Health::Down(_))).await;
    for _ in 0..4 {
        let channel = gate.connect().await;
        assert_eq!(call(&channel, solve("new", "new")).await.unwrap(), "one");
    }
    assert_eq!(call(&channel, solve("next", "mine")).await.unwrap(), "one");
    assert!(gate.upstreams.ready());
}
