//! One memory budget for the process, in bytes.
//!
//! Whoever is about to hold bytes of foreign size (a page, a queue, a batch) reserves them first. The rule
//! that keeps it free of deadlocks: *nobody waits for memory while holding some*. [`Budget::reserve`] waits
//! in order of arrival and is called with empty hands; [`Reservation::try_grow`] never waits, and a reader
//! that cannot grow lets go of everything and comes back with a larger reservation.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit; reservations are rounded up to it.
const UNIT: u64 = 1024;

/// The memory that all readers, queues and batches of the process share.
#[derive(Clone, Debug)]
pub struct Budget {
    permits: Arc<Semaphore>,
    units: u32,
}

impl Budget {
    /// A budget of `bytes`, at least one KiB and at most 4 TiB.
    pub fn new(bytes: u64) -> Self {
        // A semaphore cannot hold more than an eighth of the address space, which 32 bits may exceed on small machines.
        let units = units_of(bytes).min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { permits: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits until `bytes` are free, first come first served. A wish above the whole budget gets the whole
    /// budget, alone. Call it with empty hands: holding one reservation while waiting for another can block
    /// the process.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let wanted = units_of(bytes).min(self.units);
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await;
        Reservation { permit: permit.expect("the budget is never closed"), budget: self.clone() }
    }

    /// So many bytes if they are free and nobody waits for them, also for somebody who holds some already; never
    /// waits.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let wanted = units_of(bytes).min(self.units);
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(wanted).ok()?;
        Some(Reservation { permit, budget: self.clone() })
    }

    /// Bytes in the budget.
    pub fn total(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.total() - self.permits.available_permits() as u64 * UNIT
    }
}

/// Bytes set aside until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    budget: Budget,
}

impl Reservation {
    /// Bytes set aside.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT
    }

    /// Grows to `bytes` if that much is free and nobody waits for it; never waits. The holder of the whole
    /// budget may always grow: it is alone.
    #[must_use = "without the memory the holder has to let go"]
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let wanted = units_of(bytes).min(self.budget.units) as usize;
        let missing = wanted.saturating_sub(self.permit.num_permits());
        let Ok(missing) = u32::try_from(missing) else { return false };
        match Arc::clone(&self.budget.permits).try_acquire_many_owned(missing) {
            Ok(more) => {
                self.permit.merge(more);
                true
            }
            Err(_) => false,
        }
    }

    /// Gives back what is above `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let surplus = self.permit.num_permits().saturating_sub(units_of(bytes) as usize);
        drop(self.permit.split(surplus));
    }
}

fn units_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_wish_above_the_whole_budget_gets_it_alone() {
        let budget = Budget::new(8 * UNIT);
        let small = budget.reserve(1).await;
        assert!(timeout(SOON, budget.reserve(100 * UNIT)).await.is_err(), "somebody else holds memory");
        drop(small);
        let mut whole = budget.reserve(100 * UNIT).await;
        assert_eq!(budget.used(), budget.total());
        assert!(whole.try_grow(200 * UNIT));
        assert!(timeout(SOON, budget.reserve(1)).await.is_err());
        drop(whole);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn growing_never_overtakes_somebody_who_waits() {
        let budget = Budget::new(10 * UNIT);
        let mut first = budget.reserve(4 * UNIT).await;
        assert!(first.try_grow(5 * UNIT));
        let waiting = {
            let budget = budget.clone();
            tokio::spawn(async move { budget.reserve(8 * UNIT).await.bytes() })
        };
        tokio::time::sleep(SOON).await;
        assert!(!first.try_grow(6 * UNIT), "five units are free, but they are spoken for");
        drop(first);
        assert_eq!(waiting.await.unwrap(), 8 * UNIT);
    }

    proptest! {
        #[test]
        fn what_is_used_is_the_sum_of_what_is_held(wishes in proptest::collection::vec((0u64..20_000, 0u64..40_000, 0u64..40_000), 1..20)) {
            let budget = Budget::new(1 << 20);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut held = Vec::new();
            for (bytes, grown, shrunk) in wishes {
                let mut reservation = runtime.block_on(budget.reserve(bytes));
                prop_assert!(reservation.bytes() >= bytes);
                prop_assert!(reservation.try_grow(grown) && reservation.bytes() >= grown);
                reservation.shrink(shrunk);
                prop_assert!(reservation.bytes() < shrunk.max(1) + UNIT);
                held.push(reservation);
                prop_assert_eq!(budget.used(), held.iter().map(Reservation::bytes).sum::<u64>());
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
