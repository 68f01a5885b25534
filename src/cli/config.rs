//! `lockstep config`: the defaults, or what is in force.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{ConfigFile, out};
use crate::config::{DEFAULTS, Environment, reference};

/// Show the defaults of every option, or a configuration as it is in force.
///
/// Prints YAML. With --effective a comment behind each value names the layer that set it: default, a file or
/// an environment variable. A secret is shown only by where it comes from.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep config --defaults
  lockstep config --effective -c lockstep.yaml      defaults, file, conf.d and environment merged")]
#[command(group(ArgGroup::new("what").required(true)))]
pub struct Show {
    /// Every option with its default.
    #[arg(long, group = "what")]
    defaults: bool,
    /// All layers merged.
    #[arg(long, group = "what", requires = "file")]
    effective: bool,
    /// The page docs/configuration.md, made from what reads the options.
    #[arg(long, group = "what", hide = true)]
    reference: bool,
    /// Configuration file in YAML, for --effective.
    #[arg(id = "file", short = 'c', long = "config", value_name = "FILE", conflicts_with_all = ["defaults", "reference"])]
    config: Option<PathBuf>,
}

impl Show {
    pub(super) fn run(self, environment: &Environment) -> anyhow::Result<()> {
        match self.config {
            None if self.reference => out::data(reference())?,
            None => out::data(DEFAULTS)?,
            Some(path) => out::data(ConfigFile { path }.load(environment)?.effective())?,
        }
        Ok(())
    }
}
