//! The program with a played portal, in one process, its configuration and files in a folder of its own.
//!
//! On [`TestApp::finish`] the output is compared with the portal. Dropping a [`TestApp`] fails the test if any
//! task of the program panicked.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep::app::{App, Deps, Outcome};
use lockstep::clock::Clock;
use lockstep::config::{Config, Environment, Origin};
use lockstep::control;
use lockstep::model::{Micros, SECOND, Seconds};
use lockstep::simulator::dialect::{Axis, Dialect, NoOrganization};
use lockstep::simulator::stats::Logged;
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::source::{SOURCES, Shape, by_name};
use lockstep::status::{Board, Status, StreamCondition, StreamStatus};
use lockstep::store::{Store, StoreError, backfill, connections, dead_letters, streams as stored};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use super::say;
use super::verdict::{Truth, Verdict, compare, micros};

pub(crate) const MINUTE: Micros = 60 * SECOND;
pub(crate) const HOUR: Micros = 60 * MINUTE;
pub(crate) const DAY: Micros = 24 * HOUR;

/// The sources that tests collect where they say nothing else.
pub(crate) const USUAL: [&str; 3] = ["unified_audit", "system_audit", "computers"];

/// The names of all other sources.
pub(crate) fn beside_the_usual() -> impl Iterator<Item = &'static str> {
    SOURCES.into_iter().map(|source| source.name()).filter(|name| !USUAL.contains(name))
}

/// Whether a source is asked by time.
pub(crate) fn is_window(source: &str) -> bool {
    by_name(source).is_some_and(|source| matches!(source.shape(), Shape::Window { .. }))
}

/// How long a test waits for what should come soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) organizations: String,
    /// Further lines of the connection, such as `rate: unlimited`.
    pub(crate) more: Vec<String>,
    /// Has a token of its own instead of the portal's first.
    pub(crate) own_token: bool,
}

impl Site {
    pub(crate) fn new(name: &str, organizations: &str) -> Self {
        let more = vec!["rate: unlimited".to_owned()];
        Self { name: name.to_owned(), organizations: organizations.to_owned(), more, own_token: false }
    }
}

/// What a test starts with. Lengths of the sources in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) world: WorldOptions,
    pub(crate) dialect: Dialect,
    pub(crate) sites: Vec<Site>,
    /// Milliseconds between two polls.
    pub(crate) every: u64,
    pub(crate) settle: u64,
    pub(crate) backfill: u64,
    pub(crate) page_size: u32,
    /// Of [`USUAL`], the sources that are not collected.
    pub(crate) without: Vec<&'static str>,
    /// Sources that are collected besides [`USUAL`].
    pub(crate) with: Vec<&'static str>,
    /// Further lines at the top level.
    pub(crate) more: String,
    /// How far our own clock is ahead of the portal's.
    pub(crate) clock_ahead: Micros,
    /// The configuration names the token's own organization.
    pub(crate) names_organization: bool,
    /// Indices of the organizations that the sites cover; none for all.
    pub(crate) covers: Option<Vec<usize>>,
    /// Further entries of the list of sinks, and settings of the first one beside its path.
    pub(crate) sinks: Vec<String>,
    pub(crate) sink: String,
    /// Each site in a folder of its own.
    pub(crate) folders: bool,
    /// The program takes over what [`TestApp::configure`] writes while it runs.
    pub(crate) follows: bool,
    /// Folders elsewhere, such as on a small disk.
    pub(crate) state: Option<PathBuf>,
    pub(crate) out: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            world: WorldOptions { seed: fresh_seed(), ..WorldOptions::default() },
            dialect: Dialect::default(),
            sites: vec![Site::new("acme", "all")],
            every: 150,
            settle: 5,
            backfill: 86_400,
            page_size: 500,
            without: Vec::new(),
            with: Vec::new(),
            more: String::new(),
            clock_ahead: 0,
            names_organization: false,
            covers: None,
            sinks: Vec::new(),
            sink: String::new(),
            folders: false,
            follows: false,
            state: None,
            out: None,
        }
    }
}

/// A seed from the clock, or the one in `SEED`, to play a failure again.
pub(crate) fn fresh_seed() -> u64 {
    setting("SEED").unwrap_or_else(|| u64::from_le_bytes(Clock::system().bytes()) >> 16)
}

