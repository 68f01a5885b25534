//! Certificates: what is trusted and what is not.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// A portal over TLS with a certificate of its own, which nobody knows; answers `[1]` to everything.
async fn serve(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (line, _) = listener.accept().await.unwrap();
            if let Ok(mut line) = acceptor.accept(line).await {
                let mut head = [0; 4096];
                let _read = line.read(&mut head).await;
                drop(
                    line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[1]")
                        .await,
                );
                drop(line.shutdown().await);
            }
        }
    });
    (url, certified.cert.pem())
}

#[tokio::test]
async fn only_a_certificate_of_a_known_authority_for_the_right_name_is_trusted() {
    let desk = Desk::open(|_, _| Reply::default()).await;
    let (url, pem) = serve(&["127.0.0.1"]).await;
    let (misnamed, other_pem) = serve(&["portal.example"]).await;
    let file = |name: &str, pem: String| {
        let path = desk.dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        Some(path)
    };
    let (known, other) = (file("ca.pem", pem), file("other.pem", other_pem));
    for (base_url, ca_file, insecure_skip_verify, works) in [
        (&url, None, false, false),
        (&url, known.clone(), false, true),
        (&url, other.clone(), false, false),
        (&url, None, true, true),
        (&misnamed, other, false, false),
    ] {
        let settings = PortalSettings {
            base_url: base_url.clone(),
            ca_file,
            insecure_skip_verify,
            attempts: 1,
            ..desk.settings()
        };
        let told = format!("{:?} {insecure_skip_verify}", settings.ca_file);
        match portal(settings).fetch(&request(COMPUTERS)).await {
            Ok(_) => assert!(works, "{told}"),
            Err(error) => assert!(!works && error.to_string().contains("certificate"), "{told}: {error}"),
        }
    }
}
