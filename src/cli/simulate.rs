//! `lockstep simulate`: the portal simulator alone.

use std::net::SocketAddr;

use clap::Args;

/// Play the portal alone, for tests of this or any other collector.
///
/// Serves the portal's read paths over plain HTTP, deterministic from a seed: the same seed gives the same
/// organizations, computers and events. Much of the real portal is unknown, so it can answer in several
/// dialects. What it truly holds stands under /_truth/SOURCE.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep simulate                                       prints its address and a token
  lockstep simulate --listen 127.0.0.1:8080 --computers 5000 --live
  lockstep simulate --dialect wild --seed 7

To collect from it:
  connections:
    - site: sim
      base_url: http://127.0.0.1:8080
      token: { file: ./sim-token }
      organizations: all
      rate: unlimited")]
pub struct Simulate {
    /// Loopback address and port to listen on; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Seed of everything that is random.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How the portal behaves where the real one is unknown: plain, imported, strict, no-totals, capped or
    /// wild.
    #[arg(long, value_name = "NAME", default_value = "plain")]
    pub dialect: String,
    /// Organizations, the parent included.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
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
    /// Let new rows come in as time passes.
    #[arg(long)]
    pub live: bool,
    /// JSON file with faults to play, in the form that /_faults takes.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<std::path::PathBuf>,
}
