//! Where the policies of a round are evaluated: at once, or where it holds nothing else up.

use std::future::ready;
use std::pin::Pin;

use super::{CheckError, Question, Stepped, step};
use crate::meta::Known;
use crate::policy::Policy;

/// A round under way.
pub type Stepping<'a> = Pin<Box<dyn Future<Output = Result<Stepped, CheckError>> + Send + 'a>>;

/// Policies, and where they are evaluated.
pub trait Evaluate: Sync {
    /// One round, as [`step`] has it.
    fn step<'a>(&'a self, question: &'a Question, known: &'a Known) -> Stepping<'a>;
}

/// At once, on the thread that asks.
impl<T: AsRef<[Policy]> + Sync + ?Sized> Evaluate for T {
    fn step<'a>(&'a self, question: &'a Question, known: &'a Known) -> Stepping<'a> {
        Box::pin(ready(step(self.as_ref(), question, known)))
    }
}
