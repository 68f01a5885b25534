//! Judges records by the JSON Schemas that `tests/schemas/ocsf.py` made of the schema's own files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

/// Validates records and counts what it saw.
#[derive(Default)]
pub(super) struct Judge {
    validators: HashMap<(String, String), Option<Validator>>,
    /// Records by class.
    pub(super) classes: BTreeMap<(u64, String), u64>,
    pub(super) total: u64,
    pub(super) invalid: Vec<String>,
}

impl Judge {
    /// None, said loudly, at a desk where the schemas were not made; a failure in CI.
    pub(super) fn new() -> Option<Self> {
        if folder().is_dir() {
            return Some(Self::default());
        }
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no schemas in {}", folder().display());
        eprintln!("\n******** SKIPPED: no schemas in {}: run tests/run ********\n", folder().display());
        None
    }

    pub(super) fn judge(&mut self, record: &Value, said_of: &str) {
        self.total += 1;
        let class = record["class_uid"].as_u64().unwrap();
        *self.classes.entry((class, record["class_name"].to_string())).or_default() += 1;
        let mut name = vec![class.to_string()];
        let profiles = record["metadata"]["profiles"].as_array().into_iter().flatten();
        name.extend(profiles.map(|profile| profile.as_str().unwrap().to_owned()));
        let key = (record["metadata"]["version"].as_str().unwrap().to_owned(), name.join("+"));
        let validator = self.validators.entry(key).or_insert_with_key(|(version, name)| load(version, name));
        let mistakes: Vec<String> = match validator {
            None => vec!["no such class".to_owned()],
            Some(validator) => validator
                .iter_errors(record)
                .map(|mistake| format!("{}: {}", mistake.instance_path(), shortened(&mistake.to_string())))
                .collect(),
        };
        if !mistakes.is_empty() {
            self.invalid.push(format!("{said_of}: class {class}: {}", mistakes.join("; ")));
        }
    }

    /// Fails unless everything was valid.
    pub(super) fn verdict(&self, of: &str) {
        eprintln!("{of}: invalid {} of {}", self.invalid.len(), self.total);
        for ((uid, name), count) in &self.classes {
            eprintln!("  {uid:>7} {name}: {count}");
        }
        let first = self.invalid.iter().take(10).cloned().collect::<Vec<_>>();
        assert!(self.invalid.is_empty() && self.total > 0, "{of}:\n{}", first.join("\n"));
    }
}

fn load(version: &str, name: &str) -> Option<Validator> {
    let path: &Path = &folder().join(version).join(format!("{name}.json"));
    let schema = serde_json::from_slice(&std::fs::read(path).ok()?).unwrap();
    Some(jsonschema::validator_for(&schema).unwrap())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/parts/ocsf")
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}
