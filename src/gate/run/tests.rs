//! A gate that is open, and what ends it.

use super::super::proxy::{ListenOptions, UpstreamOptions};
use super::*;

/// A gate that is open, without a daemon.
async fn running(dir: &Path) -> (Running, Listener, Gate) {
    std::fs::write(dir.join("p.rego"), "package docker\ndecision := {\"allow\": true}\n").unwrap();
    let sets = PolicySets::load([("a".to_owned(), vec![dir.join("p.rego")])]).unwrap();
    let (metrics, counters) = (Arc::new(Metrics::new()), Arc::new(Counters::default()));
    let address = |name: &str| format!("unix://{}", dir.join(name).display()).parse().unwrap();
    let upstream = UpstreamOptions { address: address("none.sock"), tls: None };
    let upstreams = Upstreams::start(vec![upstream], Arc::clone(&counters)).await.unwrap();
    let status = status(&sets, &metrics, &upstreams, &counters);
    let handler = Arc::new(proxy::Forward);
    let drain = std::time::Duration::from_secs(1);
    let gate = Gate { upstreams, handler, counters, drain };
    let listener = proxy::bind(ListenOptions::at(address("gate.sock"))).await.unwrap();
    let signals = Signals::new().unwrap().ending;
    let helpers = Tasks::default();
    (Running { helpers, status, signals, stop: watch::channel(false).0 }, listener, gate)
}

#[tokio::test]
async fn what_ends_by_itself_ends_the_gate() {
    async fn dies() {
        panic!("of itself");
    }
    for (dies_of, wanted) in [
        (true, "the helper ended by itself (task "),
        (false, "the helper ended by itself, and so does the gate"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut running, listener, gate) = running(dir.path()).await;
        let status = Arc::clone(&running.status);
        running.helpers.spawn("another", std::future::pending());
        match dies_of {
            true => running.helpers.spawn("the helper", dies()),
            false => running.helpers.spawn("the helper", async {}),
        }
        let ended = running.serve(vec![listener], gate);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
        let error = ended.unwrap().unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
        assert!(!status.readiness().0 && !dir.path().join("gate.sock").exists());
    }
}

fn one(ended: impl Future<Output = Drained> + Send + 'static) -> Tasks<Drained> {
    let mut serving = Tasks::default();
    serving.spawn("the listener one", ended);
    serving
}

#[tokio::test]
async fn a_listener_that_dies_is_no_end_of_builds() {
    let mut toll = Toll::default();
    drained(one(async { Drained { cut: 0 } }), &mut toll).await;
    assert!(toll.told().is_ok());
    let mut toll = Toll::default();
    let mut serving = one(async { panic!("of itself") });
    serving.spawn("the listener two", async { Drained { cut: 2 } });
    drained(serving, &mut toll).await;
    assert_eq!(toll.cut, 2);
    let error = toll.told().unwrap_err().to_string();
    assert!(error.starts_with("the listener one ended by itself (task "), "{error}");
}

/// What ended before, and what it took along, is told at the end, however that comes.
#[tokio::test]
async fn no_fault_and_no_cut_is_lost() {
    let mut toll = Toll::default();
    let (what, ended) = one(async { Drained { cut: 3 } }).next().await;
    toll.listener(what, ended, Expected::No);
    let mut serving = one(async { panic!("of itself") });
    serving.spawn("the listener two", std::future::pending());
    // As a second SIGTERM does, while another listener drains.
    let cut_short = drained(serving, &mut toll);
    let cut_short = tokio::time::timeout(std::time::Duration::from_millis(100), cut_short);
    assert!(cut_short.await.is_err());
    assert_eq!(toll.cut, 3);
    let error = toll.told().unwrap_err().to_string();
    assert_eq!(error, "the listener one ended by itself, and so does the gate");
}

#[tokio::test]
async fn what_dies_while_it_drains_is_told_though_it_is_cut_short() {
    let mut toll = Toll::default();
    let mut serving = one(async { panic!("of itself") });
    serving.spawn("the listener two", std::future::pending());
    let cut_short = drained(serving, &mut toll);
    let cut_short = tokio::time::timeout(std::time::Duration::from_millis(100), cut_short);
    assert!(cut_short.await.is_err());
    let error = toll.told().unwrap_err().to_string();
    assert!(error.starts_with("the listener one ended by itself (task "), "{error}");
}
