//! Which daemon has a session or a build. Bounded in number and in time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::gate::proxy::client::Principal;

/// How long it is remembered after it was last used.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are remembered.
const MOST: usize = 20_000;
/// Longest id that is remembered, in bytes: BuildKit's are 25.
const LONGEST: usize = 256;

/// What belongs to one daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A session, by its id.
    Session(String),
    /// A build, by its `Ref`.
    Build(String),
}

#[derive(Debug, Default)]
pub(super) struct Sticky(Mutex<HashMap<Key, Entry>>);

#[derive(Debug)]
struct Entry {
    upstream: usize,
    /// Who brought it about, as it says: nobody has looked into that yet.
    owner: Principal,
    used: Instant,
}

impl Sticky {
    pub fn get(&self, key: &Key) -> Option<usize> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(key).filter(|entry| entry.used.elapsed() < LIFE)?;
        entry.used = Instant::now();
        Some(entry.upstream)
    }

    /// Remembers what a client brings about. What is another's stays as it is.
    pub fn put(&self, key: Key, upstream: usize, owner: &Principal) {
        let (Key::Session(id) | Key::Build(id)) = &key;
        if id.is_empty() || id.len() > LONGEST {
            return;
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.get(&key).filter(|entry| entry.used.elapsed() < LIFE);
        if known.is_some_and(|entry| entry.owner != *owner) {
            return;
        }
        if entries.len() >= MOST {
            shrink(&mut entries);
        }
        entries.insert(key, Entry { upstream, owner: owner.clone(), used: Instant::now() });
    }

    pub fn forget(&self, upstream: usize) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.upstream != upstream);
    }
}

/// Drops the older half of what belongs to whoever has most: nobody can have others forgotten.
fn shrink(entries: &mut HashMap<Key, Entry>) {
    let mut ages: HashMap<&Principal, Vec<Instant>> = HashMap::new();
    for entry in entries.values() {
        ages.entry(&entry.owner).or_default().push(entry.used);
    }
    let Some((owner, mut ages)) = ages.into_iter().max_by_key(|(_, ages)| ages.len()) else {
        return;
    };
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let (owner, median) = (owner.clone(), *median);
    entries.retain(|_, entry| entry.owner != owner || entry.used > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Principal = Principal::User(1);
    const YOU: Principal = Principal::User(2);

    fn build(id: impl std::fmt::Display) -> Key {
        Key::Build(id.to_string())
    }

    #[test]
    fn what_is_put_is_found_until_it_is_forgotten() {
        let sticky = Sticky::default();
        sticky.put(build("a"), 0, &ME);
        sticky.put(Key::Session("a".into()), 1, &ME);
        sticky.put(build("b"), 1, &ME);
        sticky.put(build(""), 1, &ME);
        sticky.put(build("x".repeat(LONGEST + 1)), 1, &ME);
        let all = |sticky: &Sticky| {
            [build("a"), Key::Session("a".into()), build("b"), build(""), build("x".repeat(257))]
                .map(|key| sticky.get(&key))
        };
        assert_eq!(all(&sticky), [Some(0), Some(1), Some(1), None, None]);
        sticky.put(build("b"), 0, &ME);
        sticky.forget(1);
        assert_eq!(all(&sticky), [Some(0), None, Some(0), None, None]);
    }

    #[test]
    fn nobody_moves_what_is_anothers_or_has_it_forgotten() {
        let sticky = Sticky::default();
        sticky.put(build("mine"), 0, &ME);
        sticky.put(build("mine"), 1, &YOU);
        assert_eq!(sticky.get(&build("mine")), Some(0));
        for number in 0..3 * MOST {
            sticky.put(build(number), 1, &YOU);
        }
        assert!(sticky.0.lock().unwrap().len() <= MOST);
        assert_eq!(sticky.get(&build("mine")), Some(0));
        sticky.put(build("mine"), 1, &ME);
        assert_eq!(sticky.get(&build("mine")), Some(1));
    }

    #[test]
    fn it_stays_bounded_and_keeps_the_newest() {
        let sticky = Sticky::default();
        for number in 0..3 * MOST {
            sticky.put(build(number), 0, &ME);
        }
        assert!(sticky.0.lock().unwrap().len() <= MOST);
        assert_eq!(sticky.get(&build(3 * MOST - 1)), Some(0));
        assert_eq!(sticky.get(&build(0)), None);
    }
}
