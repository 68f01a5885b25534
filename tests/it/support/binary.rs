//! The real program as a process of its own, with its configuration, state and output in one directory.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockstep::simulator::Simulator;
pub(crate) use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::app::beside_the_usual;

/// A place to run the program in.
pub(crate) struct Place {
    directory: TempDir,
    /// How often the program was started here.
    lives: AtomicU32,
}

/// A running program; killed when it is dropped.
pub(crate) struct Running(Child);

impl Place {
    /// A place with a configuration that collects from this portal in a hurry and delivers to files of
    /// this size, such as `64KiB`.
    pub(crate) fn new(portal: &Simulator, file_size: &str) -> Self {
        let place = Self::with_sink(portal, "");
        let sink = format!(
            "  - name: out
    type: file
    format: raw
    path: \"{}/{{site}}/{{source}}-{{org_id}}-{{date}}.ndjson\"
    rotate: {{ size: {file_size}, age: 1h }}
",
            place.out().display()
        );
        place.reconfigure("sinks:\n", &format!("sinks:\n{sink}"));
        place
    }

    /// The same with another list of sinks, in YAML.
    pub(crate) fn with_sink(portal: &Simulator, sinks: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), lives: AtomicU32::new(0) };
        let at = |name: &str| place.path(name).display().to_string();
        let others: String =
            beside_the_usual().map(|source| format!("      {source}: {{ enabled: false }}\n")).collect();
        let config = format!(
            "connections:
  - site: acme
    base_url: {url}
    token: {{ file: {token} }}
    organizations: all
    rate: unlimited
    sources:
      unified_audit: {{ every: 1s, settle: 2s, page_size: 250, backfill: 28d }}
      system_audit: {{ every: 1s, settle: 2s, page_size: 100, backfill: 28d }}
      computers: {{ every: 2s, page_size: 50, restate: off }}
{others}state: {{ dir: {state} }}
server: {{ ops: off }}
log: {{ level: warn }}
sinks:
{sinks}",
            url = portal.url,
            token = at("token"),
            state = at("state"),
        );
        fs::write(place.path("token"), &portal.token).unwrap();
        fs::write(place.path("lockstep.yaml"), config).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// What each life of the program printed on standard output, a file each: nobody reads on where a pipe was torn.
    pub(crate) fn printed(&self) -> PathBuf {
        self.path("printed")
    }

    /// The log of what is safe on disk.
    pub(crate) fn fsync_log(&self) -> PathBuf {
        self.path("fsync.log")
    }

    /// What the program said on stderr so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Starts `lockstep COMMAND -c …`, to kill itself at a fault point if one is given as `POINT:N`.
    pub(crate) fn start(&self, command: &str, fault: Option<&str>) -> Running {
        let variables: Vec<_> = fault.map(|fault| ("LOCKSTEP_FAULT", fault)).into_iter().collect();
        self.start_with(command, &variables)
    }

    /// Starts `lockstep COMMAND -c …` with these environment variables besides ours.
    pub(crate) fn start_with(&self, command: &str, variables: &[(&str, &str)]) -> Running {
        let stderr = OpenOptions::new().append(true).create(true).open(self.path("stderr")).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.arg(command).arg("-c").arg(self.path("lockstep.yaml")).current_dir(self.directory.path());
        program.env("LOCKSTEP_FSYNC_LOG", self.fsync_log());
        program.env("LOCKSTEP_REFUSE", "50").envs(variables.iter().copied());
        fs::create_dir_all(self.printed()).unwrap();
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let stdout = fs::File::create(self.printed().join(life.to_string())).unwrap();
        program.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Running(program.spawn().unwrap())
    }
}

impl Place {
    /// Runs `lockstep … -c …` to its end and answers what it printed. Fails where it does.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> String {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.args(arguments).arg("-c").arg(self.path("lockstep.yaml")).current_dir(self.directory.path());
        let run = tokio::task::spawn_blocking(move || program.stdin(Stdio::null()).output().unwrap());
        let output = run.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap() + &said
    }

    /// Delivers to these sinks, entries of a list, and to no files.
    pub(crate) fn deliver_to(&self, sinks: &str) {
        let file = self.path("lockstep.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let (before, _) = text.split_once("sinks:\n").unwrap();
        fs::write(file, format!("{before}sinks:\n{sinks}\n")).unwrap();
    }

    /// Changes the configuration.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let file = self.path("lockstep.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(file, text.replace(from, to)).unwrap();
    }
}

impl Running {
    /// How it ended, or `None` when it still runs after so long.
    pub(crate) async fn ended_within(&mut self, longest: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + longest;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A line of what the system says of the process, in bytes: `VmRSS` for its memory now, `VmHWM` for the most.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = status.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// SIGKILL. False when it had ended by itself before.
    pub(crate) fn kill(&mut self) -> bool {
        self.0.kill().unwrap();
        was_killed(self.0.wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended long ago, most of the time.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether SIGKILL was the end of it.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
