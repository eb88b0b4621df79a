//! One who speaks to a hundred.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::connection::{Frames, Heard, Pushed};
use super::process::{Meter, float};
use super::report::Sample;
use super::speaker::{Pace, Talk, speak};
use super::{Bench, Limits, fixtures, watch};

/// Messages at a time that not all members have.
const ON_THE_WAY: usize = 20;
/// Places in which their arrivals are counted. More than are on the way, so that none is needed twice.
const PLACES: usize = 64;

/// How often each message on the way has arrived.
struct Arrivals {
    on: AtomicBool,
    counted: AtomicU64,
    /// Pushes that are neither messages nor epochs: the relay has dropped something.
    others: AtomicU64,
    places: [AtomicUsize; PLACES],
    credit: Arc<Semaphore>,
}

impl Arrivals {
    /// One of the listeners has the message with this number. The last one lets the next be sent.
    fn count(&self, number: usize) -> Result<()> {
        let place = self.places.get(number % PLACES).context("no such place")?;
        if place.fetch_add(1, Relaxed) + 1 == fixtures::GROUP - 1 {
            place.store(0, Relaxed);
            self.credit.add_permits(1);
        }
        if self.on.load(Relaxed) {
            self.counted.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

async fn listen(mut frames: Frames, arrivals: Arc<Arrivals>) -> Result<()> {
    let mut number = 0;
    loop {
        match frames.heard().await? {
            Heard::Push(Pushed::Message) => {
                arrivals.count(number)?;
                number += 1;
            }
            Heard::Push(Pushed::Other) if arrivals.on.load(Relaxed) => {
                arrivals.others.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}

/// Deliveries in a room of 100: a message that reaches a member, the sender's own echo included.
pub async fn deliveries(bench: &Bench) -> Result<Vec<Sample>> {
    let stage = bench.stage(Limits::Raised)?;
    let credit = Arc::new(Semaphore::new(ON_THE_WAY));
    let arrivals = Arc::new(Arrivals {
        on: AtomicBool::new(false),
        counted: AtomicU64::new(0),
        others: AtomicU64::new(0),
        places: std::array::from_fn(|_| AtomicUsize::new(0)),
        credit: Arc::clone(&credit),
    });
    let mut work = JoinSet::new();
    let fixtures = &bench.fixtures;
    for member in 1..fixtures::GROUP {
        let connection = fixtures.connect(&stage.target, member).await?;
        work.spawn(listen(connection.frames, Arc::clone(&arrivals)));
    }
    let connection = fixtures.connect(&stage.target, 0).await?;
    let talk = Talk::new(fixtures.of_group(&bench.directory)?, connection);
    let echoes = Arc::clone(&talk.echoes);
    // Nobody wants to know when each was written.
    let (told, _) = unbounded_channel();
    work.spawn(speak(talk, Pace::Credit(credit), told));
    watch(&mut work, bench.windows.warm_up).await?;
    let meter = Meter::start(stage.relay.pid())?;
    let echoed = echoes.load(Relaxed);
    arrivals.on.store(true, Relaxed);
    watch(&mut work, bench.windows.counted).await?;
    arrivals.on.store(false, Relaxed);
    let used = meter.stop()?;
    let echoed = echoes.load(Relaxed).saturating_sub(echoed);
    let others = arrivals.others.load(Relaxed);
    ensure!(others == 0, "{others} pushes were no messages: the relay told somebody to catch up");
    let deliveries = float(arrivals.counted.load(Relaxed) + echoed);
    ensure!(deliveries > 0.0, "no message arrived");
    Ok(vec![
        Sample {
            what: "room of 100: deliveries per second",
            value: deliveries / used.seconds,
            digits: 0,
            aim: "120,000",
            used: Some(used),
        },
        Sample {
            what: "room of 100: relay processor seconds per 1,000 deliveries",
            value: used.relay * 1_000.0 / deliveries,
            digits: 4,
            aim: "",
            used: None,
        },
    ])
}
