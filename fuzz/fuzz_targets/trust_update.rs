#![no_main]
//! Updates of a trust root by TUF: the first `root.json`, the next one, timestamp, snapshot, targets, the
//! target, and what an earlier update has left; parted by lines of `--8<--`. What comes of it can be read
//! again, and is no older than what was there.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use buildgate::trust::{TARGET, Update, update_from};
use buildgate::verify::sigstore::{TrustRoot, UpdatedRoot};
use libfuzzer_sys::fuzz_target;
use sigstore_tuf::Repository;
use sigstore_tuf::transport::FetchFuture;
use url::Url;

mod parts;

/// A repository in memory, where everything is at once.
#[derive(Clone)]
struct Memory(Arc<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn get<'a>(&'a self, name: String, limit: u64) -> FetchFuture<'a> {
        let found = self.0.get(&name).filter(|it| it.len() as u64 <= limit).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }
}

impl Repository for Memory {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.get(name.to_owned(), max_length)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.get(format!("targets/{path}"), max_length)
    }
}

fuzz_target!(|data: &[u8]| {
    let [first, next, timestamp, snapshot, targets, target, before] = parts::of(data);
    let mut files = BTreeMap::new();
    for (name, content) in [
        ("2.root.json", next),
        ("timestamp.json", timestamp),
        ("snapshot.json", snapshot),
        ("1.snapshot.json", snapshot),
        ("targets.json", targets),
        ("1.targets.json", targets),
        ("targets/trusted_root.json", target),
    ] {
        if !content.is_empty() {
            files.insert(name.to_owned(), content.to_vec());
        }
    }
    let repository = Memory(Arc::new(files));
    let before: Option<UpdatedRoot> = serde_json::from_slice(before).ok();
    let mirror = Url::parse("https://tuf.example.com/").unwrap();
    let wanted = Update { mirror: &mirror, root: first, target: TARGET, before: before.as_ref() };
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let update = pin!(update_from(&wanted, || Ok(repository.clone()), now));
    let Poll::Ready(updated) = update.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing here waits");
    };
    let Ok(updated) = updated else { return };
    let text = serde_json::to_vec(&updated).unwrap();
    let root = TrustRoot::parse("updated", &text).unwrap();
    assert_eq!(root.source(), mirror.as_str());
    let versions = updated.vouched().unwrap().versions;
    if let Some(before) = before.as_ref().and_then(UpdatedRoot::vouched) {
        assert_eq!(versions.older_than(&before.versions), None);
    }
});
