//! Sessions and builds, and clients that name them.

use super::*;
use crate::gate::enforce::build::tests::Bench;
use crate::gate::ops::Mode;

fn owner(name: &str) -> Owner {
    Owner { principal: Principal::Certificate(name.into()), listener: "a listener".into() }
}

/// A connection that nobody answers at.
async fn channel() -> Channel {
    let (near, far) = tokio::io::duplex(64);
    // A preface is all that it takes.
    tokio::spawn(async move {
        let _far = far;
        std::future::pending::<()>().await
    });
    Channel::over(near).await.unwrap().0
}

#[tokio::test]
async fn a_client_is_another_one_at_another_listener() {
    let claims = Claims::default();
    let here = owner("a");
    let there = Owner { listener: "another".into(), ..here.clone() };
    let _held = claims.session(&here, "s", None).unwrap();
    assert_eq!(claims.owns(&there, "s").await, Err(Foreign::Client));
}

#[tokio::test]
async fn a_stream_that_ends_takes_only_its_own_verifier_along() {
    let claims = Claims::default();
    let a = owner("a");
    let older = claims.session(&a, "s", Some(channel().await)).unwrap();
    let newer = claims.session(&a, "s", Some(channel().await)).unwrap();
    drop(older);
    assert!(claims.verifier(&a, "s").await.is_some());
    let named = claims.session(&a, "s", None).unwrap();
    drop(newer);
    assert!(claims.state().sessions["s"].verifier.is_none());
    drop(named);
    assert!(claims.state().sessions.is_empty());
}

#[tokio::test]
async fn a_session_is_its_clients_while_anyone_of_theirs_holds_it() {
    let claims = Claims::default();
    let (a, b) = (owner("a"), owner("b"));
    let stream = claims.session(&a, "s1", None).unwrap();
    let solve = claims.session(&a, "prefix:s1", None).unwrap();
    for value in ["s1", "x:s1"] {
        assert_eq!(claims.session(&b, value, None).err(), Some(Foreign::Client));
        assert_eq!(claims.owns(&b, value).await, Err(Foreign::Client));
        assert_eq!(claims.owns(&a, value).await, Ok(()));
    }
    drop(stream);
    assert_eq!(claims.session(&b, "s1", None).err(), Some(Foreign::Client));
    drop(solve);
    assert!(claims.session(&b, "s1", None).is_ok());
}

#[test]
fn our_names_are_nobodys() {
    let claims = Claims::default();
    let id = SessionId::random().unwrap();
    let own = claims.own(&id);
    for value in
        [id.reveal().to_owned(), format!("a:{}", id.reveal()), format!("{}:a", id.reveal())]
    {
        assert_eq!(claims.session(&owner("a"), &value, None).err(), Some(Foreign::Ours));
    }
    let (a, reference) = (owner("a"), id.reveal());
    assert_eq!(claims.is_anothers(&a, reference), Some(Foreign::Ours));
    assert_eq!(claims.is_anothers(&a, "of nobody"), None);
    drop(own);
    assert!(claims.session(&a, reference, None).is_ok());
}

#[tokio::test]
async fn what_nobody_has_yet_is_waited_for() {
    let claims = Claims::default();
    let later = claims.clone();
    let opening = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        later.session(&owner("a"), "s", None).unwrap()
    });
    assert_eq!(claims.owns(&owner("a"), "s").await, Ok(()));
    drop(opening.await.unwrap());
}

