//! Throughput from end to end: `cargo bench --bench end_to_end [-- ROWS [ROUNDS]]`, 500,000 rows and 3 rounds
//! if not told otherwise.
//!
//! A simulated portal in a process of its own serves rows of a day that were written beforehand. Each round
//! the programs read them all, one after the other: the floor, `lockstep run` into raw records and into OCSF, and
//! the bare client (see `clients.rs`). Machines differ and neighbours are noisy, so what counts are the ratios inside a round.

#![expect(clippy::print_stdout, reason = "the report of a benchmark is its purpose")]

mod clients;
mod collector;
mod portal;
mod process;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use self::portal::{Held, Portal};
use self::process::{Until, Used, cpu_seconds, machine_seconds, measured};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // Cargo says `--bench` to every benchmark.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["portal", rows, told] => portal::serve(rows.parse()?, Path::new(told)).await,
        ["bare", told] => clients::bare(&read(told)?).await,
        ["floor", told, out] => clients::floor(&read(told)?, Path::new(out)).await,
        [] => rounds(500_000, 3),
        [rows] => rounds(rows.parse().context("how many rows?")?, 3),
        [rows, rounds_] => {
            rounds(rows.parse().context("how many rows?")?, rounds_.parse().context("rounds?")?)
        }
        _ => bail!("usage: end_to_end [ROWS [ROUNDS]]"),
    }
}

fn read(told: &str) -> anyhow::Result<Held> {
    Ok(serde_json::from_slice(&std::fs::read(told)?)?)
}

fn rounds(rows: u64, rounds: usize) -> anyhow::Result<()> {
    // A real disk: what is measured includes its syncs.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let portal = Portal::start(rows, folder.path())?;
    let held = &portal.held;
    println!("{} rows of {} bytes, pages of {}", held.rows, held.bytes / held.rows, clients::PAGE_SIZE);
    println!(
        "{:<10} {:>8} {:>14} {:>18} {:>10} {:>8}",
        "", "rows/s", "CPU s/M rows", "portal s/M rows", "peak MiB", "others"
    );
    let (mut to_floor, mut ocsf_to_floor, mut to_bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let floor = one("floor", &portal, || client(&["floor"], folder.path(), Some("floor.ndjson")))?;
        let ours = one("lockstep", &portal, || collector::run(held, folder.path(), "raw"))?;
        let ocsf = one("in OCSF", &portal, || collector::run(held, folder.path(), "ocsf"))?;
        let bare = one("bare", &portal, || client(&["bare"], folder.path(), None))?;
        to_floor.push(floor.wall_seconds / ours.wall_seconds);
        ocsf_to_floor.push(floor.wall_seconds / ocsf.wall_seconds);
        to_bare.push(bare.wall_seconds / ours.wall_seconds);
    }
    println!("rows/s of lockstep against the floor: {}", spread(to_floor));
    println!("rows/s of lockstep in OCSF against the floor: {}", spread(ocsf_to_floor));
    println!("rows/s of lockstep against the bare client: {}", spread(to_bare));
    Ok(())
}

/// Runs and reports one program. What other programs took of the machine's processors meanwhile is reported
/// too, since it decides what a figure is worth.
fn one(name: &str, portal: &Portal, run: impl FnOnce() -> anyhow::Result<Used>) -> anyhow::Result<Used> {
    let before = cpu_seconds(portal.id())?;
    let (began, (busy, own)) = (Instant::now(), machine_seconds()?);
    let used = run().with_context(|| format!("running {name}"))?;
    let served = cpu_seconds(portal.id())? - before;
    let (busy, own) = machine_seconds().map(|(all, ours)| (all - busy, ours - own))?;
    let processors = std::thread::available_parallelism()?.get() as f64;
    let others = (busy - own - served).max(0.0) / began.elapsed().as_secs_f64() / processors;
    let rows = portal.held.rows as f64;
    println!(
        "{name:<10} {:>8.0} {:>14.2} {:>18.2} {:>10.1} {:>7.0}%",
        rows / used.wall_seconds,
        used.cpu_seconds / rows * 1e6,
        served / rows * 1e6,
        used.peak_bytes as f64 / 1_048_576.0,
        others * 100.0
    );
    Ok(used)
}

fn client(words: &[&str], folder: &Path, out: Option<&str>) -> anyhow::Result<Used> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).arg(folder.join("portal.json"));
    let out = out.map(|out| folder.join(out));
    command.args(&out);
    let used = measured(&mut command, &Until::End)?;
    if let Some(out) = out {
        ensure!(out.metadata()?.len() > 0, "nothing was written");
        std::fs::remove_file(out)?;
    }
    Ok(used)
}

/// The median of some ratios, with the least and the greatest.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match ratios[..] {
        [] => "nothing was measured".to_owned(),
        [least, .., most] => format!("{:.2} ({least:.2} to {most:.2})", ratios[ratios.len() / 2]),
        [only] => format!("{only:.2}"),
    }
}
