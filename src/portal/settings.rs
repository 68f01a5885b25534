//! How a portal is reached, checked before the first request.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Url};

use crate::credentials::SecretSource;
use crate::reach::{Reach, is_loopback};

/// How one connection reaches its portal.
#[derive(Clone, Debug)]
pub struct PortalSettings {
    /// The user's label, for messages.
    pub site: String,
    /// `scheme://host[:port][/path]` as [`base_url_of`] gives it; `/portalapi` is appended.
    pub base_url: String,
    pub token: SecretSource,
    /// Only reports may be asked for.
    pub reports_only: bool,
    /// The header that carries the token.
    pub header: String,
    /// What stands between the host and the paths of the endpoints.
    pub path: String,
    /// Requests a second of the credential; `None` is unlimited, which only a portal on loopback may have.
    pub rate_per_second: Option<f64>,
    /// Requests of the credential at the same time.
    pub concurrent: usize,
    /// Proxy URL. Without one the usual environment variables hold, except towards loopback.
    pub proxy: Option<String>,
    /// Hosts that bypass `proxy`, separated by commas; left out, `NO_PROXY` holds.
    pub no_proxy: Option<String>,
    /// PEM file of certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
    pub connect_timeout: Duration,
    /// Bytes of an answer after unpacking.
    pub body_limit: u64,
    /// Requests that one fetch may cost while the portal fails.
    pub attempts: u32,
    pub backoff_first: Duration,
    pub backoff_longest: Duration,
    /// A fetch waits at most so long for the portal's `Retry-After`; beyond it fails with the time.
    pub longest_wait: Duration,
    /// How long a rejected token is left alone before each probe; the last holds for all further ones.
    pub probe_delays: Vec<Duration>,
}

impl PortalSettings {
    /// The defaults of design.md section 8.
    pub fn new(site: &str, base_url: &str, token: SecretSource) -> Self {
        Self {
            site: site.to_owned(),
            base_url: base_url.to_owned(),
            token,
            reports_only: false,
            header: "Authorization".to_owned(),
            path: "portalapi".to_owned(),
            rate_per_second: Some(5.0),
            concurrent: 2,
            proxy: None,
            no_proxy: None,
            ca_file: None,
            insecure_skip_verify: false,
            connect_timeout: Duration::from_secs(15),
            body_limit: 64 << 20,
            attempts: 4,
            backoff_first: Duration::from_secs(1),
            backoff_longest: Duration::from_secs(60),
            longest_wait: Duration::from_secs(60),
            probe_delays: [1, 5, 15, 30].map(|minutes| Duration::from_secs(minutes * 60)).to_vec(),
        }
    }

    /// The address that endpoint paths are appended to, ending in `/portalapi/`.
    pub(crate) fn api(&self) -> Result<Url, String> {
        let url = checked_url(&self.base_url)?;
        if self.rate_per_second.is_none() && !is_loopback(url.as_str()) {
            return Err("an unlimited rate is only for a portal on loopback; set rate.per_second".into());
        }
        if self.rate_per_second.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return Err("rate.per_second must be above zero".into());
        }
        if self.concurrent == 0 || self.attempts == 0 {
            return Err("concurrent requests and attempts must be at least 1".into());
        }
        let path = match self.path.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        url.join(&path).map_err(|error| format!("base_url: {error}"))
    }

    /// The HTTP client.
    pub(crate) fn client(&self, api: &Url) -> Result<Client, String> {
        let reach = Reach {
            proxy: self.proxy.clone(),
            no_proxy: self.no_proxy.clone(),
            ca_file: self.ca_file.clone(),
            identity: None,
            insecure_skip_verify: self.insecure_skip_verify,
            connect_timeout: self.connect_timeout,
        };
        reach.client(api)
    }
}

/// The base URL of an instance: one letter or `[a-z0-9]{1,32}`, or a whole https URL (contract section 1.1).
/// Plain http is only for loopback.
pub fn base_url_of(instance: &str) -> Result<String, String> {
    let instance = instance.trim();
    if instance.contains("://") {
        return checked_url(instance).map(|url| url.as_str().trim_end_matches('/').to_owned());
    }
    let name = instance.to_ascii_lowercase();
    if (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Ok(format!("https://portalapi.{name}.threatlocker.com"));
    }
    Err(format!(
        "instance {instance:?}: give the letter in Help > \"ThreatLocker Access (G)\", or a whole https URL"
    ))
}

