//! `lockstep demo`: everything in one process, nothing else needed.

mod sample;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::time::sleep;

use self::sample::Sample;
use super::live::{Live, Work};
use super::{duration, out, stop_on_signals};
use crate::app::{App, Deps};
use crate::config::{Config, Environment};
use crate::simulator::{Options, Simulator, demo_world};
use crate::store::Store;

/// Play a portal and collect from it: everything in one process, nothing to set up.
///
/// A simulated portal with 3 organizations, 200 computers, 24 hours of backlog and live events runs beside
/// the collector, which covers the backlog and follows live. A table, or where there is no terminal a line for
/// each source every second, tells how far it is: until when all is proven, rows, requests, lag, and while
/// the backlog is walked how much is left and about how long that takes. OCSF records grow under
/// ./lockstep-demo/. Ctrl-c ends it, with a summary, devices with their last user, and three events in plain words.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep demo                        until ctrl-c
  lockstep demo --for 30s              then a summary
  lockstep demo --for 30s --json | jq -c '.streams[]? | [.source, .rows, .owed.seconds]'
  lockstep demo --port 8080            the simulated portal on a port of your choice")]
pub struct Demo {
    /// Stop after so long and print a summary.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub lasting: Option<Duration>,
    /// Port of the simulated portal on 127.0.0.1; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    #[command(flatten)]
    pub live: Live,
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
        let mut progress = self.live.begin(Work::Demo, &config, environment)?;
        let app = App::build(config, Deps::system()).await?;
        let (board, stop) = (app.board.clone(), app.stop_token());
        stop_on_signals(stop.clone());
        progress.say(format_args!(
            "A simulated portal with 3 organizations and 200 computers plays at {}.\n\
             Collecting 24 hours of backlog into {FOLDER}/out, then following live. Ctrl-c ends it.",
            simulator.url
        ));
        let work = async {
            tokio::join!(app.run(), async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(self.lasting.unwrap_or(Duration::MAX)) => stop.cancel(),
                }
            })
            .0
        };
        let picture = progress.during(&board, work).await?;
        simulator.stop().await;
        progress.end(picture.as_ref(), None);
        if progress.is_for_people() {
            out::say(Sample::read(&Path::new(FOLDER).join("out/demo")));
            out::say(WHERE_TO_LOOK);
        }
        Ok(())
    }
}

/// A folder of an earlier demo is emptied, since its state belongs to another portal; any other is left.
fn empty_folder() -> anyhow::Result<()> {
    let folder = Path::new(FOLDER);
    match std::fs::metadata(folder.join(MARK)) {
        Ok(_) if let Some(busy) = Store::busy(&folder.join("state")) => return Err(busy.into()),
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
      threats: {{ every: 2s, settle: 65s }}
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

const WHERE_TO_LOOK: &str = "\
Look at:    lockstep-demo/out/demo/  (one OCSF record a line)
            lockstep-demo/lockstep.yaml  (what the demo ran with)
A real one: put your token into a file, change base_url to `instance: g` (the letter under
            Help > \"ThreatLocker Access\") and drop `rate` and `sources`; then
            lockstep check -c lockstep.yaml && lockstep run -c lockstep.yaml";
