//! `lockstep demo`: everything in one process, nothing else needed.

use std::time::Duration;

use clap::Args;

use super::duration;

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
