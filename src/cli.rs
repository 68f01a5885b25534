//! The command line: what can be asked for, how results are shown and which exit code they give.
//!
//! One file a command under `cli/`. Human text goes to stderr, data to stdout ([`out`]).

pub mod backfill;
pub mod check;
pub mod config;
pub mod confirm_removed;
pub mod coverage;
pub mod dead_letters;
pub mod demo;
mod doctor;
pub mod explain;
pub mod live;
mod moment;
pub mod once;
pub mod out;
pub mod replay;
pub mod run;
mod screen;
pub mod simulate;
pub mod status;
mod table;
mod terminal;
pub mod try_it;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Environment};

/// Keeps a SIEM and an asset inventory in step with ThreatLocker, and proves what it has seen.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  lockstep demo                        collect from a simulated portal, nothing to set up
  lockstep try --instance g --token-file FILE   see what your portal and token give; writes nothing
  lockstep config --defaults           show every option with its default
  lockstep check -c lockstep.yaml      find every mistake in a configuration at once

Exit codes: 0 done, 1 failed while running, 2 usage or configuration. All times are UTC.
Human text goes to stderr, data to stdout.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Try(try_it::TryIt),
    Run(run::Run),
    Once(once::Once),
    Check(check::Check),
    Config(config::Show),
    Simulate(simulate::Simulate),
    Status(status::Status),
    Coverage(coverage::Coverage),
    Backfill(backfill::Backfill),
    Replay(replay::Replay),
    DeadLetters(dead_letters::DeadLetters),
    Explain(explain::Explain),
    ConfirmRemoved(confirm_removed::ConfirmRemoved),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, as a chain that an operator can read; [`exit_code`] tells what to exit with.
    pub async fn run(self) -> anyhow::Result<()> {
        #[cfg(feature = "failpoints")]
        crate::fault::arm()?;
        let environment = Environment::of_process();
        match self.command {
            Command::Demo(command) => command.run(&environment).await,
            Command::Try(command) => command.run().await,
            Command::Run(command) => command.run(&environment).await,
            Command::Once(command) => command.run(&environment).await,
            Command::Check(command) => command.run(&environment).await,
            Command::Config(command) => command.run(&environment),
            Command::Simulate(command) => command.run().await,
            Command::Status(command) => command.run(&environment).await,
            Command::Coverage(command) => command.run(&environment).await,
            Command::Backfill(command) => command.run(&environment).await,
            Command::Replay(command) => command.run(&environment).await,
            Command::DeadLetters(command) => command.run(&environment).await,
            Command::Explain(command) => command.run(),
            Command::ConfirmRemoved(command) => command.run(&environment).await,
        }
    }
}

/// The configuration file that a command works on.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// Configuration file in YAML; `conf.d/*.yaml` beside it and LOCKSTEP__SECTION__KEY variables are laid
    /// over it.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub path: PathBuf,
}

impl ConfigFile {
    /// Reads and checks it.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn load(&self, environment: &Environment) -> Result<Config, ConfigError> {
        Config::load(&self.path, environment)
    }
}

/// Refuses a site that the configuration does not name.
fn known_site(config: &Config, site: &str) -> Result<(), Usage> {
    if config.sites().any(|known| known == site) {
        return Ok(());
    }
    let known: Vec<&str> = config.sites().collect();
    Err(Usage(format!("the configuration names no site {site}; it has {}", known.join(", "))))
}

/// Refuses a sink that the configuration does not name.
fn known_sink(config: &Config, sink: &str) -> Result<(), Usage> {
    if config.sinks.iter().any(|known| known.name == sink) {
        return Ok(());
    }
    let known: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    Err(Usage(format!("the configuration names no sink {sink}; it has {}", known.join(", "))))
}

/// A command that cannot be carried out as it was given; exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// 2 for usage and configuration, 1 for everything that failed while running.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let ours = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<Usage>());
    ExitCode::from(if ours { 2 } else { 1 })
}

/// Reads a duration of the command line, such as `30s`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration such as 30s, 5m or 1h30m".to_owned())
}

/// Starts the log on stderr: only errors where it is to be quiet.
fn logging(log: &crate::config::Log, quiet: bool, colours: bool) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let level = |level: LevelFilter| if quiet { level.min(LevelFilter::ERROR) } else { level };
    // Other crates only speak up when something is wrong: their debug lines may show headers.
    let filter = Targets::new()
        .with_target("lockstep", level(LevelFilter::from_level(log.level)))
        .with_default(level(LevelFilter::WARN));
    let writer = || screen::Above;
    let plain = (!log.json).then(|| tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer));
    // One span names the part that speaks; the list of those around it would say it twice.
    let json = || tracing_subscriber::fmt::layer().json().with_span_list(false).with_writer(writer);
    let json = log.json.then(json);
    // A second start in one process keeps the first log.
    drop(tracing_subscriber::registry().with(plain).with(json).with(filter).try_init());
}

/// The first SIGTERM or ctrl-c cancels, the second one ends the process at once.
fn stop_on_signals(stop: tokio_util::sync::CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be caught: SIGTERM ends the process at once");
        return;
    };
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(1);
            }
            // Who sent a signal to a service reads its log.
            if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
                out::say("stopping; once more ends it at once");
            }
            stop.cancel();
        }
    });
}

/// SIGHUP asks for the configuration to be loaded again, instead of ending the process.
fn load_again_on_hangup(asked: std::sync::Arc<tokio::sync::Notify>) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => drop(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                asked.notify_one();
            }
        })),
        Err(error) => tracing::warn!(%error, "SIGHUP cannot be caught and ends the process"),
    }
}

#[cfg(test)]
mod tests;
