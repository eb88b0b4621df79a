//! What the operator's machines watch: counts and levels of the whole relay, as text for Prometheus.
//!
//! Nothing here names anybody, and no label has values that come from outside. All are single atomic
//! numbers, so that counting never waits; a text may thus show one of two numbers that belong together a
//! moment before the other.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mildam_protocol::Code;

use crate::limits::Limits;

/// What [`Metrics::render`] gives, as HTTP names it.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All codes, and one place more for what has no name here.
const CODES: usize = Code::ALL.len() + 1;

/// What is counted since the relay was started.
#[derive(Debug)]
pub(crate) struct Metrics {
    began: Instant,
    connections_open: Arc<AtomicU64>,
    connections_accepted: AtomicU64,
    connections_turned_away: AtomicU64,
    set_ups_done: AtomicU64,
    set_ups_failed: AtomicU64,
    requests_done: AtomicU64,
    /// In the order of [`codes`].
    requests_refused: [AtomicU64; CODES],
    messages_stored: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    pushes_dropped: AtomicU64,
    push_bytes_waiting: AtomicU64,
    jobs_waiting: Arc<AtomicU64>,
    jobs_done: AtomicU64,
    commits: AtomicU64,
    writing_nanoseconds: AtomicU64,
    http_requests: AtomicU64,
}

/// One more of something that is there now; one less once this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(level: &Arc<AtomicU64>) -> Self {
        add(level, 1);
        Self(Arc::clone(level))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            connections_open: Arc::default(),
            connections_accepted: AtomicU64::default(),
            connections_turned_away: AtomicU64::default(),
            set_ups_done: AtomicU64::default(),
            set_ups_failed: AtomicU64::default(),
            requests_done: AtomicU64::default(),
            requests_refused: [const { AtomicU64::new(0) }; CODES],
            messages_stored: AtomicU64::default(),
            bytes_received: AtomicU64::default(),
            bytes_sent: AtomicU64::default(),
            pushes_dropped: AtomicU64::default(),
            push_bytes_waiting: AtomicU64::default(),
            jobs_waiting: Arc::default(),
            jobs_done: AtomicU64::default(),
            commits: AtomicU64::default(),
            writing_nanoseconds: AtomicU64::default(),
            http_requests: AtomicU64::default(),
        }
    }
}

impl Metrics {
    /// A connection was accepted. It counts as open until what this gives is dropped.
    #[must_use]
    pub(crate) fn connection_opened(&self) -> Counted {
        add(&self.connections_accepted, 1);
        Counted::new(&self.connections_open)
    }

    /// A connection was turned away, at once or when it was known for whom it came.
    pub(crate) fn connection_turned_away(&self) {
        add(&self.connections_turned_away, 1);
    }

    /// A set-up ended in a session.
    pub(crate) fn set_up_done(&self) {
        add(&self.set_ups_done, 1);
    }

    /// A set-up ended in none.
    pub(crate) fn set_up_failed(&self) {
        add(&self.set_ups_failed, 1);
    }

    /// A request was answered.
    pub(crate) fn request_done(&self, outcome: Result<(), Code>) {
        let count = match outcome {
            Ok(()) => Some(&self.requests_done),
            Err(code) => {
                let mut counts = codes().zip(&self.requests_refused);
                counts.find(|(known, _)| *known == code).map(|(_, count)| count)
            }
        };
        if let Some(count) = count {
            add(count, 1);
        }
    }

    /// A message was stored that was not stored before.
    pub(crate) fn message_stored(&self) {
        add(&self.messages_stored, 1);
    }

