//! Many who are connected and silent.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::process::{Meter, resident};
use super::report::Sample;
use super::{Bench, Limits};

const CONNECTIONS: usize = 1_000;
/// Accounts that they belong to, in turn.
const ACCOUNTS: usize = 100;
/// Set-ups that are under way at a time.
const AT_ONCE: usize = 16;

/// What a set-up costs the relay's processor, and what a connection costs its memory once it is idle.
pub async fn memory(bench: &Bench) -> Result<Vec<Sample>> {
    let stage = bench.stage(Limits::Raised)?;
    let pid = stage.relay.pid();
    let before = resident(pid)?;
    let meter = Meter::start(pid)?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut work: JoinSet<Result<Connection>> = JoinSet::new();
    for number in 0..CONNECTIONS {
        let attaching = bench.fixtures.attaching(number % ACCOUNTS)?;
        let (target, turns) = (stage.target.clone(), Arc::clone(&turns));
        work.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            attaching.connect(&target).await
        });
    }
    let mut connections = Vec::new();
    while let Some(connected) = work.join_next().await {
        connections.push(connected?.context("a connection of many")?);
    }
    let used = meter.stop()?;
    tokio::time::sleep(bench.windows.settle).await;
    let after = resident(pid)?;
    let count = f64::from(u32::try_from(connections.len())?);
    Ok(vec![
        Sample {
            what: "relay processor milliseconds per set-up with attach",
            value: used.relay * 1_000.0 / count,
            digits: 2,
            aim: "0.8",
            used: Some(used),
        },
        Sample {
            what: "KiB per idle connection, of 1,000",
            value: (after - before) / count,
            digits: 1,
            aim: "15",
            used: None,
        },
    ])
}
