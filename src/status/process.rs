//! What the operating system says of this process.

use serde::{Deserialize, Serialize};

/// Clock ticks a second in which Linux tells processor time to programs.
const TICKS: f64 = 100.0;

/// Resources in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_files: u64,
}

impl ProcessStatus {
    /// Reads `/proc`; `None` where there is none.
    pub fn read() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name that may hold anything, so counting starts behind its bracket.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = |place: usize| fields.split_whitespace().nth(place)?.parse::<u32>().ok().map(f64::from);
        Some(Self {
            resident_bytes: kibibytes * 1024,
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}
