//! The picture as a page for people.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::cli::live::frame::{backfill, rate};
use crate::cli::table::{Table, bytes, harmless, span, time};
use crate::deliver::inventory::InventoryStatus;
use crate::portal::CredentialState;
use crate::status::{SiteStatus, Status, StreamStatus, Unproven};
use crate::store::vendor_fields::FieldNotice;

/// Unproven intervals of one stream that fit on a page.
const SHOWN: usize = 10;

pub(super) struct Page<'a>(pub(super) &'a Status);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        match status.started {
            Some(started) => {
                writeln!(f, "lockstep {} is running since {}", status.version, time(Some(started)))?
            }
            None => writeln!(f, "no lockstep is running; this is what its state says")?,
        }
        match status.problems.len() {
            0 => writeln!(f, "all is well")?,
            1 => writeln!(f, "1 problem:")?,
            more => writeln!(f, "{more} problems:")?,
        }
        for problem in &status.problems {
            writeln!(f, "  - {}", harmless(problem))?;
        }
        for site in &status.sites {
            write_site(f, site, status.taken)?;
        }
        write_sinks(f, status)?;
        write!(f, "outbox: {}", bytes(status.outbox.bytes))?;
        if let Some(limit) = status.outbox.limit_bytes {
            write!(f, " of {}", bytes(limit))?;
        }
        if status.outbox.paused {
            write!(f, "; FULL, collecting waits")?;
        }
        if let Some(oldest) = status.outbox.oldest {
            write!(f, "; oldest entry of {}", time(Some(oldest)))?;
        }
        let dead = &status.dead_letters;
        write!(f, "\ndead letters: {}", dead.count)?;
        if dead.count > 0 {
            write!(f, " ({}); see `lockstep dead-letters list`", bytes(dead.bytes))?;
        }
        writeln!(f)
    }
}

/// What the vendor added and dropped, a line for each source.
fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[FieldNotice]) -> fmt::Result {
    for alike in fields.chunk_by(|a, b| (&a.source, &a.query) == (&b.source, &b.query)) {
        let rows = format!("{} {}", alike[0].source, alike[0].query);
        for (change, meaning) in [
            ("added", "that this version does not know, delivered as they are"),
            ("dropped", "no more that all of them had"),
        ] {
            let names: Vec<_> =
                alike.iter().filter(|one| one.change == change).map(|one| harmless(&one.field)).collect();
            if !names.is_empty() {
                writeln!(f, "  rows of {} have fields {meaning}: {}", rows.trim_end(), names.join(", "))?;
            }
        }
    }
    Ok(())
}

fn write_site(f: &mut fmt::Formatter<'_>, site: &SiteStatus, now: DateTime<Utc>) -> fmt::Result {
    write!(f, "\nsite {}", site.site)?;
    if let Some(url) = &site.base_url {
        write!(f, ": {url}")?;
    }
    match &site.organization_id {
        Some(organization) => writeln!(f, ", organization {organization}")?,
        None => writeln!(f, ", its organization is not discovered yet")?,
    }
    write!(f, "  token: {}", token(site))?;
    if let Some(offset) = site.clock_offset_seconds.filter(|offset| offset.abs() >= 2.0) {
        let way = if offset > 0.0 { "ahead of" } else { "behind" };
        write!(f, "; the portal's clock is {} {way} ours", span(offset))?;
    }
    writeln!(f)?;
    if let Some(own) = &site.own_reads {
        let (user, address) = (&own.reader.user, &own.reader.address);
        writeln!(f, "  own reads: {} listed of {} sent, as {user} from {address}", own.seen, own.sent)?;
    }
    for claim in &site.claimed_elsewhere {
        writeln!(
            f,
            "  {} of organization {} is claimed by site {}, which delivers it; here it is only counted",
            claim.source, claim.organization, claim.claimed_by
        )?;
    }
    write_fields(f, &site.fields)?;
    for stream in site.streams.iter().filter(|stream| !stream.skipped_statuses.is_empty()) {
        let skipped: Vec<String> = stream.skipped_statuses.iter().map(u8::to_string).collect();
        let (title, skipped) = (stream.title(), skipped.join(", "));
        writeln!(f, "  {title}: the portal refuses these, others go on; skipped statuses: {skipped}")?;
    }
    for asked in &site.asked_back {
        let stream = format!("{} {}", asked.source, asked.query);
        let (from, to) = (time(asked.from), time(asked.to));
        writeln!(
            f,
            "  {} of {} is asked for {from} to {to} and takes it up soon",
            stream.trim_end(),
            asked.scope
        )?;
    }
    if site.streams.is_empty() {
        return writeln!(f, "  nothing is collected yet");
    }
    let titles = [
        "SOURCE",
        "SCOPE",
        "CONDITION",
        "PROVEN UNTIL",
        "LIVE LAG",
        "ROWS",
        "ROWS/S",
        "NEXT POLL",
        "LAST ERROR",
    ];
    let mut table = Table::new(&titles).indented();
    for stream in &site.streams {
        let lag = stream.lag_seconds.map_or_else(|| "-".to_owned(), span);
        table.row([
            format!("{} {}", stream.source, stream.query).trim_end().to_owned(),
            stream.scope.clone(),
            stream.condition.as_str().to_owned(),
            time(stream.proven_until),
            if stream.stale { format!("{lag} STALE") } else { lag },
            stream.rows.to_string(),
            rate(stream.rows_per_second),
            stream.next_poll.map_or_else(|| "-".to_owned(), |next| due(next, now)),
            stream.last_error.clone().unwrap_or_default(),
        ]);
    }
    write!(f, "{table}")?;
    for (stream, way) in site.streams.iter().filter_map(|stream| Some((stream, stream.way.as_ref()?))) {
        writeln!(f, "  {}: {way}", stream.title())?;
    }
    for (stream, owed) in site.streams.iter().filter_map(|stream| Some((stream, stream.owed?))) {
        writeln!(f, "  {}: backfill, {}", stream.title(), backfill(owed))?;
    }
    if site.streams.iter().any(|stream| owed(stream).next().is_some()) {
        writeln!(f, "  not proven:")?;
    }
    site.streams.iter().try_for_each(|stream| write_unproven(f, stream))
}

