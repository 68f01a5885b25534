//! What the documentation shows is real: every command line parses, every whole configuration loads, and
//! every file that it points at is there.

use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;
use lockstep::cli::Cli;
use lockstep::config::{Config, Environment};

const PAGES: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/configuration.md", include_str!("../../docs/configuration.md")),
    ("docs/architecture.md", include_str!("../../docs/architecture.md")),
];

/// The fenced blocks of a page in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let (open, mut blocks) = (format!("```{language}\n"), Vec::new());
    for rest in page.split(&open).skip(1) {
        blocks.extend(rest.split("\n```").next());
    }
    blocks
}

/// Code in the sentences of a page.
fn code(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'))
}

/// Command lines that begin with the program's name: the lines of shell blocks, whole, and code in a
/// sentence, which may leave arguments out.
fn commands(page: &str) -> (Vec<&str>, Vec<&str>) {
    let lines = blocks(page, "sh").into_iter().flat_map(str::lines);
    let whole = lines.map(|line| line.split(['#', '|', '>']).next().unwrap_or_default().trim());
    let ours = |line: &&str| line.starts_with("lockstep ");
    (whole.filter(ours).collect(), code(page).filter(ours).collect())
}

#[test]
fn every_command_line_in_the_documentation_parses() {
    for (name, page) in PAGES {
        let (whole, code) = commands(page);
        for line in &whole {
            if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
                panic!("{name}: {line}: {error}");
            }
        }
        for line in &code {
            match Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind()) {
                Ok(_)
                | Err(
                    ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ) => {}
                Err(kind) => panic!("{name}: {line}: {kind:?}"),
            }
        }
        assert!(name != "README.md" || whole.len() >= 4 && code.len() >= 9, "{whole:?} {code:?}");
    }
}

#[test]
fn every_whole_configuration_in_the_documentation_loads() {
    let mut loaded = 0;
    for (name, page) in PAGES {
        for block in blocks(page, "yaml") {
            if block.contains("connections:") && block.contains("sinks:") {
                load(name, block);
                loaded += 1;
            }
        }
    }
    assert!(loaded > 0);
}

#[test]
fn what_the_documentation_points_at_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = std::fs::read_to_string(root.join("Makefile")).expect("a Makefile");
    for (name, page) in PAGES {
        let lines = blocks(page, "sh").into_iter().flat_map(str::lines);
        for pointer in code(page).chain(lines) {
            let file = pointer.trim_end_matches('*');
            if ["src/", "tests/", "config/lockstep.yaml"].iter().any(|place| file.starts_with(place)) {
                assert!(root.join(file).exists(), "{name}: {pointer}");
            }
            if let Some(target) = pointer.strip_prefix("make ").and_then(|rest| rest.split(' ').next()) {
                assert!(makefile.contains(&format!("\n{target}: ")), "{name}: {pointer}");
            }
        }
    }
}

/// Loads it from a folder of its own, where each file of a secret is.
fn load(name: &str, yaml: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "a".repeat(64)).expect("a token");
    let mut text = yaml.to_owned();
    for file in yaml.split("file: ").skip(1).filter_map(|rest| rest.split([' ', '}']).next()) {
        if Path::new(file).is_absolute() {
            text = text.replace(file, &token.display().to_string());
        }
    }
    let path = folder.path().join("lockstep.yaml");
    std::fs::write(&path, &text).expect("a configuration");
    if let Err(error) = Config::load(&path, &Environment::default()) {
        panic!("{name}: {error}\n{text}");
    }
}
