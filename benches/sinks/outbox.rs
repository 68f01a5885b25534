//! An outbox that is filled once, while no sink can be reached, and copied for each delivery.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use lockstep::source::SOURCES;

use crate::portal::{HOURS, Portal};
use crate::process::{Until, Used, bytes_below, files_below, measured};

/// A full outbox, and what is in it as a sink gets it.
pub(crate) struct Outbox {
    home: PathBuf,
    /// The records in lines.
    pub(crate) payloads: PathBuf,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    url: String,
}

/// A copy with one sink.
pub(crate) struct Home(PathBuf);

impl Outbox {
    /// Collects so many rows, with a portal that is gone afterwards.
    pub(crate) fn fill(rows: u64, folder: &Path) -> anyhow::Result<Self> {
        let portal = Portal::start(rows, folder)?;
        let home = folder.join("full");
        fs::create_dir(&home)?;
        fs::write(home.join("token"), &portal.held.token)?;
        let url = portal.held.url.clone();
        let away = "type: http, url: \"http://127.0.0.1:9/\"";
        configure(&home, &url, &format!("{{ name: away, format: raw, {away} }}"))?;
        let state = home.join("state");
        let grows = Box::new(move || bytes_below(&state));
        measured(&mut lockstep("run", &home), &Until::Grown(grows, 1))?;
        let wanted = portal.held.rows;
        drop(portal);
        let payloads = folder.join("payloads.ndjson");
        let mut outbox = Self { home, payloads, records: 0, bytes: 0, url };
        let out = folder.join("files");
        let sink = format!("type: file, path: \"{}/{{source}}-{{date}}.ndjson\"", out.display());
        let (home, written) = (outbox.copy(folder, &sink)?, out.clone());
        home.deliver(Box::new(move || bytes_below(&written)), 1)?;
        (outbox.records, outbox.bytes) = gather(&out, &outbox.payloads)?;
        fs::remove_dir_all(out)?;
        ensure!(outbox.records == wanted, "{} of {wanted} rows came", outbox.records);
        Ok(outbox)
    }

    /// A copy that delivers everything to this sink. The one before is gone.
    pub(crate) fn copy(&self, folder: &Path, sink: &str) -> anyhow::Result<Home> {
        let home = folder.join("copy");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        // The door of a program that was killed is no file.
        for file in files_below(&self.home).into_iter().filter(|path| path.is_file()) {
            let to = home.join(file.strip_prefix(&self.home)?);
            fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            fs::copy(&file, to)?;
        }
        configure(&home, &self.url, &format!("{{ name: far, format: raw, {sink} }}"))?;
        Ok(Home(home))
    }
}

impl Home {
    /// Makes the topics.
    pub(crate) fn check_and_create(&self) -> anyhow::Result<()> {
        let mut check = lockstep("check", &self.0);
        // The portal is gone, so the check fails in the end; a sink without its topics would be held.
        check.args(["--online", "--create"]).stdin(Stdio::null()).stdout(Stdio::null());
        check.status().map(|_| ()).context("running lockstep check")
    }

    /// Runs until the far side has everything.
    pub(crate) fn deliver(&self, counts: Box<dyn Fn() -> u64>, all: u64) -> anyhow::Result<Used> {
        measured(&mut lockstep("run", &self.0), &Until::Grown(counts, all))
    }
}

fn lockstep(command: &str, home: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    program.arg(command).arg("-c").arg(home.join("lockstep.yaml")).current_dir(home).stderr(Stdio::null());
    program
}

fn configure(home: &Path, url: &str, sink: &str) -> anyhow::Result<()> {
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
    token: {{ file: token }}
    organizations: all
    rate: unlimited
sources:
  unified_audit: {{ settle: 1s, backfill: {}h }}
{others}state: {{ dir: {} }}
server: {{ ops: off }}
log: {{ level: warn }}
sinks:
  - {sink}
",
        HOURS + 1,
        home.join("state").display(),
    );
    let config = config.replace("{ file: token }", &format!("{{ file: {} }}", home.join("token").display()));
    Ok(fs::write(home.join("lockstep.yaml"), config)?)
}

/// Copies the lines of all files into one; answers how many, and their bytes.
fn gather(out: &Path, to: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut to, mut records, mut bytes) = (BufWriter::new(File::create(to)?), 0, 0);
    for file in files_below(out) {
        for line in BufReader::new(File::open(file)?).split(b'\n') {
            let line = line?;
            to.write_all(&line)?;
            to.write_all(b"\n")?;
            records += 1;
            bytes += line.len() as u64;
        }
    }
    to.flush()?;
    Ok((records, bytes))
}
