//! What can be set for each connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Value, ValueKind};
use bytesize::ByteSize;
use chrono::NaiveDate;
use reqwest::Url;
use reqwest::header::HeaderName;
use secrecy::SecretString;

use super::folder::{BrokenSite, Folder};
use super::layers::{Environment, Table, merged};
use super::mistake::Mistakes;
use super::reader::{Section, found, quoted, scalar};
use super::source::{Common, SourceConfig, Sources, of_connection};
use super::{days, is_word};
use crate::collect::listing::OwnRows;
use crate::credentials::SecretSource;
use crate::model::OrganizationId;
use crate::reach::{certificates, is_loopback};

/// One registered portal account.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The user's label; letters, digits, `.`, `_` and `-`, since it stands in file names.
    pub site: String,
    /// `scheme://host[:port]`, without a path; plain http only to loopback.
    pub base_url: String,
    pub access: Access,
    /// For [`Access::AuthKey`].
    pub auth_key: AuthKey,
    pub token: SecretSource,
    /// `None`: unknown, which is not the same as never.
    pub token_expiry: Option<TokenExpiry>,
    pub organizations: Organizations,
    /// The token's own organization, where it is not to be discovered.
    pub organization_id: Option<OrganizationId>,
    /// Whom to tell when the token lapses.
    pub contact: Option<String>,
    pub rate: Rate,
    pub http: Http,
    /// Every known source by its name, also those that are not enabled.
    pub sources: BTreeMap<&'static str, SourceConfig>,
    /// How often organizations are discovered.
    pub discover_every: Duration,
    /// Its folder, where it does not stand in a list.
    pub folder: Option<PathBuf>,
    /// By how much the intervals of its sources are lengthened; 1 unless `rate.stretch` is set and needed.
    pub stretch: f64,
    /// What becomes of the rows that our own requests write.
    pub own_rows: OwnRows,
}

/// How a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A portal token: everything.
    Portal,
    /// A portal token: reports only, of which one gives the devices.
    Reports,
    /// A key that ThreatLocker gives out: reports only (contract section 3.4). Nobody has seen this work.
    AuthKey,
}

impl Access {
    /// As in the configuration; never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Reports => "reports",
            Self::AuthKey => "auth_key",
        }
    }
}

/// Where the reports of [`Access::AuthKey`] are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthKey {
    /// The header that carries the key.
    pub header: String,
    /// What stands between the host and the paths of the reports.
    pub path: String,
}

impl AuthKey {
    /// As it is where nothing is set: where a token goes.
    fn usual() -> Self {
        Self { header: "Authorization".to_owned(), path: "portalapi".to_owned() }
    }
}

/// When the portal lets the token lapse (contract section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenExpiry {
    /// Sliding: after so long without use.
    UnusedFor(Duration),
    /// At the start of this day, UTC.
    At(NaiveDate),
}

/// Which organizations are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Organizations {
    /// Only the token's own.
    Own,
    /// Its own and everything below.
    All,
    /// These, by name or id.
    Only(Vec<String>),
}

/// The pace towards the portal; connections with the same token share it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second; `None` for `unlimited`, which is allowed to loopback only.
    pub per_second: Option<f64>,
    /// Requests at the same time, at least 1.
    pub concurrent: usize,
    /// Polls less often where the requests do not suffice.
    pub stretch: bool,
}

/// How the portal is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// URL without credentials; `None`: what `HTTPS_PROXY` says, except towards loopback.
    pub proxy: Option<String>,
    /// Hosts that bypass the proxy, separated by commas; `None`: what `NO_PROXY` says.
    pub no_proxy: Option<String>,
    /// PEM file with certificates to trust beside the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// Accepts any certificate.
    pub insecure_skip_verify: bool,
    /// For one request from start to end.
    pub timeout: Duration,
    /// Bytes that one answer may have, unpacked.
    pub body_limit: u64,
}

