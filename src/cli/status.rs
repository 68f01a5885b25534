//! `lockstep status`: what is proven and what is not.

mod page;

use anyhow::Context;
use clap::Args;

use super::{ConfigFile, out};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::control;
use crate::status::{self, offline};
use crate::store::Store;
use page::Page;

/// Show for every stream what is proven, what is not and why.
///
/// Asks the running program, or reads the state directory when none runs. Gaps, lag, rows, the last error
/// and the next poll of every stream; the backlog of every sink; dead letters.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep status -c lockstep.yaml
  lockstep status -c lockstep.yaml --json | jq '.problems[]'
  lockstep status -c lockstep.yaml --json | jq '.sites[] | .site as $site | .streams[] | select(.unproven != []) | {$site, source, scope, unproven}'")]
pub struct Status {
    #[command(flatten)]
    pub config: ConfigFile,
    /// One JSON object on stdout, for machines.
    #[arg(long)]
    pub json: bool,
}

impl Status {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment);
        let dir = match &config {
            Ok(config) => Some(config.state.dir.clone()),
            // A running program goes on with the configuration that it has, and has something to tell.
            Err(_) => Config::state_dir(&self.config.path, environment),
        };
        let answer = match &dir {
            Some(dir) => control::ask(dir, "GET", "/status").await?,
            None => None,
        };
        let picture: status::Status = match answer {
            Some(answer) => {
                if let Err(error) = &config {
                    out::say(format_args!("the configuration cannot be loaded: {error}\n"));
                }
                let body = answer.ok().map_err(anyhow::Error::msg)?;
                if self.json {
                    // Unread, so that a program of another version may say more.
                    out::raw(&body)?;
                    return Ok(out::raw(b"\n")?);
                }
                serde_json::from_slice(&body)
                    .context("the running lockstep is another version than this command; try --json")?
            }
            None => {
                let config = config?;
                let store = Store::open_read_only(&config.state.dir)?;
                offline::status(&store, &config, Clock::system().now()).await?
            }
        };
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&picture)?))?,
            false => out::data(Page(&picture))?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
