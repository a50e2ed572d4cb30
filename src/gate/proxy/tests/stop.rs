//! How serving ends, and what is left of it.

use super::*;

/// Sockets of this machine that are bound to `path`: one that listens, and one for each connection.
fn sockets(path: &Path) -> usize {
    let all = std::fs::read_to_string("/proc/net/unix").unwrap();
    let path = path.to_str().unwrap();
    all.lines().filter(|line| line.split_whitespace().next_back() == Some(path)).count()
}

#[tokio::test]
async fn draining_lets_calls_end_and_takes_no_new_clients() {
    let peer = Peer::start("one");
    let mut gate = Proxied::start(vec![peer.options()]).await;
    let idle = gate.connect().await;
    assert_eq!(call(&idle, request("/t.S/Name", empty())).await.unwrap(), "one");
    let busy = gate.connect().await;
    let (sender, body) = body();
    let mut answer = busy.forward(request("/a.b.C/Echo", body)).await.unwrap();
    gate.tell_to_stop();
    until(|| idle.is_closed()).await;
    assert!(UnixStream::connect(&gate.socket).await.is_err());
    assert!(!gate.socket.exists());
    // The build that has begun goes on, its later calls too.
    assert_eq!(call(&busy, request("/t.S/Name", empty())).await.unwrap(), "one");
    sender.send(data("still here")).await.unwrap();
    let frame = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
    drop(sender);
    answer.into_body().collect().await.unwrap();
    let stopping = std::time::Instant::now();
    assert_eq!(gate.stopped().await, Drained { cut: 0 });
    assert!(stopping.elapsed() < Duration::from_secs(4));
    assert!(busy.is_closed());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let peer = Peer::start("one");
    let drain = Duration::from_millis(200);
    let gate = Proxied::with(vec![peer.options()], Access::default(), drain).await;
    let channel = gate.connect().await;
    let hanging = tokio::spawn(async move {
        channel.forward(request("/t.S/Hang", empty())).await.map(|_| ()).map_err(|e| e.to_string())
    });
    until(|| peer.seen.open.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gate.stopped().await, Drained { cut: 1 });
    assert!(hanging.await.unwrap().is_err());
    peer.until_idle().await;
}

#[tokio::test]
async fn nothing_is_left_of_many_clients() {
    let peer = Peer::start("one");
    let gate = Proxied::start(vec![peer.options()]).await;
    until(|| gate.upstreams.ready()).await;
    let runtime = tokio::runtime::Handle::current();
    let tasks = || runtime.metrics().num_alive_tasks();
    let before = (tasks(), sockets(&gate.socket), sockets(&peer.socket));
    for round in 0..5 {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..40 {
            let socket = gate.socket.clone();
            clients.spawn(async move {
                let channel = connect(&socket).await;
                assert_eq!(call(&channel, request("/t.S/Name", empty())).await.unwrap(), "one");
                let flood = channel.forward(request("/t.S/Flood", empty())).await.unwrap();
                let (sender, body) = body();
                let echo = channel.forward(request("/a.b.C/Echo", body)).await.unwrap();
                // Some end well, some give up, some are gone without a word.
                if (number + round) % 2 == 0 {
                    drop((sender, flood));
                    echo.into_body().collect().await.unwrap();
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }
    until(|| before == (tasks(), sockets(&gate.socket), sockets(&peer.socket))).await;
    let counters = &gate.counters;
    assert_eq!(counters.connections.load(Ordering::SeqCst), 200);
    assert_eq!(counters.calls.load(Ordering::SeqCst), 600);
    for open in [&counters.open_connections, &counters.open_calls] {
        assert_eq!(open.load(Ordering::SeqCst), 0);
    }
    // The one that asks how the daemon is.
    assert_eq!(counters.open_upstreams.load(Ordering::SeqCst), 1);
}