    /// So many bytes of frames were read.
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_received, from_size(bytes));
    }

    /// So many bytes of frames were written.
    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.bytes_sent, from_size(bytes));
    }

    /// So many pushes gave way to the word that there is something to catch up with.
    pub(crate) fn pushes_dropped(&self, pushes: usize) {
        add(&self.pushes_dropped, from_size(pushes));
    }

    /// So many bytes of pushes wait from now on; tells how many do in all.
    pub(crate) fn push_waits(&self, bytes: usize) -> usize {
        let bytes = from_size(bytes);
        let all = self.push_bytes_waiting.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// So many bytes of pushes wait no more.
    pub(crate) fn push_gone(&self, bytes: usize) {
        self.push_bytes_waiting.fetch_sub(from_size(bytes), Ordering::Relaxed);
    }

    /// A piece of work is queued for the writer. It counts as waiting until what this gives is dropped.
    #[must_use]
    pub(crate) fn job_waits(&self) -> Counted {
        Counted::new(&self.jobs_waiting)
    }

    /// So many pieces of work were committed together, which took so long from the first statement on.
    pub(crate) fn committed(&self, jobs: usize, took: Duration) {
        add(&self.commits, 1);
        add(&self.jobs_done, from_size(jobs));
        add(&self.writing_nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Somebody asked for something over HTTP.
    pub(crate) fn http_requested(&self) {
        add(&self.http_requests, 1);
    }

    /// All of it in the text format of Prometheus, version 0.0.4. Reads files of the system, which may
    /// take some milliseconds.
    pub(crate) fn render(&self, limits: &Limits) -> String {
        let mut text = Text::default();
        let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        let help = "The program's version; always 1.";
        text.family("mildam_build_info", GAUGE, help, [(version.to_owned(), 1)]);
        let uptime = self.began.elapsed().as_secs_f64();
        text.gauge("mildam_uptime_seconds", "Seconds since the relay was started.", uptime);
        self.render_connections(&mut text, limits);
        self.render_requests(&mut text);
        self.render_store(&mut text);
        Process::read().render(&mut text);
        text.0
    }

    fn render_connections(&self, text: &mut Text, limits: &Limits) {
        let open = get(&self.connections_open);
        text.gauge("mildam_connections_open", "Connections that are open now.", open);
        let help = "Connections that may be open at a time; more wait in the system's queue.";
        text.gauge("mildam_connections_limit", help, limits.connections);
        let accepted = get(&self.connections_accepted);
        text.counter("mildam_connections_accepted_total", "Connections that were accepted.", accepted);
        let help = "Connections that were turned away because of a limit.";
        text.counter("mildam_connections_turned_away_total", help, get(&self.connections_turned_away));
        let set_ups = [("done", &self.set_ups_done), ("failed", &self.set_ups_failed)];
        let set_ups = set_ups.map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), get(count)));
        text.family("mildam_set_ups_total", COUNTER, "Set-ups that ended, by outcome.", set_ups);
        let help = "Bytes of frames that were read.";
        text.counter("mildam_received_bytes_total", help, get(&self.bytes_received));
        let help = "Bytes of frames that were written.";
        text.counter("mildam_sent_bytes_total", help, get(&self.bytes_sent));
        let help = "Pushes that were dropped because their reader is slow; it was told to catch up.";
        text.counter("mildam_pushes_dropped_total", help, get(&self.pushes_dropped));
        let help = "Bytes of pushes that wait for their readers.";
        text.gauge("mildam_pushes_waiting_bytes", help, get(&self.push_bytes_waiting));
        let help = "Requests over HTTP, those for metrics left out.";
        text.counter("mildam_http_requests_total", help, get(&self.http_requests));
    }

    fn render_requests(&self, text: &mut Text) {
        let done = ("{outcome=\"done\",code=\"\"}".to_owned(), get(&self.requests_done));
        let refused = codes().zip(&self.requests_refused).map(|(code, count)| {
            let outcome = if is_failure(code) { "failed" } else { "refused" };
            (format!("{{outcome=\"{outcome}\",code=\"{code}\"}}"), get(count))
        });
        let help = "Requests that were answered, by outcome. Failed: a bug or an outage of the relay.";
        text.family("mildam_requests_total", COUNTER, help, std::iter::once(done).chain(refused));
        let help = "Messages that were stored.";
        text.counter("mildam_messages_stored_total", help, get(&self.messages_stored));
    }

    fn render_store(&self, text: &mut Text) {
        let waiting = get(&self.jobs_waiting);
        text.gauge("mildam_store_jobs_waiting", "Pieces of work that wait for the writer.", waiting);
        let help = "Pieces of work that were written.";
        text.counter("mildam_store_jobs_total", help, get(&self.jobs_done));
        let help = "Commits; one makes many pieces of work durable.";
        text.counter("mildam_store_commits_total", help, get(&self.commits));
        let writing = Duration::from_nanos(get(&self.writing_nanoseconds)).as_secs_f64();
        let help = "Seconds in which the writer was at work; one more in each second means that it is full.";
        text.counter("mildam_store_writing_seconds_total", help, writing);
    }
}

/// What the system says of this process; nothing where it has no `/proc` like that of Linux.
#[derive(Debug)]
struct Process {
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    open_files_limit: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            resident_bytes: number_behind(&status, "VmRSS:").map(|kibibytes| kibibytes.saturating_mul(1024)),
            // That with which they are counted is one of them.
            open_files: files.map(|files| from_size(files.count().saturating_sub(1))),
            open_files_limit: number_behind(&limits, "Max open files"),
        }
    }

    fn render(&self, text: &mut Text) {
        let memory = "Memory of the process that is in RAM.";
        let files = "Files that the process has open; a connection is one.";
        let limit = "Files that the process may have open.";
        for (name, help, value) in [
            ("mildam_process_resident_memory_bytes", memory, self.resident_bytes),
            ("mildam_process_open_files", files, self.open_files),
            ("mildam_process_open_files_limit", limit, self.open_files_limit),
        ] {
            if let Some(value) = value {
                text.gauge(name, help, value);
            }
        }
    }
}

