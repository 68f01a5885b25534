//! `lockstep demo`: everything in one process, nothing else needed.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{duration, logging, out, stop_on_signals};
use crate::app::{App, Deps};
use crate::config::{Config, Environment};
use crate::simulator::{Options, Simulator, demo_world};
use crate::status::{Board, Status, StreamStatus};

/// Play a portal and collect from it: everything in one process, nothing to set up.
///
/// A simulated portal with 3 organizations, 200 computers, 24 hours of backlog and live events runs beside
/// the collector, which covers the backlog and follows live. A line for each source every second tells
/// until when all is proven; the output grows under ./lockstep-demo/. Ctrl-c ends it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep demo                        until ctrl-c
  lockstep demo --for 30s              then a summary
  lockstep demo --port 8080            the simulated portal on a port of your choice")]
pub struct Demo {
    /// Stop after so long and print a summary.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub lasting: Option<Duration>,
    /// Port of the simulated portal on 127.0.0.1; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
}

/// Where the demo works, below the current directory.
const FOLDER: &str = "lockstep-demo";
/// Marks the folder as ours, so that a later demo may empty it.
const MARK: &str = "made-by-lockstep-demo";

impl Demo {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        empty_folder()?;
        let mut simulator = Simulator::start(demo_world(), Options { port: self.port, ..Options::default() })
            .await
            .context("the simulated portal cannot start")?;
        let file = write_settings(&simulator)?;
        let config = Config::load(&file, environment)?;
        logging(&config.log);
        out::say(format_args!(
            "A simulated portal with 3 organizations and 200 computers plays at {}.\n\
             Collecting 24 hours of backlog into {FOLDER}/out, then following live. Ctrl-c ends it.",
            simulator.url
        ));
        let app = App::build(config, Deps::system()).await?;
        let (board, stop) = (app.board.clone(), app.stop_token());
        stop_on_signals(stop.clone());
        let mut last = None;
        let running = app.run();
        let watching = watch(&board, &stop, self.lasting, &mut last);
        let (ran, ()) = tokio::join!(running, watching);
        ran?;
        simulator.stop().await;
        summary(last.as_ref());
        Ok(())
    }
}

/// A folder of an earlier demo is emptied, since its state belongs to another portal; any other is left.
fn empty_folder() -> anyhow::Result<()> {
    let folder = Path::new(FOLDER);
    match std::fs::metadata(folder.join(MARK)) {
        Ok(_) => std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {FOLDER}/"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if folder.exists() {
                bail!("{FOLDER}/ exists and is no demo's: move it, or run the demo in another folder");
            }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look into {FOLDER}/")),
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {FOLDER}/"))?;
    std::fs::write(folder.join(MARK), "").with_context(|| format!("cannot write into {FOLDER}/"))
}

/// Writes the configuration that the demo runs with, fit to be read and changed.
fn write_settings(simulator: &Simulator) -> anyhow::Result<std::path::PathBuf> {
    let folder = Path::new(FOLDER);
    let file = folder.join("lockstep.yaml");
    let settings = format!(
        "# What `lockstep demo` ran with.
connections:
  - site: demo
    base_url: {}
    token: {{ file: {FOLDER}/token }}
    organizations: all
    rate: unlimited                # only a portal on loopback may be asked as fast as it answers
    sources:                       # the demo hurries: see config/lockstep.yaml for the defaults
      unified_audit: {{ every: 2s, settle: 65s }}
      system_audit: {{ every: 2s, settle: 5s }}
      computers: {{ every: 10s }}
state: {{ dir: {FOLDER}/state }}
server: {{ ops: off }}
log: {{ level: warn }}
sinks:
  - {{ name: out, type: file, path: \"{FOLDER}/out/{{site}}/{{source}}-{{date}}.ndjson\" }}
",
        simulator.url
    );
    std::fs::write(folder.join("token"), &simulator.token)
        .and_then(|()| std::fs::write(&file, settings))
        .with_context(|| format!("cannot write into {FOLDER}/"))?;
    Ok(file)
}

/// A line for each source every second, until stopped or the time is over.
async fn watch(
    board: &Board,
    stop: &CancellationToken,
    lasting: Option<Duration>,
    last: &mut Option<Status>,
) {
    let end = tokio::time::sleep(lasting.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = &mut end => stop.cancel(),
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if let Ok(status) = board.status().await {
                    for line in lines(&status, last.as_ref()) {
                        out::say(line);
                    }
                    *last = Some(status);
                }
            }
        }
    }
    if let Ok(status) = board.status().await {
        *last = Some(status);
    }
}

fn streams(status: &Status) -> impl Iterator<Item = &StreamStatus> {
    status.sites.iter().flat_map(|site| &site.streams)
}

fn lines(status: &Status, before: Option<&Status>) -> Vec<String> {
    let rows_before = |source: &str| {
        let found = before.and_then(|before| streams(before).find(|stream| stream.source == source));
        found.map_or(0, |stream| stream.rows)
    };
    streams(status)
        .map(|stream| {
            format!(
                "{:<14} proven until {}  lag {:>5}  rows {:>7} ({:>6}/s)  requests {:>5}{}",
                stream.source,
                clock(stream.proven_until),
                stream.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{lag:.0}s")),
                stream.rows,
                stream.rows.saturating_sub(rows_before(&stream.source)),
                stream.requests,
                stream.last_error.as_deref().map_or_else(String::new, |error| format!("  {error}")),
            )
        })
        .collect()
}

fn clock(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "(nothing yet)      ".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

fn summary(status: Option<&Status>) {
    if let Some(status) = status {
        out::say("");
        for stream in streams(status) {
            let pending = stream.unproven.iter().filter(|one| one.state != "pending").count();
            out::say(format_args!(
                "{:<14} {} rows, proven until {}, {pending} stretches not proven, {} requests",
                stream.source,
                stream.rows,
                clock(stream.proven_until),
                stream.requests
            ));
        }
        for sink in &status.sinks {
            out::say(format_args!("sink {:<9} {} records delivered", sink.name, sink.delivered_records));
        }
    }
    out::say(format_args!(
        "\nLook at:    {FOLDER}/out/demo/  (one JSON record a line)\n\
         \x20           {FOLDER}/lockstep.yaml  (what the demo ran with)\n\
         A real one: put your token into a file, change base_url to `instance: g` (the letter under\n\
         \x20           Help > \"ThreatLocker Access\") and drop `rate` and `sources`; then\n\
         \x20           lockstep check -c lockstep.yaml && lockstep run -c lockstep.yaml"
    ));
}
