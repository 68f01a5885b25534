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
    /// The same with a batch counted in. Of one that is larger than what is looked back at, as large a share counts as
    /// refused as was.
    pub(super) fn with(&self, accepted: usize, refused: usize) -> Self {
        let total = accepted + refused;
        let (accepted, refused) = match total > WINDOW {
            true => {
                let share = (refused * WINDOW).div_ceil(total);
                (WINDOW - share, share)
            }
            false => (accepted, refused),
        };
        let mut last = self.last.clone();
        last.extend(std::iter::repeat_n(false, accepted).chain(std::iter::repeat_n(true, refused)));
        let surplus = last.len().saturating_sub(WINDOW);
        last.drain(..surplus);
        Self { last }
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
        batches.iter().for_each(|&(accepted, refused)| refusals = refusals.with(accepted, refused));
        refusals.too_many(5)
    }

    #[test]
    fn more_than_a_twentieth_of_the_last_thousand_is_too_many_but_never_fewer_than_twenty() {
        assert!(!judged(&[(0, 19)]));
        assert!(judged(&[(0, 20)]));
        assert!(!judged(&[(950, 50)]));
        assert!(judged(&[(949, 51)]));
        assert!(!judged(&[(4750, 250)]), "a twentieth of a batch larger than what is looked back at");
        assert!(judged(&[(4749, 251)]));
        assert!(!judged(&[(0, 51), (1000, 0)]));
    }
}
