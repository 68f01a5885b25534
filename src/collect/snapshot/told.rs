//! What rows tell that are listed as a whole and are events: each is told once, once more for each change that counts, and
//! what lasts once more when it ends. What ended before anybody asked is remembered and not told; nothing is told to be
//! gone.

use super::page::{Made, Page, hex};
use crate::collect::ListedRow;
use crate::model::{Change, Micros, folded, uid};
use crate::normalise::{digest, fingerprint_of};
use crate::source::{Lasting, Source, by_name};
use crate::store::snapshots::{self, Known, Presence};
use crate::store::{StoreError, WriterDb};

impl Page {
    /// The entries that a listed row gives.
    pub(super) fn tell(
        &self,
        db: &WriterDb,
        organization: i64,
        row: &ListedRow,
    ) -> Result<Vec<Made>, StoreError> {
        let (Some(id), Some(source)) = (row.vendor_id.as_deref(), by_name(self.settings.source)) else {
            return Ok(Vec::new());
        };
        let (set, id, mut made) = (self.settings.set, &*folded(id), Vec::new());
        let text = std::str::from_utf8(&row.body).unwrap_or_default();
        let lasting = source.lasting(text, self.now);
        let print = self.print_of_told(text, &lasting);
        let mut known = snapshots::get(db, set, organization, id)?;
        if let Some(known) = known.as_mut().filter(|known| known.fingerprint != print) {
            // Other members may have counted when it was told: its row tells.
            let row = String::from_utf8_lossy(&known.row);
            let had_ended = known.fingerprint.last() == Some(&1);
            let lasting = Lasting { has_ended: had_ended, ..source.lasting(&row, self.now) };
            let anew = self.print_of_told(&row, &lasting);
            if known.fingerprint != anew {
                snapshots::set_fingerprint(db, set, organization, id, &anew)?;
                known.fingerprint = anew;
            }
        }
        if let Some(known) = known.as_ref().filter(|known| known.fingerprint == print) {
            // It was left out for a while, and is the same.
            if known.presence != Presence::Present {
                snapshots::set_presence(db, set, organization, id, Presence::Present)?;
            }
            return Ok(made);
        }
        let times = snapshots::enter(db, set, organization, id, &print)?;
        let since = self.history.unwrap_or(Micros::MIN);
        let is_before = |at: Option<Micros>| at.is_some_and(|at| at < since);
        let ended = lasting.to.map_or_else(String::new, |end| end.to_string());
        let ended = format!("ended@{ended}/{times}");
        let mut entry = |change, occurrence: &str, time: Option<Micros>, previous| {
            made.push(self.told(source, row, organization, (change, occurrence), time, previous));
        };
        let end = lasting.to.filter(|end| *end <= self.now);
        match &known {
            None => {
                let is_over = lasting.has_ended || lasting == Lasting::default();
                let began = lasting.from.or(row.at);
                if !(is_over && is_before(began)) {
                    entry(Change::New, "told", began, None);
                }
                if lasting.has_ended && !is_before(lasting.to) {
                    entry(Change::Changed, &ended, end, None);
                }
            }
            // What ended before is as little told when the portal says something else of it.
            Some(_) if lasting.has_ended && is_before(lasting.to) => {}
            Some(known) => {
                let changed = format!("{}/{times}", hex(&print));
                let (occurrence, time) = if lasting.has_ended { (&ended, end) } else { (&changed, None) };
                entry(Change::Changed, occurrence, time, Some(&known.row));
            }
        }
        let known =
            Known { fingerprint: print, row: row.body.to_vec(), presence: Presence::Present, restated: 0 };
        snapshots::set(db, set, organization, id, &known, self.now)?;
        Ok(made)
    }

    /// Of all that counts as a change: what the operator names, and what the source knows to.
    fn print_of_told(&self, row: &str, lasting: &Lasting) -> Vec<u8> {
        let private = self.settings.filter.private.as_deref();
        let names: Vec<&str> =
            private.map(|private| private.changes.iter().map(String::as_str).collect()).unwrap_or_default();
        let named = fingerprint_of(row, &names).unwrap_or_default();
        let mut print = digest(&[&lasting.print, &named]).to_vec();
        print.push(u8::from(lasting.has_ended));
        print
    }

    fn told(
        &self,
        source: &dyn Source,
        row: &ListedRow,
        organization_key: i64,
        (change, occurrence): (Change, &str),
        time: Option<Micros>,
        previous: Option<&Vec<u8>>,
    ) -> Made {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let vendor_id = row.vendor_id.clone().unwrap_or_default();
        let organization = row.organization.as_str();
        Made {
            uid: uid(organization, source.name(), &vendor_id, source.kind().as_str(), occurrence),
            change,
            organization_key,
            organization: organization.to_owned(),
            vendor_id,
            row: text(&row.body),
            previous: previous.map(|row| text(row)),
            time: time.unwrap_or(self.now),
            sighting: row.sighting.clone(),
            silent: false,
            replaces: None,
        }
    }
}
