//! Bytes and schedules that nobody thought of. The targets stand in `fuzz`; `cargo xtask ci` compiles
//! them with everything else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64URL_NOPAD as B64;
use serde_json::Value;

use crate::shell::{command, find, output, root, sh, target};

/// Why a run cannot begin, and what helps.
const NO_CARGO_FUZZ: &str = "cargo-fuzz is missing: cargo install --locked cargo-fuzz";
const NO_NIGHTLY: &str = "a nightly Rust is missing, without which there are no sanitizers: rustup toolchain \
                          install nightly --profile minimal";

/// `cargo xtask fuzz`: each target, or one, for so long.
pub fn run(only: Option<&str>, seconds: u64) -> Result<()> {
    let targets = targets()?;
    let chosen: Vec<&String> = targets.iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        bail!("no such target; there are: {}", targets.join(", "));
    }
    if find("cargo-fuzz").is_none() {
        bail!(NO_CARGO_FUZZ);
    }
    if output(&mut command("rustup", &["run", "nightly", "rustc", "--version"])).is_none() {
        bail!(NO_NIGHTLY);
    }
    let mut failed = Vec::new();
    for name in chosen {
        println!("\n== {name}");
        let corpus = target().join("fuzz-corpus").join(name);
        write_seeds(name, &corpus)?;
        let mut run = command("rustup", &["run", "nightly", "cargo", "fuzz", "run", name]);
        let limit = format!("-max_total_time={seconds}");
        let run = run.arg(&corpus).args(["--", &limit, "-print_final_stats=1", "-rss_limit_mb=4096"]);
        // A crash is worth little without lines, and coverage is lost where crates are joined.
        let run = run.env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
        let run = run.env("CARGO_PROFILE_RELEASE_STRIP", "none").env("CARGO_PROFILE_RELEASE_LTO", "off");
        if let Err(error) = sh(run) {
            println!("{error:#}");
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("what was found lies in fuzz/artifacts; make each a test: {}", failed.join(", "))
}

/// The names of all targets, sorted.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Writes what a target begins with, made of the vectors, so that it need not guess keys and forms.
fn write_seeds(name: &str, corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus)?;
    for (number, seed) in seeds(name)?.into_iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number:04}")), seed)?;
    }
    Ok(())
}

fn seeds(name: &str) -> Result<Vec<Vec<u8>>> {
    let vectors = Vectors::read()?;
    let numbered = |number: u8, seed: &[u8]| [&[number], seed].concat();
    Ok(match name {
        "frame" => {
            let framed = vectors.texts.iter().map(|text| {
                let length = u32::try_from(text.len()).unwrap_or_default().to_be_bytes();
                numbered(7, &[&length, text.as_slice()].concat())
            });
            framed.collect()
        }
        "link" => vec![format!("mildam://relay.example.org:7747/#{}", B64.encode(&[9; 32])).into_bytes()],
        "words" => vectors.texts,
        "set_up" => {
            vectors.texts.iter().flat_map(|seed| (0..4).map(move |role| numbered(role, seed))).collect()
        }
        "password" => vectors.bytes,
        "keys" => [vectors.objects, vectors.bytes].concat(),
        "content" | "session" => [vectors.objects, vectors.texts, vectors.bytes].concat(),
        "records" => vectors.objects,
        "log_item" => {
            vectors.objects.iter().flat_map(|seed| (0..5).map(move |place| numbered(place, seed))).collect()
        }
        "vault" => {
            let fixtures = root().join("crates/vault/tests/fixtures/format-1");
            let read = |file: &str| fs::read(fixtures.join(file)).with_context(|| file.to_owned());
            vec![numbered(0, &read("keys.mildam")?), numbered(1, &read("rows.mildam")?)]
        }
        // Schedules long enough to come to something.
        "talk" => {
            (1..16_u8).map(|stride| (0..48).map(|step: u8| step.wrapping_mul(stride)).collect()).collect()
        }
        _ => Vec::new(),
    })
}

/// Everything in the vectors: its objects as JSON, its texts and lists of words, and its byte strings.
#[derive(Default)]
struct Vectors {
    objects: Vec<Vec<u8>>,
    texts: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
}

impl Vectors {
    fn read() -> Result<Self> {
        let mut vectors = Self::default();
        for file in ["protocol.json", "e2ee.json"] {
            let path: PathBuf = root().join("docs/vectors").join(file);
            vectors.collect(&serde_json::from_slice(&fs::read(path)?)?);
        }
        Ok(vectors)
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                self.objects.push(value.to_string().into_bytes());
                fields.values().for_each(|value| self.collect(value));
            }
            Value::Array(list) => {
                let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                self.texts.push(words.join(" ").into_bytes());
                list.iter().for_each(|value| self.collect(value));
            }
            Value::String(text) => {
                self.texts.push(text.clone().into_bytes());
                self.bytes.extend(B64.decode(text.as_bytes()));
            }
            _ => {}
        }
    }
}
