//! Which young rows the table may have, found by their uid.
//!
//! Uids come in no order: an index of them in the database changes a page of it for every row, and that page would
//! go through the write-ahead log. So the table is in order of time, and 32 bits of each of its uids stand in memory,
//! in one of many buckets: four bytes a row, and room to grow. Together they are 48 bits of a uid that are as good as chance, so
//! that a row that is not here is new, and one that is here is nearly always in the table; who finds one looks there.
//!
//! What is here may be more than the table has, and is never less: a row is here before its transaction is
//! committed, and leaves only after the one that deleted it was.

use rusqlite::Connection;
use uuid::Uuid;

use super::pack::short;
use crate::store::StoreError;

/// As many as sixteen bits tell apart.
const BUCKETS: usize = 1 << 16;

#[derive(Debug)]
pub(in crate::store) struct Young {
    buckets: Vec<Vec<u32>>,
    /// Deleted in the transaction that goes on.
    leaving: Vec<(usize, u32)>,
}

impl Young {
    /// All young rows of a database.
    pub(in crate::store) fn of(db: &Connection) -> Result<Self, StoreError> {
        let mut young = Self { buckets: vec![Vec::new(); BUCKETS], leaving: Vec::new() };
        let mut rows = db.prepare("SELECT set_id, uid FROM seen")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let uid: [u8; 16] = row.get(1)?;
            young.add(row.get(0)?, Uuid::from_bytes(uid));
        }
        Ok(young)
    }

    /// Whether the table may have the row; where it is not so, it has not.
    pub(super) fn may_have(&self, set: i64, uid: Uuid) -> bool {
        let (bucket, mark) = place(set, uid);
        self.buckets[bucket].contains(&mark)
    }

    /// The row is put into the table.
    pub(super) fn add(&mut self, set: i64, uid: Uuid) {
        let (bucket, mark) = place(set, uid);
        self.buckets[bucket].push(mark);
    }

    /// The row is deleted from the table, if the transaction lasts.
    pub(super) fn leave(&mut self, set: i64, uid: Uuid) {
        self.leaving.push(place(set, uid));
    }

    /// The transaction has ended. Where not all of it lasts, what it deleted may be in the table still.
    pub(in crate::store) fn settle(&mut self, all_lasts: bool) {
        for (bucket, mark) in self.leaving.drain(..).filter(|_| all_lasts) {
            let bucket = &mut self.buckets[bucket];
            if let Some(found) = bucket.iter().position(|other| *other == mark) {
                bucket.swap_remove(found);
            }
            // The rows of a busy hour leave together, and what held them is not needed again.
            if bucket.len() < bucket.capacity() / 4 {
                bucket.shrink_to(bucket.capacity() / 2);
            }
        }
    }
}

/// The bucket of a row of a set, and its mark there.
fn place(set: i64, uid: Uuid) -> (usize, u32) {
    // An odd constant without a pattern, so that a uid in two sets stands at two places.
    let [a, b, c, d, e, f, ..] = (short(uid) ^ set.wrapping_mul(0x61c8_8646_80b5_83eb)).to_be_bytes();
    (usize::from(u16::from_be_bytes([a, b])), u32::from_be_bytes([c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;
    use crate::store::sqlite;

    fn uid(number: u8) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &[number])
    }

    /// What one transaction does, and whether all of it lasts.
    fn transactions() -> impl Strategy<Value = Vec<(Vec<(bool, u8)>, bool)>> {
        let steps = prop::collection::vec((any::<bool>(), 0..16_u8), 0..12);
        prop::collection::vec((steps, any::<bool>()), 0..12)
    }

    proptest! {
        #[test]
        fn whatever_lasts_and_whatever_not_no_row_of_the_table_is_missed(transactions in transactions()) {
            let (db, _) = sqlite::open_memory(&Clock::system()).unwrap();
            let mut young = Young::of(&db).unwrap();
            let mut table: BTreeSet<u8> = BTreeSet::new();
            for (steps, lasts) in transactions {
                let before = table.clone();
                for (enters, number) in steps {
                    if enters && table.insert(number) {
                        young.add(1, uid(number));
                    } else if !enters && table.remove(&number) {
                        young.leave(1, uid(number));
                    }
                    prop_assert!(table.iter().all(|number| young.may_have(1, uid(*number))));
                }
                if !lasts {
                    table = before;
                }
                young.settle(lasts);
                prop_assert!(table.iter().all(|number| young.may_have(1, uid(*number))));
            }
        }
    }

    #[test]
    fn a_row_that_left_is_here_no_more_and_its_room_is_given_back() {
        let (db, _) = sqlite::open_memory(&Clock::system()).unwrap();
        let mut young = Young::of(&db).unwrap();
        let uid = |number: u32| Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes());
        (0..200_000).for_each(|number| young.add(1, uid(number)));
        let room = |young: &Young| young.buckets.iter().map(Vec::capacity).sum::<usize>();
        assert!(room(&young) < 2 * 200_000 + 4 * BUCKETS, "{} marks have room", room(&young));
        (0..200_000).for_each(|number| young.leave(1, uid(number)));
        young.settle(true);
        assert!((0..200_000).all(|number| !young.may_have(1, uid(number))));
        assert!(room(&young) < 4 * BUCKETS, "{} marks have room", room(&young));
        young.add(1, uid(1));
        assert!(!young.may_have(2, uid(1)), "in another set it is another row");
    }
}
