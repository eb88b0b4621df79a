//! Where the process that has a vault is found by the others of its account.
//!
//! On Unix that is a socket in the account's folder. Where none can lie there (its path is too long, the
//! file system knows no sockets, or the system has named pipes instead), it lies elsewhere under a name
//! that nobody can guess, and a file in the account's folder says where. So whoever cannot read that folder
//! can neither find it nor put another one in its place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};

/// The socket in the account's folder.
const SOCKET: &str = "host.mildam";
/// The file that says where it is instead.
const ELSEWHERE: &str = "host-at.mildam";
/// How names elsewhere begin.
const PREFIX: &str = "mildam-";

/// Open as long as this lives. Only the process that has the vault locked may have one.
pub(crate) struct HostSocket {
    listener: Listener,
    home: PathBuf,
}

impl HostSocket {
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let home = home.canonicalize()?;
        // The lock of the vault says that whoever left it there has gone.
        clear(&home);
        let here = if cfg!(unix) { bind(&home.join(SOCKET)).ok() } else { None };
        let listener = match here {
            Some(listener) => listener,
            None => bind_elsewhere(&home)?,
        };
        Ok(Self { listener, home })
    }

    /// Waits for the next guest of the same user.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        loop {
            let stream = self.listener.accept().await?;
            if is_own(&stream) {
                return Ok(stream);
            }
        }
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        clear(&self.home);
    }
}

/// Connects to the process that has the vault of this folder, if it lets others in.
pub(crate) async fn connect(home: &Path) -> Option<Stream> {
    let home = home.canonicalize().ok()?;
    let here = cfg!(unix).then(|| home.join(SOCKET));
    for address in here.into_iter().chain(elsewhere(&home)) {
        let Ok(name) = address.as_path().to_fs_name::<GenericFilePath>() else { continue };
        if let Ok(stream) = Stream::connect(name).await
            && is_own(&stream)
        {
            return Some(stream);
        }
    }
    None
}

fn bind(address: &Path) -> io::Result<Listener> {
    let name = address.to_fs_name::<GenericFilePath>()?;
    let listener = ListenerOptions::new().name(name).reclaim_name(false).create_tokio()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(address, fs::Permissions::from_mode(0o600))?;
    }
    Ok(listener)
}

fn bind_elsewhere(home: &Path) -> io::Result<Listener> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let address = address(&format!("{PREFIX}{:032x}", u128::from_ne_bytes(random)));
    let text =
        address.to_str().ok_or_else(|| io::Error::other("the temporary folder's name is not UTF-8"))?;
    // Before it is made: so whoever comes later finds it and can clear it away.
    fs::write(home.join(ELSEWHERE), text)?;
    #[cfg(unix)]
    if let Some(folder) = address.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        // It must not be there yet, so it is this user's.
        fs::DirBuilder::new().mode(0o700).create(folder)?;
    }
    bind(&address)
}

/// A socket in a folder of its own, of this session or for temporary files.
#[cfg(unix)]
fn address(name: &str) -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let session = session.filter(|folder| folder.is_absolute() && folder.is_dir());
    session.unwrap_or_else(std::env::temp_dir).join(name).join("socket")
}

/// A named pipe.
#[cfg(not(unix))]
fn address(name: &str) -> PathBuf {
    PathBuf::from(format!(r"\\.\pipe\{name}"))
}

/// Where the file in the account's folder points to.
fn elsewhere(home: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(home.join(ELSEWHERE)).ok()?;
    Some(PathBuf::from(text)).filter(|address| address.is_absolute())
}

/// Removes what a process of before has left, or this one. What cannot be removed stays: it opens nothing.
fn clear(home: &Path) {
    let _ = fs::remove_file(home.join(SOCKET));
    #[cfg(unix)]
    if let Some(address) = elsewhere(home)
        && let Some(folder) = address.parent()
        && folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
    {
        let _ = fs::remove_file(&address);
        let _ = fs::remove_dir(folder);
    }
    let _ = fs::remove_file(home.join(ELSEWHERE));
}

/// Whether the other process is of the same user. Some systems let anybody connect, whatever the mode of
/// the socket says.
#[cfg(unix)]
fn is_own(stream: &Stream) -> bool {
    let user = rustix::process::geteuid().as_raw();
    stream.peer_creds().is_ok_and(|peer| peer.euid() == Some(user))
}

/// The pipe's name is known to those only who can read the account's folder.
#[cfg(not(unix))]
const fn is_own(_stream: &Stream) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A folder of its own for each test.
    #[allow(clippy::unwrap_used)]
    fn home(name: &str) -> PathBuf {
        let home = std::env::temp_dir().join(format!("mildam-socket-{}-{name}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        home
    }

    #[tokio::test]
    async fn a_door_is_found_and_is_gone_when_closed() {
        for name in ["short".to_owned(), "long".repeat(40)] {
            let home = home(&name);
            assert!(connect(&home).await.is_none());
            let socket = HostSocket::open(&home).unwrap();
            let (guest, host) = tokio::join!(connect(&home), socket.accept());
            assert!(guest.is_some() && host.is_ok());
            drop(socket);
            assert!(connect(&home).await.is_none());
            assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
            fs::remove_dir(home).unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced() {
        for name in ["left".to_owned(), "left-".repeat(40)] {
            let home = home(&name);
            let mut killed = HostSocket::open(&home).unwrap();
            let left = elsewhere(&home.canonicalize().unwrap());
            // As a process that is killed: nothing is cleared away.
            killed.home = PathBuf::from("/nonexistent");
            drop(killed);
            assert!(connect(&home).await.is_none());
            let socket = HostSocket::open(&home).unwrap();
            let (guest, host) = tokio::join!(connect(&home), socket.accept());
            assert!(guest.is_some() && host.is_ok());
            assert!(left.is_none_or(|address| !address.exists()));
            drop(socket);
            assert!(connect(&home).await.is_none());
            assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
            fs::remove_dir(home).unwrap();
        }
    }
}
