//! One file a source.

pub mod computers;
pub mod system_audit;
pub mod unified_audit;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::model::OrganizationId;
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

/// The hash of the values as the vendor wrote them.
fn content(values: &[Option<&RawValue>]) -> [u8; 16] {
    let mut parts = [&b""[..]; 16];
    let parts = &mut parts[..values.len()];
    for (part, value) in parts.iter_mut().zip(values) {
        *part = value.map_or(&b"null"[..], |value| value.get().as_bytes());
    }
    digest(parts)
}
