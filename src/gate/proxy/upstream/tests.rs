//! Whether daemons are asked how they are, whatever happens.

use std::sync::{Mutex, PoisonError};

use super::*;

#[tokio::test]
async fn asking_that_dies_is_said_and_begins_anew() {
    let address: Address = "unix:///nowhere/at/all.sock".parse().unwrap();
    let upstream = Arc::new(Upstream {
        name: "a daemon".into(),
        index: 0,
        address,
        tls: None,
        health: ArcSwap::from_pointee(Health::Up),
        connections: AtomicUsize::new(0),
        counters: Arc::default(),
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let ask = move |upstream: Weak<Upstream>| {
        let seen = Arc::clone(&noted);
        async move {
            let health = Health::clone(&upstream.upgrade().unwrap().health());
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(health);
            assert!(seen.len() > 2, "of itself");
        }
    };
    let rest = Duration::from_millis(1);
    let kept = kept(Arc::downgrade(&upstream), ask, rest);
    tokio::time::timeout(Duration::from_secs(10), kept).await.unwrap();
    let died = Health::Down("a daemon: asking how it is died".to_owned());
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(seen, [Health::Up, died.clone(), died]);
}