/// Reads connections one after another: no two may have the same site.
pub(super) struct Reader<'a> {
    template: &'a Table,
    common: &'a Common,
    environment: &'a Environment,
    /// Sites so far in lower case, and where they stand.
    sites: BTreeMap<String, String>,
    pub(super) connections: Vec<Connection>,
    /// The merged settings of each, for `config --effective`.
    pub(super) trees: Vec<Value>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(template: &'a Table, common: &'a Common, environment: &'a Environment) -> Self {
        let (sites, connections, trees) = Default::default();
        Self { template, common, environment, sites, connections, trees }
    }

    /// Takes in an entry of the list.
    pub(super) fn entry(&mut self, path: String, own: &Table, mistakes: &Mistakes) {
        let (connection, tree) = self.read(path.clone(), path, own, mistakes);
        self.connections.extend(connection);
        self.trees.push(tree);
    }

    /// Takes in a folder, or answers what is wrong with it.
    pub(super) fn folder(&mut self, folder: Folder) -> Option<BrokenSite> {
        let Folder { site, path, mistakes, settings } = folder;
        let place = path.display().to_string();
        let (connection, tree) = match mistakes.count() {
            0 => self.read(String::new(), place, &settings, &mistakes),
            _ => (None, Value::new(None, ValueKind::Nil)),
        };
        let mistakes = mistakes.into_vec();
        if !mistakes.is_empty() {
            return Some(BrokenSite::new(&site, &path, &mistakes));
        }
        self.connections.extend(connection.map(|connection| Connection { folder: Some(path), ..connection }));
        self.trees.push(tree);
        None
    }

    fn read(
        &mut self,
        path: String,
        place: String,
        own: &Table,
        mistakes: &Mistakes,
    ) -> (Option<Connection>, Value) {
        let mut tree = merged(self.template.clone(), unlimited_in_full(own.clone()));
        let section = Section::at(path, &tree, mistakes);
        let site: Option<String> =
            section.named("site", "a short label for this account, such as `site: acme`");
        if let Some(earlier) = site.as_ref().and_then(|site| self.sites.insert(site.to_lowercase(), place)) {
            section
                .mistake("site", format!("is the same as in {earlier}; every site needs a name of its own"));
        }
        let checked = check(section, site, self.common, self.environment);
        let connection = checked.map(|(connection, sources)| {
            tree.insert("sources".to_owned(), Value::new(None, ValueKind::Table(sources)));
            connection
        });
        (connection, Value::new(None, ValueKind::Table(tree)))
    }
}

/// `rate: unlimited` is short for `rate: { per_second: unlimited }`.
fn unlimited_in_full(mut own: Table) -> Table {
    if let Some(rate) = own.get_mut("rate")
        && is_word(rate, "unlimited")
    {
        let origin = rate.origin().map(str::to_owned);
        let inner = Value::new(origin.as_ref(), ValueKind::String("unlimited".to_owned()));
        rate.kind = ValueKind::Table([("per_second".to_owned(), inner)].into_iter().collect());
    }
    own
}

fn check(
    section: Section<'_>,
    site: Option<String>,
    common: &Common,
    environment: &Environment,
) -> Option<(Connection, Table)> {
    let site = site.and_then(|site| site_name(&section, site));
    let base_url = base_url(&section);
    let token = secret(&section, "token", environment);
    let token_expiry = token_expiry(&section);
    let organizations = organizations(&section);
    let organization_id = organization_id(&section);
    let contact = optional(&section, "contact");
    let access = access(&section);
    let auth_key = section.section("auth_key").and_then(auth_key);
    if access == Some(Access::AuthKey) && organization_id == Some(None) {
        section.mistake(
            "organization_id",
            "is missing; with `access: auth_key` nothing tells whose key it is: write the id of the organization",
        );
    }
    if access.is_some_and(|access| access != Access::AuthKey)
        && auth_key.as_ref().is_some_and(|key| *key != AuthKey::usual())
    {
        section.mistake("auth_key", "counts with `access: auth_key` alone; remove it, or set that");
    }
    let own_rows = own_rows(&section);
    if access == Some(Access::AuthKey) && matches!(organizations, Some(Organizations::Only(_))) {
        section.mistake("organizations", "expected own or all; `access: auth_key` lists no organizations");
    }
    let rate = section.section("rate").and_then(|rate_section| rate(rate_section, base_url.as_deref()));
    let http = section.section("http").and_then(http);
    let sources = of_connection(&section, common, base_url.as_deref(), access.unwrap_or(Access::Portal));
    section.close();
    let Sources { each, discover_every, tree } = sources?;
    let connection = Connection {
        site: site?,
        base_url: base_url?,
        access: access?,
        auth_key: auth_key?,
        token: token?,
        token_expiry: token_expiry?,
        organizations: organizations?,
        organization_id: organization_id?,
        contact: contact?,
        rate: rate?,
        http: http?,
        sources: each,
        discover_every,
        folder: None,
        stretch: 1.0,
        own_rows: own_rows?,
    };
    Some((connection, tree))
}

