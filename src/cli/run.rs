//! `lockstep run`: the service.

use clap::Args;

use super::ConfigFile;

/// Collect and deliver until told to stop.
///
/// Polls every source of every connection, keeps what it has proven in the state directory and delivers
/// to every sink. SIGTERM or ctrl-c finishes the page in hand and stops; a second one stops at once. Both
/// are safe: nothing is remembered before it is on disk, nothing is forgotten before a sink has it.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep run -c /etc/lockstep/lockstep.yaml
  LOCKSTEP__LOG__LEVEL=debug lockstep run -c lockstep.yaml")]
pub struct Run {
    #[command(flatten)]
    pub config: ConfigFile,
}
