//! What a relay bears: a real process of a release build, over TLS, by real session frames, and beside it
//! what the bare machine gives in the same run.
//!
//! The generator shares the cores with the relay, so it must be light: accounts and keys are kept from an
//! earlier run, messages are sealed and not opened, and it stores nothing. Its share is printed, too.

mod attack;
mod bare;
mod connection;
mod fixtures;
mod group;
mod hostile;
mod idle;
mod pairs;
mod process;
mod report;
mod speaker;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use mildam_tests::{copy_folder, program};
use tempfile::TempDir;
use tokio::task::JoinSet;

use connection::Target;
use fixtures::Fixtures;
use process::Serving;
use report::Sample;
use speaker::Directory;

/// Milliseconds since 1970 (UTC).
fn now() -> Result<u64> {
    Ok(u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?)
}

/// How long everything is watched, and how often.
#[derive(Clone, Copy)]
struct Windows {
    /// What comes first does not count.
    warm_up: Duration,
    counted: Duration,
    /// How long connections are idle before their memory is counted.
    settle: Duration,
    runs: usize,
}

impl Windows {
    const FULL: Self = Self {
        warm_up: Duration::from_secs(3),
        counted: Duration::from_secs(15),
        settle: Duration::from_secs(40),
        runs: 3,
    };
    /// Only to see that it works.
    const QUICK: Self = Self {
        warm_up: Duration::from_secs(1),
        counted: Duration::from_secs(5),
        settle: Duration::from_secs(5),
        runs: 1,
    };
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    Bare,
    Throughput,
    Latency,
    Room,
    Idle,
    Hostile,
}

impl Figure {
    const ALL: [(&'static str, Self); 6] = [
        ("bare", Self::Bare),
        ("throughput", Self::Throughput),
        ("latency", Self::Latency),
        ("room", Self::Room),
        ("idle", Self::Idle),
        ("hostile", Self::Hostile),
    ];

    fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, figure)| *figure);
        found.with_context(|| {
            format!("no figure is called {name}; there are: {}", Self::ALL.map(|(known, _)| known).join(", "))
        })
    }
}

/// What every measurement starts from.
struct Bench {
    home: PathBuf,
    config: PathBuf,
    fixtures: Fixtures,
    directory: Directory,
    windows: Windows,
}

/// A relay with a fresh copy of everything that was prepared.
struct Stage {
    // It must be gone before its folder is.
    relay: Serving,
    target: Target,
    _folder: TempDir,
}

/// The limits of a relay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
    Default,
    Raised,
}

impl Bench {
    async fn prepare(windows: Windows) -> Result<Self> {
        process::raise_file_limit()?;
        let relay = program("mildam-relay")?;
        // The relay lies in `target/release`. What it writes must reach a disk, which a folder for temporary
        // files may not.
        let target = relay.ancestors().nth(2).context("where cargo builds")?;
        let home = target.join("bench-relay");
        fs::create_dir_all(&home)?;
        let config = home.join("relay.toml");
        fs::write(&config, process::RAISED)?;
        let fixtures = Fixtures::of(&home, &config).await?;
        let directory = fixtures.directory()?;
        Ok(Self { home, config, fixtures, directory, windows })
    }

    fn stage(&self, limits: Limits) -> Result<Stage> {
        let folder = TempDir::with_prefix_in("run-", &self.home)?;
        let data = folder.path().join("relay");
        copy_folder(&fixtures::data(&self.home), &data)?;
        let config = Some(self.config.as_path()).filter(|_| limits == Limits::Raised);
        let relay = Serving::start(&data, config)?;
        let target = Target::new(relay.tls, relay.link.clone())?;
        Ok(Stage { relay, target, _folder: folder })
    }

    async fn once(&self, figure: Figure) -> Result<Vec<Sample>> {
        match figure {
            Figure::Bare => bare::samples(&self.home),
            Figure::Throughput => pairs::throughput(self).await,
            Figure::Latency => pairs::latency(self).await,
            Figure::Room => group::deliveries(self).await,
            Figure::Idle => idle::memory(self).await,
            Figure::Hostile => bail!("this one has a table of its own"),
        }
    }
}

/// Lets work go on for so long. It ends early only by failing.
async fn watch(work: &mut JoinSet<Result<()>>, time: Duration) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        Some(ended) = work.join_next() => match ended? {
            Ok(()) => bail!("something ended before its time"),
            Err(error) => Err(error),
        },
    }
}

/// `bench relay`, with the names of figures and `--quick`.
pub fn run(arguments: &[String]) -> Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let windows = match options.as_slice() {
        [] => Windows::FULL,
        ["--quick"] => Windows::QUICK,
        other => bail!("only --quick is known, not {}", other.join(" ")),
    };
    let figures: Vec<Figure> = if names.is_empty() {
        Figure::ALL.map(|(_, figure)| figure).into()
    } else {
        names.into_iter().map(Figure::named).collect::<Result<_>>()?
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&figures, windows))
}

async fn measure(figures: &[Figure], windows: Windows) -> Result<()> {
    let bench = Bench::prepare(windows).await?;
    let mut lines = Vec::new();
    let (hostile, plain): (Vec<Figure>, Vec<Figure>) =
        figures.iter().copied().partition(|figure| *figure == Figure::Hostile);
    for figure in plain {
        let mut runs = Vec::new();
        for run in 1..=windows.runs {
            let name = Figure::ALL.iter().find(|(_, known)| *known == figure).map_or("", |(name, _)| name);
            eprintln!("Measuring {name}, {run} of {} …", windows.runs);
            runs.push(bench.once(figure).await.with_context(|| name.to_owned())?);
        }
        lines.extend(report::medians(&runs));
    }
    let hostile = if hostile.is_empty() { None } else { Some(hostile::table(&bench).await?) };
    if !lines.is_empty() {
        println!("\nThe relay runs with these settings, so that one generator can be many people:\n");
        println!("{}", process::RAISED);
        println!("{}", report::render(&lines));
    }
    if let Some(table) = hostile {
        println!("\nWhile somebody is hostile, under the default limits:\n\n{table}");
    }
    Ok(())
}