fn access(section: &Section<'_>) -> Option<Access> {
    Some(match section.word("access", &["portal", "reports", "auth_key"], &[])? {
        "reports" => Access::Reports,
        "auth_key" => Access::AuthKey,
        _ => Access::Portal,
    })
}

fn auth_key(section: Section<'_>) -> Option<AuthKey> {
    let header: Option<String> = section.required("header");
    let header = header.and_then(|header| match HeaderName::try_from(header.as_str()) {
        Ok(_) => Some(header),
        Err(_) => section.refuse(
            "header",
            format!("expected the name of a header such as Authorization, found {}", quoted(&header)),
        ),
    });
    let path: Option<String> = section.required("path");
    let path = path.and_then(|path| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "/-._~".contains(letter);
        match path.starts_with('/') && path.chars().all(fits) && !path.contains("..") {
            true => Some(path.trim_matches('/').to_owned()),
            false => {
                section.refuse("path", format!("expected a path such as /portalapi, found {}", quoted(&path)))
            }
        }
    });
    section.close();
    Some(AuthKey { header: header?, path: path? })
}

/// What becomes of the rows that our own requests write.
fn own_rows(section: &Section<'_>) -> Option<OwnRows> {
    let choice = section.word("own_reads", &["keep", "drop"], &[])?;
    let user = optional(section, "own_user")?;
    Some(if choice == "drop" { OwnRows::Drop { user } } else { OwnRows::Keep })
}

fn site_name(section: &Section<'_>, site: String) -> Option<String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if site.len() > 64 || site.starts_with('.') || !site.chars().all(fits) {
        let text =
            format!("expected up to 64 letters, digits, \".\", \"_\" or \"-\", found {}", quoted(&site));
        return section.refuse("site", text);
    }
    Some(site)
}

/// A setting that may be left out: `Some(None)` where it is, `None` for a mistake.
pub(super) fn optional<T: super::reader::Setting>(
    section: &Section<'_>,
    key: &'static str,
) -> Option<Option<T>> {
    let read = section.optional(key);
    match section.value(key) {
        None => Some(None),
        Some(_) => read.map(Some),
    }
}

fn base_url(section: &Section<'_>) -> Option<String> {
    section.takes("instance", || "text".to_owned());
    section.takes("base_url", || "URL".to_owned());
    match (section.value("instance"), section.value("base_url")) {
        (Some(_), Some(_)) => {
            section.refuse("base_url", "stands beside instance; keep one of them")
        }
        (None, None) => section.refuse(
            "instance",
            "is missing; the portal shows it under Help as \"ThreatLocker Access (G)\": write `instance: g`, or `base_url: https://…`",
        ),
        (Some(_), None) => {
            let instance = section.required::<String>("instance")?.to_lowercase();
            if instance.contains("://") {
                return section.refuse("instance", "is a URL; write it as `base_url` instead");
            }
            if instance.len() > 32 || !instance.chars().all(|letter| letter.is_ascii_alphanumeric()) {
                let text = format!("expected the letter or short name in \"ThreatLocker Access (G)\", found {}", quoted(&instance));
                return section.refuse("instance", text);
            }
            Some(format!("https://portalapi.{instance}.threatlocker.com"))
        }
        (None, Some(_)) => {
            let text = section.required::<String>("base_url")?;
            match origin_of(&text) {
                Ok(url) => Some(url),
                Err(why) => section.refuse("base_url", why),
            }
        }
    }
}

