//! Medians of several runs, and the table of them.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::process::Used;
use crate::table::aligned;

/// One figure of one run.
#[derive(Clone, Copy)]
pub struct Sample {
    pub what: &'static str,
    pub value: f64,
    /// How many digits of it are shown after the point.
    pub digits: usize,
    /// What it should reach, if that was said.
    pub aim: &'static str,
    /// What relay and generator used meanwhile.
    pub used: Option<Used>,
}

/// One figure of all runs.
pub struct Line {
    sample: Sample,
    /// Sorted.
    values: Vec<f64>,
    relay: Vec<f64>,
    generator: Vec<f64>,
}

/// The middle of sorted values.
pub fn median(values: &[f64]) -> f64 {
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The same figures of several runs, each in the same order.
pub fn medians(runs: &[Vec<Sample>]) -> Vec<Line> {
    let figures = runs.first().map(Vec::as_slice).unwrap_or_default();
    let line = |(place, sample): (usize, &Sample)| {
        let all: Vec<&Sample> = runs.iter().filter_map(|run| run.get(place)).collect();
        let used: Vec<Used> = all.iter().filter_map(|sample| sample.used).collect();
        Line {
            sample: *sample,
            values: sorted(all.iter().map(|sample| sample.value)),
            relay: sorted(used.iter().map(|used| used.relay / used.seconds)),
            generator: sorted(used.iter().map(|used| used.generator / used.seconds)),
        }
    };
    figures.iter().enumerate().map(line).collect()
}

const HEADINGS: [&str; 6] =
    ["figure", "median", "lowest to highest", "aim", "relay, cores", "generator, cores"];

/// The table in Markdown.
pub fn render(lines: &[Line]) -> String {
    let cells = |line: &Line| {
        let digits = line.sample.digits;
        let shown = |value: f64| format!("{value:.digits$}");
        let range = match (line.values.first(), line.values.last()) {
            (Some(lowest), Some(highest)) if line.values.len() > 1 => {
                format!("{} to {}", shown(*lowest), shown(*highest))
            }
            _ => String::new(),
        };
        let cores = |shares: &[f64]| {
            if shares.is_empty() { String::new() } else { format!("{:.2}", median(shares)) }
        };
        [
            line.sample.what.to_owned(),
            shown(median(&line.values)),
            range,
            line.sample.aim.to_owned(),
            cores(&line.relay),
            cores(&line.generator),
        ]
    };
    aligned(HEADINGS, &lines.iter().map(cells).collect::<Vec<_>>())
}

/// The time, in milliseconds, that so many of a hundred do not exceed.
pub fn percentile(times: &mut [Duration], of_hundred: usize) -> Result<f64> {
    ensure!(!times.is_empty(), "nothing was measured");
    times.sort_unstable();
    let place = (times.len() * of_hundred).div_ceil(100).saturating_sub(1);
    Ok(times.get(place).copied().unwrap_or_default().as_secs_f64() * 1_000.0)
}
