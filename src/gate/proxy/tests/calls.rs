//! What passes, and how a call ends when one side goes away.

use super::*;
use crate::rpc::frame;

#[tokio::test]
async fn a_call_passes_untouched() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    let channel = gate.connect().await;
    let long = "x".repeat(40_000);
    let sent = [
        ("x-repeated", "1"),
        ("x-repeated", "2"),
        ("trace-bin", "AAEC/w"),
        ("grpc-timeout", "1500m"),
        ("user-agent", "grpc-go/1.80.0"),
        ("x-long", &long),
    ];
    let ended = [
        ("grpc-status", "9"),
        ("grpc-message", "no%20way"),
        ("grpc-status-details-bin", "CAkSBm5vIHdheQ"),
        ("x-long", &long),
    ];
    for path in ["/moby.buildkit.v1.Control/Unheard", "/a.b.C/D?x=%2F", "/odd"] {
        let (sender, body) = body();
        let mut asked = request(path, body);
        asked.headers_mut().extend(headers(&sent));
        let mut answer = channel.forward(asked).await.unwrap();
        for name in ["x-repeated", "trace-bin", "grpc-timeout", "user-agent", "x-long"] {
            let wanted: Vec<_> =
                sent.iter().filter(|(sent, _)| *sent == name).map(|(_, value)| *value).collect();
            let got: Vec<_> = answer.headers().get_all(name).iter().collect();
            assert_eq!(got, wanted, "{name}");
        }
        assert!(!answer.headers().contains_key("date"), "the gate adds nothing");
        let seen = answer.headers()["x-path"].to_str().unwrap();
        assert_eq!(seen, format!("http://localhost{path}"));
        // Message by message, each before the next is sent: nothing waits for an end.
        for part in ["first", "second"] {
            sender.send(data(part)).await.unwrap();
            let frame = answer.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
        }
        sender.send(Ok(Frame::trailers(headers(&ended)))).await.unwrap();
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), headers(&ended));
        assert!(answer.body_mut().frame().await.is_none());
    }
}

#[tokio::test]
async fn large_messages_pass_whole() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    let channel = gate.connect().await;
    let message = (0..=u8::MAX).collect::<Vec<_>>().repeat(64 << 12);
    let answer = channel.forward(request("/a.b.C/Echo", rpc::one(&message))).await.unwrap();
    let got = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(got[frame::HEAD..] == message, "64 MiB came back changed");
}

#[tokio::test]
async fn resets_of_the_daemon_pass_with_their_code() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    let channel = gate.connect().await;
    let before = channel.forward(request("/t.S/ResetBefore", empty())).await.unwrap_err();
    assert_eq!(code(&*before), Some(h2::Reason::REFUSED_STREAM));
    let after = channel.forward(request("/t.S/ResetAfter", empty())).await.unwrap();
    let after = after.into_body().collect().await.unwrap_err();
    assert_eq!(code(&after), Some(h2::Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_at_the_daemon() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    for path in ["/t.S/Hang", "/t.S/Flood", "/t.S/Sink", "/a.b.C/Echo"] {
        let channel = gate.connect().await;
        let (sender, body) = body();
        let other = channel.clone();
        let calling = tokio::spawn(async move {
            let mut answer = other.forward(request(path, body)).await.unwrap();
            while answer.body_mut().frame().await.is_some() {}
        });
        until(|| peer.seen.open.load(Ordering::SeqCst) == 1).await;
        calling.abort();
        let cancel = rpc::Reset::with(h2::Reason::CANCEL);
        let _ = sender.send(Err(cancel.into())).await;
        peer.until_idle().await;
        // The connection is none the worse.
        assert_eq!(call(&channel, request("/t.S/Name", empty())).await.unwrap(), "one");
    }
    // And so it is where the whole client goes away.
    let (channel, connection) =
        Channel::over(UnixStream::connect(&gate.socket).await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let calling =
        tokio::spawn(async move { channel.forward(request("/t.S/Hang", empty())).await.is_ok() });
    until(|| peer.seen.open.load(Ordering::SeqCst) == 1).await;
    connection.abort();
    calling.abort();
    peer.until_idle().await;
}

#[tokio::test]
async fn who_does_not_read_is_not_fed_and_holds_up_nobody() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    // A client that can be gone at once, whatever it has under way.
    let client = tokio::runtime::Runtime::new().unwrap();
    let socket = gate.socket.clone();
    let channel = client.spawn(async move { connect(&socket).await }).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(channel.forward(request("/t.S/Flood", empty())).await.unwrap());
    }
    let mut unheard = Vec::new();
    for _ in 0..8 {
        let (sender, body) = body();
        unheard.push(channel.forward(request("/t.S/Sink", body)).await.unwrap());
        client.spawn(async move { while sender.send(data(vec![0; 16 << 10])).await.is_ok() {} });
    }
    // It comes to a stop: two windows on the way and what lies in between, for each stream.
    let flooded = || peer.seen.flooded.load(Ordering::SeqCst);
    let mut before = usize::MAX;
    while before != flooded() {
        before = flooded();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before <= 8 * 6 * rpc::WINDOW as usize, "{before} bytes were taken for nobody");
    for _ in 0..3 {
        let answer = channel.forward(request("/a.b.C/Echo", rpc::one(&[7; 1 << 20]))).await;
        let (got, _) = rpc::read_one(answer.unwrap().into_body()).await.unwrap();
        assert_eq!(got.unwrap().len(), 1 << 20);
    }
    client.shutdown_background();
    drop((unread, unheard));
    peer.until_idle().await;
}

