//! Free space on the disk. Before there is none, nothing is written any more but what people need to keep others
//! out: a database that cannot write at all could not even end the session of a stolen device.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mildam_protocol::command::Kind;

use crate::context::Context;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A disk that is small has a smaller floor: a so many-th part of it.
const PART: u64 = 20;

/// How much room there is.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    /// So many bytes are left free.
    floor: u64,
    short: AtomicBool,
}

impl Space {
    pub(crate) fn new(folder: &Path, floor: u64) -> Self {
        let space = Self { folder: folder.to_owned(), floor, short: AtomicBool::new(false) };
        space.look();
        space
    }

    /// Whether a request of this command may be written now.
    pub(crate) fn allows(&self, kind: Kind) -> bool {
        let needed = matches!(
            kind,
            Kind::Attach
                | Kind::LogIn
                | Kind::LogInStart
                | Kind::LogOut
                | Kind::SessionEnd
                | Kind::RecoverStart
                | Kind::Recover
        );
        needed || !self.short.load(Ordering::Relaxed)
    }

    /// Looks how much there is, and says so when that has changed.
    fn look(&self) {
        let Some((free, size)) = measure(&self.folder) else { return };
        let short = is_short(free, size, self.floor);
        let was = self.short.swap(short, Ordering::Relaxed);
        let free = free >> 20;
        match (was, short) {
            (false, true) => tracing::error!(
                free_mib = free,
                "there is hardly any room on the disk: only log-out, ending sessions and recovery are stored"
            ),
            (true, false) => tracing::warn!(free_mib = free, "there is room on the disk again"),
            _ => {}
        }
    }
}

fn is_short(free: u64, size: u64, floor: u64) -> bool {
    free < floor.min(size / PART)
}

/// The bytes that are free for this program on the disk of a folder, and all that it has.
#[cfg(unix)]
fn measure(folder: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some((disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize)))
}

#[cfg(not(unix))]
fn measure(_folder: &Path) -> Option<(u64, u64)> {
    None
}

/// Looks again and again, until the relay stops.
pub(crate) async fn follow(context: std::sync::Arc<Context>) {
    while let Some(()) = context.draining.run_until_cancelled(tokio::time::sleep(LOOK)).await {
        context.space.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ S5
    #[test]
    fn a_small_disk_has_a_small_floor_and_none_can_be_asked_for() {
        const MIB: u64 = 1 << 20;
        for (free, size, floor, short) in [
            (300 * MIB, 1_000_000 * MIB, 256 * MIB, false),
            (200 * MIB, 1_000_000 * MIB, 256 * MIB, true),
            (200 * MIB, 1_000 * MIB, 256 * MIB, false),
            (40 * MIB, 1_000 * MIB, 256 * MIB, true),
            (0, 1_000 * MIB, 0, false),
        ] {
            assert_eq!(is_short(free, size, floor), short, "{free} of {size}");
        }
    }

    // REQ S5
    #[test]
    fn without_room_sessions_can_still_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        // More than any disk has free would be short, were it not for the part.
        let space = Space::new(folder.path(), u64::MAX);
        space.short.store(true, Ordering::Relaxed);
        for kind in Kind::ALL {
            let asked = [
                Kind::Attach,
                Kind::LogIn,
                Kind::LogInStart,
                Kind::LogOut,
                Kind::SessionEnd,
                Kind::RecoverStart,
                Kind::Recover,
            ];
            assert_eq!(space.allows(*kind), asked.contains(kind), "{kind:?}");
        }
        space.short.store(false, Ordering::Relaxed);
        assert!(space.allows(Kind::MessageSend));
    }
}
