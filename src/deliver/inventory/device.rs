//! One computer as the list tells of it.

use uuid::Uuid;

use super::table::COLUMNS;
use crate::format::FormatError;
use crate::formats::rfc3339;
use crate::model::{Change, Entry, Kind, Micros};
use crate::record::About;
use crate::record::device::Device as Model;
use crate::record::enrichment::{Enrichment, LastUser};
use crate::record::row::{Row, tidy};
use crate::redact::Redaction;
use crate::source::Source;
use crate::store::inventory::Item;
use crate::store::snapshots::Presence;

/// What the list tells of a computer; what nobody knows is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    id: Option<String>,
    serial: Option<String>,
    host: Option<String>,
    os: Option<String>,
    user: Option<String>,
    user_since: Option<String>,
    last_seen: Option<String>,
    mode: Option<String>,
    site: String,
    organization: Option<String>,
    presence: &'static str,
}

impl Device {
    /// Reads it from the row as it last entered and from what is known besides, without what is to be spared.
    pub(super) fn read(
        source: &dyn Source,
        site: &str,
        item: &Item,
        user: Option<LastUser<'_>>,
        redaction: Option<&Redaction>,
    ) -> Result<Self, FormatError> {
        let row = String::from_utf8_lossy(&item.row);
        let entry = Entry {
            number: 0,
            uid: Uuid::nil(),
            kind: Kind::Device,
            change: Change::Restated,
            organization: &item.organization_id,
            vendor_id: Some(&item.vendor_id),
            time: None,
            row: &row,
            previous: None,
        };
        let known = Enrichment { user, ..Enrichment::default() };
        match redaction {
            None => {
                let mut device = Self::told(source, site, item, &entry, known)?;
                // The row's own word comes first.
                let name = item.organization_name.clone();
                device.organization = device.organization.or(name);
                Ok(device)
            }
            Some(redaction) => {
                let redacted = redaction.apply(source.name(), &entry, &known)?;
                let known = redacted.known(&known);
                Self::told(source, site, item, &redacted.entry(&entry), known)
            }
        }
    }

    fn told(
        source: &dyn Source,
        site: &str,
        item: &Item,
        entry: &Entry<'_>,
        known: Enrichment<'_>,
    ) -> Result<Self, FormatError> {
        let text = tidy(entry.row);
        let row = Row::read(source.names(), &text, usize::MAX)
            .map_err(|error| FormatError::NotJson { what: "row", reason: error.to_string() })?;
        let mut device = Self::default();
        source.read(entry, &row, None, &mut |record| {
            if let About::Device(model) = &record.about {
                device = Self::of(model);
            }
        });
        if let Some(user) = known.user {
            device.user = Some(user.name.to_owned());
            device.user_since = user.time.and_then(rfc3339);
        }
        device.last_seen = item.seen.and_then(rfc3339).or(device.last_seen);
        device.site = site.to_owned();
        device.presence = match item.presence {
            Presence::Present => "present",
            Presence::Missing => "missing",
            Presence::Unknown => "unknown",
            Presence::Removed => "removed",
        };
        Ok(device)
    }

    fn of(model: &Model<'_>) -> Self {
        let text = |field: Option<crate::record::row::Field<'_>>| Some(field?.text().into_owned());
        let seen: Option<Micros> = model.last_seen.map(|seen| seen.at);
        Self {
            id: text(model.id),
            serial: text(model.serial),
            host: text(model.hostname.or(model.name)),
            os: text(model.os),
            user: text(model.user),
            last_seen: seen.and_then(rfc3339),
            mode: text(model.mode),
            organization: text(model.organization_name.or(model.organization)),
            ..Self::default()
        }
    }

    /// In the order of the columns.
    pub(super) fn values(&self) -> [Option<&str>; COLUMNS.len()] {
        [
            self.id.as_deref(),
            self.serial.as_deref(),
            self.host.as_deref(),
            self.os.as_deref(),
            self.user.as_deref(),
            self.user_since.as_deref(),
            self.last_seen.as_deref(),
            self.mode.as_deref(),
            Some(&self.site),
            self.organization.as_deref(),
            Some(self.presence),
        ]
    }
}
