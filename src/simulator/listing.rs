//! The rows of one source, kept in the order that the dialect's date filter works on.

use super::answer::{Content, Row, Threat};
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

    /// Gives the rows other contents, in their order.
    pub fn replace_contents(&mut self, contents: impl Iterator<Item = Content>) {
        for (row, content) in self.rows.iter_mut().zip(contents) {
            row.content = content;
        }
    }

    /// Puts rows in their places; every row after the oldest of them moves once.
    pub fn insert(&mut self, rows: impl IntoIterator<Item = Row>) {
        let axis = self.axis;
        let mut batch: Vec<Row> = rows.into_iter().collect();
        batch.sort_by_key(|row| axis.of(row));
        let mut end = self.rows.len();
        self.rows.extend_from_slice(&batch);
        for (before, row) in batch.iter().enumerate().rev() {
            let place = self.rows[..end].partition_point(|other| axis.of(other) <= axis.of(row));
            self.rows.copy_within(place..end, place + before + 1);
            self.rows[place + before] = *row;
            end = place;
        }
    }

    /// Ends the listing of the chosen rows and says how many there were.
    pub fn delete(&mut self, now: Micros, chosen: impl Fn(&Row) -> bool) -> usize {
        let mut deleted = 0;
        for row in self.rows.iter_mut().filter(|row| row.deleted_at.is_none() && chosen(row)) {
            row.deleted_at = Some(now);
            deleted += 1;
        }
        deleted
    }

    /// Gives a row another threat.
    pub fn judge(&mut self, id: u64, threat: Threat) {
        self.rows.iter_mut().filter(|row| row.id == Some(id)).for_each(|row| row.threat = threat);
    }

    /// Ends the listing of the row at this place.
    pub fn delete_at(&mut self, index: usize, now: Micros) {
        self.rows[index].deleted_at.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;
    use super::*;

    #[test]
    fn rows_stand_in_order_and_equal_times_in_the_order_they_came() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed, 0, 0);
            let (mut listing, mut plain) = (Listing::new(Axis::Event), Vec::new());
            for number in 0..10 {
                let batch: Vec<_> = (0..dice.below(8))
                    .map(|place| Row {
                        id: Some(number * 10 + u64::try_from(place).unwrap()),
                        content: Content::Own(0),
                        at: dice.below(12),
                        imported: dice.below(12),
                        listed_from: 0,
                        deleted_at: None,
                        organization: 0,
                        action: 0,
                        table: 1,
                        threat: Threat::default(),
                    })
                    .collect();
                plain.extend(batch.clone());
                listing.insert(batch);
            }
            plain.sort_by_key(|row| row.at);
            assert_eq!(listing.rows(), plain, "seed {seed}");
            listing.set_axis(Axis::Imported);
            assert!(listing.rows().is_sorted_by_key(|row| row.imported));
        }
    }
}
