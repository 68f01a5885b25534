//! A table that fits a width: it says less, in an order, until it does.

use crate::cli::table::{columns, cut};

/// Blanks between two columns.
const BETWEEN: usize = 2;

/// A title with the cells below it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    cells: Vec<String>,
    /// The same in fewer letters.
    short: Option<Vec<String>>,
    numbers: bool,
    /// Cut to no less than this; whole or not at all without it.
    least: Option<usize>,
    /// Those with the lowest go first where there is no room.
    worth: u8,
}

/// Goes only where there is no room at all.
const DEAR: u8 = u8::MAX;

impl Column {
    pub(super) fn words(title: &str, cells: impl Iterator<Item = String>) -> Self {
        let cells = std::iter::once(title.to_owned()).chain(cells).collect();
        Self { cells, short: None, numbers: false, least: None, worth: DEAR }
    }

    pub(super) fn numbers(title: &str, cells: impl Iterator<Item = String>) -> Self {
        Self { numbers: true, ..Self::words(title, cells) }
    }

    pub(super) fn shorter(self, title: &str, cells: impl Iterator<Item = String>) -> Self {
        let short = std::iter::once(title.to_owned()).chain(cells).collect();
        Self { short: Some(short), ..self }
    }

    /// May be cut to so many columns.
    pub(super) fn at_least(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    pub(super) fn worth(self, worth: u8) -> Self {
        Self { worth, ..self }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|cell| columns(cell)).max().unwrap_or(0)
    }
}

/// The title and the rows as lines, none wider than this.
pub(super) fn lines(mut table: Vec<Column>, width: usize) -> Vec<String> {
    for place in 0..table.len() {
        if fitting(&table, width).is_some() {
            break;
        }
        if let Some(short) = table[place].short.take() {
            table[place].cells = short;
        }
    }
    let widths = loop {
        if let Some(widths) = fitting(&table, width).or_else(|| narrowed(&table, width)) {
            break widths;
        }
        let cheapest = table.iter().enumerate().min_by_key(|(_, column)| column.worth);
        match cheapest.filter(|(_, column)| column.worth < DEAR).map(|(place, _)| place) {
            Some(place) => drop(table.remove(place)),
            None => break table.iter().map(Column::width).collect(),
        }
    };
    let height = table.first().map_or(0, |column| column.cells.len());
    (0..height).map(|row| cut(line(&table, &widths, row).trim_end(), width)).collect()
}

fn line(table: &[Column], widths: &[usize], row: usize) -> String {
    let mut line = String::new();
    for (place, (column, width)) in table.iter().zip(widths).enumerate() {
        let cell = cut(&column.cells[row], *width);
        let blank = " ".repeat(width - columns(&cell));
        line += &" ".repeat(if place > 0 { BETWEEN } else { 0 });
        line += &if column.numbers { blank + &cell } else { cell + &blank };
    }
    line
}

/// The widths of the columns, where nothing needs to be cut.
fn fitting(table: &[Column], width: usize) -> Option<Vec<usize>> {
    let widths: Vec<usize> = table.iter().map(Column::width).collect();
    (together(&widths) <= width).then_some(widths)
}

/// The widths of the columns after those that may be cut are, the widest first.
fn narrowed(table: &[Column], width: usize) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = table.iter().map(Column::width).collect();
    while together(&widths) > width {
        let room = |place: &usize| table[*place].least.is_some_and(|least| widths[*place] > least);
        let widest = (0..table.len()).filter(room).max_by_key(|place| widths[*place])?;
        widths[widest] -= 1;
    }
    Some(widths)
}

fn together(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + BETWEEN * widths.len().saturating_sub(1)
}
