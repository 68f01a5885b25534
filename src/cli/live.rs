//! Progress while `demo`, `once` and `run` work: a table that stands at the foot of a terminal, plain lines,
//! JSON, or nothing. All of it is the picture of `status`, taken again and again.

mod columns;
pub(super) mod frame;
mod json;
mod lines;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::lines::Which;
use super::screen::{self, Line, Tone};
use super::{Usage, logging, out, terminal};
use crate::config::{Config, Environment};
use crate::sink::SinkKind;
use crate::sinks::stdout::is_closed;
use crate::status::{Board, Status};

/// How progress is shown.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Progress")]
pub struct Live {
    /// Say nothing but errors; `demo` and `once` still end with their summary.
    ///
    /// Without it: at a terminal a table that updates in place, with the log above it; elsewhere (a pipe, a file,
    /// TERM=dumb, or where CI is set) plain lines, which for `run` are those of the log. NO_COLOR takes the colours away.
    #[arg(short, long)]
    pub quiet: bool,
    /// Progress as JSON on stdout, an object a line, for `jq`.
    ///
    /// At most one a second, and only when something has changed or a minute has passed: `"type":"progress"`,
    /// with the names of `status --json`. The last one has `"type":"summary"`.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

/// Which command it is for, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A second between plain lines, of every stream.
    Demo,
    /// Ten seconds, of what changed: somebody will read them all.
    Once,
    /// A service has its log, and no end to sum up.
    Run,
}

/// The way it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Table,
    Lines,
    Log,
    Json,
    Quiet,
}

/// What there is to know of the place where it is shown.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Stderr is a terminal that can do more than append, and nobody's log.
    capable: bool,
    /// Records go to the same terminal.
    records: bool,
}

/// How often the table is brought up to the moment, and plain progress is looked at.
const TABLE_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ONCE_LINES_EVERY: Duration = Duration::from_secs(10);
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Shows how far the program is.
pub(super) struct Progress {
    way: Way,
    work: Work,
    colours: bool,
    lines: lines::Told,
    json: json::Told,
}

impl Live {
    fn way(self, work: Work, place: Place) -> Way {
        match () {
            () if self.quiet => Way::Quiet,
            () if self.json => Way::Json,
            () if place.capable && !place.records => Way::Table,
            () if work == Work::Run => Way::Log,
            () => Way::Lines,
        }
    }

    /// Starts the log and whatever is shown of the work.
    pub(super) fn begin(
        self,
        work: Work,
        config: &Config,
        environment: &Environment,
    ) -> Result<Progress, Usage> {
        let records = config.sinks.iter().any(|sink| matches!(sink.kind, SinkKind::Stdout));
        if self.json && records {
            let text = "--json would write between the records of the sink of type stdout; leave it out, or deliver to files";
            return Err(Usage(text.to_owned()));
        }
        if records && is_closed() {
            let text = "standard output is closed, and the sink of type stdout writes there; give it a reader, or deliver to files";
            return Err(Usage(text.to_owned()));
        }
        let set =
            |name: &str| environment.get(name).is_some_and(|value| !value.is_empty() && value != "false");
        let dumb = environment.get("TERM").is_some_and(|terminal| terminal == "dumb");
        let capable = stderr().is_terminal() && !dumb && !set("CI");
        let way = self.way(work, Place { capable, records: records && stdout().is_terminal() });
        let colours =
            stderr().is_terminal() && !dumb && environment.get("NO_COLOR").is_none_or(str::is_empty);
        logging(&config.log, self.quiet, colours);
        if way == Way::Table {
            screen::keep_whole_on_panic();
            screen::come_back_anew();
        }
        Ok(Progress { way, work, colours, lines: Default::default(), json: Default::default() })
    }
}

impl Progress {
    /// Says a line of welcome, where people read along.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        if matches!(self.way, Way::Table | Way::Lines) {
            out::say(text);
        }
    }

    /// Shows how far the work is until it is done.
    pub(super) async fn during<T>(&mut self, board: &Board, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.watch(board) => match never {},
        }
    }

    async fn watch(&mut self, board: &Board) -> Infallible {
        let every = match (self.way, self.work) {
            (Way::Quiet, _) => return std::future::pending().await,
            (Way::Table, _) => TABLE_EVERY,
            (Way::Json, _) | (Way::Lines, Work::Demo) => LOOK_EVERY,
            (Way::Lines, _) => ONCE_LINES_EVERY,
            (Way::Log, _) => LOG_EVERY,
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Lines say what was done since; a table stands from the first moment on.
        if self.way != Way::Table {
            ticks.tick().await;
        }
        loop {
            ticks.tick().await;
            // A state that does not answer is told by the streams that need it.
            if let Ok(status) = board.status().await {
                self.show(&status);
            }
        }
    }

    fn show(&mut self, status: &Status) {
        match self.way {
            Way::Table => self.draw(status),
            Way::Lines => {
                let which = if self.work == Work::Demo { Which::All } else { Which::Changed };
                self.lines.of(status, which).iter().for_each(out::say);
            }
            Way::Log => lines::log(status),
            Way::Json => put(self.json.of(status, Instant::now())),
            Way::Quiet => {}
        }
    }

    fn draw(&self, status: &Status) {
        let mut lines = frame::frame(status, terminal::of_stderr());
        if !self.colours {
            lines.iter_mut().for_each(|line| line.tone = Tone::Plain);
        }
        screen::show(lines);
    }

    /// The work is done, and this is the picture at its end. `undone` is what a complete pass left so.
    pub(super) fn end(&mut self, status: Option<&Status>, undone: Option<&[String]>) {
        match (self.way, self.work) {
            (Way::Json, _) => put(json::summary(status, undone)),
            (Way::Table, Work::Run) => {
                status.iter().for_each(|status| self.draw(status));
                screen::leave();
            }
            (_, Work::Run) => {}
            _ => {
                screen::show(Vec::<Line>::new());
                status.iter().flat_map(|status| lines::summary(status)).for_each(out::say);
                undone.iter().copied().flatten().for_each(out::say);
            }
        }
    }

    /// Whether there is a reader for words at the end.
    pub(super) fn is_for_people(&self) -> bool {
        self.way != Way::Json
    }
}

/// Writes an object to stdout, where there is one.
fn put(object: Option<serde_json::Value>) {
    if let Some(object) = object
        && let Err(error) = out::data(format_args!("{object}\n"))
    {
        tracing::warn!(%error, "progress cannot be written to stdout");
    }
}
