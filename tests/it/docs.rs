//! What the documentation shows is real: every command runs, every whole configuration loads, every option,
//! message and metric exists, and every file that it points at is there.

mod page;
mod run;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use lockstep::cli::Cli;
use lockstep::config::{Config, Environment};

use page::{PAGES, Page};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_page_is_looked_at() {
    let names: BTreeSet<&str> = PAGES.iter().map(|page| page.name).collect();
    for folder in ["", "docs"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = Path::new(folder).join(entry.unwrap().file_name()).display().to_string();
            if name.ends_with(".md") && name != "CHANGELOG.md" {
                assert!(names.contains(name.as_str()), "{name}");
            }
        }
    }
}

/// Code in a sentence may leave arguments out, and what runs is run by [`run`].
#[test]
fn every_command_that_is_named_exists_with_its_options() {
    for page in PAGES {
        for line in page.code().into_iter().filter(|code| code.starts_with("lockstep ")) {
            match Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind()) {
                Ok(_)
                | Err(
                    ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ) => {}
                Err(kind) => panic!("{}: {line}: {kind:?}", page.name),
            }
        }
    }
}

#[test]
fn every_line_for_a_shell_is_a_command_that_there_is() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for page in PAGES {
        let makes = page.code().into_iter().filter(|code| code.starts_with("make "));
        for line in page.shell().into_iter().chain(makes) {
            let name = page.name;
            let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
            match program {
                "lockstep" => {}
                "make" => is_made(name, rest, &makefile),
                "cargo" => is_built(name, rest),
                "curl" => drop(path_of(name, rest)),
                _ => panic!("{name}: {line}: nothing looks whether this works"),
            }
        }
    }
}

/// Targets of the Makefile, and variables that it reads.
fn is_made(page: &str, words: &str, makefile: &str) {
    // What a variable is set to may be quoted, and says nothing here.
    let plain: String = words.split('"').step_by(2).collect();
    for word in plain.split_whitespace() {
        match word.split_once('=') {
            Some((variable, _)) => {
                assert!(makefile.contains(&format!("({variable})")), "{page}: make {words}")
            }
            None => assert!(makefile.contains(&format!("\n{word}: ")), "{page}: make {words}"),
        }
    }
}

/// Lines for cargo: these, and filters of tests that find some.
fn is_built(page: &str, line: &str) {
    let there = |file: String| root().join(&file).exists();
    let good = match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["run", "--", ..] => true,
        ["clippy", "--all-targets", "--features", "failpoints", "--", "-D", "warnings"] => true,
        ["test", "--features", "failpoints", "--lib", module] => there(format!("src/{module}.rs")),
        ["test", "--features", "failpoints", "--test", "it", theme] => there(format!("tests/it/{theme}.rs")),
        ["bench", "--bench", name] => {
            there(format!("benches/{name}.rs")) || there(format!("benches/{name}/main.rs"))
        }
        _ => false,
    };
    assert!(good, "{page}: cargo {line}");
}

/// The path that a line for curl asks of the running program.
fn path_of(page: &str, line: &str) -> String {
    let url = line.strip_prefix("-s http://localhost:9650/");
    format!("/{}", url.unwrap_or_else(|| panic!("{page}: curl {line}: nothing looks whether this works")))
}

#[test]
fn every_option_that_is_named_exists() {
    let cli = Cli::command();
    let mut flags = BTreeSet::new();
    let mut open = vec![&cli];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands());
        flags.extend(command.get_arguments().filter_map(|argument| argument.get_long()));
    }
    let settings = settings();
    let mut found = 0;
    for page in PAGES {
        for code in page.code() {
            if let Some(flag) = code.strip_prefix("--").and_then(|flag| flag.split(' ').next()) {
                assert!(flags.contains(flag), "{}: {code}", page.name);
                found += 1;
            }
            if let Some(setting) = setting(code) {
                assert!(settings.contains(setting), "{}: {code}", page.name);
                found += 1;
            }
        }
    }
    assert!(found > 30, "{found}");
}

/// Every setting of the reference, with and without its section.
fn settings() -> BTreeSet<String> {
    let (mut settings, mut section) = (BTreeSet::new(), "");
    for line in Page::named("docs/configuration.md").text.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        if let Some(option) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            settings.extend([option.to_owned(), format!("{section}.{option}")]);
        }
    }
    settings
}

/// Code that looks like a setting inside a section that there is, such as `outbox.limit`.
fn setting(code: &str) -> Option<&str> {
    const SECTIONS: [&str; 9] =
        ["connections", "dead_letters", "http", "log", "outbox", "rate", "server", "sources", "state"];
    let (section, key) = code.split_once('.')?;
    let plain = key.chars().all(|letter| letter.is_ascii_lowercase() || matches!(letter, '_' | '.'));
    (SECTIONS.contains(&section) && plain && !matches!(key, "rs" | "db")).then_some(code)
}

/// What is to be recognised is worded as the program words it; `…` stands for what differs.
#[test]
fn every_message_and_metric_of_the_troubleshooting_page_is_the_programs_own() {
    let source = source(&root().join("src"));
    let metrics = std::fs::read_to_string(root().join("src/metrics.rs")).unwrap();
    let mut messages = 0;
    for line in Page::named("docs/troubleshooting.md").text.lines() {
        let Some(seen) = line.strip_prefix("| ").and_then(|row| row.split(" | ").next()) else { continue };
        for code in line.split('`').skip(1).step_by(2) {
            if let Some(metric) = code.strip_prefix("lockstep_") {
                assert!(metrics.contains(&format!("lockstep / {metric}:")), "{code}");
            }
        }
        for code in seen.split('`').skip(1).step_by(2).filter(|code| !code.starts_with("lockstep_")) {
            for piece in code.split('…').map(str::trim).filter(|piece| piece.len() > 1) {
                assert!(source.contains(piece), "no such text in the program: {piece}");
                messages += 1;
            }
        }
    }
    assert!(messages > 40, "{messages}");
}

/// The program's text, with strings that go on over lines as one, and what is filled in as nothing.
fn source(folder: &Path) -> String {
    let mut files: Vec<PathBuf> = vec![folder.to_owned()];
    let mut text = String::new();
    while let Some(file) = files.pop() {
        match file.is_dir() {
            true => files.extend(std::fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path())),
            false if file.extension().is_some_and(|kind| kind == "rs") => {
                for part in std::fs::read_to_string(file).unwrap().split("\\\n") {
                    text.push_str(if text.is_empty() { part } else { part.trim_start() });
                }
            }
            false => {}
        }
    }
    text
}

#[test]
fn every_whole_configuration_in_the_documentation_loads() {
    let mut loaded = 0;
    for page in PAGES {
        for block in page.blocks("yaml") {
            if block.contains("connections:") && block.contains("sinks:") {
                load(page.name, block);
                loaded += 1;
            }
        }
    }
    assert!(loaded > 0);
}

#[test]
fn what_the_documentation_points_at_is_there() {
    let places = ["src/", "tests/", "docs/", "benches/", "config/", "Cargo.toml", "CHANGELOG.md"];
    for page in PAGES {
        for pointer in page.code() {
            let file = pointer.trim_end_matches('*');
            if places.iter().any(|place| file.starts_with(place)) && !file.contains("NAME") {
                // The map names files from `src` on.
                let there = [root().join(file), root().join("src").join(file)];
                assert!(there.iter().any(|file| file.exists()), "{}: {pointer}", page.name);
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
