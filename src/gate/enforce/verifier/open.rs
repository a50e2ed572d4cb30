//! What was asked of a daemon in return, on one connection, and has not come yet.
//!
//! A follow-up carries no id. Several questions about one source may be open at once, each at its own
//! round: a follow-up goes on with the oldest whose request it answers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::meta::{
    GitRequest, HttpRequest, ImageMeta, ImageRequest, Known, MetaRequest, SourceMeta,
};
use crate::source::{Platform, SourceOp};

/// Most rounds that are open at once.
const MAX_OPEN: usize = 10_000;

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
    of: HashMap<Key, VecDeque<Round>>,
    count: usize,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves one open, without what its follow-up brings anew: images and objects may be large.
    ///
    /// An `Err` says that there are too many.
    pub(super) fn put(&self, key: Key, mut round: Round) -> Result<(), String> {
        let root = &mut round.known.root;
        *root = SourceMeta { http: root.http.take(), ..SourceMeta::default() };
        let mut rounds = self.lock();
        if rounds.count >= MAX_OPEN {
            return Err("too many questions are open on this connection".to_owned());
        }
        rounds.count += 1;
        rounds.of.entry(key).or_default().push_back(round);
        Ok(())
    }

    /// Takes the round that a follow-up goes on with; where it answers none, the oldest.
    pub(super) fn take(&self, key: &Key, meta: &SourceMeta) -> Option<Round> {
        let mut rounds = self.lock();
        let of_source = rounds.of.get_mut(key)?;
        let at = of_source.iter().position(|round| answers(meta, &round.request)).unwrap_or(0);
        let round = of_source.remove(at)?;
        if of_source.is_empty() {
            rounds.of.remove(key);
        }
        rounds.count -= 1;
        Some(round)
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
                open.put(key("a"), round(request.clone())).unwrap();
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
    fn rounds_are_counted_and_not_the_sources_they_are_about() {
        let open = Open::default();
        for _ in 0..MAX_OPEN {
            open.put(key("a"), Round::first()).unwrap();
        }
        assert!(open.put(key("a"), Round::first()).is_err());
        assert!(open.put(key("b"), Round::first()).is_err());
        assert!(open.take(&key("a"), &SourceMeta::default()).is_some());
        let mut large = Round::first();
        let config = Some(vec![0; 1 << 20].into());
        large.known.root.image = Some(ImageMeta { config, ..ImageMeta::default() });
        assert!(open.put(key("b"), large).is_ok());
        let taken = open.take(&key("b"), &SourceMeta::default()).unwrap();
        assert_eq!(taken.known, Known::default(), "its follow-up brings that again");
    }
}
