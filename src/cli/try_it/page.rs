//! The report as a page for people.

use std::fmt;

use super::report::Report;
use crate::cli::doctor::{self, Tried};
use crate::cli::table::{bytes, harmless, span};

/// Organizations that are named.
const NAMED: usize = 10;
/// Clocks further apart than this are said to be (contract section 12).
const CLOCK_APART: f64 = 120.0;

pub(super) struct Page<'a> {
    pub(super) report: &'a Report,
    /// Columns of the terminal.
    pub(super) width: usize,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let reached = if report.reached { "reached" } else { "NOT REACHED" };
        line(f, "portal", &format!("{}: {reached}", report.base_url))?;
        if let Some(trouble) = &report.trouble {
            let about = if report.token_accepted { "organization" } else { "token" };
            let about = if report.reached { about } else { "portal" };
            return line(f, about, &harmless(trouble));
        }
        line(f, "token", "accepted")?;
        if let Some(offset) = report.clock_offset_seconds {
            let way = if offset < 0.0 { "behind" } else { "ahead of" };
            let far = if offset.abs() > CLOCK_APART { "; mend ours, ages run on the portal's" } else { "" };
            line(f, "clock", &format!("the portal's is {} {way} ours{far}", span(offset)))?;
        }
        self.write_organizations(f)?;
        for source in &report.sources {
            self.write_source(f, source)?;
        }
        writeln!(f)?;
        let all =
            format!("{} rows, {} as the portal sends them", report.rows_a_day, bytes(report.bytes_a_day));
        line(f, "in a day", &all)?;
        let minutes = minutes(report.backfill_minutes);
        line(f, "backfill", &format!("of the default 24 hours at the default 5 requests/s: {minutes}"))
    }
}

impl Page<'_> {
    fn write_organizations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.report.organization.as_ref().map(ToString::to_string).unwrap_or_default();
        line(f, "organization", &format!("its own is {own}"))?;
        match (&self.report.children, &self.report.children_trouble) {
            (Some(children), _) => {
                let names: Vec<String> = children.iter().take(NAMED).map(|one| harmless(&one.name)).collect();
                let more = children.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
                line(f, "", &format!("{}{named}{more}", doctor::below(children.len(), true)))
            }
            (None, trouble) => line(f, "", &harmless(trouble.as_deref().unwrap_or_default())),
        }
    }

    fn write_source(&self, f: &mut fmt::Formatter<'_>, source: &Tried) -> fmt::Result {
        writeln!(f)?;
        line(f, source.source, &harmless(&source.said()))?;
        if let Some(mean) = source.bytes_a_row {
            let day = source.bytes_a_day.map(|day| format!(", {} a day", bytes(day))).unwrap_or_default();
            line(f, "", &format!("about {mean:.0} bytes a row{day}"))?;
        }
        if let (Some(requests), Some(taken)) = (source.requests, source.minutes) {
            let what = if source.by_time { "the first backfill" } else { "each walk" };
            line(f, "", &format!("{what}: {requests} requests, {}", minutes(taken)))?;
        }
        for row in &source.rows {
            writeln!(f, "    {}", shortened(&harmless(row.get()), self.width.saturating_sub(4)))?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    writeln!(f, "{what:<17} {text}")
}

fn minutes(minutes: f64) -> String {
    match minutes {
        few if few < 1.0 => "less than a minute".to_owned(),
        some => format!("about {} minutes", some.ceil()),
    }
}

/// So many letters of a text at the most; what is left out is shown to be.
fn shortened(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