/// The number behind what a line begins with.
fn number_behind(text: &str, beginning: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A number that goes up and down.
const GAUGE: &str = "gauge";
/// A number that only goes up, until the relay is started again.
const COUNTER: &str = "counter";

/// A text for Prometheus.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, GAUGE, help, [(String::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, COUNTER, help, [(String::new(), value)]);
    }

    /// Numbers of one name, each with its labels in braces.
    fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// Each code once.
fn codes() -> impl Iterator<Item = Code> {
    Code::ALL.iter().copied().chain([Code::Unknown])
}

/// Whether the operator has something to mend, and not the one who asked.
const fn is_failure(code: Code) -> bool {
    matches!(code, Code::Internal | Code::StorageUnavailable)
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn from_size(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The value of a sample: a name, and its labels if it has some.
    fn value(text: &str, sample: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    // REQ S5
    #[test]
    fn each_line_is_one_that_prometheus_reads() {
        let text = Metrics::default().render(&Limits::default());
        assert!(text.ends_with('\n'));
        let mut kinds: HashMap<&str, &str> = HashMap::new();
        let mut samples: Vec<&str> = Vec::new();
        let mut lines = text.lines();
        let mut family = "";
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(name.starts_with("mildam_") && !help.is_empty(), "{line}");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(kind == "counter" || kind == "gauge", "{kind}");
                assert!(kinds.insert(name, kind).is_none(), "{name} is there twice");
                family = name;
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            let labels = sample.strip_prefix(family).unwrap();
            assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with('}'), "{line}");
            assert!(!samples.contains(&sample), "{sample} is there twice");
            samples.push(sample);
        }
        // None is announced and not given.
        for name in kinds.keys() {
            assert!(samples.iter().any(|sample| sample.split('{').next() == Some(*name)), "{name}");
        }
    }

    // REQ S5
    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        let open = [metrics.connection_opened(), metrics.connection_opened(), metrics.connection_opened()];
        let waiting = metrics.job_waits();
        drop(metrics.connection_opened());
        metrics.connection_turned_away();
        metrics.set_up_done();
        metrics.set_up_done();
        metrics.set_up_failed();
        for outcome in [Ok(()), Ok(()), Err(Code::RateLimited), Err(Code::Internal), Err(Code::Unknown)] {
            metrics.request_done(outcome);
        }
        metrics.message_stored();
        metrics.received(1_000);
        metrics.sent(2_000);
        metrics.sent(500);
        metrics.pushes_dropped(7);
        metrics.committed(3, Duration::from_millis(1_500));
        metrics.committed(1, Duration::from_millis(750));
        metrics.http_requested();
        let text = metrics.render(&Limits { connections: 77, ..Limits::default() });
        for (sample, expected) in [
            ("mildam_connections_open", 3.0),
            ("mildam_connections_limit", 77.0),
            ("mildam_connections_accepted_total", 4.0),
            ("mildam_connections_turned_away_total", 1.0),
            ("mildam_set_ups_total{outcome=\"done\"}", 2.0),
            ("mildam_set_ups_total{outcome=\"failed\"}", 1.0),
            ("mildam_requests_total{outcome=\"done\",code=\"\"}", 2.0),
            ("mildam_requests_total{outcome=\"refused\",code=\"rate_limited\"}", 1.0),
            ("mildam_requests_total{outcome=\"refused\",code=\"not_found\"}", 0.0),
            ("mildam_requests_total{outcome=\"failed\",code=\"internal\"}", 1.0),
            ("mildam_requests_total{outcome=\"refused\",code=\"unknown\"}", 1.0),
            ("mildam_messages_stored_total", 1.0),
            ("mildam_received_bytes_total", 1_000.0),
            ("mildam_sent_bytes_total", 2_500.0),
            ("mildam_pushes_dropped_total", 7.0),
            ("mildam_store_jobs_waiting", 1.0),
            ("mildam_store_jobs_total", 4.0),
            ("mildam_store_commits_total", 2.0),
            ("mildam_store_writing_seconds_total", 2.25),
            ("mildam_http_requests_total", 1.0),
        ] {
            assert_eq!(value(&text, sample), Some(expected), "{sample}");
        }
        drop((open, waiting));
        let text = metrics.render(&Limits::default());
        assert_eq!(value(&text, "mildam_connections_open"), Some(0.0));
        assert_eq!(value(&text, "mildam_store_jobs_waiting"), Some(0.0));
        assert_eq!(value(&text, "mildam_connections_accepted_total"), Some(4.0));
    }

    // REQ S5
    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_the_process_uses() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 1 << 20, "{process:?}");
        assert!(process.open_files.unwrap() > 2, "{process:?}");
        let limits = "Max open files            1024                 524288               files     \n";
        assert_eq!(number_behind(limits, "Max open files"), Some(1024));
        assert_eq!(number_behind("Max open files  unlimited  unlimited\n", "Max open files"), None);
    }
}
