//! Secrets of others that a sink would be given.

use crate::config::Config;
use crate::redact::class::Class;
use crate::sources::computer_details;

/// Sinks that would be given what may hold the passwords of proxies.
pub(super) fn revealing(config: &Config) -> Vec<String> {
    let source = computer_details::NAME;
    let mut warnings = Vec::new();
    for connection in &config.connections {
        let site = &connection.site;
        if !connection.sources.get(source).is_some_and(|source| source.enabled) {
            continue;
        }
        for sink in config.sinks.iter().filter(|sink| sink.select.takes_source(site, source)) {
            let spared =
                sink.redact.as_ref().is_some_and(|redact| redact.classes.how(Class::Secret).is_some());
            if !spared {
                warnings.push(format!(
                    "site {site}: {source} may hold passwords of proxies, and sink {} is given them: set \
                     `redact: {{ secret: remove }}` for it",
                    sink.name
                ));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_sink_that_would_be_given_passwords_of_proxies_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "0123").unwrap();
        let file = folder.path().join("lockstep.yaml");
        let said = |source: &str| {
            let text = format!(
                "connections: [{{ site: a, instance: g, token: {{ file: {0}/token }} }}]\nsources: {{ {source} }}\nsinks:
  - {{ name: all, type: stdout }}
  - {{ name: spared, type: file, path: {0}/b, redact: {{ secret: remove }} }}
  - {{ name: audits, type: file, path: {0}/c, format: raw, select: {{ sources: [system_audit] }} }}\n",
                folder.path().display()
            );
            std::fs::write(&file, text).unwrap();
            let config = Config::load(&file, &Environment::default());
            revealing(&config.unwrap_or_else(|error| panic!("{error}"))).join("\n")
        };
        assert_eq!(said(""), "");
        insta::assert_snapshot!(said("computer_details: { enabled: true }"), @"site a: computer_details may hold passwords of proxies, and sink all is given them: set `redact: { secret: remove }` for it");
    }
}
