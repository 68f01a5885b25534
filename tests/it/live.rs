//! What people and machines see while the program works: at a real pseudo-terminal, in a pipe, as JSON.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::app::fresh_seed;
use crate::support::binary::Place;
use crate::support::terminal::Terminal;

/// Lines in which this stands.
fn count(screen: &[String], what: &str) -> usize {
    screen.iter().filter(|line| line.contains(what)).count()
}

/// Records in all files below a folder.
fn records(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let lines = |file: &Path| std::fs::read_to_string(file).unwrap().lines().count() as u64;
    entries.map(|path| if path.is_dir() { records(&path) } else { lines(&path) }).sum()
}

/// The number in this column of the row of a source.
fn rows(screen: &[String], source: &str) -> u64 {
    let row = screen.iter().find(|line| line.contains(source)).unwrap_or_else(|| panic!("{screen:#?}"));
    row.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

/// What the summary says that the sink has.
fn delivered(screen: &[String]) -> Option<u64> {
    screen.iter().find_map(|line| line.strip_prefix("sink out: ")?.split(' ').next()?.parse().ok())
}

#[test]
fn the_demo_shows_a_table_that_updates_in_place_and_ends_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(&["demo", "--for", "10s"], folder.path(), (80, 60), &[]);
    let first = terminal.wait("a table with rows", |screen| {
        count(screen, "SITE  SOURCE") == 1
            && count(screen, "unified_audit") == 1
            && rows(screen, "unified_audit") > 0
    });
    let before = rows(&first, "unified_audit");
    let later = terminal.wait("more rows", |screen| {
        count(screen, "unified_audit") == 1 && rows(screen, "unified_audit") > before
    });
    assert_eq!(count(&later, "SITE  SOURCE"), 1, "{later:#?}");
    assert_eq!(count(&later, "plays at http://127.0.0.1"), 1, "what was said before stays: {later:#?}");
    terminal.wait("an estimate", |screen| count(screen, "under 1 min") + count(screen, "~1 min") > 0);
    assert_eq!(terminal.ended(), Some(0));
    let last = terminal.screen();
    assert_eq!(count(&last, "SITE  SOURCE"), 0, "the summary is the table's end: {last:#?}");
    assert!(
        count(&last, "sink out: ") == 1 && count(&last, "lockstep check -c lockstep.yaml") == 1,
        "{last:#?}"
    );
    assert!(terminal.is_clean());
    assert_eq!(delivered(&last), Some(records(&folder.path().join("lockstep-demo/out"))));
}

#[test]
fn ctrl_c_ends_the_demo_with_its_summary_and_a_second_one_leaves_a_clean_terminal_too() {
    for twice in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::run(&["demo"], folder.path(), (100, 60), &[]);
        terminal.wait("a table", |screen| count(screen, "unified_audit") == 1);
        terminal.signal(Signal::INT);
        if twice {
            terminal.wait("a word of it", |screen| count(screen, "once more ends it at once") == 1);
            terminal.signal(Signal::INT);
        }
        // The second may come after the end.
        let code = terminal.ended();
        assert!(code == Some(0) || twice && code == Some(1), "{code:?}");
        assert!(terminal.is_clean(), "{twice}: {:#?}", terminal.screen());
        assert_eq!(count(&terminal.screen(), "once more ends it at once"), 1, "{:#?}", terminal.screen());
    }
}

#[test]
fn a_second_demo_in_the_same_folder_is_refused_and_leaves_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Terminal::run(&["demo"], folder.path(), (100, 60), &[]);
    first.wait("a table", |screen| count(screen, "unified_audit") == 1);
    let second = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["demo", "--for", "1s"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("lockstep-demo/state") && said.contains("pid"), "{said}");
    // What it writes from here on is in the files that are there.
    std::thread::sleep(Duration::from_secs(3));
    first.signal(Signal::INT);
    assert_eq!(first.ended(), Some(0));
    let last = first.screen();
    assert_eq!(delivered(&last), Some(records(&folder.path().join("lockstep-demo/out"))), "{last:#?}");
}

#[test]
fn a_resize_leaves_one_table_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::run(&["demo"], folder.path(), (130, 30), &[]);
    terminal.wait("a wide table", |screen| count(screen, "PROVEN UNTIL") == 1);
    for (columns, rows) in [(60, 20), (90, 10), (40, 12), (130, 30)] {
        terminal.resize(columns, rows);
        let fits = |screen: &[String]| {
            let titles = screen.iter().rev().find(|line| line.starts_with("SITE"));
            count(screen, "STATE") == 1
                && titles.is_some_and(|line| line.contains("PROVEN UNTIL") == (columns > 100))
        };
        // Twice, so that it has stood a change.
        for _ in 0..2 {
            let screen = terminal.wait("one table that fits", fits);
            assert!(screen.iter().all(|line| line.chars().count() <= usize::from(columns)), "{screen:#?}");
            std::thread::sleep(std::time::Duration::from_millis(600));
        }
    }
    assert!(terminal.is_clean());
}

