//! What can be set for the sinks over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;
use bytesize::ByteSize;
use reqwest::Url;
use reqwest::header::HeaderName;
use secrecy::ExposeSecret;

use super::super::connection::{certificate_file, optional, proxy, secret};
use super::super::layers::Environment;
use super::super::reader::{Section, quoted};
use crate::credentials::{SecretSource, read_secret_now};
use crate::reach::{Reach, identity, is_loopback};
use crate::select::Select;
use crate::sink::SinkKind;
use crate::sinks::http::{
    Ack, Auth, Body, Bulk, Hec, HttpSettings, IndexTemplate, Post, Product, Protocol, address,
};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Headers that a request has of its own.
const TAKEN_HEADERS: [&str; 8] = [
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "host",
    "idempotency-key",
    "x-timestamp",
    "x-signature",
];

/// Reads the settings of `kind`, the word of `type`.
pub(super) fn read(kind: &str, section: &Section<'_>, environment: &Environment) -> Option<SinkKind> {
    let (protocol, auth) = match kind {
        "splunk_hec" => {
            let token = secret(section, "token", environment);
            (hec(section), token.map(|secret| Auth::Scheme { scheme: "Splunk", secret }))
        }
        "http" => {
            let form = section.word("body", &["ndjson", "array"], &[]);
            let body = form.map(|word| if word == "array" { Body::Array } else { Body::Ndjson });
            let auth = auth(section, &["none", "basic", "bearer", "header", "hmac"], environment);
            (body.map(|body| Protocol::Post(Post { body, address: None })), auth)
        }
        _ => {
            let auth = auth(section, &["none", "basic", "api_key", "bearer"], environment);
            (bulk(kind, section), auth)
        }
    };
    let gzip = section.word("compression", &["gzip", "none"], &[]);
    let concurrent = section.number("concurrent", 1_u32, 16);
    let request_size = section.size("request_size", ByteSize::kib(16), ByteSize::mib(64));
    let way = section.section("http").and_then(|inner| way(&inner));
    let allow_plain = way.as_ref().is_some_and(|way| way.allow_plain);
    let (url, address) = match section.value("url").map(|value| &value.kind) {
        Some(ValueKind::Table(_)) if kind == "http" => hidden(section, environment, allow_plain)
            .map_or((None, None), |(host, from)| (Some(host), Some(from))),
        _ => (url(section, kind, allow_plain), None),
    };
    let protocol = protocol.map(|protocol| match protocol {
        Protocol::Post(post) => Protocol::Post(Post { address, ..post }),
        other => other,
    });
    let Way { reach, timeout, .. } = way?;
    let settings = HttpSettings {
        url: url?,
        auth: auth?,
        reach,
        timeout,
        gzip: gzip? == "gzip",
        concurrent: usize::try_from(concurrent?).expect("at most 16"),
        request_size: request_size?,
        protocol: protocol?,
    };
    Some(SinkKind::Http(Box::new(settings)))
}

/// What two sinks must not share: the key that says so, and why. What they want may tell their records apart.
/// `sites`: the labels of all sites, where they are known.
pub(super) fn clash(
    (one, other): (&HttpSettings, &HttpSettings),
    (wanted, also): (&Select, &Select),
    sites: Option<&[&str]>,
) -> Option<(&'static str, &'static str)> {
    if one.url != other.url || wanted.is_apart_from(also) {
        return None;
    }
    match (&one.protocol, &other.protocol) {
        // Under one id, the second of two records would be taken for the first.
        (Protocol::Bulk(one), Protocol::Bulk(other)) => {
            one.index.may_meet(&other.index, sites).then_some(("index", "could be an index of"))
        }
        (Protocol::Hec(hec), Protocol::Hec(also)) => {
            let same =
                (&hec.index, &hec.sourcetype) == (&also.index, &also.sourcetype) && one.auth == other.auth;
            same.then_some(("url", "writes to the same place as"))
        }
        (Protocol::Post(post), Protocol::Post(also)) => {
            let same = post.address == also.address && one.auth == other.auth;
            same.then_some(("url", "writes to the same place as"))
        }
        _ => None,
    }
}