/// `scheme://host[:port]` of a URL that may be talked to.
fn origin_of(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|why| format!("expected https://host[:port], but {why}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; remove it: the token goes into `token`".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    if !(path.is_empty() || path.eq_ignore_ascii_case("/portalapi"))
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("goes on after the host; leave that out: /portalapi is added by itself".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(text) => {}
        "http" => {
            return Err(
                "plain http would show the token to the network; use https (http goes to loopback only)"
                    .to_owned(),
            );
        }
        other => return Err(format!("expected https://host[:port], found the scheme {other}")),
    }
    Ok(url.origin().ascii_serialization())
}

/// A secret, which is never in the configuration itself.
pub(super) fn secret(
    section: &Section<'_>,
    key: &'static str,
    environment: &Environment,
) -> Option<SecretSource> {
    section.takes(key, || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
    let how = "write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`";
    match section.value(key).map(|value| &value.kind) {
        None => return section.refuse(key, format!("is missing; {how}")),
        Some(ValueKind::Table(_)) => {}
        Some(_) => {
            return section.refuse(key, format!("a secret does not stand in the configuration; {how}"));
        }
    }
    let inner = section.section(key)?;
    let source = match (inner.value("file").is_some(), inner.value("env").is_some()) {
        (true, false) => inner.required::<PathBuf>("file").and_then(|path| match std::fs::read(&path) {
            Err(why) => inner.refuse("file", format!("cannot read {}: {why}", path.display())),
            Ok(bytes) if bytes.trim_ascii().is_empty() => {
                inner.refuse("file", format!("{} is empty", path.display()))
            }
            Ok(_) => Some(SecretSource::File(path)),
        }),
        (false, true) => inner.required::<String>("env").and_then(|name| match environment.get(&name) {
            Some(value) if !value.trim().is_empty() => {
                Some(SecretSource::Env { value: SecretString::from(value.trim()), name })
            }
            _ => inner.refuse("env", format!("environment variable {} is not set or empty", quoted(&name))),
        }),
        _ => {
            section.mistake(key, how);
            None
        }
    };
    inner.close();
    source
}

fn token_expiry(section: &Section<'_>) -> Option<Option<TokenExpiry>> {
    section.takes("token_expiry", || "`{ unused_for: DURATION }` or `{ at: DATE }`".to_owned());
    if section.value("token_expiry").is_none() {
        return Some(None);
    }
    const EXPECTED: &str = "expected `{ unused_for: 365d }` as ticked in the portal, or `{ at: 2027-03-01 }`";
    if !matches!(section.value("token_expiry").map(|value| &value.kind), Some(ValueKind::Table(_))) {
        return section.refuse("token_expiry", EXPECTED);
    }
    let inner = section.section("token_expiry")?;
    let expiry = match (inner.value("unused_for").is_some(), inner.value("at").is_some()) {
        (true, false) => inner.duration("unused_for", days(1), days(3650)).map(TokenExpiry::UnusedFor),
        (false, true) => inner.required("at").map(TokenExpiry::At),
        _ => section.refuse("token_expiry", EXPECTED),
    };
    inner.close();
    expiry.map(Some)
}

fn organizations(section: &Section<'_>) -> Option<Organizations> {
    const EXPECTED: &str = "expected own, all or a list of names or ids such as [\"Acme North\"]";
    section.takes("organizations", || "`own`, `all`, or a list of names or ids".to_owned());
    let value = section.value("organizations")?;
    match &value.kind {
        ValueKind::String(word) if word == "own" => Some(Organizations::Own),
        ValueKind::String(word) if word == "all" => Some(Organizations::All),
        ValueKind::Array(entries) if entries.is_empty() => {
            section.refuse("organizations", format!("is empty; {EXPECTED}"))
        }
        ValueKind::Array(entries) => {
            let names = entries.iter().map(|entry| scalar(&entry.kind)).collect::<Option<Vec<String>>>();
            match names {
                None => section
                    .refuse("organizations", format!("holds something that is no name or id; {EXPECTED}")),
                Some(names) => match repeated(&names) {
                    Some(name) => section.refuse("organizations", format!("{name:?} stands there twice")),
                    None => Some(Organizations::Only(names)),
                },
            }
        }
        other => section.refuse("organizations", format!("{EXPECTED}, found {}", found(other))),
    }
}

/// The first name that stands in a list again.
fn repeated(names: &[String]) -> Option<&String> {
    names
        .iter()
        .enumerate()
        .find(|(place, name)| names[..*place].iter().any(|one| one.eq_ignore_ascii_case(name)))
        .map(|(_, name)| name)
}

fn organization_id(section: &Section<'_>) -> Option<Option<OrganizationId>> {
    match optional::<String>(section, "organization_id")? {
        None => Some(None),
        Some(id) if id.len() == 36 && uuid::Uuid::try_parse(&id).is_ok() => {
            Some(Some(OrganizationId::new(&id)))
        }
        Some(id) => section.refuse(
            "organization_id",
            format!("expected an id such as 0fa8e7c2-5d0b-4c1f-9f5e-6a7b8c9d0e1f, found {}", quoted(&id)),
        ),
    }
}

fn rate(section: Section<'_>, base_url: Option<&str>) -> Option<Rate> {
    let unlimited = section.is_word("per_second", "unlimited");
    let per_second = if unlimited {
        if base_url.is_some_and(|base_url| !is_loopback(base_url)) {
            section.mistake("per_second", "unlimited is for loopback only; write a number such as 5");
        }
        Some(None)
    } else {
        section.number("per_second", 0.01, 100.0).map(Some)
    };
    let concurrent = section.number("concurrent", 1_u32, 64);
    let stretch = section.required("stretch");
    section.close();
    let concurrent = concurrent?.try_into().expect("at most 64");
    Some(Rate { per_second: per_second?, concurrent, stretch: stretch? })
}

fn http(section: Section<'_>) -> Option<Http> {
    let proxy = proxy(&section);
    let no_proxy = optional(&section, "no_proxy");
    let ca_file = certificate_file(&section, "ca_file");
    let insecure_skip_verify = section.required("insecure_skip_verify");
    let timeout = section.duration("timeout", Duration::from_millis(100), Duration::from_secs(600));
    let body_limit = section.size("body_limit", ByteSize::kib(64), ByteSize::gib(1));
    section.close();
    Some(Http {
        proxy: proxy?,
        no_proxy: no_proxy?,
        ca_file: ca_file?,
        insecure_skip_verify: insecure_skip_verify?,
        timeout: timeout?,
        body_limit: body_limit?,
    })
}

/// A PEM file with certificates.
pub(super) fn certificate_file(section: &Section<'_>, key: &'static str) -> Option<Option<PathBuf>> {
    match optional::<PathBuf>(section, key)? {
        Some(path) if !path.is_file() => section.refuse(key, format!("there is no file {}", path.display())),
        Some(path) => match certificates(&path) {
            Ok(_) => Some(Some(path)),
            Err(why) => section.refuse(key, why),
        },
        None => Some(None),
    }
}

pub(super) fn proxy(section: &Section<'_>) -> Option<Option<String>> {
    let Some(text) = optional::<String>(section, "proxy")? else { return Some(None) };
    match Url::parse(&text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => section.refuse(
            "proxy",
            "holds a user name or password; a secret does not stand in the configuration: set HTTPS_PROXY instead",
        ),
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.host().is_some() => Some(Some(text)),
        _ => section.refuse("proxy", format!("expected a URL such as http://proxy:3128, found {}", quoted(&text))),
    }
}
