use std::path::PathBuf;

use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;

/// A folder with a configuration, its secret and whatever else a test puts there.
struct Folder(TempDir);

impl Folder {
    fn new(yaml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("token", SECRET);
        folder.write("lockstep.yaml", yaml);
        folder
    }

    /// A folder whose configuration is right but for `more`, indented as lines of its connection.
    fn with_connection(more: &str) -> Self {
        let folder = Self::new("");
        let lines: String = more.lines().map(|line| format!("    {line}\n")).collect();
        folder.write("lockstep.yaml", &format!("connections:\n  - site: acme\n{lines}{SINKS}"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("DIR", &self.0.path().display().to_string())).unwrap();
    }

    fn load_with(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(&self.path("lockstep.yaml"), &variables.iter().copied().collect())
    }

    fn load(&self) -> Config {
        self.load_with(&[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said about this configuration, with the folder's name taken out.
    fn mistakes(&self) -> String {
        self.mistakes_with(&[])
    }

    fn mistakes_with(&self, variables: &[(&str, &str)]) -> String {
        let error = self.load_with(variables).expect_err("a mistake");
        error.to_string().replace(&self.0.path().display().to_string(), "DIR")
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SINKS: &str = "sinks: [{ name: out, type: stdout }]\n";
const REACH: &str = "instance: g\ntoken: { file: DIR/token }\n";

#[test]
fn scratch() {
    let f = Folder::with_connection(REACH);
    println!("{}", f.load().effective());
    println!("{:#?}", f.load());
    println!("{}", Folder::new("").mistakes());
    println!("{}", Folder::new("a: [").mistakes());
    println!("{}", Folder::new("conections:\nsources:\n  unified_audit: {evry: 5, every: 5, page_size: 5000, tables: [9], only: [dney], settle: fast}\n  treats: 5\n  threats: {}\nmemory: 128\nserver: {console: x, ops: nine}\nlog: {level: inf, json: si}\noutbox: 5\n").mistakes());
    println!("{}", Folder::new("connections:\n - site: a b\n   instanc: g\n   token: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n   access: report\n   own_reads: drop\n   own_user: x\n   rate: unlimited\n   token_expiry: 5d\n   organizations: []\n   organization_id: 5\n   http: {proxy: 'http://a:b@c', ca_file: nope, timeout: 5}\n   sources: {unified_audit: {every: 1s}, computers: {settle: 5m}}\n - site: x\n   base_url: http://example.com/x\n   token: {file: nope}\n   access: reports\n   token_expiry: {at: soon}\n - site: X\n   base_url: http://example.com\n   token: {env: NOPE}\n   sources: {computers: {every: 1s}}\n - 5\nsinks: [{name: a, type: kafka, brokers: []}, {name: A, type: fil}, {name: b, type: file}, {name: a, type: file, path: '{sit}', format: ocsf}, {type: stdout, rotate: 5}, {name: a}]\n").mistakes());
}
