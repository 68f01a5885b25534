//! What a new stream takes over from those that listed the same rows before it, in another scope.

use super::stream::{Asked, Stream, query_name, read_notes, seconds};
use crate::collect::snapshot::SnapshotNotes;
use crate::collect::window::{Earlier, Heir, Notes, beside, lasting};
use crate::coverage::Interval;
use crate::model::{OrganizationId, SECOND, Seconds};
use crate::source::Shape;
use crate::store::streams::{self, StoredStream, StreamKey, StreamRow};
use crate::store::{Store, StoreError, backfill};

impl Stream {
    /// The stream as stored, with what it takes over from others where it has not begun.
    pub(super) async fn inherited(&self, store: &Store, row: StreamRow) -> Result<StreamRow, StoreError> {
        if !row.notes.is_empty() {
            return Ok(row);
        }
        if self.asked == Asked::BesideTree {
            return self.beside_tree(store, row).await;
        }
        let (set, id, is_tree, own) = (row.set, row.id, self.scope.is_tree(), self.scope.name().to_owned());
        let earlier = store
            .read(move |db| {
                let others = streams::of_set(db, set, id)?.into_iter().filter(|other| {
                    !other.notes.is_empty() && (other.scope == "tree") != is_tree && other.scope != own
                });
                let with_intervals = others.map(|other| Ok((streams::intervals(db, other.id)?, other)));
                with_intervals.collect::<Result<Vec<(Vec<Interval>, StoredStream)>, StoreError>>()
            })
            .await?;
        if earlier.is_empty() {
            return Ok(row);
        }
        let inherited = match self.source.shape() {
            Shape::Window { .. } => self.window_of(&earlier)?,
            Shape::Snapshot { .. } | Shape::PerComputer { .. } => self.snapshot_of(&earlier)?,
        };
        let Some((notes, intervals)) = inherited else { return Ok(row) };
        let from: Vec<i64> = earlier.iter().map(|(_, other)| other.id).collect();
        tracing::info!(
            streams = from.len(),
            "goes on where others ended that listed the same rows in another scope"
        );
        let row = StreamRow { notes, intervals, ..row };
        let stored = row.clone();
        store
            .write(move |db| {
                streams::replace_intervals(db, id, (Seconds::MIN, Seconds::MAX), &stored.intervals)?;
                streams::set_notes(db, id, &stored.notes)?;
                from.iter().try_for_each(|from| backfill::hand_on(db, *from, id))
            })
            .await?;
        Ok(row)
    }

    /// What the tree does not show is owed from where the tree begins, and nothing of it is proven.
    async fn beside_tree(&self, store: &Store, row: StreamRow) -> Result<StreamRow, StoreError> {
        let (connection, source, id) = (self.connection.id, self.source.name(), row.id);
        let fingerprint = query_name(self.part, &self.filter);
        let tree = store
            .read(move |db| {
                let (scope, fingerprint) = ("tree", fingerprint.as_str());
                streams::find(db, &StreamKey { connection, source, scope, fingerprint })
            })
            .await?;
        let Some(tree) = tree.filter(|tree| !tree.notes.is_empty()) else { return Ok(row) };
        let tree: Notes = read_notes(&tree.notes, &self.connection.site, source)?;
        let horizon = self.portal.now().div_euclid(SECOND) - seconds(self.config.retention);
        let (notes, intervals) = beside(&tree, horizon);
        let row = StreamRow { notes: as_text(&notes), intervals, ..row };
        let stored = row.clone();
        store
            .write(move |db| {
                streams::replace_intervals(db, id, (Seconds::MIN, Seconds::MAX), &stored.intervals)?;
                streams::set_notes(db, id, &stored.notes)
            })
            .await?;
        Ok(row)
    }

    fn window_of(
        &self,
        earlier: &[(Vec<Interval>, StoredStream)],
    ) -> Result<Option<(String, Vec<Interval>)>, StoreError> {
        let read = |(intervals, other): &(Vec<Interval>, StoredStream)| {
            Ok(Earlier {
                organization: (other.scope != "tree").then(|| OrganizationId::new(&other.scope)),
                notes: read_notes::<Notes>(&other.notes, &self.connection.site, self.source.name())?,
                intervals: intervals.clone(),
            })
        };
        let earlier: Vec<Earlier> = earlier.iter().map(read).collect::<Result<_, StoreError>>()?;
        let now = self.portal.now().div_euclid(SECOND);
        let (edge, retention) = (now - seconds(self.config.settle), seconds(self.config.retention));
        let heir = Heir {
            scope: &self.scope,
            members: self.members.as_deref(),
            start: (edge - seconds(self.config.backfill)).max(lasting(now, retention)),
            horizon: now - retention,
            edge,
        };
        Ok(heir.inherit(&earlier).map(|(notes, intervals)| (as_text(&notes), intervals)))
    }

    /// Of what is listed as a whole the rows are known anyway; what counts is when its events begin to be told.
    fn snapshot_of(
        &self,
        earlier: &[(Vec<Interval>, StoredStream)],
    ) -> Result<Option<(String, Vec<Interval>)>, StoreError> {
        let read = |(_, other): &(Vec<Interval>, StoredStream)| {
            read_notes::<SnapshotNotes>(&other.notes, &self.connection.site, self.source.name())
        };
        let earlier: Vec<SnapshotNotes> = earlier.iter().map(read).collect::<Result<_, _>>()?;
        let notes = SnapshotNotes {
            began: earlier.iter().filter_map(|one| one.began).min(),
            restated: earlier.iter().map(|one| one.restated).min().unwrap_or_default(),
            ..SnapshotNotes::default()
        };
        Ok(Some((as_text(&notes), Vec::new())))
    }
}

fn as_text(notes: &impl serde::Serialize) -> String {
    serde_json::to_string(notes).expect("notes hold only numbers and text")
}
