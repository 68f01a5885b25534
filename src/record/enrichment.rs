//! What is known besides the row, as of the entry's number: the device's last state and its last user.

use crate::model::Micros;

/// What an entry's records may be completed with. The row's own word always comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Enrichment<'a> {
    /// The device on which it happened, as it last was.
    pub device: Option<KnownDevice<'a>>,
    /// Who was last logged in to it.
    pub user: Option<LastUser<'a>>,
}

/// A device as it last was before the entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownDevice<'a> {
    pub name: Option<&'a str>,
    /// The vendor's text of its operating system.
    pub os: Option<&'a str>,
    pub group: Option<&'a str>,
    pub organization: Option<&'a str>,
    /// The vendor's word for its mode.
    pub mode: Option<&'a str>,
}

/// A last logged-in user.
#[derive(Clone, Copy, Debug)]
pub struct LastUser<'a> {
    /// As the vendor writes it: `DOMAIN\user`, `user`, `AzureAD\First Last`.
    pub name: &'a str,
    pub origin: UserOrigin,
    /// When this was known.
    pub time: Option<Micros>,
}

/// Where a last user comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserOrigin {
    /// The computer's own row.
    Computer,
    /// The newest unified-audit row of the computer with a person's name.
    UnifiedAudit,
    /// A column of a report.
    Report,
}

impl UserOrigin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Computer => "computers",
            Self::UnifiedAudit => "unified_audit",
            Self::Report => "reports",
        }
    }
}
