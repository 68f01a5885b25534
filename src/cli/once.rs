//! `lockstep once`: one complete pass.

use clap::Args;

use super::ConfigFile;
use crate::config::SOURCE_NAMES;

/// Collect and deliver until nothing is left that can be proven, then stop.
///
/// Exits with 0 when every interval asked for is proven and delivered, with 1 and the list of what stays
/// unproven otherwise. The same state as `run`: the two can take turns, but not run at the same time.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep once -c lockstep.yaml                          everything, as from cron
  lockstep once -c lockstep.yaml --site acme --source computers")]
pub struct Once {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only this site; may be given several times.
    #[arg(long, value_name = "SITE")]
    pub site: Vec<String>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
}
