//! The crash matrix: wherever the program is killed, whatever it delivers to, no record is lost, and none comes twice
//! where that is promised.
//!
//! The real binary is killed at every fault point that its sink meets and at random, while requests to the far side
//! fail, too; in the end what a reader finds there is compared with the portal. Files have their own test, in
//! `crash.rs`, where power fails as well. `make crash-matrix` is the long form: a program of its own for each sink and
//! fault point, and its figures go to `docs/delivery.md`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use lockstep::fault;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::support::app::{fresh_seed, setting};
use crate::support::far_side::{FarSide, Sort};
use crate::support::ordeal::{Kill, Outcome, endure};
use crate::support::say;

/// Killed once at each fault point that there is on the way to this sort, and at random.
async fn killed_everywhere(sort: Sort) {
    let Some(far) = FarSide::new(sort).await else { return };
    let seed = fresh_seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut kill = |at| Kill { at, depth: dice.random_range(1..=3) };
    let (first, others): (Vec<_>, Vec<_>) =
        points().filter(|point| sort.meets(point)).map(|point| kill(Some(point))).partition(is_first);
    let mut kills: Vec<Kill> = others.into_iter().chain([kill(None), kill(None)]).collect();
    kills.shuffle(&mut dice);
    let outcome = endure(&far, &[first, kills].concat(), seed).await;
    say(format_args!("{}: {}", sort.title(), told(&outcome)));
    assert_eq!(faults(sort, &outcome), [""; 0], "SEED={seed}");
    assert!(outcome.records > 500 && outcome.failed.is_none_or(|failed| failed > 0), "too little happened");
    // A kill between writing and confirming repeats a batch, or else the test saw none.
    assert_eq!(outcome.repeats > 0, !sort.is_exactly_once(), "SEED={seed}: {}", told(&outcome));
}

/// A schema is made only once, so that comes first. Then one batch is delivered: before that a kill can leave a
/// transaction open for a minute, which the long form waits for.
fn is_first(kill: &Kill) -> bool {
    kill.at.is_some_and(|point| point.contains(".migrate.") || point == "deliver.confirm.after")
}

fn points() -> impl Iterator<Item = &'static str> {
    fault::points()
}

fn told(outcome: &Outcome) -> String {
    let Outcome { seed, kills, records, verdict, repeats, failed, .. } = outcome;
    let failed = failed.map(|failed| format!(", {failed} requests failed")).unwrap_or_default();
    format!("seed {seed}: {kills} kills, {records} records{failed}: {verdict}, {repeats} came again")
}