/// A base URL that ends in a slash, whether or not `/portalapi` was already there.
fn checked_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text.trim()).map_err(|error| format!("base_url: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("base_url: must not hold a user or password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("base_url {text}: must end with the path"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url.as_str()) => {}
        "http" => {
            return Err(format!(
                "base_url {text}: plain http would show the token to everyone on the way; use https"
            ));
        }
        _ => return Err(format!("base_url {text}: must start with https://")),
    }
    let path = url.path().trim_end_matches('/');
    let cut = path.len().saturating_sub("/portalapi".len());
    let path = match path.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case("/portalapi") => path.get(..cut).unwrap_or_default(),
        _ => path,
    };
    let path = format!("{path}/");
    url.set_path(&path);
    Ok(url)
}

/// Names one portal, however its address is written: the beta host of an instance is the same portal (contract
/// section 1.1), and so is every name of this machine.
pub(crate) fn portal_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host = match host.strip_prefix("beta") {
        _ if is_loopback(url.as_str()) => "loopback",
        Some(rest) if rest.starts_with("portalapi.") => rest,
        _ => host,
    };
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn settings(base_url: &str) -> PortalSettings {
        PortalSettings::new(
            "acme",
            base_url,
            SecretSource::Env { name: "T".into(), value: SecretString::from("t") },
        )
    }

    #[test]
    fn an_instance_is_a_letter_a_name_or_a_whole_url() {
        assert_eq!(base_url_of(" G ").unwrap(), "https://portalapi.g.threatlocker.com");
        assert_eq!(base_url_of("AE1").unwrap(), "https://portalapi.ae1.threatlocker.com");
        assert_eq!(base_url_of("HTTPS://Host.Example:8443/Base/").unwrap(), "https://host.example:8443/Base");
        assert_eq!(base_url_of("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        for wrong in [
            "",
            "a.b",
            "g/x",
            "ä",
            "http://portal.example",
            "ftp://h",
            "https://u:p@h",
            "https://h/?q",
            "http://127.0.0.1.example",
        ] {
            assert!(base_url_of(wrong).is_err(), "{wrong:?}");
        }
        assert!(base_url_of(&"a".repeat(33)).is_err());
    }

    #[test]
    fn portalapi_is_appended_once() {
        for (base, api) in [
            ("https://h", "https://h/portalapi/"),
            ("https://h/portalapi", "https://h/portalapi/"),
            ("https://h/PortalApi/", "https://h/portalapi/"),
            ("https://h/tenant/base", "https://h/tenant/base/portalapi/"),
        ] {
            assert_eq!(settings(base).api().unwrap().as_str(), api);
        }
    }

    #[test]
    fn an_unlimited_rate_is_only_for_loopback() {
        let unlimited = |base: &str| PortalSettings { rate_per_second: None, ..settings(base) }.api();
        assert!(unlimited("https://portal.example").is_err());
        assert!(unlimited("http://localhost:1").is_ok() && unlimited("http://[::1]:1").is_ok());
        assert!(PortalSettings { rate_per_second: Some(f64::NAN), ..settings("https://h") }.api().is_err());
    }

    #[test]
    fn a_portal_is_the_same_by_each_of_its_names() {
        let name = |url: &str| portal_of(&Url::parse(url).unwrap());
        assert_eq!(name("http://127.0.0.1:80/portalapi/"), name("http://LOCALHOST/base/portalapi/"));
        let g = name("https://portalapi.g.threatlocker.com/portalapi/");
        assert_eq!(name("https://betaportalapi.g.threatlocker.com:443/portalapi/"), g);
        for other in ["https://portalapi.h.threatlocker.com", "https://portalapi.g.threatlocker.com:8443"] {
            assert_ne!(name(other), g);
        }
    }

    #[test]
    fn a_wrong_ca_file_or_proxy_is_said_without_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let error_of = |settings: PortalSettings| settings.client(&settings.api().unwrap()).unwrap_err();
        let missing = error_of(PortalSettings { ca_file: Some(ca_file.clone()), ..settings("https://h") });
        assert!(missing.contains("ca.pem"), "{missing}");
        std::fs::write(&ca_file, "nothing").unwrap();
        let empty = error_of(PortalSettings { ca_file: Some(ca_file), ..settings("https://h") });
        assert!(empty.contains("certificate"), "{empty}");
        let proxy =
            error_of(PortalSettings { proxy: Some("http://u:hunter2@[".into()), ..settings("https://h") });
        assert!(proxy.contains("proxy") && !proxy.contains("hunter2"), "{proxy}");
    }
}
