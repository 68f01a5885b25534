//! The switches of the crash tests. They exist only with the cargo feature `failpoints`, which every test
//! build has and no release.
//!
//! | variable | does |
//! |---|---|
//! | `LOCKSTEP_FAULT=POINT:N` | the process kills itself the Nth time that it comes to this point |
//! | `LOCKSTEP_FAULT=POINT:N:panic` | what comes to this point the Nth time panics |
//! | `LOCKSTEP_REFUSE=N` | about one event in N cannot be encoded, always the same ones |
//! | `LOCKSTEP_FSYNC_LOG=FILE` | what is safe on disk is logged, see [`crate::durable::log_to`] |

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use rustix::process::{Signal, getpid, kill_process};

use crate::format::FormatError;
use crate::sinks::kafka;
use crate::{collect, deliver, durable, store};

/// Of how many events one is refused.
static REFUSED: OnceLock<u64> = OnceLock::new();

/// Every point at which a test can stop the program.
pub fn points() -> impl Iterator<Item = &'static str> {
    let all = [
        store::FAULT_POINTS,
        durable::FAULT_POINTS,
        collect::FAULT_POINTS,
        kafka::FAULT_POINTS,
        deliver::FAULT_POINTS,
    ];
    all.into_iter().flatten().copied()
}

/// Does what the variables say.
///
/// # Errors
/// A variable that says nothing that can be done.
pub fn arm() -> anyhow::Result<()> {
    if let Some(log) = variable("LOCKSTEP_FSYNC_LOG") {
        durable::log_to(log.as_ref()).with_context(|| format!("LOCKSTEP_FSYNC_LOG={log}"))?;
    }
    if let Some(refused) = variable("LOCKSTEP_REFUSE") {
        let number = refused.parse().ok().filter(|number| *number > 0);
        let number = number.with_context(|| format!("LOCKSTEP_REFUSE={refused}: expected a number"))?;
        REFUSED.get_or_init(|| number);
    }
    if let Some(fault) = variable("LOCKSTEP_FAULT") {
        kill_at(&fault)
            .with_context(|| format!("LOCKSTEP_FAULT={fault}: expected POINT:N or POINT:N:panic"))?;
    }
    Ok(())
}

/// An error for the events that a test wants to be refused. Whether one is depends on nothing but its row.
pub(crate) fn refuse(row: &str) -> Result<(), FormatError> {
    let Some(number) = REFUSED.get() else { return Ok(()) };
    let hash = blake3::hash(row.as_bytes());
    let dice = hash.as_bytes().iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    if row.contains("\"dateTime\"") && dice.is_multiple_of(*number) {
        return Err(FormatError::NotJson { what: "row", reason: "refused by a test".to_owned() });
    }
    Ok(())
}

fn kill_at(fault: &str) -> anyhow::Result<()> {
    let (fault, panics) = fault.strip_suffix(":panic").map_or((fault, false), |fault| (fault, true));
    let (point, number) = fault.split_once(':').context("no number")?;
    let number: u64 = number.parse()?;
    let point = points().find(|known| *known == point).context("no such point")?;
    let come = AtomicU64::new(0);
    let callback = move || {
        if come.fetch_add(1, Ordering::Relaxed) + 1 == number {
            assert!(!panics, "a test wants a panic here");
            kill_process(getpid(), Signal::KILL).expect("a process may end itself");
        }
    };
    fail::cfg_callback(point, callback).map_err(anyhow::Error::msg)
}

#[expect(clippy::disallowed_methods, reason = "no setting: exists in test builds only")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn sources(directory: &Path, all: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    fn all_sources() -> Vec<(String, String)> {
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        all
    }

    #[test]
    fn every_point_in_the_code_is_on_the_list_and_every_one_on_the_list_is_in_the_code() {
        let mut found = BTreeSet::new();
        for (_, text) in all_sources() {
            for call in ["fault(\"", "fail_point!(\""] {
                let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.filter(|name| name.contains('.')).map(str::to_owned));
            }
        }
        assert_eq!(found, points().map(str::to_owned).collect());
    }

    #[test]
    fn a_release_has_no_switches() {
        let all = all_sources();
        for (path, text) in &all {
            if !path.ends_with("src/fault.rs") {
                for switch in [
                    "LOCKSTEP_FAULT\"",
                    "LOCKSTEP_FSYNC_LOG\"",
                    "LOCKSTEP_REFUSE\"",
                    "cfg_callback",
                    "FailScenario",
                ] {
                    let allowed = path.ends_with("/tests.rs") || path.contains("/tests/");
                    assert!(allowed || !text.contains(switch), "{switch} in {path}");
                }
            }
        }
        let library = &all.iter().find(|(path, _)| path.ends_with("src/lib.rs")).unwrap().1;
        assert!(library.contains("#[cfg(feature = \"failpoints\")]\npub mod fault;"));
        let program = &all.iter().find(|(path, _)| path.ends_with("src/cli.rs")).unwrap().1;
        assert!(program.contains("#[cfg(feature = \"failpoints\")]\n        crate::fault::arm()?;"));
    }
}
