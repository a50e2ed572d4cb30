//! What was asked of a daemon in return, on one connection, and has not come yet.
//!
//! Whoever asks may never come back. So there are only so many, and the oldest makes room: it is the one
//! whose follow-up is least likely still to come, and a follow-up that finds none is refused.
//!
//! A follow-up carries no id. Several questions about one source may be open at once, each at its own
//! round: a follow-up goes on with the oldest whose request it answers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::meta::{
    GitRequest, HttpRequest, ImageMeta, ImageRequest, Known, MetaRequest, SourceMeta,
};
use crate::source::{Platform, SourceOp};

/// Most rounds that are open at once.
const MAX_OPEN: usize = 10_000;
/// Most bytes of what they are about.
const MAX_NAMES: usize = 16 << 20;

/// What is asked about: a source and its platform.
pub(super) type Key = (SourceOp, Option<Platform>);

/// One round of a question.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// When the question came.
    pub(super) began: Instant,
    /// What was asked for last.
    pub(super) request: MetaRequest,
    /// What was asked for, in rounds.
    pub(super) fetched: Vec<Vec<MetaRequest>>,
    /// What has come of it.
    pub(super) known: Known,
}

impl Round {
    /// That of a question that brings nothing.
    pub(super) fn first() -> Self {
        Self {
            began: Instant::now(),
            request: MetaRequest::default(),
            fetched: Vec::new(),
            known: Known::default(),
        }
    }
}

/// The rounds that are open.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Rounds>);

#[derive(Debug, Default)]
struct Rounds {
    /// Those of each source, by number, the oldest first.
    of: HashMap<Key, VecDeque<(u64, Round)>>,
    /// What each is about, the oldest first.
    ages: BTreeMap<u64, Key>,
    /// How many there were.
    number: u64,
    /// Bytes of what they are about.
    names: usize,
}

impl Rounds {
    /// Takes one of a source out.
    fn remove(&mut self, key: &Key, at: usize) -> Option<Round> {
        let of_source = self.of.get_mut(key)?;
        let (number, round) = of_source.remove(at)?;
        if of_source.is_empty() {
            self.of.remove(key);
        }
        self.ages.remove(&number);
        self.names -= key.0.size();
        Some(round)
    }

