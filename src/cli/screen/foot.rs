//! The lines that stand at the foot of a terminal, as the bytes that bring them there and away; pure.

use crossterm::Command;
use crossterm::cursor::MoveToPreviousLine;
use crossterm::style::{Attribute, Color, SetAttribute, SetForegroundColor};
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};

use crate::cli::table::columns;

/// What a line is about; how that looks is the terminal's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    #[default]
    Plain,
    Title,
    Busy,
    Bad,
}

/// One line of text without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Line {
    pub(in crate::cli) text: String,
    /// Plain where no colours are wanted.
    pub(in crate::cli) tone: Tone,
}

/// What stands at the foot.
#[derive(Debug, Default)]
pub(super) struct Foot {
    lines: Vec<Line>,
}

impl Foot {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Brings these lines in place of those that stand, at a terminal so wide.
    pub(super) fn replace(&mut self, lines: Vec<Line>, width: usize) -> Vec<u8> {
        let lifted = lift(&self.lines, width);
        self.lines = lines;
        whole(lifted + &set(&self.lines))
    }

    /// Brings whole lines above those that stand. The width is asked for only where some do.
    pub(super) fn above(&self, text: &[u8], width: impl FnOnce() -> usize) -> Vec<u8> {
        if self.lines.is_empty() {
            return text.to_vec();
        }
        let mut bytes = (encoded(BeginSynchronizedUpdate) + &lift(&self.lines, width())).into_bytes();
        bytes.extend_from_slice(text);
        if !text.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend((set(&self.lines) + &encoded(EndSynchronizedUpdate)).into_bytes());
        bytes
    }

    /// Takes the lines away for a moment.
    pub(super) fn lift(&self, width: usize) -> Vec<u8> {
        lift(&self.lines, width).into_bytes()
    }

    /// Brings them back.
    pub(super) fn set(&self) -> Vec<u8> {
        set(&self.lines).into_bytes()
    }

    /// They are no longer ours to take away.
    pub(super) fn forget(&mut self) {
        self.lines.clear();
    }
}

/// Takes these lines away. A terminal that became narrower has wrapped them since.
fn lift(lines: &[Line], width: usize) -> String {
    let height: usize = lines.iter().map(|line| columns(&line.text).div_ceil(width.max(1)).max(1)).sum();
    match u16::try_from(height) {
        Ok(0) => String::new(),
        height => {
            encoded(MoveToPreviousLine(height.unwrap_or(u16::MAX)))
                + &encoded(Clear(ClearType::FromCursorDown))
        }
    }
}

fn set(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let begin = match line.tone {
            Tone::Plain => None,
            Tone::Title => Some(encoded(SetAttribute(Attribute::Bold))),
            Tone::Busy => Some(encoded(SetForegroundColor(Color::DarkYellow))),
            Tone::Bad => Some(encoded(SetForegroundColor(Color::DarkRed))),
        };
        match begin {
            Some(begin) => text += &(begin + &line.text + &encoded(SetAttribute(Attribute::Reset)) + "\n"),
            None => text += &format!("{}\n", line.text),
        }
        text
    })
}

/// So that the terminal shows it at once, not in parts.
fn whole(text: String) -> Vec<u8> {
    (encoded(BeginSynchronizedUpdate) + &text + &encoded(EndSynchronizedUpdate)).into_bytes()
}

fn encoded(command: impl Command) -> String {
    let mut text = String::new();
    command.write_ansi(&mut text).expect("a string takes everything");
    text
}
