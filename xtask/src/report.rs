//! Where the time goes: how long steps and tests took, and the slowest of them at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How many of the slowest are shown.
const SHOWN: usize = 10;

/// Steps and tests of one run.
pub struct Report {
    started: Instant,
    steps: Vec<(String, Duration)>,
    tests: Vec<(String, Duration)>,
}

impl Report {
    pub fn new() -> Self {
        Self { started: Instant::now(), steps: Vec::new(), tests: Vec::new() }
    }

    /// Does one step under a heading, and notes how long it took, failed or not.
    pub fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = step();
        self.steps.push((name.to_owned(), started.elapsed()));
        outcome
    }

    /// Notes how long tests took.
    pub fn tests(&mut self, tests: Vec<(String, Duration)>) {
        self.tests.extend(tests);
    }

    /// Prints the slowest of each, and how long it all took.
    pub fn print(mut self) {
        let total = self.started.elapsed();
        table("slowest steps", &mut self.steps);
        table("slowest tests", &mut self.tests);
        println!("\nall of it: {}", clock(total));
    }
}

fn table(title: &str, rows: &mut [(String, Duration)]) {
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    println!("\n{title}");
    for (name, took) in rows.iter().take(SHOWN) {
        println!("  {:>7}  {name}", clock(*took));
    }
}

/// Minutes and seconds, or seconds below a minute.
fn clock(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 60.. => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
