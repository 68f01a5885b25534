//! A report that shows a span of time: what happened while nobody ran it is asked for afterwards.
//!
//! Each poll runs it for its newest span. Where that begins after the one before it ended, as after an outage, what lies
//! between is asked for in spans of the same length. None begins earlier than what was shown before: rows that went out of
//! sight would come again.

use serde::{Deserialize, Serialize};

use super::{SnapshotStream, Unfinished};
use crate::collect::{CollectError, Listing};
use crate::model::{Kind, Micros, SECOND, Seconds};
use crate::source::request_time;
use crate::sources::reports::Report;

/// Spans that one poll asks for beside the newest; the next poll goes on.
const MOST_SPANS: usize = 24;
/// Polls in which a span is refused before it is taken for one that is not shown any more: a fault may pass.
const REFUSALS: u32 = 3;
/// Holes that are remembered, and how long.
const MOST_HOLES: usize = 20;
const REMEMBERED: Micros = 60 * 86_400 * SECOND;

/// Of a dated report, what is remembered; a member of [`super::SnapshotNotes`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanNotes {
    /// Until when it was run without a hole.
    pub until: Option<Micros>,
    /// What it does not show any more.
    pub holes: Vec<Hole>,
}

/// Time of which a report shows nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hole {
    pub from: Micros,
    pub to: Micros,
    pub why: String,
}

impl SpanNotes {
    fn add_hole(&mut self, (from, to): (Seconds, Seconds), why: String) {
        let (began, ended) = (request_time(from), request_time(to));
        tracing::warn!(
            from = began,
            to = ended,
            why,
            "the report shows nothing of this time, in which it was not run"
        );
        let more = (self.holes.len() + 1).saturating_sub(MOST_HOLES);
        self.holes.drain(..more);
        self.holes.push(Hole { from: from * SECOND, to: to * SECOND, why });
    }
}

/// What lies between the end of what was shown, `until`, and the newest span, which ends `now`; the oldest first. What is
/// listed late has half a span to come.
fn missing(until: Seconds, now: Seconds, span: Seconds) -> Vec<(Seconds, Seconds)> {
    let newest = now - span;
    let (mut spans, mut from) = (Vec::new(), until - span / 2);
    while until < newest && from < newest {
        let to = (from + span).min(newest);
        spans.push((from, to));
        from = to;
    }
    spans
}

impl<L: Listing> SnapshotStream<L> {
    /// Runs the report for its newest span and, where it takes dates, for those that are missing. A report is the same
    /// a moment later, so each is read once.
    pub(super) async fn poll_report(&mut self, report: &Report) -> Result<u64, CollectError> {
        let (before, now) = (self.notes.rows, self.listing.now());
        self.notes.spans.holes.retain(|hole| now - hole.to < REMEMBERED);
        let mut walked = self.walk(0, false, None).await?;
        let mut left = None;
        if self.memory.dated && self.settings.kind == Kind::Event {
            let (span, end) = (report.span_seconds(), now.div_euclid(SECOND));
            let until = self.notes.spans.until.or(self.notes.complete).unwrap_or(now).div_euclid(SECOND);
            let spans = missing(until, end, span);
            for asked in spans.iter().take(MOST_SPANS) {
                let hole = match self.walk(0, false, Some(*asked)).await {
                    Ok(Ok(more)) => {
                        self.memory.refusals = 0;
                        if let Ok(seen) = &mut walked {
                            seen.listed.extend(more.listed);
                        }
                        None
                    }
                    // Told by the dead letters.
                    Ok(Err(Unfinished::Unreadable(_))) => None,
                    Ok(Err(why)) => Some(why.to_string()),
                    Err(CollectError::Refused(error)) => {
                        self.memory.refusals += 1;
                        if self.memory.refusals < REFUSALS {
                            return Err(CollectError::Refused(error));
                        }
                        Some(error.to_string())
                    }
                    Err(error) => return Err(error),
                };
                if let Some(why) = hole {
                    self.notes.spans.add_hole(*asked, why);
                }
                self.notes.spans.until = Some(asked.1 * SECOND);
            }
            left = spans.get(MOST_SPANS).map(|(from, _)| *from);
            if left.is_none() {
                self.notes.spans.until = Some(now);
            }
        }
        match walked {
            Ok(seen) if left.is_none() => self.conclude(seen).await?,
            // What goes out of sight meanwhile is asked for again by the next poll, and must be known then.
            Ok(_) => {
                let why = "not all time was asked for yet in which it was not run; the next poll goes on";
                self.notes.unproven = Some(why.to_owned());
                self.save().await?;
            }
            Err(why) => {
                self.notes.unproven = Some(why.to_string());
                self.save().await?;
                if !matches!(why, Unfinished::Unreadable(_)) {
                    return Err(CollectError::Incomplete(why.to_string()));
                }
            }
        }
        Ok(self.notes.rows - before)
    }
}

#[cfg(test)]
mod tests;