    /// Drops the oldest.
    fn shrink(&mut self) {
        if let Some(key) = self.ages.first_key_value().map(|(_, key)| key.clone()) {
            // Of its source it is the oldest, too.
            self.remove(&key, 0);
        }
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves one open, without what its follow-up brings anew: images and objects may be large.
    pub(super) fn put(&self, key: Key, mut round: Round) {
        let root = &mut round.known.root;
        *root = SourceMeta { http: root.http.take(), ..SourceMeta::default() };
        let mut rounds = self.lock();
        rounds.names += key.0.size();
        while !rounds.ages.is_empty() && (rounds.ages.len() >= MAX_OPEN || rounds.names > MAX_NAMES)
        {
            rounds.shrink();
        }
        rounds.number += 1;
        let number = rounds.number;
        rounds.ages.insert(number, key.clone());
        rounds.of.entry(key).or_default().push_back((number, round));
    }

    /// Takes the round that a follow-up goes on with; where it answers none, the oldest.
    pub(super) fn take(&self, key: &Key, meta: &SourceMeta) -> Option<Round> {
        let mut rounds = self.lock();
        let of_source = rounds.of.get(key)?;
        let at = of_source.iter().position(|(_, round)| answers(meta, &round.request));
        rounds.remove(key, at.unwrap_or(0))
    }
}

/// Whether this is what was asked for, neither less nor more than comes along.
fn answers(meta: &SourceMeta, request: &MetaRequest) -> bool {
    let image = match (&request.image, &meta.image) {
        (None, None) => true,
        (Some(ImageRequest { config, attestations }), Some(image)) => {
            let ImageMeta { digest: _, config: told, attestations: chain } = image;
            *config == told.is_some() && *attestations == chain.is_some()
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    let git = match (&request.git, &meta.git) {
        (None, None) => true,
        (Some(GitRequest { objects }), Some(git)) => *objects == git.commit_object.is_some(),
        (None, Some(_)) | (Some(_), None) => false,
    };
    let http = match (&request.http, &meta.http) {
        (None, None) => true,
        (Some(HttpRequest { checksum }), Some(http)) => match (checksum, &http.checksum_response) {
            (None, None) => true,
            (Some(asked), Some(told)) => asked.is_answered_by(told),
            (None, Some(_)) | (Some(_), None) => false,
        },
        (None, Some(_)) | (Some(_), None) => false,
    };
    image && git && http
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{GitMeta, HttpMeta};

    fn key(name: &str) -> Key {
        (SourceOp::new(format!("docker-image://docker.io/library/{name}")), None)
    }

    fn round(request: MetaRequest) -> Round {
        Round { request, ..Round::first() }
    }

    fn image(config: bool, attestations: bool) -> MetaRequest {
        let image = Some(ImageRequest { config, attestations });
        MetaRequest { image, ..MetaRequest::default() }
    }

    fn git(objects: bool) -> MetaRequest {
        MetaRequest { git: Some(GitRequest { objects }), ..MetaRequest::default() }
    }

    #[test]
    fn a_follow_up_goes_on_with_the_question_that_it_answers() {
        let bare = SourceMeta { image: Some(ImageMeta::default()), ..SourceMeta::default() };
        let told = ImageMeta { config: Some("{}".into()), ..ImageMeta::default() };
        let told = SourceMeta { image: Some(told), ..SourceMeta::default() };
        let reference = SourceMeta { git: Some(GitMeta::default()), ..SourceMeta::default() };
        let commit = GitMeta { commit_object: Some("tree".into()), ..GitMeta::default() };
        let commit = SourceMeta { git: Some(commit), ..SourceMeta::default() };
        let file = SourceMeta { http: Some(HttpMeta::default()), ..SourceMeta::default() };
        for (asked, meta, wanted) in [
            (vec![image(false, false), image(true, false)], &told, 1),
            (vec![image(false, false), image(true, false)], &bare, 0),
            (vec![image(true, false), image(true, false)], &told, 0),
            (vec![git(true), git(false)], &reference, 1),
            (vec![git(true), git(false)], &commit, 0),
            // It answers none, and one of them is not answered by it.
            (vec![git(true), image(true, false)], &file, 0),
        ] {
            let open = Open::default();
            for request in &asked {
                open.put(key("a"), round(request.clone()));
            }
            assert!(open.take(&key("b"), meta).is_none());
            let taken = open.take(&key("a"), meta).unwrap();
            assert_eq!(taken.request, asked[wanted], "{asked:?} {meta:?}");
            let left: Vec<_> =
                std::iter::from_fn(|| open.take(&key("a"), meta)).map(|it| it.request).collect();
            assert_eq!(left, [asked[1 - wanted].clone()], "{asked:?} {meta:?}");
        }
    }

    #[test]
    fn the_oldest_makes_room_whatever_it_is_about() {
        let open = Open::default();
        let of =
            |number: u64| Round { fetched: vec![Vec::new(); number as usize], ..Round::first() };
        let meta = SourceMeta::default();
        let take = |name: &str| open.take(&key(name), &meta).map(|round| round.fetched.len());
        open.put(key("first"), of(1));
        open.put(key("a"), of(2));
        open.put(key("a"), of(3));
        for number in 3..MAX_OPEN {
            open.put(key(&number.to_string()), Round::first());
        }
        assert_eq!(open.lock().ages.len(), MAX_OPEN);
        // Never followed up, each of them; and one that is keeps its place no longer.
        open.put(key("b"), of(4));
        open.put(key("b"), of(5));
        assert_eq!((take("first"), take("b"), take("b")), (None, Some(4), Some(5)));
        assert_eq!((take("a"), take("a")), (Some(3), None));
        for number in 0..2 * MAX_OPEN {
            open.put(key(&format!("more-{number}")), Round::first());
        }
        let rounds = open.lock();
        assert_eq!((rounds.ages.len(), rounds.of.len()), (MAX_OPEN, MAX_OPEN));
        drop(rounds);
        assert_eq!((take("3"), take("more-0"), take("more-19999")), (None, None, Some(0)));
    }

    #[test]
    fn what_is_long_makes_room_sooner() {
        let open = Open::default();
        let long =
            |number: usize| (SourceOp::new(format!("{number:02}{}", "x".repeat(1 << 20))), None);
        for number in 0..20 {
            open.put(long(number), Round::first());
        }
        let meta = SourceMeta::default();
        let left = (0..20).filter(|number| open.take(&long(*number), &meta).is_some()).count();
        assert_eq!((left, open.lock().names), (15, 0));
    }

    #[test]
    fn what_a_follow_up_brings_again_is_not_kept() {
        let open = Open::default();
        let mut large = Round::first();
        let config = Some(vec![0; 1 << 20].into());
        large.known.root.image = Some(ImageMeta { config, ..ImageMeta::default() });
        open.put(key("b"), large);
        let taken = open.take(&key("b"), &SourceMeta::default()).unwrap();
        assert_eq!(taken.known, Known::default());
    }
}