fn token(site: &SiteStatus) -> String {
    let mut text = match site.credential.as_ref().map(|health| health.state) {
        Some(CredentialState::Ok) => "works".to_owned(),
        Some(CredentialState::Rejected) => "REFUSED".to_owned(),
        Some(CredentialState::Untested) | None => "not tried".to_owned(),
    };
    text += &match (site.token.expires, site.token.expiry_known) {
        (Some(expires), _) => format!(", lapses {}", time(Some(expires))),
        (None, true) => String::new(),
        (None, false) => ", nobody knows when it lapses (set token_expiry)".to_owned(),
    };
    if let Some(until) = site.credential.as_ref().and_then(|health| health.retry_after_until) {
        text += &format!(", the portal told us to wait until {}", time(Some(until)));
    }
    text
}

fn due(next: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if next <= now { "now".to_owned() } else { format!("in {}", span((next - now).as_seconds_f64())) }
}

/// What is not proven; the time since the last look comes with the next and would only be in the way.
fn owed(stream: &StreamStatus) -> impl Iterator<Item = &Unproven> {
    let ahead = |one: &Unproven| one.state == "pending" && Some(one.from) == stream.live_until;
    stream.unproven.iter().filter(move |one| stream.stale || !ahead(one))
}

fn write_unproven(f: &mut fmt::Formatter<'_>, stream: &StreamStatus) -> fmt::Result {
    for one in owed(stream).take(SHOWN) {
        write!(
            f,
            "    {}: {} to {}, {}",
            stream.title(),
            time(Some(one.from)),
            time(Some(one.to)),
            one.state
        )?;
        if one.organization != stream.organization {
            write!(f, ", organization {}", harmless(&one.organization))?;
        }
        if let (Some(held), Some(listed)) = (one.held, one.listed) {
            write!(f, ", {held} rows of {listed}")?;
        }
        writeln!(f, ": {}", harmless(&one.reason))?;
    }
    let more = owed(stream).count().saturating_sub(SHOWN) + stream.unproven_more;
    if more > 0 {
        writeln!(f, "    {}: and {more} more, see --json", stream.title())?;
    }
    Ok(())
}

fn write_sinks(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    if status.sinks.is_empty() {
        return writeln!(f, "\nno sink is known yet");
    }
    let titles =
        ["SINK", "TYPE", "STATE", "DELIVERED", "PENDING", "OLDEST PENDING", "LAST CONFIRMED", "LAST ERROR"];
    let mut table = Table::new(&titles);
    for sink in &status.sinks {
        table.row([
            sink.name.clone(),
            sink.kind.clone(),
            sink.state.as_str().to_owned(),
            sink.delivered_records.to_string(),
            bytes(sink.pending_bytes),
            time(sink.oldest_pending),
            time(sink.last_confirmed),
            sink.last_error.clone().unwrap_or_default(),
        ]);
    }
    write!(f, "\n{table}")?;
    for sink in &status.sinks {
        for owed in &sink.owed {
            writeln!(
                f,
                "  {} let go: {} entries of {} of {}, {} to {}{}",
                sink.name,
                owed.entries,
                owed.source,
                owed.site,
                time(owed.from),
                time(owed.to),
                if owed.asked { ", being collected for it" } else { "" }
            )?;
        }
        if sink.replaying > 0 {
            writeln!(f, "  {} delivers again: up to {} entries are left", sink.name, sink.replaying)?;
        }
        if let Some(InventoryStatus { paths, written, devices, lacking, .. }) = &sink.inventory {
            let lacks = match lacking.is_empty() {
                true => String::new(),
                false => format!("; not listed completely yet, so not in it: {}", lacking.join(", ")),
            };
            let paths = paths.join(", ");
            writeln!(f, "  {}: {devices} computers in {paths} at {}{lacks}", sink.name, time(*written))?;
        }
        for notice in &sink.notices {
            writeln!(f, "  {} {}: {}", time(Some(notice.at)), sink.name, harmless(&notice.text))?;
        }
    }
    Ok(())
}
