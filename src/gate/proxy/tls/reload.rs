//! Something made of files, made again when their content changes.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Loaded, TlsError};

/// The last good value. Cheap to clone; the files are watched as long as one clone lives.
pub struct Reloaded<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reloaded").finish_non_exhaustive()
    }
}

/// Makes the value of what the files hold, in their order.
type Make<T> = fn(&[Loaded<'_>]) -> Result<T, TlsError>;

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value, and looks at the files again as often as `every` says. The files are compared
    /// by content: a name that points elsewhere is a change, however old its time stamp.
    pub(super) async fn start(
        files: Vec<PathBuf>,
        every: Duration,
        make: Make<T>,
    ) -> Result<Self, TlsError> {
        let held = read(&files).await?;
        let value = Arc::new(ArcSwap::from_pointee(made(&files, &held, make)?));
        let watched = Arc::downgrade(&value);
        tokio::spawn(async move {
            let mut held = held;
            loop {
                tokio::time::sleep(every).await;
                let Some(value) = Weak::upgrade(&watched) else { return };
                match read(&files).await {
                    Ok(now) if now == held => {}
                    Ok(now) => {
                        match made(&files, &now, make) {
                            Ok(new) => {
                                value.store(Arc::new(new));
                                tracing::info!(file = %name(&files), "certificates were read again");
                            }
                            Err(error) => {
                                tracing::error!(
                                    "new certificates are no good, the old ones stay: {error}"
                                );
                            }
                        }
                        held = now;
                    }
                    Err(error) => {
                        tracing::error!("certificates cannot be read, the old ones stay: {error}");
                    }
                }
            }
        });
        Ok(Self(value))
    }

    /// The last good value.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.0.load_full()
    }
}

fn name(files: &[PathBuf]) -> String {
    files.first().map(|file| file.display().to_string()).unwrap_or_default()
}

async fn read(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, TlsError> {
    let mut held = Vec::with_capacity(files.len());
    for file in files {
        let wrong = |source| TlsError::Read { file: file.clone(), source };
        held.push(tokio::fs::read(file).await.map_err(wrong)?);
    }
    Ok(held)
}

fn made<T>(files: &[PathBuf], held: &[Vec<u8>], make: Make<T>) -> Result<T, TlsError> {
    let loaded: Vec<_> =
        files.iter().zip(held).map(|(file, bytes)| Loaded { file, bytes }).collect();
    make(&loaded)
}
