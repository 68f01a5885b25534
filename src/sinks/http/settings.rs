//! What the configuration says of a sink over HTTP, checked.

use std::time::Duration;

use reqwest::Url;

use super::hec::Ack;
use super::index::IndexTemplate;
use super::post::Body;
use crate::credentials::SecretSource;
use crate::reach::{Reach, is_loopback};

/// One sink over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where records go; for [`Protocol::Post`] the whole address, or only the host where the address is a secret; else
    /// what paths are appended to, ending in `/`.
    pub url: Url,
    pub auth: Auth,
    pub reach: Reach,
    /// For one request from start to end.
    pub timeout: Duration,
    /// Packs the body of requests.
    pub gzip: bool,
    /// Requests at the same time, at least 1.
    pub concurrent: usize,
    /// Bytes of records in one request before packing, unless a single one is larger.
    pub request_size: u64,
    pub protocol: Protocol,
}

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    Bulk(Bulk),
    Hec(Hec),
    Post(Post),
}

/// Whose `_bulk` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Elasticsearch,
    Opensearch,
}

/// Elasticsearch and OpenSearch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    pub product: Product,
    pub index: IndexTemplate,
    /// The index is a data stream, which knows ids only within its newest part.
    pub data_stream: bool,
    /// Records carry no `@timestamp` of their own, which a data stream needs.
    pub timestamp: bool,
}

/// Splunk's HTTP Event Collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hec {
    /// None: the index that the token says.
    pub index: Option<String>,
    /// With `{source}` and `{kind}` in it.
    pub sourcetype: String,
    pub ack: Ack,
    /// How long an acknowledgement is waited for.
    pub ack_timeout: Duration,
}

/// Anything that takes records by POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub body: Body,
    /// Where the whole address is read from, anew for each batch, where it is a secret.
    pub address: Option<SecretSource>,
}

/// How we prove who we are. Secrets are read anew for each batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    None,
    /// HTTP Basic with a user and a password.
    Basic {
        username: String,
        password: SecretSource,
    },
    /// `Authorization: SCHEME SECRET`, such as `Bearer`, `ApiKey` or `Splunk`.
    Scheme {
        scheme: &'static str,
        secret: SecretSource,
    },
    /// A header of its own.
    Header {
        name: String,
        secret: SecretSource,
    },
    /// A signature over the time and the body; see `docs/delivery.md`.
    Hmac {
        key: SecretSource,
    },
}

impl Auth {
    /// Where the secret comes from.
    pub fn source(&self) -> Option<&SecretSource> {
        match self {
            Auth::None => None,
            Auth::Basic { password: secret, .. }
            | Auth::Scheme { secret, .. }
            | Auth::Header { secret, .. }
            | Auth::Hmac { key: secret } => Some(secret),
        }
    }

    /// For people.
    pub fn as_str(&self) -> &'static str {
        match self {
            Auth::None => "none",
            Auth::Basic { .. } => "basic",
            Auth::Scheme { scheme, .. } => scheme,
            Auth::Header { .. } => "header",
            Auth::Hmac { .. } => "hmac",
        }
    }
}

impl HttpSettings {
    /// The type's key in the configuration and in the state; never changes once released.
    pub fn as_str(&self) -> &'static str {
        match &self.protocol {
            Protocol::Bulk(Bulk { product, .. }) => product.as_str(),
            Protocol::Hec(_) => "splunk_hec",
            Protocol::Post(_) => "http",
        }
    }

    /// Where the address is read from, where it is a secret.
    pub fn address(&self) -> Option<&SecretSource> {
        match &self.protocol {
            Protocol::Post(post) => post.address.as_ref(),
            Protocol::Bulk(_) | Protocol::Hec(_) => None,
        }
    }

    /// Where it goes, without what may hold a secret: of a plain POST that is all behind the host.
    pub fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        if let Protocol::Post(post) = &self.protocol {
            let more = post.address.is_some() || url.path() != "/" || self.url.query().is_some();
            url.set_path("");
            return format!("{url}{}", if more { "…" } else { "" });
        }
        url.into()
    }
}

/// A whole address, or what is wrong with it in words that show nothing of it. `plain`: not encrypted will do anywhere.
pub fn address(text: &str, plain: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(Url::has_host).ok_or("is no https://host[:port]/path")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; they go into `auth`");
    }
    match url.scheme() {
        _ if url.fragment().is_some() => Err("goes on after the path with a #; leave that out"),
        "https" => Ok(url),
        "http" if plain || is_loopback(text) => Ok(url),
        "http" => {
            Err("is plain http, which shows records and secret to everyone on the way; use https, or set \
             `http: { allow_plain: true }`")
        }
        _ => Err("has another scheme than https"),
    }
}

impl Product {
    pub fn as_str(self) -> &'static str {
        match self {
            Product::Elasticsearch => "elasticsearch",
            Product::Opensearch => "opensearch",
        }
    }
}
