//! Where daemons' git asks for submodules.
//!
//! A daemon keeps a clone of each repository, and its git asks for a submodule where its name first
//! came from, whatever a later build says. So the URLs that builds were allowed are remembered for as long
//! as the gate runs, and a build's submodules are judged at each of them. No URL is added while another
//! build rests on those that were there before it. What a daemon was told before the gate began is not
//! known here, nor what an audited build was let fetch that is refused elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::gateway::Names;

/// Most URLs of all submodules.
const MAX_URLS: usize = 65_536;

/// What a build cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Another build rests on other URLs.
    #[error(
        "its submodule `{0}` has another URL in a build that is under way, and BuildKit's git would \
         ask one of them for both; build it again when that has ended"
    )]
    Busy(String),
    /// Another build came in between.
    #[error("its submodule `{0}` was just given another URL by another build; build it again")]
    Since(String),
    /// Nothing more is remembered.
    #[error(
        "submodules had more than {MAX_URLS} URLs since the gate began; it has to be started again"
    )]
    Full,
}

/// The places of all builds. Cheap to clone.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    of: HashMap<Names, Place>,
    urls: usize,
}

/// Where one submodule may be asked for.
#[derive(Default)]
struct Place {
    urls: Vec<String>,
    /// Builds that rest on them, and may be under way.
    builds: Vec<Weak<()>>,
}

/// One build's share in the places, until it is dropped.
pub struct Visit {
    places: Places,
    build: Arc<()>,
}

impl Places {
    /// Begins a build.
    pub fn visit(&self) -> Visit {
        Visit { places: self.clone(), build: Arc::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// The URLs that a submodule had before.
    pub fn before(&self, names: &Names) -> Vec<String> {
        self.places.lock().of.get(names).map(|place| place.urls.clone()).unwrap_or_default()
    }

    /// Remembers where a build's submodules may be asked for, all of which is judged.
    ///
    /// # Errors
    /// When that is not all any more, or would be more to another build than it was judged by. Nothing is
    /// remembered then.
    pub fn remember(&self, found: Vec<(Names, String)>) -> Result<(), PlaceError> {
        let mut judged: HashMap<Names, Vec<String>> = HashMap::new();
        for (names, url) in found {
            judged.entry(names).or_default().push(url);
        }
        let mut state = self.places.lock();
        let mut more = 0;
        for (names, urls) in &judged {
            let name = || names.last().cloned().unwrap_or_default();
            let known = state.of.get(names);
            let before = known.map_or(&[][..], |place| &place.urls);
            if before.iter().any(|url| !urls.contains(url)) {
                return Err(PlaceError::Since(name()));
            }
            let new = urls.iter().filter(|url| !before.contains(url)).count();
            more += new;
            if new > 0 && known.is_some_and(|place| place.is_others(&self.build)) {
                return Err(PlaceError::Busy(name()));
            }
        }
        if state.urls + more > MAX_URLS {
            return Err(PlaceError::Full);
        }
        state.urls += more;
        for (names, urls) in judged {
            let place = state.of.entry(names).or_default();
            place.builds.retain(|build| build.strong_count() > 0);
            if !place.builds.iter().any(|build| is(build, &self.build)) {
                place.builds.push(Arc::downgrade(&self.build));
            }
            place.urls = urls;
        }
        Ok(())
    }
}

impl Place {
    /// Whether another build rests on it.
    fn is_others(&self, own: &Arc<()>) -> bool {
        self.builds.iter().any(|build| build.strong_count() > 0 && !is(build, own))
    }
}

fn is(build: &Weak<()>, own: &Arc<()>) -> bool {
    std::ptr::eq(build.as_ptr(), Arc::as_ptr(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Names {
        vec!["h.example/a.git".to_owned(), name.to_owned()]
    }

    fn found(urls: &[(&str, &str)]) -> Vec<(Names, String)> {
        urls.iter().map(|(name, url)| (names(name), (*url).to_owned())).collect()
    }

    #[test]
    fn builds_after_it_are_judged_by_all_that_was_there() {
        let places = Places::default();
        let first = places.visit();
        assert!(first.before(&names("lib")).is_empty());
        first.remember(found(&[("lib", "one"), ("other", "x")])).unwrap();
        drop(first);
        let second = places.visit();
        assert_eq!(second.before(&names("lib")), ["one"]);
        let since = second.remember(found(&[("lib", "two")]));
        assert_eq!(since, Err(PlaceError::Since("lib".to_owned())), "it was not judged at `one`");
        second.remember(found(&[("lib", "two"), ("lib", "one")])).unwrap();
        let third = places.visit();
        assert_eq!(third.before(&names("lib")), ["two", "one"]);
        assert_eq!(third.before(&names("other")), ["x"]);
        assert!(third.before(&vec!["h.example/b.git".to_owned(), "lib".to_owned()]).is_empty());
    }

    #[test]
    fn no_url_is_added_under_a_build_that_does_not_know_it() {
        let places = Places::default();
        let (first, second) = (places.visit(), places.visit());
        first.remember(found(&[("lib", "one")])).unwrap();
        // The same is no addition, and one's own is known to oneself.
        second.remember(found(&[("lib", "one"), ("new", "x")])).unwrap();
        let both = || found(&[("lib", "one"), ("lib", "two")]);
        assert_eq!(second.remember(both()), Err(PlaceError::Busy("lib".to_owned())));
        assert_eq!(second.before(&names("lib")), ["one"], "nothing is remembered of it");
        drop(first);
        second.remember(both()).unwrap();
        assert_eq!(second.before(&names("lib")), ["one", "two"]);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let places = Places::default();
        let build = places.visit();
        let all = (0..MAX_URLS).map(|n| (names(&n.to_string()), "one".to_owned())).collect();
        build.remember(all).unwrap();
        assert_eq!(build.remember(found(&[("lib", "one")])), Err(PlaceError::Full));
        assert_eq!(build.remember(found(&[("7", "one")])), Ok(()), "what is known stays");
    }
}