/// A build that is looked at may take longer than anybody waits for one that nobody has heard of.
#[tokio::test]
async fn a_build_is_waited_for_until_it_is_on_its_way() {
    let claims = Claims::default();
    let (a, b) = (owner("a"), owner("b"));
    let build = Arc::new(Bench::start(Mode::Enforce).await.build);
    let claim = claims.arrive(&a, "r").unwrap();
    assert_eq!(claims.arrive(&a, "r").err(), Some(Foreign::Taken));
    assert!(claims.is_under_way("r") && !claims.is_under_way("another"));
    assert_eq!(claims.is_anothers(&b, "r"), Some(Foreign::Client));
    assert_eq!(claims.build(&b, "r").await.err(), Some(Foreign::Client));
    assert_eq!(claims.forwarded(&b, "r").await.err(), Some(Foreign::Client));
    let wait = |forwarded: bool| {
        let (claims, a) = (claims.clone(), a.clone());
        tokio::spawn(async move {
            match forwarded {
                true => claims.forwarded(&a, "r").await.map(|_| ()),
                false => claims.build(&a, "r").await.map(|_| ()),
            }
        })
    };
    let (begun, forwarded) = (wait(false), wait(true));
    tokio::time::sleep(PATIENCE + Duration::from_millis(200)).await;
    assert!(!begun.is_finished() && !forwarded.is_finished());
    claim.begun(&build);
    assert_eq!(begun.await.unwrap(), Ok(()));
    assert!(!forwarded.is_finished());
    claim.forwarded(&build);
    assert_eq!(forwarded.await.unwrap(), Ok(()));
    // One that ends before is no longer waited for.
    drop(claim);
    let claim = claims.arrive(&a, "r").unwrap();
    let ended = wait(true);
    tokio::time::sleep(PATIENCE).await;
    let began = Instant::now();
    drop(claim);
    assert_eq!(ended.await.unwrap(), Err(Foreign::Nobody));
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn only_who_waits_for_it_is_told() {
    let claims = Claims::default();
    let a = owner("a");
    let looked = std::cell::Cell::new(0);
    let waiting = claims.wait(Awaited::Session("s".to_owned()), |state| {
        looked.set(looked.get() + 1);
        match state.sessions.contains_key("s") {
            true => Seen::Found(()),
            false => Seen::Nothing,
        }
    });
    let meanwhile = async {
        tokio::task::yield_now().await;
        for number in 0..100 {
            drop(claims.session(&a, &number.to_string(), None).unwrap());
            drop(claims.arrive(&a, "s").unwrap());
            tokio::task::yield_now().await;
        }
        claims.session(&a, "prefix:s", None).unwrap()
    };
    let (found, _held) = tokio::join!(waiting, meanwhile);
    assert_eq!((found, looked.get()), (Some(()), 2));
    assert!(claims.state().awaited.is_empty());
}

#[tokio::test]
async fn names_that_are_longer_than_any_are_nobodys() {
    let claims = Claims::default();
    let (a, long) = (owner("a"), "é".repeat(LONGEST));
    assert_eq!(claims.session(&a, &long, None).err(), Some(Foreign::Long));
    assert_eq!(claims.owns(&a, &long).await, Err(Foreign::Long));
    assert_eq!(claims.arrive(&a, &long).err(), Some(Foreign::Long));
    assert_eq!(claims.build(&a, &long).await.err(), Some(Foreign::Long));
    assert_eq!(claims.is_anothers(&a, &long), Some(Foreign::Long));
    assert_eq!(shown(&long), format!("{}…", "é".repeat(SHOWN)));
    let longest = "a".repeat(LONGEST);
    assert!(claims.arrive(&a, &longest).is_ok() && shown(&longest) == longest);
}

/// The last that holds a build may be its claim; what the build gives back is claimed, too.
#[tokio::test]
async fn a_build_that_ends_gives_its_names_back() {
    let bench = Bench::start(Mode::Enforce).await;
    bench.open().await;
    let claims = bench.build.begun().claims.clone();
    assert_eq!(claims.state().ours.len(), 2);
    let claim = claims.arrive(&owner("a"), "r").unwrap();
    claim.begun(&Arc::new(bench.build));
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(claim);
        ended.send(())
    });
    wait.recv_timeout(Duration::from_secs(10)).expect("it waits for itself");
    assert!(claims.state().ours.is_empty() && !claims.is_under_way("r"));
}
