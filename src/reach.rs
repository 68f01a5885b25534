//! How a server is reached over HTTP: through which proxy, and which certificates prove who is who. The portal and the
//! sinks share it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, NoProxy, Proxy, Url};

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Proxy URL. Without one the usual environment variables hold, except towards loopback.
    pub proxy: Option<String>,
    /// Hosts that bypass `proxy`, separated by commas; left out, `NO_PROXY` holds.
    pub no_proxy: Option<String>,
    /// PEM file of certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key, where the server wants to know who we are.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub insecure_skip_verify: bool,
    pub connect_timeout: Duration,
}

impl Reach {
    /// The HTTP client: no redirects (a secret must not travel on), no hidden retries (they would evade whoever
    /// counts them), no cookies. Files are read now.
    ///
    /// # Errors
    /// What is wrong with a file or the proxy, in words.
    pub(crate) fn client(&self, to: &Url) -> Result<Client, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .tls_danger_accept_invalid_certs(self.insecure_skip_verify);
        if let Some(path) = &self.ca_file {
            let roots = certificates(path).map_err(|why| format!("ca_file: {why}"))?;
            builder = builder.tls_certs_merge(roots);
        }
        if let Some((certificate, key)) = &self.identity {
            builder = builder.identity(identity(certificate, key)?);
        }
        if let Some(proxy) = &self.proxy {
            // The URL may hold a password, so it is not shown.
            let proxy =
                Proxy::all(proxy).map_err(|_| "proxy: not a URL such as http://host:port".to_owned())?;
            let around = match &self.no_proxy {
                Some(hosts) => NoProxy::from_string(hosts),
                None => NoProxy::from_env(),
            };
            builder = builder.proxy(proxy.no_proxy(around));
        } else if is_loopback(to.as_str()) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| format!("the HTTP client cannot be built: {}", chain(&error)))
    }
}

/// Whether a URL leads to this machine itself.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The certificates in a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let shown = path.display();
    let pem = read(path)?;
    let none = || format!("{shown} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// Our own certificate with its key.
pub(crate) fn identity(certificate: &Path, key: &Path) -> Result<Identity, String> {
    certificates(certificate).map_err(|why| format!("cert_file: {why}"))?;
    let mut pem = read(key).map_err(|why| format!("key_file: {why}"))?;
    pem.push(b'\n');
    pem.extend(read(certificate).map_err(|why| format!("cert_file: {why}"))?);
    // The cause may quote the file.
    Identity::from_pem(&pem).map_err(|_| {
        format!("key_file: {} holds no private key in PEM form without a password", key.display())
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// An error with its causes, which reqwest leaves out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
