//! What a sink wants of all that is collected. What it does not want is passed over for it, and counts as delivered.

use std::collections::HashSet;
use std::fmt;

use crate::format::{self, Encoded};
use crate::model::{Entry, Kind};
use crate::record::event::Severity;

/// What a sink wants; an empty list wants everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    pub kinds: Vec<Kind>,
    pub sources: Vec<&'static str>,
    pub sites: Vec<String>,
    /// Ids, names, or short names (`{org_slug}`), in lower case.
    pub organizations: Vec<String>,
    /// The least severity of events; one that is unknown passes, and so does what is no event.
    pub severity: Option<Severity>,
}

impl Select {
    /// Whether it wants everything there is.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether no record can be wanted by both, as far as their lists tell. An organization has several names, so those
    /// tell nothing.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        fn apart<T: PartialEq>(one: &[T], other: &[T]) -> bool {
            !one.is_empty() && !other.is_empty() && !one.iter().any(|wanted| other.contains(wanted))
        }
        apart(&self.kinds, &other.kinds)
            || apart(&self.sources, &other.sources)
            || apart(&self.sites, &other.sites)
    }

    /// Whether it wants anything of a site.
    pub fn takes_site(&self, site: &str) -> bool {
        wants(&self.sites, site)
    }

    /// Whether it wants any entry of a source of a site.
    pub fn takes_source(&self, site: &str, source: &str) -> bool {
        self.takes_site(site) && (self.sources.is_empty() || self.sources.contains(&source))
    }

    /// Whether it wants any record of an entry; `organizations` are the ids that those of the list stand for.
    pub fn takes_entry(&self, entry: &Entry<'_>, organizations: &HashSet<String>) -> bool {
        self.organizations.is_empty() || organizations.contains(entry.organization)
    }

    /// Leaves of the records that were appended to `out` from `start` on those that it wants.
    pub fn retain(&self, start: usize, out: &mut Vec<u8>, records: &mut Vec<Encoded>) {
        format::retain(start, out, records, |record| self.takes_record(record));
    }

    fn takes_record(&self, record: &Encoded) -> bool {
        let severe = match (self.severity, record.severity) {
            (Some(least), Some(severity)) => severity >= least || severity == Severity::Unknown,
            _ => true,
        };
        severe && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
    }
}

fn wants(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|wanted| wanted == name)
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let severity = self.severity.map(|least| format!("events from severity {} on", least.as_str()));
        let parts = [
            ("kinds", kinds.join(", ")),
            ("sources", self.sources.join(", ")),
            ("sites", self.sites.join(", ")),
            ("organizations", self.organizations.join(", ")),
        ];
        let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
        let parts = parts.map(|(what, list)| format!("{what} {list}")).chain(severity);
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn record(kind: Kind, severity: Option<Severity>) -> Encoded {
        Encoded {
            end: 0,
            uid: Uuid::nil(),
            kind,
            severity,
            time: None,
            host: None,
            device: None,
            unknown: false,
        }
    }

    #[test]
    fn an_event_whose_severity_nobody_knows_is_never_passed_over() {
        let select = Select { severity: Some(Severity::Medium), ..Select::default() };
        let takes = |severity| select.takes_record(&record(Kind::Event, severity));
        assert!(takes(Some(Severity::Unknown)) && takes(None) && takes(Some(Severity::Medium)));
        assert!(takes(Some(Severity::High)) && !takes(Some(Severity::Low)));
        let devices = Select { kinds: vec![Kind::Device], ..select };
        assert!(!devices.takes_record(&record(Kind::Event, None)));
        assert!(devices.takes_record(&record(Kind::Device, None)));
    }

    proptest! {
        #[test]
        fn what_is_left_of_several_records_are_the_wanted_ones_whole(
            wanted in prop::collection::vec((any::<bool>(), 1..9_usize), 0..8),
        ) {
            let (mut out, mut records, mut left) = (b"before".to_vec(), Vec::new(), Vec::new());
            for (place, (wanted, length)) in wanted.iter().enumerate() {
                let bytes = vec![u8::try_from(place).unwrap(); *length];
                out.extend_from_slice(&bytes);
                let kind = if *wanted { Kind::Event } else { Kind::Device };
                records.push(Encoded { end: out.len(), ..record(kind, None) });
                left.extend(wanted.then_some(bytes));
            }
            let select = Select { kinds: vec![Kind::Event], ..Select::default() };
            select.retain(6, &mut out, &mut records);
            prop_assert_eq!(&out[..6], b"before");
            let mut start = 6;
            let found: Vec<Vec<u8>> = records
                .iter()
                .map(|record| out[std::mem::replace(&mut start, record.end)..record.end].to_vec())
                .collect();
            prop_assert_eq!(found, left);
            prop_assert_eq!(start, out.len());
        }
    }
}
