//! Runs what the documentation tells to type, against a played portal.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use clap::Parser;
use lockstep::cli::Cli;
use lockstep::clock::Clock;
use lockstep::model::{Change, Chunk, Entry, Kind, Lane};
use lockstep::record::enrichment::Known;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::store::Store;
use lockstep::store::dead_letters::{self, LetterEntry, NewDeadLetter};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::page::PAGES;
use crate::support::binary::Place;

/// Commands that go on until they are told to stop, and lines after which they can be told: the demo
/// introduces itself in two.
const SERVICES: [(&str, usize); 3] = [("run", 1), ("demo", 3), ("simulate", 1)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_in_the_documentation_runs() {
    let options =
        WorldOptions { backlog_hours: 1, rows_per_day: 2_000, live: false, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(options), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure("ops: off", "ops: 127.0.0.1:0");
    place.reconfigure("level: warn", "level: info");
    // So that a backfill has something to do.
    place.reconfigure("backfill: 28d", "backfill: 1h");
    let desk = Desk { portal_url: portal.url.clone(), place };
    // Most commands look at a state.
    desk.ends_well("lockstep once -c lockstep.yaml").await;

    let mut paths = BTreeSet::new();
    let mut commands = BTreeSet::new();
    for page in PAGES {
        for line in page.shell() {
            paths.extend(line.strip_prefix("curl ").map(|line| super::path_of(page.name, line)));
            commands.extend(line.strip_prefix("cargo run -- ").map(|rest| format!("lockstep {rest}")));
            commands.extend(line.starts_with("lockstep ").then(|| line.to_owned()));
        }
        for code in page.code().into_iter().filter(|code| code.starts_with("lockstep ")) {
            let whole = Cli::try_parse_from(desk.words(code)).is_ok();
            commands.extend(whole.then(|| code.to_owned()));
        }
    }
    assert!(commands.len() >= 20 && paths.len() >= 2, "{commands:?} {paths:?}");
    for line in commands {
        let command = line.split_whitespace().nth(1).unwrap_or_default();
        if command == "dead-letters" {
            desk.has_a_dead_letter().await;
        }
        match SERVICES.into_iter().find(|(name, _)| *name == command) {
            None => desk.ends_well(&line).await,
            Some((name, lines)) => {
                desk.serves(&line, lines, if name == "run" { &paths } else { &NOTHING }).await;
            }
        }
    }
}

static NOTHING: BTreeSet<String> = BTreeSet::new();

/// Where a reader of the documentation sits: a folder with a configuration, and a portal to ask.
struct Desk {
    portal_url: String,
    place: Place,
}

impl Desk {
    /// The words of a command line, with what the reader would put in for what stands for something.
    fn words(&self, line: &str) -> Vec<String> {
        let token = self.place.path("token").display().to_string();
        // An instance lives in the vendor's domain; the played portal is named by its address.
        let line = line.replace("--instance g", &format!("--base-url {}", self.portal_url));
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let for_token = words.last().is_some_and(|last| last == "--token-file");
            words.push(match word {
                "[SITE]" | "[ROW]" => continue,
                _ if for_token => token.clone(),
                "SITE" => "acme".to_owned(),
                "SOURCE" => "unified_audit".to_owned(),
                "FILE" => "lockstep.yaml".to_owned(),
                "SINK" | "S" | "lake" => "out".to_owned(),
                word => word.to_owned(),
            });
        }
        words
    }

    /// Puts the dead letter 17 there, which the pages name.
    async fn has_a_dead_letter(&self) {
        let store = Store::open(&self.place.state(), Clock::system()).unwrap();
        let plant = |db: &lockstep::store::WriterDb| {
            let entry = Entry {
                number: 1,
                uid: Uuid::from_u128(17),
                kind: Kind::Event,
                change: Change::New,
                organization: "5d1",
                vendor_id: None,
                time: None,
                row: "{}",
                previous: None,
            };
            let body = Chunk::encode(&[entry], &Known::default());
            let letter = NewDeadLetter {
                sink: Some("out"),
                connection: 1,
                source: "unified_audit",
                organization_id: None,
                number: Some(1),
                uid: Some(Uuid::from_u128(17)),
                vendor_id: None,
                reason: "planted",
                stored: 0,
                body: b"{}",
                entry: Some(LetterEntry { body, collected: 0, lane: Lane::Refill, whole: true }),
            };
            dead_letters::insert(db, &letter)?;
            db.execute("UPDATE dead_letter SET id = 17", [])?;
            Ok(())
        };
        store.write(plant).await.unwrap();
        store.close().await;
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command.args(&self.words(line)[1..]).current_dir(self.place.path("")).stdin(Stdio::null());
        command
    }

    async fn ends_well(&self, line: &str) {
        let mut command = self.command(line);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output: Output = tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .unwrap_or_else(|_| panic!("{line}: it does not end"))
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}\n{said}", output.status);
        assert!(!(output.stdout.is_empty() && said.is_empty()), "{line}: says nothing");
    }

    /// Starts a service and stops it after it has said so many lines. `paths` are asked of it once it says
    /// where it listens.
    async fn serves(&self, line: &str, lines: usize, paths: &BTreeSet<String>) {
        let mut command = self.command(line);
        let mut child = Service(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let (out, err) = (child.0.stdout.take().unwrap(), child.0.stderr.take().unwrap());
        // Whichever of the two it writes to; both are read to their ends, so that it never waits for us.
        let (tell, told) = std::sync::mpsc::channel();
        for pipe in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
            });
        }
        drop(tell);
        let (mut said, mut address): (Vec<String>, Option<String>) = (Vec::new(), None);
        while said.len() < lines || (!paths.is_empty() && address.is_none()) {
            let next = told.recv_timeout(Duration::from_secs(60));
            said.push(next.unwrap_or_else(|_| panic!("{line}: says no more than {said:?}")));
            let told = said.last().and_then(|said| said.split("address=").nth(1)?.split_whitespace().next());
            address = told.map(str::to_owned).or(address);
        }
        for path in paths {
            let address = address.as_deref().expect("it was waited for");
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            assert!(answer.status() == 200 || answer.status() == 503, "{path}: {}", answer.status());
        }
        kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || child.0.wait().unwrap()).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{line}: {ended}: {said:?}");
    }
}

/// Killed when it is dropped, as by a test that fails.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
