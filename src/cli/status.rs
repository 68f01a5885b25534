//! `lockstep status`: what is proven and what is not.

use clap::Args;

use super::ConfigFile;

/// Show for every stream what is proven, what is not and why.
///
/// Asks the running program, or reads the state directory when none runs. Gaps, lag, rows, the last error
/// and the next poll of every stream; the backlog of every sink; dead letters.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep status -c lockstep.yaml
  lockstep status -c lockstep.yaml --json | jq '.streams[] | select(.state != \"proven\")'")]
pub struct Status {
    #[command(flatten)]
    pub config: ConfigFile,
    /// One JSON object on stdout, for machines.
    #[arg(long)]
    pub json: bool,
}
