//! How many files the process may have open. A connection is one, and without a file to spare the database
//! cannot be read: those who are inside would suffer from those who only knock.

use mildam_relay::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no connections of the protocol: the database's, those that listen, the metrics'.
const RESERVED: u64 = 64;
/// So many connections are let in whatever the limit is. A relay for fewer is none.
const FEWEST: usize = 16;
/// macOS takes no higher number where it says that there is no limit.
const OPEN_MAX: u64 = 10_240;

/// Raises the limit as far as the process may, and keeps the connections within it.
pub(crate) fn fit(mut config: Config) -> Config {
    let files = raise();
    let wanted = config.limits.connections;
    let connections = clamp(wanted, files);
    if connections < wanted {
        tracing::warn!(
            wanted,
            connections,
            files,
            "so many connections as are wanted at a time need more open files: raise LimitNOFILE"
        );
        config.limits.connections = connections;
    }
    config
}

/// Sets the soft limit to the hard one. Gives the one that holds now; `None` if there is none.
fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let set = |soft| setrlimit(Resource::Nofile, Rlimit { current: soft, maximum: limit.maximum });
    let raised = set(limit.maximum).or_else(|error| match limit.current {
        Some(soft) if soft < OPEN_MAX => set(Some(OPEN_MAX)),
        _ => Err(error),
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current
}

/// How many connections of those that are wanted go with so many open files.
fn clamp(wanted: usize, files: Option<u64>) -> usize {
    let Some(files) = files else {
        return wanted;
    };
    let possible = usize::try_from(files.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    wanted.min(possible.max(FEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ S1, S5
    #[test]
    fn connections_leave_files_for_everything_else() {
        for (wanted, files, expected) in [
            (10_000, None, 10_000),
            (10_000, Some(20_000), 10_000),
            (10_000, Some(10_064), 10_000),
            (10_000, Some(10_063), 9_999),
            (10_000, Some(1_024), 960),
            (10_000, Some(80), 16),
            (10_000, Some(0), 16),
            (5, Some(0), 5),
        ] {
            assert_eq!(clamp(wanted, files), expected, "{wanted} with {files:?}");
        }
    }
}