/// Passes calls on when the connection that they were to go on is gone.
struct Late(Arc<Notify>);

impl Handle for Late {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.0.notify_one();
            let channel = call.channel().clone();
            until(|| channel.is_closed()).await;
            call.forward().await
        })
    }
}

#[tokio::test]
async fn a_call_that_goes_out_again_is_as_any_other() {
    let peer = Peer::start("one");
    let late = Arc::new(Late(Arc::clone(&peer.cut)));
    let access = Access::default();
    let gate = Proxied::handled(vec![peer.options()], access, Duration::from_secs(5), late).await;
    let channel = gate.connect().await;
    assert_eq!(call(&channel, request("/t.S/Name", empty())).await.unwrap(), "one");
    // The daemon's reset comes through,
    let reset = channel.forward(request("/t.S/ResetBefore", empty())).await.unwrap_err();
    assert_eq!(code(&*reset), Some(h2::Reason::REFUSED_STREAM));
    // and an upload that nobody reads ends with its client.
    let client = tokio::runtime::Runtime::new().unwrap();
    let socket = gate.socket.clone();
    let channel = client.spawn(async move { connect(&socket).await }).await.unwrap();
    let (sender, body) = body();
    client.spawn(async move { while sender.send(data(vec![0; 16 << 10])).await.is_ok() {} });
    let unheard = channel.forward(request("/t.S/Sink", body)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.shutdown_background();
    drop(unheard);
    peer.until_idle().await;
}

#[tokio::test]
async fn without_a_daemon_calls_say_so() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    let channel = gate.connect().await;
    assert_eq!(call(&channel, request("/t.S/Name", empty())).await.unwrap(), "one");
    let waiting = channel.forward(request("/t.S/Flood", empty())).await.unwrap();
    let other = channel.clone();
    let hanging = tokio::spawn(async move { call(&other, request("/t.S/Hang", empty())).await });
    until(|| peer.seen.open.load(Ordering::SeqCst) == 2).await;
    let folder = peer.stop().await;
    let check = |status: tonic::Status, part: &str| {
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.message().contains(part), "{}", status.message());
    };
    let ended = "buildgate: the connection to the daemon ended: ";
    check(hanging.await.unwrap().unwrap_err(), ended);
    let trailers = waiting.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    check(tonic::Status::from_header_map(&trailers).unwrap(), ended);
    let none = call(&channel, request("/t.S/Name", empty())).await.unwrap_err();
    let socket = folder.path().join("d.sock");
    let words = format!("buildgate: no daemon: unix://{} cannot be reached: ", socket.display());
    check(none, &words);
    assert!(gate.counters.unserved.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn what_may_not_be_called_is_refused_with_words() {
    let peer = Peer::start("one");
    let without =
        |method: &str| Methods { deny: vec![method.parse().unwrap()], ..Methods::default() };
    let nothing = Methods { allow: Vec::new(), deny: Vec::new() };
    let rule = |clients: &[&str], methods| ClientRule {
        client: clients.iter().map(|it| it.parse().unwrap()).collect(),
        methods,
    };
    let access = Access {
        methods: without("Control/Prune"),
        clients: vec![
            rule(&["uid:4294967294"], nothing),
            rule(&["plain", "*"], without("/t.S/Secret")),
        ],
    };
    let gate = Proxied::with(vec![peer.options()], access, Duration::ZERO).await;
    let channel = gate.connect().await;
    let uid =
        tokio::net::UnixStream::connect(&gate.socket).await.unwrap().peer_cred().unwrap().uid();
    let own = format!("buildgate: t.S/Secret is not open to uid:{uid} at unix://");
    for (path, wanted) in [
        ("/t.S/Name", None),
        ("/t.S/Secret", Some(own.as_str())),
        (
            "/moby.buildkit.v1.Control/Prune",
            Some("buildgate: moby.buildkit.v1.Control/Prune is not open to anyone at unix://"),
        ),
    ] {
        let got = call(&channel, request(path, empty())).await;
        match wanted {
            None => assert_eq!(got.unwrap(), "one"),
            Some(words) => {
                let status = got.unwrap_err();
                assert_eq!(status.code(), tonic::Code::PermissionDenied);
                assert!(status.message().starts_with(words), "{}", status.message());
            }
        }
    }
    assert_eq!(gate.counters.forbidden.load(Ordering::SeqCst), 2);
}