/// What a variable says, for a longer run or to play one again.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
pub(crate) fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// The panics of the program's own code in this process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes panics of tasks, which nobody awaits, so that no test overlooks them.
fn note_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.location().is_some_and(|place| place.file().starts_with("src/")) {
                PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(info.to_string());
            }
            before(info);
        }));
    });
}

struct Running {
    board: Board,
    store: Store,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<Option<Status>>>,
}

/// The program and its portal.
pub(crate) struct TestApp {
    pub(crate) portal: Simulator,
    pub(crate) setup: Setup,
    /// The portal's time of the first start.
    pub(crate) started: Micros,
    /// Older time that was asked for since.
    pub(crate) asked_back: Vec<(Seconds, Seconds)>,
    folder: TempDir,
    running: Option<Running>,
}

impl TestApp {
    /// Starts the portal and the program.
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut app = Self::prepare(setup).await;
        app.run().await;
        app
    }

    /// Starts the portal alone and writes the configuration.
    pub(crate) async fn prepare(setup: Setup) -> Self {
        note_panics();
        let world = World::new(setup.world.clone());
        let options = Options { dialect: setup.dialect.clone(), ..Options::default() };
        let portal = Simulator::start(world, options).await.unwrap();
        let started = portal.now();
        let folder = tempfile::tempdir().unwrap();
        let app = Self { portal, setup, started, asked_back: Vec::new(), folder, running: None };
        app.configure();
        app
    }

    /// Writes the configuration again, after the set-up was changed.
    pub(crate) fn configure(&self) {
        let Setup { sites, every, settle, backfill, page_size, without, with, more, .. } = &self.setup;
        let here = self.folder.path().display();
        let mut yaml = String::from("connections:\n");
        if self.setup.folders {
            yaml = format!("connections: {{ dir: {} }}\n", self.sites_folder().display());
            drop(std::fs::remove_dir_all(self.sites_folder()));
            std::fs::create_dir(self.sites_folder()).unwrap();
        }
        for site in sites {
            let token = if site.own_token { self.portal.add_token() } else { self.portal.token.clone() };
            let mut lines = vec![
                format!("base_url: {}", self.portal.url),
                format!("organizations: {}", site.organizations),
            ];
            let silent = self.setup.dialect.no_organization == NoOrganization::Empty;
            if silent || self.setup.names_organization {
                // Such a portal tells nobody whose token it is.
                lines.push(format!("organization_id: {}", self.portal.organization(0)));
            }
            lines.extend(site.more.clone());
            if self.setup.folders {
                let folder = self.sites_folder().join(&site.name);
                std::fs::create_dir(&folder).unwrap();
                std::fs::write(folder.join("token"), token).unwrap();
                std::fs::write(folder.join("site.yaml"), lines.join("\n")).unwrap();
                continue;
            }
            let file = self.folder.path().join(format!("token-{}", site.name));
            // Not touched while a running program reads it.
            if std::fs::read_to_string(&file).ok().as_ref() != Some(&token) {
                std::fs::write(&file, token).unwrap();
            }
            yaml += &format!("  - site: {}\n    token: {{ file: {here}/token-{0} }}\n", site.name);
            lines.iter().for_each(|line| yaml += &format!("    {line}\n"));
        }
        yaml += "sources:\n";
        for source in ["unified_audit", "system_audit"] {
            let enabled = !without.contains(&source);
            yaml += &format!(
                "  {source}: {{ enabled: {enabled}, every: {every}ms, settle: {settle}s, backfill: {backfill}s, page_size: {page_size} }}\n"
            );
        }
        let enabled = !without.contains(&"computers");
        yaml += &format!(
            "  computers: {{ enabled: {enabled}, every: {}ms, page_size: {page_size}, restate: off }}\n",
            2 * every
        );
        for source in beside_the_usual() {
            let window = matches!(by_name(source).unwrap().shape(), Shape::Window { .. });
            let spans = format!(", settle: {settle}s, backfill: {backfill}s");
            let spans = if window { spans.as_str() } else { "" };
            // Of organizations the interval is also that of their discovery.
            let every = match with.contains(&source) {
                true if source == "reports" => format!("enabled: true, every: {every}ms"),
                true => format!("enabled: true, every: {every}ms, page_size: {page_size}{spans}"),
                false if source == "organizations" => "enabled: false".to_owned(),
                false => format!("enabled: false, every: {every}ms"),
            };
            yaml += &format!("  {source}: {{ {every} }}\n");
        }
        let (state, out) = (self.state_folder(), self.out_folder());
        yaml += &format!(
            "state: {{ dir: {} }}\nserver: {{ ops: off }}\n{more}\nsinks:\n  - {{ name: out, type: file, path: \"{}/{{site}}/{{source}}-{{date}}.ndjson\", format: raw{} }}\n",
            state.display(),
            out.display(),
            self.setup.sink,
        );
        self.setup.sinks.iter().for_each(|sink| yaml += &format!("  - {sink}\n"));
        std::fs::write(self.file(), yaml).unwrap();
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("lockstep.yaml")
    }

    /// Where each site has a folder, if the set-up says so.
    pub(crate) fn sites_folder(&self) -> PathBuf {
        self.folder.path().join("sites")
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.setup.state.clone().unwrap_or_else(|| self.folder.path().join("state"))
    }

    pub(crate) fn out_folder(&self) -> PathBuf {
        self.setup.out.clone().unwrap_or_else(|| self.folder.path().join("out"))
    }

    async fn build(&self) -> App {
        let config =
            Config::load(&self.file(), &Environment::default()).unwrap_or_else(|error| panic!("{error}"));
        let beside =
            self.setup.world.start + self.setup.clock_ahead - Clock::system().now().timestamp_micros();
        let deps = Deps {
            clock: Clock::shifted(chrono::Duration::microseconds(beside), self.setup.world.seed),
            probe_delays: Some(vec![Duration::from_millis(300)]),
            backoff: Some((Duration::from_millis(20), Duration::from_millis(300))),
        };
        App::build(config, deps).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts the program, which must not be running.
    pub(crate) async fn run(&mut self) {
        assert!(self.running.is_none(), "the program runs already");
        let mut app = self.build().await;
        if self.setup.follows {
            let origin = Origin::new(&self.file(), &Environment::default());
            app.follow(Origin { look_every: Duration::from_millis(100), ..origin });
        }
        let (board, store, stop) = (app.board.clone(), app.store.clone(), app.stop_token());
        self.running = Some(Running { board, store, stop, task: tokio::spawn(app.run()) });
    }

    /// Makes one pass and stops it after so long; how long it took from there, and what it came to.
    pub(crate) async fn once_stopped_after(&self, long: Duration) -> (Duration, Outcome) {
        let app = self.build().await;
        let stop = app.stop_token();
        let pass = tokio::spawn(async move { app.once(&[], &[]).await });
        tokio::time::sleep(long).await;
        let began = tokio::time::Instant::now();
        stop.cancel();
        let ended = tokio::time::timeout(SOON, pass).await.expect("the pass ends");
        (began.elapsed(), ended.expect("the program does not panic"))
    }

    /// Stops the program as SIGTERM does, and answers how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let Running { board, store, stop, task } = self.running.take().expect("the program runs");
        drop((board, store));
        let began = tokio::time::Instant::now();
        stop.cancel();
        let ended = tokio::time::timeout(SOON, task).await.expect("the program ends");
        ended.expect("the program does not panic").unwrap_or_else(|error| panic!("{error:#}"));
        began.elapsed()
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// The numbers of the dead letters, newest first.
    pub(crate) async fn letter_numbers(&self) -> Vec<i64> {
        let store = Store::open_read_only(&self.state_folder()).unwrap();
        let letters = store.read(|db| dead_letters::list(db, None, None, 10_000)).await.unwrap();
        letters.iter().map(|letter| letter.id).collect()
    }

    /// The dead letters: source, reason and bytes.
    pub(crate) async fn dead_letters(&self) -> Vec<(String, String, Vec<u8>)> {
        let store = &self.running.as_ref().expect("the program runs").store;
        let read = store.read(|db| {
            let letters = dead_letters::list(db, None, None, 10_000)?;
            let whole = letters.iter().map(|letter| dead_letters::show(db, letter.id));
            let whole: Vec<_> = whole.collect::<Result<_, _>>()?;
            Ok(whole.into_iter().flatten().map(|(one, body)| (one.source, one.reason, body)).collect())
        });
        read.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asks every stream that is asked by time for `[from, to)`, as `lockstep backfill` asks a running program.
    pub(crate) async fn ask_back(&mut self, (from, to): (Seconds, Seconds)) {
        for (site, stream) in self.window_streams().await {
            let request = format!("/backfill?site={site}&stream={stream}&from={from}&to={to}");
            let end = tokio::time::Instant::now() + SOON;
            let answer = loop {
                // The door opens a moment after the start.
                if let Some(answer) = control::ask(&self.state_folder(), "POST", &request).await.unwrap() {
                    break answer;
                }
                assert!(tokio::time::Instant::now() < end, "nobody listens");
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            answer.ok().unwrap();
        }
        self.asked_back.push((from, to));
    }

    /// Where the newest time ends that was asked for and that some stream has not taken up.
    pub(crate) async fn waiting(&self) -> Option<Seconds> {
        let streams = self.window_streams().await;
        let store = &self.running.as_ref().expect("the program runs").store;
        let asked = store.read(move |db| {
            let asked = streams.iter().map(|(_, stream)| backfill::asked(db, *stream));
            asked.collect::<Result<Vec<_>, _>>()
        });
        let asked = asked.await.unwrap_or_else(|error| panic!("{error}"));
        asked.into_iter().flatten().map(|(_, to)| to).max()
    }

    /// The site and number of each stream that is asked by time.
    async fn window_streams(&self) -> Vec<(String, i64)> {
        let store = &self.running.as_ref().expect("the program runs").store;
        let known = store.read(|db| {
            let mut known = Vec::new();
            for connection in connections::list(db)? {
                let mut streams = stored::list(db, connection.id)?;
                streams.retain(|stream| is_window(&stream.source));
                known.extend(streams.into_iter().map(|stream| (connection.site.clone(), stream.id)));
            }
            Ok(known)
        });
        known.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Moves the portal's clock; what is due until then happens.
    pub(crate) fn advance(&self, by: Micros) -> Micros {
        self.portal.advance(by)
    }

    pub(crate) async fn status(&self) -> Status {
        let board = &self.running.as_ref().expect("the program runs").board;
        board.status().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The status as `lockstep status --json` shows it.
    pub(crate) async fn status_json(&self) -> serde_json::Value {
        serde_json::to_value(self.status().await).unwrap()
    }

    /// Waits until the status is as wanted, and answers it. `what` ends the sentence "it never …".
    pub(crate) async fn wait(&self, what: &str, long: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
        let seen = self.reaches(long, wanted).await;
        seen.unwrap_or_else(|last| {
            let asked = self.portal.requests_since(self.portal.stats().requests.saturating_sub(20));
            let last = last.map_or_else(|error| error.to_string(), |status| in_short(&status));
            panic!("it never {what}: {last}\n{}", requests(&asked))
        })
    }

    /// As [`Self::wait`]; where it does not come, the status as it was last.
    pub(crate) async fn reaches(
        &self,
        long: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, Result<Status, StoreError>> {
        let end = tokio::time::Instant::now() + long;
        let mut seen = 0;
        loop {
            let running = self.running.as_ref().expect("the program runs");
            assert!(!running.task.is_finished(), "the program ended");
            // A full disk may fail a look at the status as well.
            let status = running.board.status().await;
            // Twice in a row: a sink may not have heard yet of what was just collected.
            seen = if status.as_ref().is_ok_and(&wanted) { seen + 1 } else { 0 };
            match status {
                Ok(status) if seen > 1 => return Ok(status),
                status if tokio::time::Instant::now() > end => return Err(status),
                _ => tokio::time::sleep(Duration::from_millis(40)).await,
            }
        }
    }

    /// Waits until every stream has been polled to where the portal's clock stands now, nothing that can be
    /// proven is pending, and the sink has it all.
    pub(crate) async fn wait_caught_up(&self, long: Duration) -> Status {
        let now = self.portal.now();
        let until = date(now - (SLACK + i64::try_from(self.setup.settle).unwrap()) * SECOND);
        self.wait("caught up", long, |status| caught_up(status, until)).await
    }

    /// Nothing more happens at the portal but that its time goes on.
    pub(crate) fn quiet(&self) {
        let mut stage = self.portal.stage();
        stage.tick();
        stage.world.options.live = false;
        stage.world.options.own_noise = false;
        stage.faults.clear(None);
    }

    /// Lets the portal fall quiet and so many days pass, one after the other, each with its re-checks and its
    /// scrub; then everything listed must be collected and delivered.
    pub(crate) async fn settle(&self, days: u32, long: Duration) {
        self.quiet();
        for _ in 0..days {
            self.wait_idle(long).await;
            let now = self.advance(26 * HOUR);
            let scrubbed = date(now - HOUR);
            self.wait("looked everything over again", long, |status| {
                windows(status).all(|stream| stream.scrubbed.is_some_and(|at| at >= scrubbed))
                    && caught_up(status, scrubbed)
            })
            .await;
        }
        self.wait_idle(long).await;
    }

    /// Waits until only the live edge is asked for: all background work is done.
    pub(crate) async fn wait_idle(&self, long: Duration) {
        assert!(self.becomes_idle(long).await, "the background work never ends");
    }

    /// As [`Self::wait_idle`]; false where it does not end.
    pub(crate) async fn becomes_idle(&self, long: Duration) -> bool {
        let end = tokio::time::Instant::now() + long;
        let recent = self.portal.now() - 25 * HOUR;
        loop {
            let before = self.portal.stats().requests;
            tokio::time::sleep(Duration::from_millis(4 * self.setup.every)).await;
            let asked = self.portal.requests_since(before);
            let asked: Vec<_> = asked.into_iter().filter_map(|one| one.from).collect();
            if !asked.is_empty() && asked.iter().all(|from| *from >= recent) {
                return true;
            }
            if tokio::time::Instant::now() > end {
                return false;
            }
        }
    }

    /// A line of numbers, with the seed that plays them again.
    pub(crate) fn note(&self, name: &str, what: impl std::fmt::Display) {
        say(format_args!("{name}: seed {}: {what}", self.setup.world.seed));
    }

    /// All that the program wrote.
    pub(crate) fn output(&self) -> Output {
        Output::read(&self.out_folder())
    }

    /// Whether the portal owes us a row: listed now, and not from before the beginning.
    pub(crate) fn owed(&self, row: &TruthRow, source: Source) -> bool {
        // Nobody but the collector knows the very second of its first request.
        let slack = 30 * SECOND;
        let imported = micros(&row.date_time_imported);
        let begun = self.claims(self.axis(row), slack);
        let late = source != Source::SystemAudit && imported >= self.started + slack;
        row.listed && row.table == 1 && (begun || late)
    }

    /// The time of a row by which the portal filters.
    pub(crate) fn axis(&self, row: &TruthRow) -> Micros {
        micros(match self.setup.dialect.axis {
            Axis::Event => &row.date_time,
            Axis::Imported => &row.date_time_imported,
        })
    }

    /// Whether a time lies behind the start, or in what was asked for since; `slack` behind the start is left
    /// out.
    pub(crate) fn claims(&self, at: Micros, slack: Micros) -> bool {
        let backfill = (self.setup.backfill + self.setup.settle) as Micros * SECOND;
        let asked = |(from, to): &(Seconds, Seconds)| (from * SECOND..to * SECOND).contains(&at);
        at >= self.started + slack - backfill || self.asked_back.iter().any(asked)
    }

    /// Compares the output with the portal, as far as the program is to read it.
    pub(crate) fn verdict(&self, output: &Output) -> Verdict {
        let Setup { covers, without, with, .. } = &self.setup;
        let covered: Option<Vec<String>> = covers.as_ref().map(|indices| {
            indices.iter().map(|index| self.portal.organization(*index).to_string()).collect()
        });
        let is_covered = |organization: &str| {
            covered.as_ref().is_none_or(|covered| covered.iter().any(|one| one == organization))
        };
        let collected =
            |source: &str| (USUAL.contains(&source) && !without.contains(&source)) || with.contains(&source);
        let truth = Truth::of(&self.portal).and(&self.portal, Source::Threats).only(collected);
        let truth = truth.with(&self.portal, &self.setup.with).within(is_covered);
        compare(&truth, output, |source, row| self.owed(row, source))
    }

    /// Stops the program, and answers what is in its files, for whoever compares another sink with them.
    pub(crate) async fn stopped(mut self) -> Output {
        self.stop().await;
        self.output()
    }

    /// Stops the program and compares everything that it wrote with the portal. Fails on any difference.
    pub(crate) async fn finish(mut self, name: &str) -> Output {
        if self.running.is_some() {
            self.stop().await;
        }
        let output = self.output();
        let verdict = self.verdict(&output);
        for (source, tally) in &verdict.0 {
            say(format_args!("{name}: seed {} {source}: {tally}", self.setup.world.seed));
        }
        let seed = self.setup.world.seed;
        assert!(verdict.is_clean(), "{name} (SEED={seed}): {verdict}\n{}", verdict.examples());
        assert!(output.surplus.is_empty(), "{name} (SEED={seed}): moved aside: {:?}", output.surplus);
        output
    }
}

/// Seconds that a poll, a page and a commit may take on a busy machine.
const SLACK: i64 = 20;

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.task.abort();
        }
        if !std::thread::panicking() {
            let panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            assert!(panics.is_empty(), "a task panicked: {panics:?}");
        }
    }
}

pub(crate) fn date(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).expect("a time of this century")
}

pub(crate) fn streams(status: &Status) -> impl Iterator<Item = &StreamStatus> {
    status.sites.iter().flat_map(|site| &site.streams)
}

/// Requests as lines to read.
fn requests(asked: &[Logged]) -> String {
    let time = |at: Option<Micros>| at.and_then(chrono::DateTime::from_timestamp_micros);
    let line = |one: &Logged| {
        let (from, to) = (time(one.from), time(one.to));
        format!(
            "{} {:?} {from:?} to {to:?} page {} of {} answered {} with {} of {:?}\n",
            one.number, one.endpoint, one.page, one.size, one.status, one.rows, one.total
        )
    };
    asked.iter().map(line).collect()
}

/// What tells why something did not come.
pub(crate) fn in_short(status: &Status) -> String {
    let mut text = format!("{:#?}\n{:?}\n{:#?}", status.problems, status.outbox, status.sinks);
    for site in &status.sites {
        text += &format!("\nsite {}: {:?}", site.site, site.last_error);
    }
    for stream in streams(status) {
        text += &format!(
            "\n{} of {} {}: {:?} proven {:?} live {:?} scrubbed {:?} {} requests error {:?}",
            stream.source,
            stream.scope,
            stream.query,
            stream.condition,
            stream.proven_until,
            stream.live_until,
            stream.scrubbed,
            stream.requests,
            stream.last_error
        );
        for one in stream.unproven.iter().take(10) {
            text +=
                &format!("\n  {} to {} {} {}: {}", one.from, one.to, one.organization, one.state, one.reason);
        }
    }
    text
}

/// The streams that are asked by time.
pub(crate) fn windows(status: &Status) -> impl Iterator<Item = &StreamStatus> {
    streams(status).filter(|stream| is_window(&stream.source))
}

/// The first stream of a source.
pub(crate) fn stream<'a>(status: &'a Status, source: &str) -> &'a StreamStatus {
    streams(status).find(|stream| stream.source == source).expect("the source is collected")
}

/// Whether every stream is proven until then, leaves nothing undone, and everything is delivered.
pub(crate) fn caught_up(status: &Status, until: DateTime<Utc>) -> bool {
    let pending =
        |stream: &StreamStatus| stream.unproven.iter().any(|one| one.state == "pending" && one.from < until);
    !status.sites.is_empty()
        && status.sites.iter().all(|site| !site.streams.is_empty() && site.last_error.is_none())
        && streams(status).all(|stream| {
            stream.condition == StreamCondition::Ok
                && (stream.live_until.is_some_and(|live| live >= until)
                    || stream.unproven.iter().any(|one| one.state != "pending" && one.to >= until))
                && !pending(stream)
        })
        && delivered(status)
}

/// Whether the sinks have everything that was collected.
pub(crate) fn delivered(status: &Status) -> bool {
    status.sinks.iter().all(|sink| sink.pending_bytes == 0 && sink.last_error.is_none())
}
