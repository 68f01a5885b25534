//! `lockstep run`: the service.

use clap::Args;

use super::live::{Live, Work};
use super::{ConfigFile, load_again_on_hangup, stop_on_signals};
use crate::app::{App, Deps};
use crate::config::{Environment, Origin};

/// Collect and deliver until told to stop.
///
/// Polls every source of every connection, keeps what it has proven in the state directory and delivers
/// to every sink. SIGTERM or ctrl-c finishes the page in hand and stops; a second one stops at once. Both
/// are safe: nothing is remembered before it is on disk, nothing is forgotten before a sink has it.
///
/// At a terminal a table shows every stream: its site and source, its state, until when all is proven, rows,
/// rows a second, requests and lag; while older time is owed, how much of it is left and, once enough is done
/// to tell, about how long that takes. Below it stands what is wrong and what to do. Where there are more
/// streams than lines, the worst are shown. Elsewhere there is the log, with a line a minute for each backfill.
///
/// A changed configuration is taken over by itself within seconds, and at once at SIGHUP: what changed is
/// begun anew, the rest is not disturbed. One that is wrong is refused as a whole and shown by `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep run -c /etc/lockstep/lockstep.yaml
  lockstep run -c lockstep.yaml --json | jq -c '.problems[]?'
  LOCKSTEP__LOG__LEVEL=debug lockstep run -c lockstep.yaml")]
pub struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(flatten)]
    pub live: Live,
}

impl Run {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let origin = Origin::new(&self.config.path, environment);
        let config = origin.load()?;
        let mut progress = self.live.begin(Work::Run, &config, environment)?;
        load_again_on_hangup(origin.asked.clone());
        let mut app = App::build(config, Deps::system()).await?;
        app.follow(origin);
        stop_on_signals(app.stop_token());
        let board = app.board.clone();
        let picture = progress.during(&board, app.run()).await?;
        progress.end(picture.as_ref(), None);
        Ok(())
    }
}