/// An address that is a secret: its host, and where it is read from.
fn hidden(
    section: &Section<'_>,
    environment: &Environment,
    allow_plain: bool,
) -> Option<(Url, SecretSource)> {
    let source = secret(section, "url", environment)?;
    let text = match read_secret_now(&source) {
        Ok(text) => text,
        Err(error) => return section.refuse("url", error.to_string()),
    };
    match address(text.expose_secret(), allow_plain) {
        Ok(mut url) => {
            url.set_path("");
            url.set_query(None);
            Some((url, source))
        }
        Err(why) => section.refuse("url", format!("the address in {source} {why}")),
    }
}

fn url(section: &Section<'_>, kind: &str, allow_plain: bool) -> Option<Url> {
    if kind == "http" {
        section.takes("url", || "or `{ file: PATH }` or `{ env: VARIABLE }` of `http`".to_owned());
    }
    let text: String = section.named("url", "`url: https://host:port`")?;
    let url = match Url::parse(&text) {
        Ok(url) if url.has_host() => url,
        _ => return section.refuse("url", format!("expected https://host[:port], found {}", quoted(&text))),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return section.refuse("url", "holds a user name or password; remove it: they go into `auth`");
    }
    if url.fragment().is_some() || (kind != "http" && url.query().is_some()) {
        return section.refuse("url", "goes on after the path; leave that out");
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_plain || is_loopback(&text) => {}
        "http" => {
            return section.refuse(
                "url",
                "plain http would show records and secret to everyone on the way; use https, or set `http: { \
                 allow_plain: true }`",
            );
        }
        other => {
            return section.refuse("url", format!("expected https://host[:port], found the scheme {other}"));
        }
    }
    if kind == "http" { Some(url) } else { Some(appendable(url, kind)) }
}

/// The address to which paths are appended, also when somebody wrote one of them.
fn appendable(mut url: Url, kind: &str) -> Url {
    let path = url.path().trim_end_matches('/');
    let path = match kind {
        "splunk_hec" => path.split("/services/collector").next().unwrap_or_default(),
        _ => path.strip_suffix("/_bulk").unwrap_or(path),
    };
    let path = format!("{path}/");
    url.set_path(&path);
    url
}

fn bulk(kind: &str, section: &Section<'_>) -> Option<Protocol> {
    let product = if kind == "opensearch" { Product::Opensearch } else { Product::Elasticsearch };
    let data_stream = section.required("data_stream");
    let index: Option<String> = section.required("index");
    let index = index.and_then(|text| match IndexTemplate::parse(&text) {
        Ok(index) if data_stream == Some(true) && index.has_date() => section.refuse(
            "index",
            "tells days apart, which a data stream does by itself; write one such as `threatlocker-{kind}s`",
        ),
        Ok(index) => Some(index),
        Err(mistake) => section.refuse("index", mistake.to_string()),
    });
    Some(Protocol::Bulk(Bulk { product, index: index?, data_stream: data_stream?, timestamp: false }))
}

fn hec(section: &Section<'_>) -> Option<Protocol> {
    let index = optional::<String>(section, "index");
    let sourcetype = section.required::<String>("sourcetype").and_then(|text| {
        let rest = text.replace("{source}", "").replace("{kind}", "");
        if rest.contains(['{', '}']) {
            return section.refuse("sourcetype", "has another placeholder than {source} and {kind}");
        }
        Some(text)
    });
    let ack = match section.word("ack", &["auto", "on", "off"], &[]) {
        Some("on") => Some(Ack::On),
        Some("off") => Some(Ack::Off),
        Some(_) => Some(Ack::Auto),
        None => None,
    };
    let ack_timeout = section.duration("ack_timeout", Duration::from_secs(1), Duration::from_secs(3600));
    Some(Protocol::Hec(Hec { index: index?, sourcetype: sourcetype?, ack: ack?, ack_timeout: ack_timeout? }))
}