/// Everything that is not as promised.
fn faults(sort: Sort, outcome: &Outcome) -> Vec<String> {
    let mut faults = outcome.complaints.clone();
    faults.extend(outcome.missed.iter().map(|point| format!("never comes to {point}")));
    if !outcome.verdict.is_clean() {
        faults.push(format!("{}\n{}", outcome.verdict, outcome.verdict.examples()));
    }
    if sort.is_exactly_once() && outcome.repeats > 0 {
        faults.push(format!("{} records are there twice", outcome.repeats));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_with_transactions_has_every_record_once() {
    killed_everywhere(Sort::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_without_transactions_has_every_record_at_least_once_under_one_key() {
    killed_everywhere(Sort::KafkaPlain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_has_every_record_once() {
    killed_everywhere(Sort::Index).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splunk_with_acknowledgement_has_every_record_although_it_is_restarted_too() {
    killed_everywhere(Sort::SplunkAcknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splunk_without_acknowledgement_accepts_every_record() {
    killed_everywhere(Sort::Splunk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_of_posts_has_every_record() {
    killed_everywhere(Sort::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_has_every_record() {
    killed_everywhere(Sort::Stdout).await;
}

/// One sink, one fault point or none for random times, and what came of it.
struct Cell {
    sort: Sort,
    at: Option<&'static str>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: make crash-matrix"]
async fn full() {
    let kills: u32 = setting("KILLS").unwrap_or(3);
    let mut queue = VecDeque::new();
    for sort in Sort::ALL {
        let met = points().filter(|point| sort.meets(point)).map(Some);
        queue.extend(met.chain([None]).map(|at| Cell { sort, at }));
    }
    let (queue, done) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let work = async || {
        loop {
            let Some(cell) = queue.lock().unwrap().pop_front() else { break };
            let far = FarSide::new(cell.sort).await.expect("the matrix is measured with every real part");
            let seed = fresh_seed();
            let mut dice = StdRng::seed_from_u64(seed);
            let times = if cell.at.is_none() { 2 * kills } else { kills };
            // The first time, the second, and some later one.
            let depths = (1..=times).map(|time| if time < 3 { time } else { dice.random_range(3..=8) });
            let planned: Vec<Kill> = depths.map(|depth| Kill { at: cell.at, depth }).collect();
            let outcome = endure(&far, &planned, seed).await;
            say(format_args!("{} {}: {}", cell.sort.title(), row(cell.at), told(&outcome)));
            done.lock().unwrap().push((cell, outcome));
        }
    };
    tokio::join!(work(), work());
    let done = done.into_inner().unwrap();
    let table = table(&done);
    say(&table);
    let wrong: Vec<_> = done
        .iter()
        .flat_map(|(cell, outcome)| {
            let name = format!("{} {} SEED={}", cell.sort.title(), row(cell.at), outcome.seed);
            faults(cell.sort, outcome).into_iter().map(move |fault| format!("{name}: {fault}"))
        })
        .collect();
    assert_eq!(wrong, [""; 0]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/delivery.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    std::fs::write(page, format!("{before}{BEGIN}\n{table}{END}{after}")).unwrap();
}

const BEGIN: &str = "<!-- written by make crash-matrix -->";
const END: &str = "<!-- end of what make crash-matrix writes -->";

fn row(at: Option<&str>) -> String {
    at.map_or_else(|| "at random".to_owned(), |point| format!("`{point}`"))
}

/// A row for each fault point, a column for each sink.
fn table(done: &[(Cell, Outcome)]) -> String {
    let mut table = String::from("| killed at |");
    Sort::ALL.iter().for_each(|sort| write!(table, " {} |", sort.title()).unwrap());
    table += "\n|---|";
    table += &"---|".repeat(Sort::ALL.len());
    for at in points().map(Some).chain([None]) {
        write!(table, "\n| {} |", row(at)).unwrap();
        for sort in Sort::ALL {
            let found = done.iter().find(|(cell, _)| cell.sort == sort && cell.at == at);
            let cell = found.map_or_else(|| "–".to_owned(), |(_, outcome)| figures(outcome));
            write!(table, " {cell} |").unwrap();
        }
    }
    table + "\n"
}

/// Kills, lost, came again.
fn figures(outcome: &Outcome) -> String {
    let tallies = || outcome.verdict.0.values();
    let lost: usize = tallies().map(|tally| tally.lost.len()).sum();
    let doubled: usize = tallies().map(|tally| tally.doubled.len()).sum();
    format!("{}, {lost}, {}", outcome.kills, doubled + outcome.repeats)
}

/// The types of sinks that the configuration knows.
fn types() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockstep.yaml");
    std::fs::write(&file, "connections: []\nsinks: [{ name: some }]\n").unwrap();
    let config = lockstep::config::Config::load(&file, &lockstep::config::Environment::default());
    let said = config.err().unwrap().to_string();
    let known = said.split("known here: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_table_of_the_documentation_has_every_sink_and_every_fault_point_that_there_is() {
    let page = include_str!("../../docs/delivery.md");
    let written = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).unwrap().0;
    let mut lines = written.trim().lines();
    let header = lines.next().unwrap();
    let types = types();
    assert!(types.len() > 6, "{types:?}");
    for known in types {
        assert!(header.contains(&format!("`{known}`")), "no column for {known}: make crash-matrix");
    }
    let rows: Vec<Vec<&str>> =
        lines.skip(1).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let again = "make crash-matrix";
    assert_eq!(rows.len(), points().count() + 1, "{again}");
    for (row, at) in rows.iter().zip(points().map(Some).chain([None])) {
        assert_eq!(row[0], self::row(at), "{again}");
        for (sort, cell) in Sort::ALL.iter().zip(&row[1..]) {
            let met = at.is_none_or(|point| sort.meets(point));
            let figures: Vec<u64> = cell.split(", ").filter_map(|figure| figure.parse().ok()).collect();
            assert_eq!(figures.len() == 3 && figures[0] > 0 && figures[1] == 0, met, "{row:?}: {again}");
            assert!(!met || !sort.is_exactly_once() || figures[2] == 0, "{row:?}: {again}");
        }
    }
}
