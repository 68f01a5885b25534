//! `lockstep run` over the same rows, to NDJSON on disk in a format, as its defaults are but for the pace.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use lockstep::source::SOURCES;
use serde::Deserialize;

use crate::portal::{HOURS, Held};
use crate::process::{Until, Used, bytes_below, files_below, measured};

pub(crate) fn run(held: &Held, folder: &Path, format: &str) -> anyhow::Result<Used> {
    let home = folder.join("lockstep");
    std::fs::create_dir(&home)?;
    let (token, out) = (home.join("token"), home.join("out"));
    std::fs::write(&token, &held.token)?;
    let others: String = SOURCES
        .iter()
        .map(|source| source.name())
        .filter(|name| *name != "unified_audit")
        .map(|name| format!("  {name}: {{ enabled: false }}\n"))
        .collect();
    let config = format!(
        "connections:
  - site: bench
    base_url: {url}
    token: {{ file: {token} }}
    organizations: all
    rate: unlimited
sources:
  unified_audit: {{ settle: 1s, backfill: {hours}h }}
{others}state: {{ dir: {state} }}
server: {{ ops: off }}
log: {{ level: warn }}
sinks:
  - {{ name: out, type: file, path: \"{out}/{{site}}/{{source}}-{{date}}.ndjson\", format: {format} }}
",
        url = held.url,
        token = token.display(),
        hours = HOURS + 1,
        state = home.join("state").display(),
        out = out.display(),
    );
    let file = home.join("lockstep.yaml");
    std::fs::write(&file, config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.arg("run").arg("-c").arg(&file).current_dir(&home);
    let below = out.clone();
    let used = measured(&mut command, &Until::Grown(Box::new(move || bytes_below(&below)), held.bytes))?;
    let found = ids(&out)?;
    ensure!(found == held.rows, "{found} of {} rows came", held.rows);
    std::fs::remove_dir_all(&home)?;
    Ok(used)
}

/// Counts the records, each of which must be there once.
fn ids(out: &Path) -> anyhow::Result<u64> {
    /// In an envelope, or in OCSF.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Record {
        Raw { uid: String },
        Ocsf { metadata: Metadata },
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    let mut ids = HashSet::new();
    for file in files_below(out) {
        for line in BufReader::new(File::open(file)?).lines() {
            let (Record::Raw { uid } | Record::Ocsf { metadata: Metadata { uid } }) =
                serde_json::from_str(&line?)?;
            ensure!(ids.insert(uid), "a record came twice");
        }
    }
    Ok(ids.len() as u64)
}
