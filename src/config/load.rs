//! What polling costs: the requests a second that connections ask for, against those that are allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Connection, Organizations, SourceConfig};
use crate::credentials::SecretSource;
use crate::source::{Source, by_name};

/// Requests that an idle stream costs for each poll.
const REQUESTS_PER_POLL: f64 = 2.0;
/// Share of what is allowed that polling may need: the rest is for gaps, re-checks and busy hours.
const ROOM: f64 = 0.8;
/// Sums of fractions are not exact.
const NEARLY: f64 = 1e-9;

/// What the connections of one credential need together.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Where the token comes from at the first of its connections, and the sites that share it.
    pub token: String,
    pub sites: Vec<String>,
    /// Organizations that are listed one by one, each with walks of its own.
    pub one_by_one: usize,
    /// Requests a second that idle polling needs with the intervals as configured.
    pub configured: f64,
    /// The same with the intervals as they are, stretched where that is wanted.
    pub needed: f64,
    /// All of them want their intervals stretched; what is needed even so is needed to look for organizations.
    pub stretches: bool,
    /// Requests a second that are allowed, the least of all connections; `None` for any number.
    pub allowed: Option<f64>,
}

impl Load {
    /// What is needed as a share of what is allowed.
    pub fn share(&self) -> Option<f64> {
        self.allowed.map(|allowed| self.needed / allowed)
    }

    /// Whether more is needed than is allowed.
    pub fn is_too_much(&self) -> bool {
        self.share().is_some_and(|share| share > 1.0 + NEARLY)
    }

    /// Whether what is allowed suffices, with little left for gaps, re-checks and busy hours.
    pub fn is_narrow(&self) -> bool {
        !self.is_too_much() && self.share().is_some_and(|share| share > ROOM + NEARLY)
    }

    /// By how much polls come later than their intervals say, since the requests do not suffice.
    pub fn delay(&self) -> f64 {
        self.share().map_or(1.0, |share| share.max(1.0))
    }
}

/// The load on each credential.
pub fn loads(connections: &[Connection]) -> Vec<Load> {
    let load = |sharing: Vec<&Connection>| Load {
        token: sharing.first().map(|first| token(first)).unwrap_or_default() + &of(&sharing),
        sites: sharing.iter().map(|connection| connection.site.clone()).collect(),
        one_by_one: sharing.iter().map(|one| one_by_one(one)).sum(),
        configured: sharing.iter().map(|one| polling(one) + discovery(one)).sum(),
        needed: sharing.iter().map(|one| polling(one) / one.stretch + discovery(one)).sum(),
        stretches: sharing.iter().all(|one| one.rate.stretch),
        allowed: allowed(&sharing),
    };
    by_credential(connections.iter()).into_iter().map(load).collect()
}

/// Lengthens the intervals of connections that want it until polling with their credential leaves room.
pub(super) fn stretch(connections: &mut [Connection]) {
    for sharing in by_credential(connections.iter_mut()) {
        let shown: Vec<&Connection> = sharing.iter().map(|one| &**one).collect();
        let Some(allowed) = allowed(&shown) else { continue };
        let elastic: f64 = shown.iter().filter(|one| one.rate.stretch).map(|one| polling(one)).sum();
        let all: f64 = shown.iter().map(|one| polling(one) + discovery(one)).sum();
        let left = ROOM * allowed - (all - elastic);
        // Where the others need it all, no interval is long enough.
        if left <= 0.0 || elastic <= left {
            continue;
        }
        for connection in sharing.into_iter().filter(|one| one.rate.stretch) {
            connection.stretch = elastic / left;
        }
    }
}

impl Connection {
    /// The time between two polls of a source, stretched where that is wanted.
    pub fn every(&self, source: &SourceConfig) -> Duration {
        // Whole milliseconds, as intervals are written.
        let stretched = source.every.mul_f64(self.stretch).as_secs_f64();
        if self.stretch > 1.0 {
            Duration::from_secs_f64((stretched * 1e3).ceil() / 1e3)
        } else {
            source.every
        }
    }
}

/// Connections with the same token at the same portal, in the order of the first of them.
fn by_credential<C: std::ops::Deref<Target = Connection>>(
    connections: impl Iterator<Item = C>,
) -> Vec<Vec<C>> {
    let mut places: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut sharing: Vec<Vec<C>> = Vec::new();
    for connection in connections {
        let place = *places.entry(credential(&connection)).or_insert(sharing.len());
        if place == sharing.len() {
            sharing.push(Vec::new());
        }
        sharing[place].push(connection);
    }
    sharing
}

/// The same for all connections that share a token, wherever each has it from.
fn credential(connection: &Connection) -> [u8; 32] {
    use secrecy::ExposeSecret;
    let read;
    let token = match &connection.token {
        SecretSource::File(path) => {
            // One that cannot be read is no secret and stands for itself.
            read = std::fs::read(path).unwrap_or_else(|_| path.as_os_str().as_encoded_bytes().to_vec());
            read.trim_ascii()
        }
        SecretSource::Env { value, .. } => value.expose_secret().as_bytes(),
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(connection.base_url.as_bytes()).update(b"\n").update(token);
    *hasher.finalize().as_bytes()
}

fn allowed(sharing: &[&Connection]) -> Option<f64> {
    sharing.iter().filter_map(|connection| connection.rate.per_second).min_by(f64::total_cmp)
}

fn one_by_one(connection: &Connection) -> usize {
    match &connection.organizations {
        Organizations::Own | Organizations::All => 0,
        Organizations::Only(names) => names.len(),
    }
}

/// Requests a second for the sources of a connection when nothing happens, with its intervals as configured. What is asked
/// about requests for approval is asked when something happens, and so bounded that it holds up nothing.
fn polling(connection: &Connection) -> f64 {
    // One walk of the tree shows all.
    let walks = one_by_one(connection).max(1);
    let sources = connection.sources.iter().filter(|(_, source)| source.enabled).map(|(name, source)| {
        // Asked once, whichever organizations the site is about.
        let walks = if *name == "organizations" { 1 } else { walks };
        let streams = walks * source.tables.len().max(1) * source.filters().len();
        let parts = in_parts(name, source);
        // What is asked per computer asks for nothing where no computer changed; how many there are is not known.
        let every = if source.sweep.is_zero() || parts > 0.0 { source.every } else { source.sweep };
        let polls = 1.0 / every.as_secs_f64() + parts;
        REQUESTS_PER_POLL * f64::from(u32::try_from(streams).unwrap_or(u32::MAX)) * polls
    });
    sources.sum()
}

/// Walks a second of the parts of a source that is listed in parts, beside the one of what is pending.
fn in_parts(name: &str, source: &SourceConfig) -> f64 {
    let Some(parts) = by_name(name).and_then(Source::parts) else { return 0.0 };
    let all = f64::from(u32::try_from(parts.all.len()).unwrap_or(u32::MAX));
    (all - 1.0) / source.decided_every.as_secs_f64() + all / source.sweep.as_secs_f64()
}

fn discovery(connection: &Connection) -> f64 {
    REQUESTS_PER_POLL / connection.discover_every.as_secs_f64()
}

fn of(sharing: &[&Connection]) -> String {
    let sites: Vec<&str> = sharing.iter().map(|connection| connection.site.as_str()).collect();
    format!(" of {}", sites.join(", "))
}

fn token(connection: &Connection) -> String {
    match &connection.token {
        SecretSource::File(path) => format!("token file {}", path.display()),
        SecretSource::Env { name, .. } => format!("token variable {name}"),
    }
}
