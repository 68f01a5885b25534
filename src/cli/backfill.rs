//! `lockstep backfill`: older time that is to be collected as well.

mod plan;
#[cfg(test)]
mod tests;

use std::fmt;

use clap::Args;

use super::moment::Moment;
use super::table::{Table, time};
use super::{ConfigFile, Usage, known_sink, known_site, out};
use crate::clock::Clock;
use crate::config::{Config, Environment, SOURCE_NAMES};
use crate::control;
use crate::order::Order;
use crate::source::{Shape, by_name};
use crate::store::owed::{self, Owed};
use crate::store::{Store, StoreError, backfill};
use plan::{Plan, Span};

/// Collect older time of a site as well: everything from --from on is owed then.
///
/// Says first what it takes: rows as the portal counted them when it was last asked, or else by the rows a
/// day that are usual here, and the requests and minutes for them at the site's rate. Then the running
/// program takes it up at its next poll; without one, the next `run` or `once` does. The newest rows come
/// first, older ones with what is left of the rate, and a restart goes on where it was. Rows that were
/// delivered before do not come again. Time that the portal no longer keeps is said, and left out.
///
/// With --sink, what that sink let go when it was too far behind is collected again, for it alone: `lockstep status`
/// shows what it is owed.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep backfill acme --from 7d --dry-run -c lockstep.yaml         only what it would take
  lockstep backfill acme --from 2026-03-01 -c lockstep.yaml
  lockstep backfill acme --from 2026-03-01T06:00:00Z --to 2026-03-02 --source unified_audit -c lockstep.yaml
  lockstep coverage acme -c lockstep.yaml                             how far it is
  lockstep backfill --sink splunk -c lockstep.yaml                    what the sink let go, for it alone")]
pub struct Backfill {
    /// The site as in the configuration.
    #[arg(required_unless_present = "sink", conflicts_with = "sink", requires = "from")]
    pub site: Option<String>,
    /// Where it begins: a time (RFC 3339), a date (midnight UTC), or how long ago, such as 30d.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Where it ends; without it, where coverage begins now.
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
    /// Only this source; may be given several times.
    #[arg(long, value_name = "SOURCE", value_parser = clap::builder::PossibleValuesParser::new(SOURCE_NAMES))]
    pub source: Vec<String>,
    /// What this sink let go, instead of a site's older time.
    #[arg(long, value_name = "SINK", conflicts_with_all = ["from", "to", "source"])]
    pub sink: Option<String>,
    /// What the sink let go is wanted no more: it stays lost to it.
    #[arg(long, requires = "sink")]
    pub forget: bool,
    /// Only say what it would take.
    #[arg(long)]
    pub dry_run: bool,
    /// The plan as one JSON object on stdout, for machines.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

impl Backfill {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        match (self.site.clone(), self.from, self.sink.clone()) {
            (Some(site), Some(from), _) => self.older_time(&config, &site, from).await,
            (.., Some(sink)) => self.for_sink(&config, sink).await,
            _ => unreachable!("the command line asks for a site and --from, or for --sink"),
        }
    }

    async fn for_sink(&self, config: &Config, sink: String) -> anyhow::Result<()> {
        known_sink(config, &sink)?;
        let store = Store::open_read_only(&config.state.dir)?;
        let owed = store.read(owed::totals).await?.remove(&sink).unwrap_or_default();
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&owed)?))?,
            false if owed.is_empty() => {}
            false => out::data(owed_table(&owed))?,
        }
        if owed.is_empty() {
            out::say(format!("sink {sink} has let nothing go"));
            return Ok(());
        }
        if self.dry_run {
            out::say("nothing is changed (--dry-run)");
            return Ok(());
        }
        let order = match self.forget {
            true => Order::Forget { sink: sink.clone() },
            false => Order::Refill { sink: sink.clone() },
        };
        let (done, running) = control::give(order, &config.state.dir).await?;
        if let Some(why) = done.not {
            anyhow::bail!(why);
        }
        out::say(match (self.forget, running) {
            (true, _) => format!("{} entries are forgotten: they stay lost to sink {sink}", done.count),
            (false, true) => {
                "the running lockstep walks that time again, behind the newest rows; `lockstep status` shows what is left"
                    .to_owned()
            }
            (false, false) => {
                "no lockstep is running: the next `lockstep run` or `lockstep once` walks that time again".to_owned()
            }
        });
        Ok(())
    }

    async fn older_time(&self, config: &Config, site: &str, from: Moment) -> anyhow::Result<()> {
        known_site(config, site)?;
        let is_whole = |name: &&String| {
            by_name(name).is_some_and(|source| matches!(source.shape(), Shape::Snapshot { .. }))
        };
        if let Some(whole) = self.source.iter().find(is_whole) {
            let text =
                format!("{whole} are asked for as a whole at every poll: there is no older time of them");
            return Err(Usage(text).into());
        }
        let plan = self.plan(config, site, from).await?;
        match self.json {
            true => out::data(format_args!("{}\n", serde_json::to_string(&plan)?))?,
            false => out::data(&plan)?,
        }
        if plan.wanted().next().is_none() {
            out::say(format_args!("{site}: all of that is owed already"));
            return Ok(());
        }
        if self.dry_run {
            out::say("nothing is changed (--dry-run)");
            return Ok(());
        }
        match hand_over(config, &plan).await? {
            true => out::say("the running lockstep takes it up at its next poll, behind the newest rows"),
            false => {
                out::say("no lockstep is running: the next `lockstep run` or `lockstep once` takes it up")
            }
        }
        out::say(format_args!("`lockstep coverage {site}` shows how far it is"));
        Ok(())
    }

    async fn plan(&self, config: &Config, site: &str, from: Moment) -> anyhow::Result<Plan> {
        let connection = config.connections.iter().find(|one| one.site == site);
        let connection = connection.expect("a known site");
        // Whoever only looks must not make a state.
        let store = Store::open_read_only(&config.state.dir)?;
        let ours = Clock::system().now().timestamp_micros();
        let name = site.to_owned();
        let stored = store.read(move |db| plan::read(db, &name)).await?;
        let Some((row, streams)) = stored else {
            let text = format!(
                "nothing of site {site} was collected yet: start it once, or set `backfill` of its sources"
            );
            return Err(Usage(text).into());
        };
        let now = row.portal_time(ours);
        let span = Span::resolve(from, self.to, now).map_err(Usage)?;
        let plan = Plan::new(connection, &streams, &self.source, span, now);
        if plan.streams.is_empty() {
            let text = "nothing that is asked by time was collected yet: start it once, or set `backfill` of its sources";
            return Err(Usage(format!("site {site}: {text}")).into());
        }
        Ok(plan)
    }
}

