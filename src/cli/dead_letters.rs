//! `lockstep dead-letters`: rows and records that could not be read or delivered.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::table::{Table, bytes, time};
use super::{ConfigFile, Usage, out};
use crate::config::Environment;
use crate::control;
use crate::order::Order;
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
  lockstep dead-letters show 17 -c lockstep.yaml
  lockstep dead-letters retry 17 18 -c lockstep.yaml             once what refused them is mended
  lockstep dead-letters retry --all --sink splunk -c lockstep.yaml
  lockstep dead-letters drop 17 -c lockstep.yaml                 for good")]
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
        /// Only of this sink.
        #[arg(long, value_name = "SINK")]
        sink: Option<String>,
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
    /// Deliver them to their sinks after all: once its mapping, its size limit or this version is mended.
    ///
    /// A letter that is refused again becomes a letter again. What was delivered of its entry does not come twice.
    Retry(Chosen),
    /// Forget them for good.
    Drop(Chosen),
}

/// Which dead letters.
#[derive(Args, Clone, Debug)]
pub struct Chosen {
    /// The numbers that `list` shows.
    #[arg(required_unless_present = "all", value_name = "NUMBER")]
    pub numbers: Vec<i64>,
    /// All of them, or all that --sink and --site leave.
    #[arg(long, conflicts_with = "numbers")]
    pub all: bool,
    /// With --all: only of this sink.
    #[arg(long, value_name = "SINK", requires = "all")]
    pub sink: Option<String>,
    /// With --all: only of this site.
    #[arg(long, value_name = "SITE", requires = "all")]
    pub site: Option<String>,
    #[command(flatten)]
    pub config: ConfigFile,
}

impl DeadLetters {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        match self.action {
            Action::List { config, site, sink, limit, json } => {
                let config = config.load(environment)?;
                if let Some(site) = &site {
                    super::known_site(&config, site)?;
                }
                let store = Store::open_read_only(&config.state.dir)?;
                let letters = store
                    .read(move |db| dead_letters::list(db, site.as_deref(), sink.as_deref(), limit))
                    .await?;
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
            Action::Retry(chosen) => {
                chosen
                    .order(
                        environment,
                        Order::Retry,
                        "waits for its sink again",
                        "wait for their sinks again",
                    )
                    .await?;
            }
            Action::Drop(chosen) => {
                chosen.order(environment, Order::Drop, "is forgotten", "are forgotten").await?
            }
        }
        Ok(())
    }
}

/// Letters in one transaction.
const AT_ONCE: usize = 500;

impl Chosen {
    /// Orders something of them, some at a time; `one` and `more` say what became of them.
    async fn order(
        self,
        environment: &Environment,
        order: fn(Vec<i64>) -> Order,
        one: &str,
        more: &str,
    ) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        let dir = &config.state.dir;
        if let Some(sink) = &self.sink {
            super::known_sink(&config, sink)?;
        }
        if let Some(site) = &self.site {
            super::known_site(&config, site)?;
        }
        let numbers = match self.all {
            false => BTreeSet::from_iter(self.numbers).into_iter().collect(),
            true => {
                let (sink, site) = (self.sink.clone(), self.site.clone());
                let store = Store::open_read_only(dir)?;
                store.read(move |db| dead_letters::numbers(db, sink.as_deref(), site.as_deref())).await?
            }
        };
        let (mut count, mut stay) = (0, 0);
        for some in numbers.chunks(AT_ONCE) {
            let (done, _) = control::give(order(some.to_vec()), dir).await?;
            count += done.count;
            stay += done.stay.len();
            for (number, why) in done.stay {
                out::say(format!("dead letter {number} stays: {why}"));
            }
        }
        out::say(match count {
            0 if stay == 0 => "there is no such dead letter".to_owned(),
            1 => format!("1 dead letter {one}"),
            count => format!("{count} dead letters {more}"),
        });
        match stay {
            0 => Ok(()),
            // Who names them wants each of them.
            stay if !self.all => anyhow::bail!("{stay} of {} could not be done", numbers.len()),
            _ => Ok(()),
        }
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
