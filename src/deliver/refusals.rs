//! When too many records are refused, the fault is not in the records.

use std::collections::VecDeque;

/// Records looked back at.
const WINDOW: usize = 1000;
/// Below this many refusals nothing is concluded.
const LEAST: usize = 20;

/// Which of the last records became dead letters.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    /// True for a refusal; oldest first.
    last: VecDeque<bool>,
}

impl Refusals {
    /// Counts a batch in.
    pub(super) fn add(&mut self, accepted: usize, refused: usize) {
        let outcomes = std::iter::repeat_n(true, refused.min(WINDOW));
        self.last.extend(std::iter::repeat_n(false, accepted.min(WINDOW)).chain(outcomes));
        let surplus = self.last.len().saturating_sub(WINDOW);
        self.last.drain(..surplus);
    }

    /// True when at least 20, and more than `percent` of the last 1,000 records, were refused.
    pub(super) fn too_many(&self, percent: usize) -> bool {
        let refused = self.count();
        refused >= LEAST && refused * 100 > self.last.len() * percent
    }

    pub(super) fn count(&self) -> usize {
        self.last.iter().filter(|refused| **refused).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(batches: &[(usize, usize)]) -> bool {
        let mut refusals = Refusals::default();
        batches.iter().for_each(|&(accepted, refused)| refusals.add(accepted, refused));
        refusals.too_many(5)
    }

    #[test]
    fn more_than_a_twentieth_of_the_last_thousand_is_too_many_but_never_fewer_than_twenty() {
        assert!(!judged(&[(0, 19)]));
        assert!(judged(&[(0, 20)]));
        assert!(!judged(&[(950, 50)]));
        assert!(judged(&[(949, 51)]));
        assert!(judged(&[(5000, 51)]));
        assert!(!judged(&[(0, 51), (1000, 0)]));
    }
}
