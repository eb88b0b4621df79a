//! Two who talk while an account does its worst on one connection, under the limits that a relay has by
//! default.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout_at;

use super::attack::{Attack, Tried, attack};
use super::report::{median, percentile};
use super::speaker::{Pace, Talk};
use super::{Bench, Limits, fixtures};
use crate::table::aligned;

/// How often the honest one speaks.
const PERIOD: Duration = Duration::from_millis(50);

/// What is done meanwhile.
const ATTACKS: [(&str, Option<Attack>); 5] = [
    ("nothing else", None),
    ("the same 200 old receipts again and again", Some(Attack::Receipts)),
    ("the same prekey_replace again and again", Some(Attack::PreKey)),
    ("a stale epoch_announce in a room of 200", Some(Attack::Epoch)),
    ("room_change that bans made-up names", Some(Attack::Bans)),
];

/// How long a message took until its answer came, in milliseconds, and what the hostile one got done.
struct Outcome {
    p50: f64,
    p99: f64,
    done: f64,
    refused: f64,
}

/// `message_send` of an honest pair, alone and beside each attack.
pub async fn table(bench: &Bench) -> Result<String> {
    let mut lines = Vec::new();
    for (what, attack) in ATTACKS {
        let mut outcomes = Vec::new();
        for run in 1..=bench.windows.runs {
            eprintln!("Measuring hostile, {what}, {run} of {} …", bench.windows.runs);
            outcomes.push(once(bench, attack).await.context(what)?);
        }
        let of = |field: fn(&Outcome) -> f64| {
            let mut values: Vec<f64> = outcomes.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            median(&values)
        };
        let tried = |value: f64| if attack.is_some() { format!("{value:.0}") } else { String::new() };
        lines.push([
            what.to_owned(),
            format!("{:.1}", of(|outcome| outcome.p50)),
            format!("{:.1}", of(|outcome| outcome.p99)),
            tried(of(|outcome| outcome.done)),
            tried(of(|outcome| outcome.refused)),
        ]);
    }
    let headings = ["meanwhile", "p50, ms", "p99, ms", "done for it, per second", "refused, per second"];
    Ok(aligned(headings, &lines))
}

async fn once(bench: &Bench, hostile: Option<Attack>) -> Result<Outcome> {
    let stage = bench.stage(Limits::Default)?;
    let fixtures = &bench.fixtures;
    // The pair's other half listens, as it would, and nobody looks at what it hears.
    let _heard = fixtures.connect(&stage.target, 1).await?.frames.into_channel();
    let connection = fixtures.connect(&stage.target, 0).await?;
    let mut talk = Talk::new(fixtures.of_pair(0, &bench.directory)?, connection);
    let (told, mut tried) = unbounded_channel();
    let attacking = match hostile {
        Some(kind) => {
            let connection = fixtures.connect(&stage.target, fixtures::HOSTILE).await?;
            let work = kind.prepare(fixtures, &bench.directory)?;
            Some(tokio::spawn(attack(work, connection, told)))
        }
        None => None,
    };
    let mut pace = Pace::every(PERIOD);
    converse(&mut talk, &mut pace, bench.windows.warm_up).await?;
    while tried.try_recv().is_ok() {}
    let begun = Instant::now();
    let mut times = converse(&mut talk, &mut pace, bench.windows.counted).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let (mut done, mut refused) = (0.0, 0.0);
    while let Ok(one) = tried.try_recv() {
        match one {
            Tried::Done => done += 1.0,
            Tried::Refused => refused += 1.0,
        }
    }
    if let Some(attacking) = attacking {
        // A relay that hangs up on somebody like this does well, and one that does not is killed now.
        attacking.abort();
    }
    Ok(Outcome {
        p50: percentile(&mut times, 50)?,
        p99: percentile(&mut times, 99)?,
        done: done / seconds,
        refused: refused / seconds,
    })
}

/// Speaks regularly for so long, and gives the times until each answer. What has no answer in the end counts
/// with its time so far.
async fn converse(talk: &mut Talk, pace: &mut Pace, time: Duration) -> Result<Vec<Duration>> {
    let end = tokio::time::Instant::now() + time;
    let mut times = Vec::new();
    loop {
        let next = timeout_at(end, async {
            tokio::select! {
                biased;
                answered = talk.answered() => answered.map(Next::Answer),
                due = pace.due() => due.map(Next::Due),
            }
        });
        let Ok(next) = next.await else { break };
        match next? {
            Next::Answer(time) => times.extend(time),
            Next::Due(due) => {
                talk.say(due).await?;
            }
        }
    }
    times.extend(talk.waiting());
    Ok(times)
}

/// What an honest speaker does next.
enum Next {
    Answer(Option<Duration>),
    Due(usize),
}
