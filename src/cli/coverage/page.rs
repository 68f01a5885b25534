//! The picture as a page for people.

use std::fmt;

use chrono::{DateTime, Utc};

use super::picture::{Covered, Picture, StreamCoverage, Stretch, UPCOMING};
use super::strip::{Scale, legend};
use crate::cli::table::{Table, harmless, span, time};
use crate::coverage::State;

/// Intervals of one stream that fit on a page.
const SHOWN: usize = 20;
const INDENT: usize = 2;

/// What "proven" claims, and what it does not.
const CLAIM: &str = "\
What exactly is proven: when it was last asked (LAST ASKED), the portal listed to this token exactly the rows
that are held for that time, and each of them is in the outbox, at every sink or in that sink's dead letters.
Rows that the portal shows to nobody, or not to this token's role, are outside of this proof.";

pub(super) struct Page<'a> {
    pub(super) picture: &'a Picture,
    /// Columns of the terminal.
    pub(super) width: usize,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for site in &self.picture.sites {
            let scale = Scale::new(self.width.saturating_sub(INDENT), site.portal_time);
            writeln!(f, "site {}, at {} of the portal", site.site, time(Some(site.portal_time)))?;
            if site.streams.is_empty() {
                writeln!(f, "  nothing is collected yet\n")?;
                continue;
            }
            for stream in &site.streams {
                write_stream(f, stream, scale)?;
            }
            writeln!(f, "  a sign for {} h: {}\n", scale.hours(), legend())?;
        }
        if !self.picture.running {
            writeln!(f, "No lockstep is running: pending time is asked for when one does.\n")?;
        }
        writeln!(f, "{CLAIM}")
    }
}

fn write_stream(f: &mut fmt::Formatter<'_>, stream: &StreamCoverage, scale: Scale) -> fmt::Result {
    let query = if stream.query.is_empty() { String::new() } else { format!(" {}", stream.query) };
    write!(f, "\n  {}{query} of {}: ", stream.source, stream.scope)?;
    match &stream.covered {
        Covered::Snapshot { walked, reason, unknown } => {
            match walked {
                Some(walked) => writeln!(f, "asked as a whole, last complete at {}", time(Some(*walked)))?,
                None => writeln!(f, "asked as a whole, not walked to the end yet")?,
            }
            if let Some(reason) = reason {
                writeln!(f, "    {}", harmless(reason))?;
            }
            for (organization, rows) in unknown {
                writeln!(
                    f,
                    "    {rows} rows of organization {} are listed no more, too many at once to believe it",
                    harmless(organization)
                )?;
            }
            Ok(())
        }
        Covered::Window { start: None, .. } => writeln!(f, "not asked yet"),
        Covered::Window { start: Some(start), edge, intervals, silent } => {
            writeln!(f, "{}", share(*start, *edge, intervals))?;
            writeln!(f, "  {}\n  {}", scale.ruler(), scale.strip(intervals))?;
            for (organization, since) in silent {
                writeln!(
                    f,
                    "  organization {} lists nothing since {} where its rows are usual",
                    harmless(organization),
                    time(Some(*since))
                )?;
            }
            write_unproven(f, intervals)
        }
    }
}

/// How much of what is owed is proven, and how old the oldest evidence is.
fn share(start: DateTime<Utc>, edge: DateTime<Utc>, intervals: &[Stretch]) -> String {
    let length = |one: &Stretch| (one.to.min(edge) - one.from.max(start)).num_seconds().max(0);
    let (mut owed, mut proven, mut oldest) = (0, 0, None);
    for one in intervals.iter().filter(|one| is_owed(one)) {
        owed += length(one);
        if one.state == State::Proven.as_str() {
            proven += length(one);
            oldest = one.checked.filter(|_| length(one) > 0).into_iter().chain(oldest).min();
        }
    }
    // Rounded down: what is not all is not called all.
    let percent = (proven * 10_000).checked_div(owed).unwrap_or(0);
    let told = match percent {
        10_000 => "all".to_owned(),
        share => format!("{}.{:02} %", share / 100, share % 100),
    };
    let whole = span((edge - start).as_seconds_f64());
    let mut text = format!("{told} of {whole} since {} is proven", time(Some(start)));
    if let Some(oldest) = oldest {
        text += &format!(", each part asked at {} or later", time(Some(oldest)));
    }
    text
}

fn is_owed(one: &Stretch) -> bool {
    one.state != State::Baseline.as_str() && one.state != UPCOMING
}

fn write_unproven(f: &mut fmt::Formatter<'_>, intervals: &[Stretch]) -> fmt::Result {
    let unproven =
        || intervals.iter().rev().filter(|one| is_owed(one) && one.state != State::Proven.as_str());
    if unproven().next().is_none() {
        return Ok(());
    }
    let titles = ["NOT PROVEN FROM", "TO", "STATE", "LISTED", "HELD", "LAST ASKED", "WHY"];
    let mut table = Table::new(&titles).indented();
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    for one in unproven().take(SHOWN) {
        table.row([
            time(Some(one.from)),
            time(Some(one.to)),
            one.state.to_owned(),
            count(one.listed),
            count(one.held),
            time(one.checked),
            one.reason.clone().unwrap_or_default(),
        ]);
    }
    write!(f, "{table}")?;
    match unproven().count().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more, see --json"),
    }
}
