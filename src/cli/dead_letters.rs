//! `lockstep dead-letters`: rows and records that could not be read or delivered.

use clap::{Args, Subcommand};

use super::ConfigFile;

/// Look at rows that could not be read, and records that a sink refused for ever.
///
/// Each is kept whole with its reason, so that a mistake in reading or in a sink loses nothing.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep dead-letters -c lockstep.yaml list
  lockstep dead-letters -c lockstep.yaml list --site acme --json
  lockstep dead-letters -c lockstep.yaml show 17")]
pub struct DeadLetters {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// One line each: number, time, site, source, sink and reason; newest first.
    List {
        /// Only of this site.
        #[arg(long, value_name = "SITE")]
        site: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: u32,
        /// One JSON object a line on stdout, for machines.
        #[arg(long)]
        json: bool,
    },
    /// One dead letter whole: its reason to stderr, its bytes as received to stdout.
    Show {
        /// The number that `list` shows.
        number: i64,
    },
}
