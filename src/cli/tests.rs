use clap::CommandFactory;
use insta::assert_snapshot;

use super::*;

/// Every command with its arguments, also those that are not wired yet.
#[derive(Debug, Parser)]
enum All {
    Run(run::Run),
    Check(check::Check),
    Once(once::Once),
    Status(status::Status),
    Coverage(coverage::Coverage),
    Backfill(backfill::Backfill),
    DeadLetters(dead_letters::DeadLetters),
    Explain(explain::Explain),
    ConfirmRemoved(confirm_removed::ConfirmRemoved),
    Demo(demo::Demo),
    Try(try_it::TryIt),
    Simulate(simulate::Simulate),
    Config(config::Show),
}

fn parse(line: &str) -> Result<All, clap::Error> {
    All::try_parse_from(std::iter::once("lockstep").chain(line.split_whitespace()))
}

/// A configuration of two sites with all else as it is by default, in a folder of its own.
pub(super) fn configured() -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    std::fs::write(dir.path().join("token"), "0123").unwrap();
    let yaml = "connections:
  - { site: acme, instance: g, token: { file: DIR/token }, token_expiry: { at: 2026-05-01 }, organizations: all }
  - { site: fresh, instance: g, token: { file: DIR/token } }
state: { dir: DIR/state }
sinks: [{ name: out, type: stdout }]
";
    std::fs::write(dir.path().join("lockstep.yaml"), yaml.replace("DIR", &path)).unwrap();
    let config = Config::load(&dir.path().join("lockstep.yaml"), &Environment::default()).unwrap();
    (dir, config)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    All::command().debug_assert();
}

#[test]
fn every_command_teaches_with_an_example() {
    for command in All::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains(&format!("lockstep {}", command.get_name())), "{help}");
        assert!(command.get_about().is_some_and(|about| about.to_string().len() > 20), "{help}");
    }
}

#[test]
fn the_examples_in_the_help_texts_parse() {
    for command in All::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter_map(|line| line.split_once("lockstep ")).map(|(_, rest)| rest);
        for example in examples {
            let example = example.split(" | ").next().unwrap().split("   ").next().unwrap();
            parse(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}

#[test]
fn the_config_command_wants_to_know_what_to_show() {
    assert!(parse("config").is_err());
    assert!(parse("config --effective").is_err());
    assert!(parse("config --defaults -c x").is_err());
    assert!(parse("config --defaults --effective -c x").is_err());
}

#[test]
fn an_unknown_source_is_refused_with_the_known_ones() {
    let said = parse("once -c x --source computer").unwrap_err().to_string();
    assert!(said.contains("computers") && said.contains("unified_audit"), "{said}");
    let All::Once(once) = parse("once -c x --source computers --source system_audit").unwrap() else {
        panic!("once");
    };
    assert_eq!(once.source, ["computers", "system_audit"]);
}

#[test]
fn a_mistake_of_the_user_exits_with_2_and_a_failure_with_1() {
    let usage = anyhow::Error::from(Usage("no such site".into())).context("cannot begin");
    assert_eq!(exit_code(&usage), ExitCode::from(2));
    assert_eq!(exit_code(&anyhow::anyhow!("disk full")), ExitCode::from(1));
    let missing = Config::load("/nowhere/lockstep.yaml".as_ref(), &Environment::default()).unwrap_err();
    assert_snapshot!(format!("{:#}", anyhow::Error::from(missing)), @"cannot read the configuration /nowhere/lockstep.yaml: No such file or directory (os error 2)");
}
