//! What is collected of a site.

use super::*;

#[test]
fn sources_are_checked() {
    let folder = Folder::with_connection(
        "instance: g
sources:
  unified_audit: { tables: [1, 5], only: [dney, elevate], skip_types: [raed] }
  system_audit: { page_size: 0, backfill: 40d, settle: 2d }
  computers: { enabled: maybe, restate: 1s, every: 0s }
  approval_requests: { sweep: often, enrich: [matching_aplication], restate: 1d }
  organizations: { settle: 5s }
  polices: {}
  wonders: {}
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 15 mistakes:
      connections[0].sources.unified_audit.only: unknown "dney"; did you mean "deny"?
      connections[0].sources.unified_audit.skip_types: unknown "raed"; did you mean "read"?
      connections[0].sources.unified_audit.tables: expected numbers from 1 to 4 (1 action log, 2 denies, 3 baseline, 4 event log), found "5"
      connections[0].sources.system_audit.page_size: must be from 1 to 1000, found 0
      connections[0].sources.system_audit.settle: must be from 0s to 1d, found 2d
      connections[0].sources.system_audit.backfill: reaches further back than the portal keeps rows (retention: 30d); raise retention if your portal keeps them longer
      connections[0].sources.computers.enabled: expected true or false, found "maybe"
      connections[0].sources.computers.every: must be from 100ms to 30d, found 0s
      connections[0].sources.computers.restate: must be from 1m to 365d, found 1s
      connections[0].sources.organizations.settle: unknown key; known here: enabled, every, page_size, restate
      connections[0].sources.approval_requests.sweep: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "often"
      connections[0].sources.approval_requests.enrich: unknown "matching_aplication"; did you mean "matching_application"?
      connections[0].sources.approval_requests.restate: unknown key; known here: enabled, every, page_size, backfill, decided_every, sweep, enrich
      connections[0].sources.polices: unknown source; did you mean "policies"?
      connections[0].sources.wonders: unknown source; known here: unified_audit, system_audit, computers, organizations, policies, approval_requests, threats, remediations, reports, online_devices, computer_checkins, computer_details, private_threats, private_remediations
    "#);
}

#[test]
fn a_site_that_would_collect_nothing_or_an_organization_twice_is_a_mistake() {
    let off: Vec<String> =
        crate::config::SOURCE_NAMES.iter().map(|name| format!("{name}: {{ enabled: false }}")).collect();
    let off = format!("sources: {{ {} }}", off.join(", "));
    assert_snapshot!(Folder::with_connection(&format!("instance: g\n{off}\n")).mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources: none is enabled, so nothing of this site would be collected
    ");
    assert_snapshot!(Folder::with_connection("instance: g\norganizations: [North, south, north]\n").mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].organizations: "north" stands there twice
    "#);
    assert_snapshot!(Folder::with_connection("instance: g\norganizations: [North, '']\n").mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].organizations: holds something that is no name or id; expected own, all or a list of names or ids such as ["Acme North"]
    "#);
}

#[test]
fn reports_are_named_once_and_in_their_place() {
    let mistakes = |settings: &str| {
        Folder::with_connection(&format!("instance: g\nsources: {{ reports: {{ {settings} }} }}\n"))
            .mistakes()
    };
    assert_snapshot!(mistakes("names: [Denies by Day, denies-by_day]"), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.reports.names: names "denies-by_day" twice
    "#);
    assert_snapshot!(mistakes("names: [all computers]"), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.reports.names: "all computers" is a report of all computers; name it under `computers` instead
    "#);
    assert_snapshot!(mistakes("enabled: true, computers: []"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.reports.names: is empty, and so is `computers`; name a report, or set `enabled: false`
    ");
    assert_snapshot!(mistakes("names: [' - '], span: 1s, page_size: 5"), @"
    DIR/lockstep.yaml has 3 mistakes:
      connections[0].sources.reports.names: holds an empty name; write each as the portal shows it
      connections[0].sources.reports.span: must be from 1h to 366d, found 1s
      connections[0].sources.reports.page_size: unknown key; known here: enabled, every, restate, computers, names, span
    ");
}

#[test]
fn an_access_to_reports_collects_these_alone() {
    let common = "sources: { unified_audit: { enabled: true } }";
    for access in ["reports", "auth_key\norganization_id: 0fa8e7c2-5d0b-4c1f-9f5e-6a7b8c9d0e1f"] {
        let settings = format!("instance: g\naccess: {access}\n");
        let config = Folder::with_connection(&settings).load();
        let sources = &config.connections[0].sources;
        let enabled: Vec<_> =
            sources.iter().filter(|(_, source)| source.enabled).map(|(name, _)| *name).collect();
        assert_eq!(enabled, ["reports"], "{access}");
        let keys: Vec<_> =
            sources["reports"].reports.iter().map(|report| report.key().into_owned()).collect();
        assert_eq!(keys, ["all computers"]);
        let mistakes = Folder::with_connection(&format!("{settings}{common}\n")).mistakes();
        assert!(
            mistakes.contains("connections[0].sources.unified_audit.enabled: cannot be collected with"),
            "{mistakes}"
        );
    }
    assert_snapshot!(Folder::with_connection("instance: g\naccess: auth_key\norganizations: [North]\nauth_key: { header: 'a b', path: x }\n").mistakes(), @r#"
    DIR/lockstep.yaml has 4 mistakes:
      connections[0].auth_key.header: expected the name of a header such as Authorization, found "a b"
      connections[0].auth_key.path: expected a path such as /portalapi, found "x"
      connections[0].organization_id: is missing; with `access: auth_key` nothing tells whose key it is: write the id of the organization
      connections[0].organizations: expected own or all; `access: auth_key` lists no organizations
    "#);
}

#[test]
fn a_door_for_keys_is_a_mistake_where_no_key_is_used() {
    let site = |more: &str| Folder::with_connection(&format!("instance: g\n{more}\n"));
    for access in ["portal", "reports"] {
        let mistakes = site(&format!("access: {access}\nauth_key: {{ header: X-Key }}")).mistakes();
        assert!(
            mistakes.contains("connections[0].auth_key: counts with `access: auth_key` alone"),
            "{mistakes}"
        );
    }
    site("auth_key: { header: Authorization, path: /portalapi }").load();
}

#[test]
fn maintenances_are_off_where_nobody_lists_computers_and_it_is_known_why() {
    let remediations = |settings: &str| {
        let config = Folder::with_connection(&format!("instance: g\nsources: {{ {settings} }}\n")).load();
        let source = &config.connections[0].sources["remediations"];
        (source.enabled, source.lacks)
    };
    assert_eq!(remediations(""), (true, None));
    assert_eq!(remediations("computers: { enabled: false }"), (false, Some("computers")));
    let both = "computers: { enabled: false }, remediations: { enabled: false }";
    assert_eq!(remediations(both), (false, None));
}

#[test]
fn threats_are_remembered_as_long_as_the_audit_that_rates_rows() {
    let threats = |settings: &str| {
        let folder = Folder::with_connection(&format!("instance: g\nsources: {{ {settings} }}\n"));
        folder.load().connections[0].sources["threats"].retention
    };
    let days = |count: u64| seconds(count * 86_400);
    assert_eq!(threats("unified_audit: { retention: 90d }"), days(90));
    assert_eq!(threats("unified_audit: { retention: 90d }, threats: { retention: 120d }"), days(120));
    assert_eq!(threats("unified_audit: { retention: 90d, enabled: false }"), days(30), "nothing is rated");
}

#[test]
fn a_mistake_in_the_common_sources_is_reported_once() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: one, instance: g, token: {{ file: DIR/token }} }}
  - {{ site: two, instance: g, token: {{ file: DIR/token }} }}
sources: {{ computers: {{ evry: 5m, page_size: many }} }}
{SINKS}"
    ));
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 2 mistakes:
      sources.computers.page_size: expected a whole number, found "many"
      sources.computers.evry: unknown key; did you mean "every"?
    "#);
}

#[test]
fn the_sources_of_the_configuration_are_those_that_are_collected() {
    assert_eq!(SOURCE_NAMES, SOURCES.map(|source| source.name()));
}

#[test]
fn narrowing_becomes_queries_that_each_ask_for_one_thing() {
    let filters = |settings: &str| {
        let folder =
            Folder::with_connection(&format!("instance: g\nsources: {{ unified_audit: {{ {settings} }} }}"));
        folder.load().connections[0].sources["unified_audit"].filters()
    };
    let types = |filter: &Filter| filter.action_types.len();
    assert_eq!(filters(""), [Filter::default()]);
    let elevate = Filter { action_types: vec!["elevate".to_owned()], ..Filter::default() };
    assert_eq!(filters("only: [Elevate]"), std::slice::from_ref(&elevate));
    let denied = filters("only: [deny, elevate]");
    assert_eq!(
        denied.iter().map(|filter| filter.action_id).collect::<Vec<_>>(),
        [None, Some(2), Some(3), Some(6)]
    );
    assert_eq!(denied[0], elevate);
    let [skipping] = &filters("skip_types: [read, dns]")[..] else { panic!("one query") };
    assert_eq!((types(skipping), skipping.action_types.contains(&"dns".to_owned())), (13, false));
    let both = filters("only: [ringfenced], skip_types: [read]");
    assert_eq!((both.len(), both[0].action_id, types(&both[0])), (1, Some(6), 14));
}

#[test]
fn narrowing_that_leaves_nothing_is_a_mistake() {
    let folder = Folder::with_connection(
        "instance: g\nsources: { unified_audit: { only: [read], skip_types: [read] } }",
    );
    assert_snapshot!(folder.mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.unified_audit.skip_types: leaves nothing to ask for; set `enabled: false` to collect nothing of this source
    ");
}

/// The settings of threats that the vendor does not publish, on one line.
fn private_threats(settings: &str) -> String {
    format!("instance: g\nsources: {{ private_threats: {{ enabled: true, {settings} }} }}\n")
}

#[test]
fn what_the_vendor_does_not_publish_is_asked_as_it_is_written_down() {
    let config = Folder::with_connection(&private_threats(
        "path: Threat/ThreatGetByParameters, id: threatId, time: raisedAt, changes: [state], backfill: 2d, \
         body: { pageNumber: \"{page}\", Filter: { States: [1, true, x, null], from: 1.5 } }",
    ))
    .load();
    let source = &config.connections[0].sources["private_threats"];
    let [filter] = &source.filters()[..] else { panic!("{source:?}") };
    let private = filter.private.as_ref().unwrap();
    assert_eq!((private.path.path(), private.path.is_get()), ("Threat/ThreatGetByParameters", false));
    let body = serde_json::json!({
        "pageNumber": "{page}", "Filter": { "States": [1, true, "x", null], "from": 1.5 },
    });
    assert_eq!(serde_json::Value::from(private.body.clone()), body);
    assert_eq!((private.id.as_deref(), private.time.as_deref()), (Some("threatId"), Some("raisedAt")));
    assert_eq!((&private.changes[..], private.backfill), (&["state".to_owned()][..], seconds(2 * 86_400)));
    assert!(private.is_paged());

    let variables = [
        ("LOCKSTEP__SOURCES__PRIVATE_REMEDIATIONS__ENABLED", "true"),
        ("LOCKSTEP__SOURCES__PRIVATE_REMEDIATIONS__PATH", "Incident/RemediationGetList"),
        ("LOCKSTEP__SOURCES__PRIVATE_REMEDIATIONS__VERB", "get"),
        ("LOCKSTEP__SOURCES__PRIVATE_REMEDIATIONS__BODY", r#"{"includeChildren": "{tree}"}"#),
    ];
    let config = Folder::new(&format!("{CONNECTION}{SINKS}")).load_with(&variables).unwrap();
    let private = config.connections[0].sources["private_remediations"].private.clone().unwrap();
    assert!(private.path.is_get() && !private.is_paged());
    assert_eq!(private.body["includeChildren"], "{tree}", "a text of JSON keeps the case of its names");
    assert!(config.connections[0].sources["private_threats"].private.is_none());
}

#[test]
fn what_the_vendor_does_not_publish_is_refused_where_it_could_do_more_than_read() {
    let mistakes = |settings: &str| {
        let said = Folder::with_connection(&private_threats(settings)).mistakes();
        said.lines().skip(1).map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(mistakes("path: Threat/ThreatUpdateGet"), @"connections[0].sources.private_threats.path: ends with a name that has `Update` in it: it may change something at the portal, or tell a secret, and is not asked");
    assert_snapshot!(mistakes("path: https://elsewhere.example/Get"), @"connections[0].sources.private_threats.path: must be a path below the portal's API such as `Threat/ThreatGetByParameters`: names of letters and digits with a `/` between them, no address, no `..`, no `?`");
    assert_snapshot!(mistakes("id: x"), @"connections[0].sources.private_threats.path: is missing; write the path below /portalapi/ that the portal's own page asks, or set `enabled: false`");
    assert_snapshot!(mistakes("path: Threat/ThreatGet, verb: PUT, body: [1]"), @r#"
    connections[0].sources.private_threats.verb: must be POST or GET, found "PUT"
    connections[0].sources.private_threats.body: expected a section or the text of a JSON object, found a list
    "#);
    assert_snapshot!(mistakes("path: Threat/ThreatGet, body: { a: [\"{pages}\"] }"), @r#"connections[0].sources.private_threats.body: "{pages}" stands for nothing; known here: {page}, {size}, {organization}, {tree}"#);
    assert_snapshot!(mistakes("path: Threat/ThreatGet, verb: GET, body: { a: { b: 1 } }"), @"connections[0].sources.private_threats.body: stands in the query with `verb: GET`, so each member must be a plain value");
}

#[test]
fn check_ins_are_remembered_for_longer_than_a_sweep_and_collected_with_the_computers_alone() {
    let site = |settings: &str| Folder::with_connection(&format!("instance: g\nsources: {{ {settings} }}\n"));
    assert_snapshot!(site("computer_checkins: { enabled: true, sweep: 3d, retention: 5d }").mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.computer_checkins.retention: must be twice `sweep` at least (6d), or rows are missed
    ");
    let config = site("computer_checkins: { enabled: true }, computers: { enabled: false }").load();
    let source = &config.connections[0].sources["computer_checkins"];
    assert_eq!((source.enabled, source.lacks), (false, Some("computers")));
}
