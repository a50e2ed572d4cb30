//! Tasks by name, so that none ends unnoticed. They end with whoever holds them.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run. Dropped, they are ended.
pub struct Tasks<T> {
    running: JoinSet<T>,
    names: HashMap<Id, String>,
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self { running: JoinSet::new(), names: HashMap::new() }
    }
}

impl<T: Send + 'static> Tasks<T> {
    /// Starts one.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends all of them, and comes back when each has let go of what it held.
    pub async fn shutdown(&mut self) {
        self.running.shutdown().await;
    }

    /// The next that ends, by its name, and what came of it. Where none runs, none ends: this does
    /// not come back then.
    pub async fn next(&mut self) -> (String, Result<T, JoinError>) {
        let (id, ended) = match self.running.join_next_with_id().await {
            Some(Ok((id, result))) => (id, Ok(result)),
            Some(Err(error)) => (error.id(), Err(error)),
            None => return std::future::pending().await,
        };
        (self.names.remove(&id).unwrap_or_default(), ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_end_is_told_with_its_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("well", async { 7 });
        let (name, ended) = tasks.next().await;
        assert_eq!((name.as_str(), ended.unwrap()), ("well", 7));
        assert!(tasks.is_empty());
        tasks.spawn("dies", async { panic!("of itself") });
        let (name, ended) = tasks.next().await;
        assert!(name == "dies" && ended.unwrap_err().is_panic());
        let none = tokio::time::timeout(std::time::Duration::from_millis(10), tasks.next()).await;
        assert!(none.is_err());
    }
}
