//! Measuring, and the table of what was measured.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How long one figure is measured for, at least.
const BUDGET: Duration = Duration::from_millis(1_500);
/// How many times, at least.
const ROUNDS: usize = 5;

/// The median time of `work`. What it works on is made anew by `prepare`, which does not count, and
/// neither does letting go of what it gives back.
pub fn time<I, O>(
    mut prepare: impl FnMut() -> Result<I>,
    mut work: impl FnMut(I) -> Result<O>,
) -> Result<Duration> {
    let mut times = Vec::new();
    let mut spent = Duration::ZERO;
    while spent < BUDGET || times.len() < ROUNDS {
        let input = prepare()?;
        let begin = Instant::now();
        let output = work(input)?;
        let taken = begin.elapsed();
        std::hint::black_box(output);
        times.push(taken);
        spent += taken;
    }
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// What a figure should stay under.
#[derive(Clone, Copy)]
pub enum Aim {
    /// So many times the primitives.
    Ratio(f64),
    /// So long.
    Time(Duration),
    /// Measured for its own sake.
    None,
}

/// One line.
pub struct Figure {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub time: Duration,
    /// What of it are the bare primitives: their names, and the sum of their times.
    pub primitives: Option<(String, Duration)>,
    /// What it should stay under.
    pub aim: Aim,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.primitives.as_ref().map(|(_, sum)| self.time.as_secs_f64() / sum.as_secs_f64())
    }

    fn aim(&self) -> String {
        let (aim, reached) = match (self.aim, self.ratio()) {
            (Aim::Ratio(most), Some(ratio)) => (format!("{most:.1} x"), ratio <= most),
            (Aim::Time(most), _) => (shown(most), self.time <= most),
            _ => return String::new(),
        };
        format!("{aim}, {}", if reached { "reached" } else { "MISSED" })
    }

    fn cells(&self) -> [String; 6] {
        let (names, sum) = match &self.primitives {
            Some((names, sum)) => (names.clone(), shown(*sum)),
            None => Default::default(),
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        [self.what.clone(), shown(self.time), names, sum, ratio, self.aim()]
    }
}

/// Three digits and a unit.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

const HEADINGS: [&str; 6] = ["what", "time", "its primitives", "sum", "ratio", "aim"];

/// The lines as a table in Markdown.
pub fn render(figures: &[Figure]) -> String {
    aligned(HEADINGS, &figures.iter().map(Figure::cells).collect::<Vec<_>>())
}

/// Lines under headings as a table in Markdown, its columns aligned.
pub fn aligned<const N: usize>(headings: [&str; N], lines: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let row = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} "));
        format!("|{}|", padded.collect::<Vec<_>>().join("|"))
    };
    let mut rows = vec![row(&headings.map(str::to_owned)), row(&widths.map(|width| "-".repeat(width)))];
    rows.extend(lines.iter().map(row));
    rows.join("\n")
}
