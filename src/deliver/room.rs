//! How a sink that is far behind leaves the others their room in the outbox.

use super::Worker;
use crate::source::{Shape, by_name};
use crate::store::{StoreError, outbox, owed, replays, sinks};

/// Percent of its bound from which on the outbox has no room: a sink that works is left alone until others have to
/// wait, and one that does not makes room before.
pub(super) const FULL: u64 = 100;
pub(super) const SHORT: u64 = 95;

impl Worker {
    /// Where this sink is so far behind that the outbox is full, and another one is not, it lets go of the oldest
    /// entries: for the other one collecting has to go on.
    pub(super) async fn make_room(&mut self, percent: u64) -> Result<(), StoreError> {
        let (name, limit) = (self.name.clone(), self.settings.outbox_bytes);
        let look = move |db: &rusqlite::Connection| {
            if outbox::usage(db)?.stored_bytes / percent < limit / 100 {
                return Ok(None);
            }
            let replays = replays::next(db, &name)?.is_some();
            Ok(Some((replays, owed::stands_in_the_way(db, &name, limit)?)))
        };
        let Some((replays, behind)) = self.store.read(look).await? else { return Ok(()) };
        if replays {
            // What is kept for it takes the room of what is new.
            let name = self.name.clone();
            self.store.write(move |db| replays::give_up(db, &name)).await?;
            self.note(
                "the outbox is full: what this sink was still to deliver again was given up".to_owned(),
            );
        }
        if !behind {
            return Ok(());
        }
        // It holds what is let go now.
        self.ahead = None;
        let mut let_go = 0;
        loop {
            let (name, now) = (self.name.clone(), self.clock.now().timestamp_micros());
            match self.store.write(move |db| owed::let_go(db, &name, limit, now, is_listed_again)).await? {
                0 => break,
                entries => let_go += entries,
            }
        }
        let (name, nothing_in_doubt) = (self.name.clone(), self.recovered);
        if nothing_in_doubt {
            self.store.write(move |db| sinks::recovered(db, &name)).await?;
        }
        self.note(format!(
            "the outbox is full and this sink is far behind: it let {let_go} entries go, so that collecting goes on for \
             the others. Once it works, `lockstep backfill --sink {}` collects them for it again",
            self.name
        ));
        Ok(())
    }
}

/// Whether the portal lists the events of a source by interval: what was let go can be asked for once more.
pub(super) fn is_listed_again(source: &str) -> bool {
    by_name(source).is_some_and(|source| matches!(source.shape(), Shape::Window { .. }))
}
