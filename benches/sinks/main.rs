//! Throughput of sinks: `cargo bench --bench sinks [-- ROWS [ROUNDS]]`, 500,000 records and 1 round if not told
//! otherwise.
//!
//! An outbox is filled once. In each round `lockstep run` delivers a copy of it to a real Kafka and to receivers of
//! `_bulk` and of Splunk's protocol, which are processes of their own; before each, a bare client sends the same
//! payloads with the same settings, read from a file. What counts are the ratios inside a round.

#![expect(clippy::print_stdout, reason = "the report of a benchmark is its purpose")]

mod bare;
mod kafka;
mod outbox;
#[expect(dead_code, reason = "the other benchmark tells what the portal costs, too")]
#[path = "../end_to_end/portal.rs"]
mod portal;
#[expect(dead_code, reason = "the other benchmark tells what the portal costs, too")]
#[path = "../end_to_end/process.rs"]
mod process;
mod receiver;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use self::kafka::Kafka;
use self::outbox::Outbox;
use self::process::{Until, Used, machine_seconds, measured};
use self::receiver::Receiver;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> anyhow::Result<()> {
    // Cargo says `--bench` to every benchmark.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["portal", rows, told] => portal::serve(rows.parse()?, Path::new(told)).await,
        ["receiver", told] => receiver::serve(Path::new(told)).await,
        ["bare-kafka", brokers, topic, how, payloads] => {
            bare::kafka(brokers, topic, how == "transactions", Path::new(payloads))
        }
        ["bare-http", url, protocol, payloads] => bare::http(url, protocol, Path::new(payloads)).await,
        [] => rounds(500_000, 1),
        [rows] => rounds(rows.parse().context("how many rows?")?, 1),
        [rows, rounds_] => {
            rounds(rows.parse().context("how many rows?")?, rounds_.parse().context("rounds?")?)
        }
        _ => bail!("usage: sinks [ROWS [ROUNDS]]"),
    }
}

fn rounds(rows: u64, rounds: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let outbox = Outbox::fill(rows, folder.path())?;
    println!("{} records of {} bytes", outbox.records, outbox.bytes / outbox.records);
    println!("{:<28} {:>9} {:>13} {:>10} {:>8}", "", "records/s", "CPU s/M", "peak MiB", "others");
    let kafka = Kafka::start(folder.path())?;
    for round in 0..rounds {
        for transactions in [false, true] {
            let (name, how) =
                if transactions { ("with transactions", "transactions") } else { ("without", "plain") };
            let topic = format!("bare-{how}-{round}");
            let bare = one(&format!("bare producer {name}"), &outbox, || {
                client(&["bare-kafka", &kafka.brokers, &topic, how], &outbox)
            })?;
            kafka.holds(&topic, outbox.records)?;
            kafka.delete(&[&topic])?;
            let topic = format!("ours-{how}-{round}");
            let positions = format!("{topic}-positions");
            let sink = format!(
                "type: kafka, brokers: [\"{}\"], topics: {{ events: {topic}, devices: {topic} }}, positions_topic: \
                 {positions}, transactional: {transactions}",
                kafka.brokers
            );
            let home = outbox.copy(folder.path(), &sink)?;
            home.check_and_create()?;
            let ours = one(&format!("lockstep {name}"), &outbox, || {
                home.deliver(kafka.counts(&topic)?, outbox.records)
            })?;
            kafka.holds(&topic, outbox.records)?;
            kafka.delete(&[&topic, &positions])?;
            println!("  lockstep against the bare producer: {:.2}", bare.wall_seconds / ours.wall_seconds);
        }
        for protocol in ["bulk", "hec"] {
            let receiver = Receiver::start(folder.path())?;
            let bare = one(&format!("bare client, {protocol}"), &outbox, || {
                client(&["bare-http", &receiver.url, protocol], &outbox)
            })?;
            ensure!(receiver.count()? == outbox.records, "the receiver has {}", receiver.count()?);
            let receiver = Receiver::start(folder.path())?;
            let home = outbox.copy(folder.path(), &receiver.sink(protocol))?;
            let (sees, records) = (receiver.clone_address(), outbox.records);
            let counts = Box::new(move || receiver::count(&sees).unwrap_or(0));
            let ours = one(&format!("lockstep, {protocol}"), &outbox, || home.deliver(counts, records))?;
            ensure!(receiver.count()? == outbox.records, "the receiver has {}", receiver.count()?);
            println!("  lockstep against the bare client: {:.2}", bare.wall_seconds / ours.wall_seconds);
        }
    }
    Ok(())
}

/// Runs and reports one program. What other programs took of the machine's processors meanwhile includes the far
/// side.
fn one(name: &str, outbox: &Outbox, run: impl FnOnce() -> anyhow::Result<Used>) -> anyhow::Result<Used> {
    let (began, (busy, own)) = (tokio::time::Instant::now(), machine_seconds()?);
    let used = run().with_context(|| format!("running {name}"))?;
    let (busy, own) = machine_seconds().map(|(all, ours)| (all - busy, ours - own))?;
    let processors = std::thread::available_parallelism()?.get() as f64;
    let others = (busy - own).max(0.0) / began.elapsed().as_secs_f64() / processors;
    let records = outbox.records as f64;
    println!(
        "{name:<28} {:>9.0} {:>13.2} {:>10.1} {:>7.0}%",
        records / used.wall_seconds,
        used.cpu_seconds / records * 1e6,
        used.peak_bytes as f64 / 1_048_576.0,
        others * 100.0
    );
    Ok(used)
}

/// A bare client, a process of this program that ends once everything is answered for.
fn client(words: &[&str], outbox: &Outbox) -> anyhow::Result<Used> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).arg(&outbox.payloads);
    measured(&mut command, &Until::End)
}
