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
        let text = lifted + &set(&self.lines);
        // So that the terminal shows it at once, not in parts. Where nothing stood or stands there is no terminal.
        match text.is_empty() {
            true => Vec::new(),
            false => {
                (encoded(BeginSynchronizedUpdate) + &text + &encoded(EndSynchronizedUpdate)).into_bytes()
            }
        }
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

fn encoded(command: impl Command) -> String {
    let mut text = String::new();
    command.write_ansi(&mut text).expect("a string takes everything");
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use proptest::prelude::*;
    use vt100::Parser;

    use super::*;

    fn table(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line { text: (*text).to_owned(), tone: Tone::Bad }).collect()
    }

    /// What a terminal of this size shows after these bytes.
    fn shown(rows: u16, columns: u16, bytes: &[u8]) -> Parser {
        let size = |size| NonZero::new(size).unwrap();
        let mut terminal = Parser::new(size(rows), size(columns), 0);
        // As the line discipline of a terminal does.
        let returned: Vec<u8> = bytes
            .iter()
            .flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] })
            .collect();
        terminal.process(&returned);
        terminal
    }

    #[test]
    fn a_line_of_the_log_comes_above_the_table_and_the_cursor_stays_below() {
        let mut foot = Foot::new();
        let mut bytes = foot.above(b"first\n", || 80);
        bytes.extend(foot.replace(table(&["A  B", "1  2"]), 80));
        bytes.extend(foot.above(b"second\nthird\n", || 80));
        bytes.extend(foot.above(b"no end", || 80));
        bytes.extend(foot.replace(table(&["A  B", "3  4", "5  6"]), 80));
        let terminal = shown(24, 80, &bytes);
        assert_eq!(terminal.screen().contents(), "first\nsecond\nthird\nno end\nA  B\n3  4\n5  6");
        assert_eq!((terminal.screen().cursor_position(), terminal.screen().hide_cursor()), ((7, 0), false));
        bytes.extend(foot.replace(Vec::new(), 80));
        assert_eq!(shown(24, 80, &bytes).screen().contents(), "first\nsecond\nthird\nno end");
    }

    #[test]
    fn a_table_that_a_narrower_terminal_has_wrapped_is_taken_away_whole() {
        let mut foot = Foot::new();
        let mut bytes = foot.above(b"log\n", || 100);
        let (long, row) = ("x".repeat(100), "y".repeat(61));
        bytes.extend(foot.replace(table(&[&long, "short", &row]), 100));
        // A terminal that was narrow all along has wrapped just so.
        bytes.extend(foot.replace(table(&["new"]), 60));
        assert_eq!(shown(24, 60, &bytes).screen().contents(), "log\nnew");
    }

    proptest! {
        /// Whatever is shown and said, in whatever order: everything that was said, then the last table.
        #[test]
        fn nothing_that_is_said_is_lost_and_one_table_stands(
            story in prop::collection::vec((any::<bool>(), prop::collection::vec("[a-z組]{0,12}", 0..4)), 1..20),
        ) {
            let (mut foot, mut bytes, mut said, mut last) = (Foot::new(), Vec::new(), Vec::new(), Vec::new());
            for (table, texts) in story {
                if table {
                    let lines = texts.iter().map(|text| Line { text: text.clone(), tone: Tone::Title });
                    bytes.extend(foot.replace(lines.collect(), 30));
                    last = texts;
                } else {
                    texts.iter().for_each(|text| bytes.extend(foot.above(format!("{text}\n").as_bytes(), || 30)));
                    said.extend(texts);
                }
            }
            let expected = [said, last].concat().join("\n");
            let shown = shown(200, 30, &bytes).screen().contents();
            prop_assert_eq!(shown.trim_end(), expected.trim_end());
        }
    }
}
