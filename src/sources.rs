//! One file a source.

pub mod computers;
pub mod system_audit;
pub mod unified_audit;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::model::{Micros, OrganizationId};
use crate::normalise::{digest, is_zero_guid, text};

/// A row's organization; the zero GUID means none.
fn organization(value: Option<&RawValue>) -> OrganizationId {
    text(value)
        .filter(|id| !is_zero_guid(id))
        .map_or_else(OrganizationId::none, |id| OrganizationId::new(&id))
}

/// An id that can tell rows apart: text that is not the zero GUID.
fn id(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    text(value).filter(|id| !is_zero_guid(id))
}

/// The hash of a row's unchanging values as the vendor wrote them. Of a row without a time it is not known
/// which values those are, so all of it counts.
fn content(row: &str, at: Option<Micros>, values: &[Option<&RawValue>]) -> [u8; 16] {
    if at.is_none() {
        return digest(&[row.as_bytes()]);
    }
    let mut parts = [&b""[..]; 16];
    let parts = &mut parts[..values.len()];
    for (part, value) in parts.iter_mut().zip(values) {
        *part = value.map_or(&b"null"[..], |value| value.get().as_bytes());
    }
    digest(parts)
}
