//! A unix socket of ours: with the right permissions from its first moment on, put in place of a dead
//! one, never of one that somebody still serves.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{UnixListener, UnixStream};

/// Permissions where nothing is said, without a group and with one.
const OWNER: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;

/// A group, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// Its number.
    Id(u32),
    /// Its name, as `/etc/group` has it.
    Name(String),
}

/// A unix socket that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves it.
    #[error("{}: another process listens there", .0.display())]
    Live(PathBuf),
    /// There is something else.
    #[error("{}: is there already and no socket", .0.display())]
    NotASocket(PathBuf),
    /// A path without a name.
    #[error("{}: names no file", .0.display())]
    Nameless(PathBuf),
    /// A group that there is not.
    #[error("{}: there is no group {group}", path.display())]
    NoGroup {
        /// The socket.
        path: PathBuf,
        /// The name.
        group: String,
    },
    /// The system says no.
    #[error("{}: cannot {what}: {source}", path.display())]
    System {
        /// The socket, or a file beside it.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is ours until it is dropped; then its file goes too.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that we made.
    made: (u64, u64),
    /// Held as long as we listen: another gate sees it, however busy we are.
    _lock: File,
}

impl Socket {
    /// Listens at `path`.
    ///
    /// # Errors
    /// When it is in use, or the system will not.
    pub fn bind(
        path: &Path,
        mode: Option<u32>,
        group: Option<&Group>,
    ) -> Result<Self, SocketError> {
        let system = |what: &'static str| {
            move |source| SocketError::System { path: path.to_owned(), what, source }
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Nameless(path.to_owned()));
        };
        fs::create_dir_all(folder).map_err(system("make its folder"))?;
        let lock = lock(path, &folder.join(format!(".{}.lock", name.to_string_lossy())))?;
        refuse_live(path)?;
        // Nobody else can reach into the folder, so nobody connects before the permissions are set.
        let private = Private::make(folder).map_err(system("make a folder beside it"))?;
        let first = private.0.join("s");
        let listener = UnixListener::bind(&first).map_err(system("listen"))?;
        if let Some(group) = group {
            chown(&first, None, Some(group.id(path)?)).map_err(system("set its group"))?;
        }
        let usual = if group.is_some() { OWNER_AND_GROUP } else { OWNER };
        fs::set_permissions(&first, Permissions::from_mode(mode.unwrap_or(usual)))
            .map_err(system("set its mode"))?;
        let file = fs::symlink_metadata(&first).map_err(system("look at it"))?;
        fs::rename(&first, path).map_err(system("put it in place"))?;
        let made = (file.dev(), file.ino());
        Ok(Self { listener, path: path.to_owned(), made, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.made);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: cannot be removed: {error}", self.path.display());
        }
    }
}

/// A lock of its own, because the socket's file can be replaced under whoever holds it.
fn lock(path: &Path, file: &Path) -> Result<File, SocketError> {
    let system = |source| SocketError::System { path: file.to_owned(), what: "lock it", source };
    let lock =
        File::options().create(true).truncate(false).write(true).open(file).map_err(system)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(SocketError::Live(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(system(source)),
    }
}

/// What is there may only be a socket that nobody serves.
fn refuse_live(path: &Path) -> Result<(), SocketError> {
    let system = |source| SocketError::System { path: path.to_owned(), what: "look at it", source };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !file.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match std_unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Who cannot be asked may well be there.
        Ok(_) | Err(_) => Err(SocketError::Live(path.to_owned())),
    }
}

/// A folder that only we can enter, gone when dropped.
struct Private(PathBuf);

impl Private {
    fn make(beside: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".bg{:x}-{number:x}", std::process::id());
        let folder = beside.join(name);
        // Left over where a process of that id was killed half way; we hold the lock.
        match fs::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{}: cannot be removed: {error}", self.0.display());
        }
    }
}

impl Group {
    fn id(&self, path: &Path) -> Result<u32, SocketError> {
        let name = match self {
            Self::Id(id) => return Ok(*id),
            Self::Name(name) => name,
        };
        let groups = PathBuf::from("/etc/group");
        let text = fs::read_to_string(&groups).map_err(|source| SocketError::System {
            path: groups,
            what: "read it",
            source,
        })?;
        let found = text.lines().find_map(|line| {
            let mut parts = line.split(':');
            let named = parts.next() == Some(name);
            parts.nth(1).filter(|_| named).and_then(|id| id.parse().ok())
        });
        found.ok_or_else(|| SocketError::NoGroup { path: path.to_owned(), group: name.clone() })
    }
}

impl From<String> for Group {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Name(text), Self::Id)
    }
}

impl FromStr for Group {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text.to_owned()))
    }
}
