//! `lockstep simulate`: the portal simulator alone.

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{out, stop_on_signals};
use crate::simulator::dialect::Dialect;
use crate::simulator::{ServeOptions, Simulator, serve};

/// Play the portal alone, for tests of this or any other collector.
///
/// Serves the portal's read paths over plain HTTP on 127.0.0.1, deterministic from a seed: the same seed
/// gives the same organizations, computers and events. Much of the real portal is unknown, so it can answer
/// in several dialects. Its address and a token are printed as one line of JSON; ctrl-c ends it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep simulate                                       prints its address and a token
  lockstep simulate --port 8080 --computers 5000 --rows-per-day 2000000
  lockstep simulate --dialect wild --seed 7 --still

While it runs (curl -H 'content-type: application/json' --data …; /_truth is a GET):
  /_truth/SOURCE    what it truly holds, to compare with what was collected
  /_faults          {\"times\":2,\"effect\":{\"status\":{\"status\":503}}} and the like
  /_clock           its time, which can be moved

To collect from it, with its token in ./sim-token:
  connections:
    - site: sim
      base_url: http://127.0.0.1:8080
      token: { file: ./sim-token }
      organizations: all
      rate: unlimited")]
pub struct Simulate {
    /// Port on 127.0.0.1; 0 takes any free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Seed of everything that is random.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How the portal behaves where the real one is unknown: plain, imported, strict, no-totals, capped,
    /// wild, or a JSON object with some of a dialect's fields.
    #[arg(long, value_name = "DIALECT", default_value = "plain")]
    pub dialect: Dialect,
    /// Organizations, the parent included.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub organizations: u16,
    /// Computers in all organizations together.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub computers: u32,
    /// Unified-audit rows a day in all organizations together.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    pub rows_per_day: u32,
    /// Hours of history that exist at the start.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub backlog_hours: u32,
    /// Only the history: no new rows come in as time passes.
    #[arg(long)]
    pub still: bool,
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut options = ServeOptions { port: self.port, dialect: self.dialect, ..ServeOptions::default() };
        options.world.seed = self.seed;
        options.world.organizations = self.organizations;
        options.world.computers = self.computers;
        options.world.rows_per_day = self.rows_per_day.into();
        options.world.backlog_hours = self.backlog_hours.into();
        options.world.live = !self.still;
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone());
        tokio::select! {
            served = serve(options, tell) => Ok(served?),
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Says where the portal is and what opens it; the token opens nothing but this simulator.
fn tell(portal: &Simulator) {
    out::say("The portal is played until ctrl-c. Its address and token:");
    let line = json!({ "url": portal.url, "token": portal.token });
    if let Err(error) = out::data(format_args!("{line}\n")) {
        out::say(format_args!("{line}\n(standard output cannot be written: {error})"));
    }
}
