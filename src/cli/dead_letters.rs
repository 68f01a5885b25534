//! `lockstep dead-letters`: rows and records that could not be read or delivered.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::table::{Table, bytes, time};
use super::{ConfigFile, Usage, out};
use crate::config::Environment;
use crate::store::Store;
use crate::store::dead_letters::{self, DeadLetter};

/// Look at rows that could not be read, and records that a sink refused for ever.
///
/// Each is kept whole with its reason, so that a mistake in reading or in a sink loses nothing.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep dead-letters list -c lockstep.yaml
  lockstep dead-letters list -c lockstep.yaml --site acme --json
  lockstep dead-letters show 17 -c lockstep.yaml")]
pub struct DeadLetters {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// One line each: number, time, site, source, sink, bytes and reason; newest first.
    List {
        #[command(flatten)]
        config: ConfigFile,
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
        #[command(flatten)]
        config: ConfigFile,
    },
}

impl DeadLetters {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        match self.action {
            Action::List { config, site, limit, json } => {
                let config = config.load(environment)?;
                if let Some(site) = &site {
                    super::known_site(&config, site)?;
                }
                let store = Store::open_read_only(&config.state.dir)?;
                let letters = store.read(move |db| dead_letters::list(db, site.as_deref(), limit)).await?;
                out::data(if json { lines(&letters) } else { table(&letters) })?;
            }
            Action::Show { number, config } => {
                let config = config.load(environment)?;
                let store = Store::open_read_only(&config.state.dir)?;
                let found = store.read(move |db| dead_letters::show(db, number)).await?;
                let Some((letter, body)) = found else {
                    let hint = "`lockstep dead-letters list` shows which there are";
                    return Err(Usage(format!("there is no dead letter {number}; {hint}")).into());
                };
                out::say(table(&[letter]));
                out::raw(&body)?;
            }
        }
        Ok(())
    }
}

fn stored(letter: &DeadLetter) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(letter.stored)
}

fn lines(letters: &[DeadLetter]) -> String {
    let line = |letter: &DeadLetter| {
        let line = json!({
            "id": letter.id,
            "stored": stored(letter),
            "site": letter.site,
            "source": letter.source,
            "organization_id": letter.organization_id,
            "sink": letter.sink,
            "number": letter.number,
            "uid": letter.uid,
            "vendor_id": letter.vendor_id,
            "bytes": letter.bytes,
            "reason": letter.reason,
        });
        format!("{line}\n")
    };
    letters.iter().map(line).collect()
}

fn table(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut table = Table::new(&["ID", "STORED", "SITE", "SOURCE", "SINK", "BYTES", "REASON"]);
    for letter in letters {
        table.row([
            letter.id.to_string(),
            time(stored(letter)),
            letter.site.clone(),
            letter.source.clone(),
            letter.sink.clone().unwrap_or_else(|| "(not read)".to_owned()),
            bytes(letter.bytes),
            letter.reason.clone(),
        ]);
    }
    table.to_string()
}
