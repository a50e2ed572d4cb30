//! Decides many sources at once, each only once.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use crate::check::{self, CheckError, Checked, Question};
use crate::meta::ResolveSourceMeta;
use crate::policy::Policy;

/// Sources that are decided at the same time.
const AT_ONCE: usize = 8;
/// How long work takes before anything is said of it.
const PATIENCE: Duration = Duration::from_millis(400);

/// What came of a question.
pub(super) type Judged = std::result::Result<Checked, CheckError>;

/// Runs `work` to its end on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    Ok(runtime.block_on(work))
}

/// The answers to `questions`, in their order.
pub(super) async fn all(
    policies: &[Policy],
    questions: &[Question],
    resolver: &dyn ResolveSourceMeta,
) -> Vec<Judged> {
    let progress = Progress::start(questions.len());
    let answers = questions.iter().map(|question| async {
        let answer = check::check(policies, question, resolver).await;
        progress.done();
        answer
    });
    let answers = stream::iter(answers).buffered(AT_ONCE).collect();
    tokio::pin!(answers);
    tokio::select! {
        biased;
        answers = &mut answers => return answers,
        () = tokio::time::sleep(PATIENCE) => progress.show(),
    }
    let answers = answers.await;
    progress.clear();
    answers
}

/// How far it is, on a terminal and where it takes long.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn start(count: usize) -> Self {
        let bar = ProgressBar::hidden();
        bar.set_length(count as u64);
        Self { bar }
    }

    fn show(&self) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} judging sources: {pos} of {len}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    fn done(&self) {
        self.bar.inc(1);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
