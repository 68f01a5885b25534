//! `connections: { dir: … }`: a folder for each site, of which a wrong one stops only itself.

use super::*;

const TOP: &str = "sinks: [{ name: out, type: stdout }]\n";

/// A configuration with a folder of sites, one of which is right.
fn with_sites(connections: &str) -> Folder {
    let folder = Folder::new(&format!("connections: {connections}\n{TOP}"));
    folder.write("sites/acme/site.yaml", "instance: g\nsources: { computers: { every: 20m } }\n");
    folder.write("sites/acme/token", SECRET);
    folder
}

fn sites(config: &Config) -> Vec<&str> {
    config.connections.iter().map(|connection| connection.site.as_str()).collect()
}

fn broken(folder: &Folder, config: &Config) -> String {
    let lines: Vec<String> = config.broken.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&folder.0.path().display().to_string(), "DIR")
}

#[test]
fn a_folder_for_each_site_is_a_connection_named_by_the_folder() {
    let folder = with_sites("{ dir: DIR/sites }");
    folder.write("sites/beta/site.yaml", "instance: h\n");
    folder.write("sites/beta/token", SECRET);
    folder.write("sites/README", "no folder");
    folder.write("sites/..data/site.yaml", "hidden");
    let config = folder.load();
    assert_eq!(sites(&config), ["acme", "beta"]);
    assert_eq!(config.connections[0].token, SecretSource::File(folder.path("sites/acme/token")));
    assert_eq!(config.connections[0].sources["computers"].every, seconds(1200));
    assert_eq!(config.broken, []);
}

#[test]
fn a_list_may_stand_beside_the_folder_and_conf_d_adds_to_it() {
    let folder =
        with_sites("{ dir: DIR/sites, list: [{ site: one, instance: g, token: { file: DIR/token } }] }");
    folder
        .write("conf.d/two.yaml", "connections: [{ site: two, instance: g, token: { file: DIR/token } }]\n");
    assert_eq!(sites(&folder.load()), ["one", "two", "acme"]);
    let config =
        folder.load_with(&[("LOCKSTEP__CONNECTIONS__DIR", &folder.path("conf.d").display().to_string())]);
    assert_eq!(sites(&config.unwrap()), ["one", "two"]);
}

#[test]
fn a_wrong_folder_stops_only_its_own_site() {
    let folder =
        with_sites("{ dir: DIR/sites, list: [{ site: one, instance: g, token: { file: DIR/token } }] }");
    for (site, settings) in [
        ("bad-yaml", "instance: ["),
        ("empty", "instance: g"),
        ("named", "instance: g\nsite: other\ntoken: { env: X }"),
        ("nobody", "instance: g"),
        ("ONE", "instance: g"),
        ("two mistakes", "instnce: g\nsources: { computers: { every: fast } }"),
    ] {
        folder.write(&format!("sites/{site}/site.yaml"), settings);
        if site != "nobody" {
            folder.write(&format!("sites/{site}/token"), if site == "empty" { " \n" } else { SECRET });
        }
    }
    folder.write("sites/no-settings/token", SECRET);
    let config = folder.load();
    assert_eq!(sites(&config), ["one", "acme"]);
    assert_snapshot!(broken(&folder, &config), @r#"
    site ONE is left out, its folder DIR/sites/ONE is wrong: site: is the same as in connections[0]; every site needs a name of its own
    site bad-yaml is left out, its folder DIR/sites/bad-yaml is wrong: site.yaml: is not valid YAML: while parsing a node, did not find expected node content at byte 11 line 2 column 1
    site empty is left out, its folder DIR/sites/empty is wrong: token.file: DIR/sites/empty/token is empty
    site named is left out, its folder DIR/sites/named is wrong: site: the folder's name is the site; remove this; token: the token stands in the file `token` beside site.yaml; remove this
    site no-settings is left out, its folder DIR/sites/no-settings is wrong: site.yaml: cannot be read: No such file or directory (os error 2)
    site nobody is left out, its folder DIR/sites/nobody is wrong: token.file: cannot read DIR/sites/nobody/token: No such file or directory (os error 2)
    site two mistakes is left out, its folder DIR/sites/two mistakes is wrong: site: expected up to 64 letters, digits, ".", "_" or "-", found "two mistakes"; instance: is missing; the portal shows it under Help as "ThreatLocker Access (G)": write `instance: g`, or `base_url: https://…`; sources.computers.every: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "fast"; instnce: unknown key; did you mean "instance"?
    "#);
    assert!(!broken(&folder, &config).contains(SECRET.trim()));
    let known: Vec<&str> = config.sites().collect();
    assert!(known.len() == 9 && known.contains(&"nobody"), "{known:?}");
}

#[test]
fn a_folder_may_be_empty_and_must_be_there() {
    let folder = Folder::new(&format!("connections: {{ dir: DIR/sites }}\n{TOP}"));
    assert_snapshot!(folder.mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections.dir: cannot read the folder DIR/sites: No such file or directory (os error 2)
    ");
    std::fs::create_dir(folder.path("sites")).unwrap();
    assert_eq!(sites(&folder.load()), [""; 0]);
}

#[test]
fn the_effective_configuration_lists_the_folders_too() {
    let folder = with_sites("{ dir: DIR/sites }");
    folder.write("sites/beta/site.yaml", "instance: h\n");
    let config = folder.load();
    let shown = config.effective().replace(&folder.0.path().display().to_string(), "DIR");
    assert!(
        shown.starts_with("# with the folders in DIR/sites  # DIR/lockstep.yaml\n# site beta is left out"),
        "{shown}"
    );
    let layer = |setting: &str| {
        let line = shown.lines().find(|line| line.contains(setting));
        line.and_then(|line| line.rsplit_once("  # ")).unwrap_or_else(|| panic!("{setting}: {shown}")).1
    };
    assert_eq!(layer("site: acme"), "DIR/sites/acme");
    assert_eq!(layer("every: 20m"), "DIR/sites/acme/site.yaml");
    assert_eq!(layer("file: DIR/sites/acme/token"), "DIR/sites/acme");
    let again = Folder::new(&config.effective()).load();
    let listed = config.connections.iter().map(|one| Connection { folder: None, ..one.clone() });
    assert_eq!(again.connections, listed.collect::<Vec<_>>());
}
