//! Of one connection: where its portal is, how it is reached, and its token.

use super::*;

#[test]
fn the_address_of_the_portal_is_checked() {
    let said = |line: &str| Folder::with_connection(line).mistakes();
    assert_snapshot!(said(""), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: is missing; the portal shows it under Help as "ThreatLocker Access (G)": write `instance: g`, or `base_url: https://…`
    "#);
    assert_snapshot!(said("instance: g\nbase_url: https://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: stands beside instance; keep one of them
    ");
    assert_snapshot!(said("instance: https://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: is a URL; write it as `base_url` instead
    ");
    assert_snapshot!(said("instance: portalapi.g"), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: expected the letter or short name in "ThreatLocker Access (G)", found "portalapi.g"
    "#);
    assert_snapshot!(said("base_url: portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: expected https://host[:port], but relative URL without a base
    ");
    assert_snapshot!(said("base_url: http://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: plain http would show the token to the network; use https (http goes to loopback only)
    ");
    assert_snapshot!(said("base_url: https://portal.example/some/where"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: goes on after the host; leave that out: /portalapi is added by itself
    ");
    assert_snapshot!(said("base_url: https://me:5ecre7@portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: holds a user name or password; remove it: the token goes into `token`
    ");
    assert_snapshot!(said("base_url: ftp://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: expected https://host[:port], found the scheme ftp
    ");
}

#[test]
fn plain_http_is_for_loopback_only() {
    for (url, kept) in [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:80", "http://localhost"),
        ("https://portal.example/PortalApi/", "https://portal.example"),
        ("https://Portal.Example:8443", "https://portal.example:8443"),
    ] {
        assert_eq!(
            Folder::with_connection(&format!("base_url: \"{url}\"")).load().connections[0].base_url,
            kept
        );
    }
    for url in ["http://127.0.0.1.example", "http://localhost.example", "http://10.0.0.1"] {
        let said = Folder::with_connection(&format!("base_url: {url}")).mistakes();
        assert!(said.contains("plain http would show the token"), "{said}");
    }
}

#[test]
fn an_unlimited_rate_and_fast_polls_are_for_loopback_only() {
    let settings = "rate: unlimited\nsources: { computers: { every: 200ms } }\n";
    let connection = Folder::with_connection(&format!("base_url: http://127.0.0.1:9\n{settings}"))
        .load()
        .connections
        .remove(0);
    assert_eq!(connection.rate, Rate { per_second: None, concurrent: 2, stretch: false });
    assert_eq!(connection.sources["computers"].every, Duration::from_millis(200));
    assert_snapshot!(Folder::with_connection(&format!("instance: g\n{settings}")).mistakes(), @"
    DIR/lockstep.yaml has 2 mistakes:
      connections[0].rate.per_second: unlimited is for loopback only; write a number such as 5
      connections[0].sources.computers.every: below 10s only towards loopback, found 200ms
    ");
    assert_snapshot!(Folder::with_connection("instance: g\nrate: { per_second: 0, concurrent: 65 }").mistakes(), @"
    DIR/lockstep.yaml has 2 mistakes:
      connections[0].rate.per_second: must be from 0.01 to 100, found 0
      connections[0].rate.concurrent: must be from 1 to 64, found 65
    ");
}

#[test]
fn the_rest_of_a_connection_is_checked() {
    let folder = Folder::with_connection(
        "instance: g
organizations: everything
organization_id: acme
token_expiry: 365d
contact: 5
access: reprots
http: { proxy: \"http://me:5ecre7@proxy:3128\", ca_file: DIR/none.pem, timeout: 60, body_limit: 1KiB, insecure_skip_verify: perhaps }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 10 mistakes:
      connections[0].token_expiry: expected `{ unused_for: 365d }` as ticked in the portal, or `{ at: 2027-03-01 }`
      connections[0].organizations: expected own, all or a list of names or ids such as ["Acme North"], found "everything"
      connections[0].organization_id: expected an id such as 0fa8e7c2-5d0b-4c1f-9f5e-6a7b8c9d0e1f, found "acme"
      connections[0].contact: expected a text (in quotes if it looks like a number), found 5
      connections[0].access: unknown "reprots"; did you mean "reports"?
      connections[0].http.proxy: holds a user name or password; a secret does not stand in the configuration: set HTTPS_PROXY instead
      connections[0].http.ca_file: there is no file DIR/none.pem
      connections[0].http.insecure_skip_verify: expected true or false, found "perhaps"
      connections[0].http.timeout: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found 60
      connections[0].http.body_limit: must be from 64KiB to 1GiB, found 1KiB
    "#);
}

#[test]
fn the_rest_of_a_connection_is_read() {
    let folder = Folder::with_connection(
        "instance: G
organizations: [Acme North, 3b6a1c5e-0000-4000-8000-000000000001]
organization_id: 3B6A1C5E-0000-4000-8000-000000000001
token_expiry: { at: 2027-03-01 }
contact: secops@acme.example
http: { proxy: \"http://proxy:3128\", ca_file: DIR/ca.pem, timeout: 1m30s, insecure_skip_verify: true }
",
    );
    let connection = folder.load().connections.remove(0);
    assert_eq!(connection.base_url, "https://portalapi.g.threatlocker.com");
    let names = vec!["Acme North".to_owned(), "3b6a1c5e-0000-4000-8000-000000000001".to_owned()];
    assert_eq!(connection.organizations, Organizations::Only(names));
    assert_eq!(connection.organization_id.unwrap().as_str(), "3b6a1c5e-0000-4000-8000-000000000001");
    assert_eq!(connection.token_expiry, Some(TokenExpiry::At("2027-03-01".parse().unwrap())));
    assert_eq!(connection.http.proxy, Some("http://proxy:3128".to_owned()));
    assert_eq!((connection.http.timeout, connection.http.insecure_skip_verify), (seconds(90), true));
    assert_eq!(connection.http.body_limit, 64 << 20);
}

#[test]
fn a_ca_file_without_a_certificate_is_a_mistake() {
    assert_snapshot!(Folder::with_connection("instance: g\nhttp: { ca_file: DIR/token }\n").mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].http.ca_file: DIR/token holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)
    ");
}

#[test]
fn a_secret_that_cannot_be_had_is_a_mistake_of_its_connection() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: a, instance: g, token: {{ file: DIR/none }} }}
  - {{ site: b, instance: g, token: {{ file: DIR/empty }} }}
  - {{ site: c, instance: g, token: {{ env: NOT_SET }} }}
  - {{ site: d, instance: g, token: {{ env: A, file: DIR/token }} }}
  - {{ site: e, instance: g, token: {{ vault: x }} }}
  - {{ site: f, instance: g }}
  - {{ site: g, instance: g, token: {} }}
{SINKS}",
        SECRET.trim()
    ));
    folder.write("empty", " \n");
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 8 mistakes:
      connections[0].token.file: cannot read DIR/none: No such file or directory (os error 2)
      connections[1].token.file: DIR/empty is empty
      connections[2].token.env: environment variable "NOT_SET" is not set or empty
      connections[3].token: write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[4].token: write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[4].token.vault: unknown key; known here: file, env
      connections[5].token: is missing; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[6].token: a secret does not stand in the configuration; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
    "#);
}
