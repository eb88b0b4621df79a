//! People who talk in pairs: as fast as it goes, and at a steady rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::connection::{Frames, Heard, Pushed};
use super::process::{Meter, Used, float};
use super::report::{Sample, percentile};
use super::speaker::{Pace, Talk, speak};
use super::{Bench, Limits, fixtures, watch};

/// Messages of a pair that are on the way at a time.
const ON_THE_WAY: usize = 32;
/// Pairs that talk at a steady rate, and how often each does: 200 messages a second together.
const STEADY: usize = 10;
const PERIOD: Duration = Duration::from_millis(50);

/// What listeners count.
#[derive(Default)]
struct Count {
    /// Whether it counts at present.
    on: AtomicBool,
    messages: AtomicU64,
    /// Pushes that are neither messages nor epochs: the relay has dropped something.
    others: AtomicU64,
    times: Mutex<Vec<Duration>>,
}

/// Listens to one speaker, of whose messages none can be missed or overtaken: so the next one that arrives
/// is the next one that was written.
async fn listen(
    mut frames: Frames,
    mut written: UnboundedReceiver<Instant>,
    credit: Arc<Semaphore>,
    count: Arc<Count>,
) -> Result<()> {
    loop {
        match frames.heard().await? {
            Heard::Push(Pushed::Message) => {
                let at = Instant::now();
                credit.add_permits(1);
                // It was told after it was written: it may have been faster.
                let Some(begun) = written.recv().await else { bail!("the speaker has stopped") };
                if count.on.load(Relaxed) {
                    count.messages.fetch_add(1, Relaxed);
                    let mut times = count.times.lock().unwrap_or_else(PoisonError::into_inner);
                    times.push(at.saturating_duration_since(begun));
                }
            }
            Heard::Push(Pushed::Other) if count.on.load(Relaxed) => {
                count.others.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}

/// What pairs did in the counted time.
struct Outcome {
    messages: f64,
    times: Vec<Duration>,
    used: Used,
}

/// Lets so many pairs talk, at a steady rate if there is a period.
async fn talk(bench: &Bench, pairs: usize, period: Option<Duration>) -> Result<Outcome> {
    let stage = bench.stage(Limits::Raised)?;
    let count = Arc::new(Count::default());
    let mut work = JoinSet::new();
    for pair in 0..pairs {
        let (first, second) = (2 * pair, 2 * pair + 1);
        let fixtures = &bench.fixtures;
        let listener = fixtures.connect(&stage.target, second).await?;
        let connection = fixtures.connect(&stage.target, first).await?;
        let speaker = fixtures.of_pair(pair, &bench.directory)?;
        let credit = Arc::new(Semaphore::new(ON_THE_WAY));
        let pace = period.map_or_else(|| Pace::Credit(Arc::clone(&credit)), Pace::every);
        let (told, written) = unbounded_channel();
        work.spawn(listen(listener.frames, written, credit, Arc::clone(&count)));
        work.spawn(speak(Talk::new(speaker, connection), pace, told));
    }
    watch(&mut work, bench.windows.warm_up).await?;
    let meter = Meter::start(stage.relay.pid())?;
    count.on.store(true, Relaxed);
    watch(&mut work, bench.windows.counted).await?;
    count.on.store(false, Relaxed);
    let used = meter.stop()?;
    let others = count.others.load(Relaxed);
    ensure!(others == 0, "{others} pushes were no messages: the relay told somebody to catch up");
    let times = std::mem::take(&mut *count.times.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Outcome { messages: float(count.messages.load(Relaxed)), times, used })
}

/// Durable messages, from one to one, as fast as it goes.
pub async fn throughput(bench: &Bench) -> Result<Vec<Sample>> {
    let Outcome { messages, used, .. } = talk(bench, fixtures::PAIRS, None).await?;
    ensure!(messages > 0.0, "no message arrived");
    Ok(vec![
        Sample {
            what: "messages per second, 50 pairs, 32 on the way",
            value: messages / used.seconds,
            digits: 0,
            aim: "10,000",
            used: Some(used),
        },
        Sample {
            what: "relay processor seconds per 1,000 of them",
            value: used.relay * 1_000.0 / messages,
            digits: 3,
            aim: "0.08",
            used: None,
        },
    ])
}

/// How long a message takes while 200 are sent in a second.
pub async fn latency(bench: &Bench) -> Result<Vec<Sample>> {
    let Outcome { mut times, used, .. } = talk(bench, STEADY, Some(PERIOD)).await?;
    Ok(vec![
        Sample {
            what: "latency at 200 per second, p50, ms",
            value: percentile(&mut times, 50)?,
            digits: 2,
            aim: "0.6",
            used: Some(used),
        },
        Sample {
            what: "latency at 200 per second, p99, ms",
            value: percentile(&mut times, 99)?,
            digits: 2,
            aim: "2.5",
            used: None,
        },
    ])
}
