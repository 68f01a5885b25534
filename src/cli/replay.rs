//! `lockstep replay`: what a sink had is delivered to it again.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::moment::Moment;
use super::table::{Table, bytes, time};
use super::{ConfigFile, Usage, known_sink, known_site, out};
use crate::clock::Clock;
use crate::config::{Environment, SOURCE_NAMES};
use crate::control;
use crate::model::{Micros, SECOND};
use crate::order::Order;
use crate::store::replays::{self, Stretch, Wanted};
use crate::store::{Store, StoreError, connections};

/// Deliver to a sink again what it had, when somebody lost it on the other side.
///
/// It takes what was collected in that time and is still kept: delivered entries stay for `outbox.keep`, 48 hours unless
/// set otherwise. Records come with the uid that they had; `elasticsearch` and `opensearch` write them over those that
/// are still there, every other sink gets them beside those. New records go first, and no other sink is touched.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep replay --sink splunk --from 6h --dry-run -c lockstep.yaml            only what it would take
  lockstep replay --sink splunk --from 2026-03-01T06:00:00Z --to 2026-03-01T09:00:00Z -c lockstep.yaml
  lockstep replay --sink splunk --from 1d --source unified_audit -c lockstep.yaml")]
pub struct Replay {
    /// The sink as in the configuration.
    #[arg(long, value_name = "SINK")]
    pub sink: String,
    /// Collected from then on: a time (RFC 3339), a date (midnight UTC), or how long ago, such as 6h.
    #[arg(long, value_name = "TIME", required_unless_present = "cancel")]
    pub from: Option<Moment>,
    /// Collected before then; without it, up to now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
    /// Only of this site.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Deliver no more of what was ordered before.
    #[arg(long, conflicts_with_all = ["from", "to", "source", "site", "dry_run"])]
    pub cancel: bool,
    /// Only say what it would take.
    #[arg(long)]
    pub dry_run: bool,
    /// What it takes as one JSON object on stdout, for machines.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

/// What it takes.
#[derive(Serialize)]
struct Plan {
    sink: String,
    stretches: Vec<Stretch>,
    entries: u64,
    bytes: u64,
}

impl Replay {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        known_sink(&config, &self.sink)?;
        if let Some(site) = &self.site {
            known_site(&config, site)?;
        }
        let dir = &config.state.dir;
        let Some(from) = self.from else {
            let (done, _) = control::give(Order::GiveUpReplay { sink: self.sink.clone() }, dir).await?;
            out::say(match done.count {
                0 => format!("sink {} has nothing to deliver again", self.sink),
                _ => format!("sink {} delivers no more of it", self.sink),
            });
            return Ok(());
        };
        let (wanted, kept, stretches) = self.plan(dir, from).await?;
        if stretches.is_empty() {
            let kept = match kept {
                None => "the outbox is empty".to_owned(),
                Some((oldest, newest)) => {
                    format!("the outbox holds what was collected from {} to {}", at(oldest), at(newest))
                }
            };
            let text = format!(
                "sink {} had nothing that was collected from {} to {} and is still kept: {kept}. `outbox.keep` says how \
                 long it is",
                self.sink,
                at(wanted.from),
                at(wanted.to)
            );
            return Err(Usage(text).into());
        }
        if let Some((oldest, _)) = kept.filter(|(oldest, _)| *oldest > wanted.from) {
            out::say(format!(
                "kept is what was collected from {} on: nothing before that is delivered again",
                at(oldest)
            ));
        }
        let (entries, bytes) = (
            stretches.iter().map(|stretch| stretch.entries).sum(),
            stretches.iter().map(|stretch| stretch.bytes).sum(),
        );
        let plan = Plan { sink: self.sink.clone(), stretches, entries, bytes };
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&plan)?))?,
            false => out::data(&plan)?,
        }
        if self.dry_run {
            out::say("nothing is changed (--dry-run)");
            return Ok(());
        }
        let (done, running) = control::give(Order::Replay(wanted), dir).await?;
        if let Some(why) = done.not {
            anyhow::bail!(why);
        }
        out::say(match running {
            true => {
                "the running lockstep delivers it once nothing new is pending; `lockstep status` shows how much is left"
            }
            false => "no lockstep is running: the next `lockstep run` or `lockstep once` delivers it",
        });
        Ok(())
    }

    /// What is wanted, from when to when anything is kept, and what a replay would take of it.
    async fn plan(
        &self,
        dir: &std::path::Path,
        from: Moment,
    ) -> anyhow::Result<(Wanted, Option<(Micros, Micros)>, Vec<Stretch>)> {
        // Whoever only looks must not make a state.
        let store = Store::open_read_only(dir)?;
        let ours = Clock::system().now().timestamp_micros();
        let this = self.clone();
        let planned = store.read(move |db| {
            // Entries are told by the portal's time; of several portals the one furthest ahead counts.
            let now = connections::list(db)?.iter().map(|row| row.portal_time(ours)).max().unwrap_or(ours);
            let moment = |moment: Moment| moment.second(now).saturating_mul(SECOND);
            let wanted = Wanted {
                sink: this.sink,
                from: moment(from),
                to: this.to.map_or(now + SECOND, moment),
                sources: this.source,
                site: this.site,
            };
            let (kept, stretches) = (replays::kept(db)?, replays::plan(db, &wanted)?);
            Ok::<_, StoreError>((wanted, kept, stretches))
        });
        let (wanted, kept, stretches) = planned.await?;
        if wanted.from >= wanted.to {
            let text = format!("--to {} does not lie behind --from {}", at(wanted.to), at(wanted.from));
            return Err(Usage(text).into());
        }
        Ok((wanted, kept, stretches))
    }
}

fn at(micros: Micros) -> String {
    time(chrono::DateTime::from_timestamp_micros(micros))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["SITE", "SOURCE", "LANE", "ENTRIES", "STORED", "FROM", "TO"]);
        for stretch in &self.stretches {
            table.row([
                stretch.site.clone(),
                stretch.source.clone(),
                stretch.lane.as_str().to_owned(),
                stretch.entries.to_string(),
                bytes(stretch.bytes),
                time(stretch.from),
                time(stretch.to),
            ]);
        }
        write!(f, "{table}")?;
        writeln!(
            f,
            "in all {} entries, {} as stored, for sink {}",
            self.entries,
            bytes(self.bytes),
            self.sink
        )
    }
}