#[test]
fn ctrl_c_ends_the_demo_well_as_soon_as_it_is_told_of() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.arg("demo").current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut demo = program.spawn().unwrap();
        let mut said = BufReader::new(demo.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("Ctrl-c ends it")));
        rustix::process::kill_process(rustix::process::Pid::from_child(&demo), Signal::INT).unwrap();
        // Read on, or the demo could not speak.
        said.for_each(drop);
        assert_eq!(demo.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn no_colours_are_shown_where_none_are_wanted_and_no_table_where_it_cannot_stand() {
    let folder = tempfile::tempdir().unwrap();
    let table = |variables: &[(&str, &str)]| {
        let mut terminal = Terminal::run(&["demo", "--for", "3s"], folder.path(), (100, 30), variables);
        assert_eq!(terminal.ended(), Some(0));
        terminal.bytes()
    };
    assert!(table(&[]).contains("\u{1b}[1mSITE"), "bold titles");
    let plain = table(&[("NO_COLOR", "1")]);
    assert!(plain.contains("SITE  SOURCE") && !plain.contains("\u{1b}[1m") && !plain.contains("\u{1b}[38"));
    for variable in [("TERM", "dumb"), ("CI", "true")] {
        let lines = table(&[variable]);
        assert!(lines.contains("demo computers") && !lines.contains('\u{1b}'), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_a_panic_come_above_the_table_and_are_not_torn() {
    let options = WorldOptions { seed: fresh_seed(), rows_per_day: 5_000, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(options), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure("level: warn", "level: info");
    let config = place.path("lockstep.yaml").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    tokio::task::spawn_blocking(move || {
        let fault = [("LOCKSTEP_FAULT", "deliver.confirm.after:2:panic")];
        let arguments = ["run", "-c", &config];
        let mut terminal = Terminal::run(&arguments, folder.path(), (150, 40), &fault);
        let screen = terminal.wait("a log and a panic above a table", |screen| {
            count(screen, "a test wants a panic here") == 1
                && count(screen, "collecting") >= 3
                && count(screen, "unified_audit  table") + count(screen, "unified_audit table") >= 1
        });
        let place = |what: &str| screen.iter().rposition(|line| line.contains(what));
        assert!(place("a test wants a panic here") < place("SITE  SOURCE"), "{screen:#?}");
        assert!(place("INFO") < place("SITE  SOURCE"), "{screen:#?}");
        assert_eq!(count(&screen, "SITE  SOURCE"), 1, "{screen:#?}");
        terminal.signal(Signal::TERM);
        assert_eq!(terminal.ended(), Some(0));
        let last = terminal.screen();
        assert_eq!(count(&last, "SITE  SOURCE"), 1, "the last table stays: {last:#?}");
        assert!(terminal.is_clean());
    })
    .await
    .unwrap();
}

/// One pass at a still portal, into a pipe.
async fn once(more: &[&str]) -> (Place, Output) {
    let world = World::new(WorldOptions {
        seed: fresh_seed(),
        rows_per_day: 20_000,
        late_share: 0.0,
        future_share: 0.0,
        live: false,
        own_noise: false,
        ..WorldOptions::default()
    });
    let portal = Simulator::start(world, Options::default()).await.unwrap();
    portal.stage().clock.freeze(true);
    if more.contains(&"--json") {
        // Long enough to look on.
        portal.fault(Fault::always(Effect::Latency { milliseconds: 25 }));
    }
    let place = Place::new(&portal, "64KiB");
    let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    program.arg("once").args(more).arg("-c").arg(place.path("lockstep.yaml")).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    drop(portal);
    (place, output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_into_a_pipe_says_plain_lines_and_a_quiet_one_only_its_end() {
    for more in [&[][..], &["--quiet"]] {
        let (place, output) = once(more).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty() && !said.contains('\u{1b}'), "{said}");
        let delivered =
            said.lines().find_map(|line| line.strip_prefix("sink out: ")?.split(' ').next()?.parse().ok());
        assert_eq!(delivered, Some(records(&place.out())), "{said}");
        assert_eq!(said.matches("acme unified_audit table=1: ").count(), 1, "{said}");
        if more.is_empty() {
            assert_eq!(output.status.code(), Some(0), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_as_json_parses_and_its_end_agrees_with_the_files() {
    let (place, output) = once(&["--json"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, before) = objects.split_last().unwrap();
    assert!(before.iter().all(|object| object["type"] == "progress"), "{told}");
    assert_eq!((&last["type"], &last["complete"]), (&"summary".into(), &true.into()), "{told}");
    let number = |value: &Value| value.as_u64().unwrap();
    let rows: u64 = last["streams"].as_array().unwrap().iter().map(|stream| number(&stream["rows"])).sum();
    let in_files = records(&place.out());
    assert!(in_files > 3_000, "{in_files}");
    assert_eq!((rows, number(&last["sinks"][0]["delivered_records"])), (in_files, in_files), "{last}");
    let midway = |object: &Value| {
        object["streams"]
            .as_array()
            .unwrap()
            .iter()
            .any(|stream| (1..20_000).contains(&number(&stream["rows"])) && !stream["owed"].is_null())
    };
    assert!(before.iter().any(midway), "nothing was told before the end: {told}");
    let grows = |name: &str| {
        let of = |object: &Value| -> u64 {
            object["streams"].as_array().unwrap().iter().map(|stream| number(&stream[name])).sum()
        };
        objects.iter().map(of).is_sorted()
    };
    assert!(grows("rows") && grows("requests"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_refused_where_records_go_to_the_same_stdout() {
    let portal = Simulator::start(World::new(WorldOptions::default()), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    let config = std::fs::read_to_string(place.path("lockstep.yaml")).unwrap();
    let head = config.split("sinks:").next().unwrap();
    std::fs::write(
        place.path("lockstep.yaml"),
        format!("{head}sinks: [{{ name: out, type: stdout, format: raw }}]\n"),
    )
    .unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    let program = program.args(["once", "--json", "-c"]).arg(place.path("lockstep.yaml"));
    let output = program.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave it out, or deliver to files"));
}
