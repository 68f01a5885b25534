//! Runs a process to the end of its work and reads from `/proc` what that took.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

/// Clock ticks a second in which Linux tells processor time to programs.
const TICKS: f64 = 100.0;
/// Between two looks: a look is cheap, and the end is known no better than this.
const LOOK: Duration = Duration::from_millis(20);
/// Output that has not grown for so long is complete, if it is as long as the rows in it must be.
const STILL: Duration = Duration::from_secs(10);
/// Nothing here takes so long.
const LONGEST: Duration = Duration::from_secs(900);

/// What a process took for its work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) wall_seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
}

/// When a process has done its work.
pub(crate) enum Until {
    /// When it ends by itself.
    End,
    /// When what this counts has grown last, and is at least so much. Then it is killed.
    Grown(Box<dyn Fn() -> u64>, u64),
}

/// Runs a command and measures it from its start.
pub(crate) fn measured(command: &mut Command, until: &Until) -> anyhow::Result<Used> {
    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting a process")?;
    let used = watch(&mut child, began, until);
    // Ended already, or done with all that is asked of it.
    drop(child.kill());
    let status = child.wait()?;
    ensure!(matches!(until, Until::Grown(..)) || status.success(), "a process failed: {status}");
    used
}

fn watch(child: &mut Child, began: Instant, until: &Until) -> anyhow::Result<Used> {
    let (mut used, mut length, mut grew) = (Used::default(), 0, began);
    loop {
        let look = look(child.id())?;
        // A process that has ended but was not waited for keeps its times and has no memory any more.
        used.peak_bytes = used.peak_bytes.max(look.peak_bytes);
        let now = Instant::now();
        match until {
            Until::End => {
                (used.wall_seconds, used.cpu_seconds) = ((now - began).as_secs_f64(), look.cpu_seconds);
                if look.ended {
                    return Ok(used);
                }
            }
            Until::Grown(count, least) => {
                let found = count();
                if found > length {
                    (length, grew) = (found, now);
                    (used.wall_seconds, used.cpu_seconds) = ((now - began).as_secs_f64(), look.cpu_seconds);
                }
                if length >= *least && now - grew > STILL {
                    return Ok(used);
                }
                ensure!(!look.ended, "a process ended when there was {length}");
            }
        }
        ensure!(now - began < LONGEST, "a process takes longer than {LONGEST:?}");
        std::thread::sleep(LOOK);
    }
}

struct Look {
    ended: bool,
    cpu_seconds: f64,
    peak_bytes: u64,
}

fn look(id: u32) -> anyhow::Result<Look> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).context("this needs Linux's /proc")?;
    // The second field is a name that may hold anything, so counting starts behind its bracket.
    let (_, fields) = stat.rsplit_once(')').context("a line of /proc without a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |place: usize| fields.get(place).and_then(|text| text.parse::<u32>().ok()).map_or(0.0, f64::from);
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(Look {
        ended: fields.first() == Some(&"Z"),
        cpu_seconds: (ticks(11) + ticks(12)) / TICKS,
        peak_bytes: peak.and_then(|peak| peak.trim().parse::<u64>().ok()).unwrap_or(0) * 1024,
    })
}

/// Processor time that a running process has taken so far.
pub(crate) fn cpu_seconds(id: u32) -> anyhow::Result<f64> {
    Ok(look(id)?.cpu_seconds)
}

/// Processor time that the whole machine has spent so far, and the part of it that this process and its
/// children that have ended took.
pub(crate) fn machine_seconds() -> anyhow::Result<(f64, f64)> {
    let seconds = |fields: &mut dyn Iterator<Item = &str>| {
        fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
    };
    let stat = std::fs::read_to_string("/proc/stat").context("this needs Linux's /proc")?;
    let all = stat.lines().next().context("an empty /proc/stat")?;
    // user, nice, system; idle and iowait are left out; irq, softirq, steal.
    let counted =
        all.split_whitespace().skip(1).enumerate().filter(|(place, _)| matches!(place, 0..=2 | 5..=7));
    let busy = seconds(&mut counted.map(|(_, ticks)| ticks));
    let own = std::fs::read_to_string("/proc/self/stat")?;
    let (_, own) = own.rsplit_once(')').context("a line of /proc without a name")?;
    Ok((busy, seconds(&mut own.split_whitespace().skip(11).take(4))))
}

/// Every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().filter_map(|file| file.metadata().ok()).map(|about| about.len()).sum()
}
