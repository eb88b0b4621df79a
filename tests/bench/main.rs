//! What Mildam costs, each figure beside the bare primitives that it is made of, measured in the
//! same run. `cargo xtask bench` builds and runs it; docs/benchmarks.md keeps a table.

mod people;
mod primitives;
mod relay;
mod room;
mod sender;
mod sync;
mod table;

use anyhow::Result;

use primitives::Primitives;

fn main() -> Result<()> {
    // Cargo says that it is a benchmark which it runs.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.split_first() {
        Some((first, rest)) if first == "relay" => relay::run(rest),
        _ => everything_else(),
    }
}

fn everything_else() -> Result<()> {
    eprintln!("Measuring primitives …");
    let bare = Primitives::measure()?;
    let mut figures = bare.figures();
    figures.extend(room::figures(&bare)?);
    figures.push(sync::figure(&bare)?);
    println!("{}", table::render(&figures));
    Ok(())
}