fn owed_table(owed: &[Owed]) -> Table {
    let mut table = Table::new(&["SITE", "SOURCE", "ENTRIES", "FROM", "TO", "NOTE"]);
    for one in owed {
        table.row([
            one.site.clone(),
            one.source.clone(),
            one.entries.to_string(),
            time(one.from),
            time(one.to),
            if one.asked { "being collected" } else { "" }.to_owned(),
        ]);
    }
    table
}

/// Asks the running program, or writes into the state where none runs. Answers whether one does.
async fn hand_over(config: &Config, plan: &Plan) -> anyhow::Result<bool> {
    let dir = &config.state.dir;
    for (place, stream) in plan.wanted().enumerate() {
        // Letters, digits, ".", "_" and "-" need no escaping.
        let request = format!(
            "/backfill?site={}&stream={}&from={}&to={}",
            plan.site, stream.id, stream.begin, stream.end
        );
        match control::ask(dir, "POST", &request).await? {
            Some(answer) => answer.ok().map_err(anyhow::Error::msg)?,
            None if place == 0 => {
                write(config, plan).await?;
                return Ok(false);
            }
            None => anyhow::bail!("the running lockstep went away; give the command again"),
        };
    }
    Ok(true)
}

async fn write(config: &Config, plan: &Plan) -> anyhow::Result<()> {
    let dir = config.state.dir.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&dir, Clock::system())).await??;
    let site = plan.site.clone();
    let wanted: Vec<_> = plan.wanted().map(|stream| (stream.id, (stream.begin, stream.end))).collect();
    let written = store.write(move |db| {
        for (stream, span) in wanted {
            backfill::ask(db, &site, stream, span)?;
        }
        Ok::<_, StoreError>(())
    });
    let written = written.await;
    store.close().await;
    Ok(written?)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "site {}, at {} of the portal", self.site, time(Some(self.portal_time)))?;
        let mut table =
            Table::new(&["SOURCE", "SCOPE", "FROM", "TO", "ROWS", "REQUESTS", "MINUTES", "NOTE"]).indented();
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        for stream in &self.streams {
            let rows = match (stream.rows, stream.estimated) {
                (Some(rows), true) => format!("about {rows}"),
                (rows, _) => number(rows),
            };
            table.row([
                format!("{} {}", stream.source, stream.query).trim_end().to_owned(),
                stream.scope.clone(),
                time(Some(stream.from)),
                time(Some(stream.to)),
                rows,
                number(stream.requests),
                stream.minutes.map_or_else(|| "?".to_owned(), |minutes| format!("{minutes:.1}")),
                stream.note.clone().unwrap_or_default(),
            ]);
        }
        write!(f, "{table}")?;
        match self.minutes {
            Some(minutes) => {
                writeln!(
                    f,
                    "  in all {} requests, about {minutes:.1} minutes at the site's rate",
                    self.requests
                )?;
            }
            None => writeln!(f, "  in all {} requests, as fast as the portal answers", self.requests)?,
        }
        if self.streams.iter().any(|stream| stream.estimated) {
            writeln!(
                f,
                "  \"about\": by the rows a day that were collected so far; else as the portal counted them"
            )?;
        }
        Ok(())
    }
}
