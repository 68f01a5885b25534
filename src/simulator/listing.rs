//! The rows of one source, kept in the order that the dialect's date filter works on.

use super::answer::Row;
use super::dialect::Axis;
use crate::model::Micros;

/// Rows ordered by one axis; rows of the same time keep the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    rows: Vec<Row>,
    axis: Axis,
}

impl Listing {
    pub fn new(axis: Axis) -> Self {
        Self { rows: Vec::new(), axis }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Orders the rows by another axis.
    pub fn set_axis(&mut self, axis: Axis) {
        if axis != self.axis {
            self.axis = axis;
            self.rows.sort_by_key(|row| axis.of(row));
        }
    }

    /// Puts rows in their places, at the cost of the rows after the oldest of them.
    pub fn insert(&mut self, rows: impl IntoIterator<Item = Row>) {
        let before = self.rows.len();
        self.rows.extend(rows);
        let axis = self.axis;
        let Some(oldest) = self.rows[before..].iter().map(|row| axis.of(row)).min() else { return };
        let place = self.rows[..before].partition_point(|row| axis.of(row) <= oldest);
        self.rows[place..].sort_by_key(|row| axis.of(row));
    }

    /// Ends the listing of the rows with these ids or contents.
    pub fn delete(&mut self, now: Micros, chosen: impl Fn(&Row) -> bool) -> usize {
        let mut deleted = 0;
        for row in self.rows.iter_mut().filter(|row| row.deleted_at.is_none() && chosen(row)) {
            row.deleted_at = Some(now);
            deleted += 1;
        }
        deleted
    }

    /// Ends the listing of the row at this place.
    pub fn delete_at(&mut self, index: usize, now: Micros) {
        self.rows[index].deleted_at.get_or_insert(now);
    }
}