fn auth(section: &Section<'_>, known: &[&'static str], environment: &Environment) -> Option<Auth> {
    let inner = section.section("auth")?;
    let kind = inner.word("type", known, &[]);
    let username = optional::<String>(&inner, "username");
    let header = if known.contains(&"header") { optional::<String>(&inner, "header") } else { Some(None) };
    let given = inner.value("secret").is_some();
    let secret: Option<Option<SecretSource>> = match kind {
        Some("none") if given => inner
            .refuse("secret", "does nothing with `type: none`; write how it is to be shown, or remove it"),
        Some("none") | None => {
            inner.takes("secret", || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
            Some(None)
        }
        Some(_) => secret(&inner, "secret", environment).map(Some),
    };
    let (kind, username, header) = (kind?, username?, header?);
    for (key, there, belongs) in
        [("username", username.is_some(), "basic"), ("header", header.is_some(), "header")]
    {
        if there && kind != belongs {
            inner.mistake(key, format!("does nothing with `type: {kind}`; it belongs to `type: {belongs}`"));
        } else if !there && kind == belongs {
            inner.mistake(key, format!("is missing; `type: {belongs}` needs it"));
        }
    }
    let header = header.filter(|_| kind == "header").map(|name| header_name(&inner, name));
    inner.close();
    let auth = match (kind, secret?) {
        ("basic", Some(password)) => Auth::Basic { username: username?, password },
        ("api_key", Some(secret)) => Auth::Scheme { scheme: "ApiKey", secret },
        ("bearer", Some(secret)) => Auth::Scheme { scheme: "Bearer", secret },
        ("header", Some(secret)) => Auth::Header { name: header??, secret },
        ("hmac", Some(key)) => Auth::Hmac { key },
        _ => Auth::None,
    };
    Some(auth)
}

fn header_name(section: &Section<'_>, name: String) -> Option<String> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(parsed) if TAKEN_HEADERS.contains(&parsed.as_str()) => section
            .refuse("header", format!("{name} is set by every request itself; the secret needs another")),
        Ok(_) => Some(name),
        Err(_) => section.refuse("header", format!("expected the name of a header, found {}", quoted(&name))),
    }
}

/// How the far side is reached.
struct Way {
    reach: Reach,
    timeout: Duration,
    allow_plain: bool,
}

fn way(section: &Section<'_>) -> Option<Way> {
    let proxy = proxy(section);
    let no_proxy = optional(section, "no_proxy");
    let ca_file = certificate_file(section, "ca_file");
    let certificate = certificate_file(section, "cert_file");
    let key = optional::<PathBuf>(section, "key_file");
    let identity = match (certificate?, key?) {
        (Some(certificate), Some(key)) => match identity(&certificate, &key) {
            Ok(_) => Some(Some((certificate, key))),
            Err(why) => section.refuse("key_file", why),
        },
        (None, None) => Some(None),
        (Some(_), None) => section.refuse("key_file", "is missing; a certificate needs its key"),
        (None, Some(_)) => section.refuse("cert_file", "is missing; a key needs its certificate"),
    };
    let insecure_skip_verify = section.required("insecure_skip_verify");
    let allow_plain = section.required("allow_plain");
    let timeout = section.duration("timeout", Duration::from_millis(100), Duration::from_secs(600));
    section.close();
    let reach = Reach {
        proxy: proxy?,
        no_proxy: no_proxy?,
        ca_file: ca_file?,
        identity: identity?,
        insecure_skip_verify: insecure_skip_verify?,
        connect_timeout: CONNECT_TIMEOUT,
    };
    Some(Way { reach, timeout: timeout?, allow_plain: allow_plain? })
}
