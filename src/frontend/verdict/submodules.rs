//! The submodules of a repository, judged as the build's sources are. What a policy would put in the
//! place of one is refused: BuildKit fetches what the repository says.

use std::future::Future;
use std::pin::Pin;

use super::{Gatekeeper, conclude};
use crate::check::{self, Question};
use crate::frontend::policies::Policies;
use crate::gateway::JudgeSubmodule;
use crate::source::SourceOp;

/// Judges the submodules of a repository as the build's sources are.
pub struct Submodules<'a> {
    /// Who tells of it.
    pub keeper: &'a Gatekeeper,
    /// What they are judged by.
    pub policies: &'a Policies,
}

impl JudgeSubmodule for Submodules<'_> {
    fn judge<'a>(
        &'a self,
        op: &'a SourceOp,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            let Self { keeper, policies } = self;
            let platform = keeper.platform().clone();
            let question = Question { op: op.clone(), platform, env: keeper.options.env() };
            let policies = &policies.policies;
            let checked = check::check(policies, &question, &keeper.gateway).await;
            let admitted =
                conclude(policies, op, checked).map_err(|refusal| refusal.messages.join("; "))?;
            // BuildKit fetches what the repository says, whatever we would put in its place.
            if admitted == *op {
                keeper.progress.tell(
                    &format!("[policy] allowed as a submodule: {op}"),
                    Vec::new(),
                    Vec::new(),
                );
                Ok(())
            } else {
                Err("a policy puts another source in its place, which a submodule cannot have"
                    .to_owned())
            }
        })
    }
}
