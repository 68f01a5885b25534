//! The portal, as a process of its own that does as little as it can: its rows are written before the clock
//! starts, and serving a page is copying them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use lockstep::clock::Clock;
use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde::{Deserialize, Serialize};

/// Hours over which the rows lie.
pub(crate) const HOURS: i64 = 24;

/// Where the portal is and what it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) organization: String,
    pub(crate) rows: u64,
    /// Bytes of all rows.
    pub(crate) bytes: u64,
    /// The time before which its rows lie, in seconds.
    pub(crate) until: i64,
}

/// Serves until the process is killed. Writes where it is to `told`.
pub(crate) async fn serve(rows: u64, told: &Path) -> anyhow::Result<()> {
    let start = Clock::system().now().timestamp_micros();
    let mut world = World::new(WorldOptions {
        start,
        organizations: 5,
        computers: 500,
        rows_per_day: i64::try_from(rows)? * 24 / HOURS,
        backlog_hours: HOURS,
        live: false,
        late_share: 0.0,
        skew_seconds: 0,
        odd_share: 0.0,
        own_noise: false,
        short_rows: true,
        ..WorldOptions::default()
    });
    world.write_ahead(Source::UnifiedAudit);
    let mut bytes = Vec::new();
    let listed = world.rows(Source::UnifiedAudit);
    listed.iter().for_each(|row| world.write_row(Source::UnifiedAudit, row, &mut bytes));
    let (rows, bytes) = (listed.len() as u64, bytes.len() as u64);
    let portal =
        Simulator::start(world, Options { dialect: Dialect::default(), ..Options::default() }).await?;
    let held = Held {
        url: portal.url.clone(),
        token: portal.token.clone(),
        organization: portal.organization(0).to_string(),
        rows,
        bytes,
        until: start / SECOND + 1,
    };
    // The youngest rows are listed up to three seconds after the start; from then on nothing changes.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let partly = told.with_extension("part");
    std::fs::write(&partly, serde_json::to_vec(&held)?)?;
    std::fs::rename(&partly, told)?;
    std::future::pending::<()>().await;
    drop(portal);
    Ok(())
}

/// The portal's process; killed when this is dropped.
pub(crate) struct Portal {
    pub(crate) held: Held,
    process: Child,
}

impl Portal {
    pub(crate) fn start(rows: u64, folder: &Path) -> anyhow::Result<Self> {
        let told = folder.join("portal.json");
        let process = Command::new(std::env::current_exe()?)
            .arg("portal")
            .arg(rows.to_string())
            .arg(&told)
            .stdin(Stdio::null())
            .spawn()
            .context("starting the portal")?;
        let mut portal = Self { process, held: Held::nothing() };
        while !told.exists() {
            ensure!(portal.process.try_wait()?.is_none(), "the portal ended before it served");
            std::thread::sleep(Duration::from_millis(50));
        }
        portal.held = serde_json::from_slice(&std::fs::read(&told)?)?;
        Ok(portal)
    }

    /// Process id, to read what it uses.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        // It ends by no other means.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Held {
    fn nothing() -> Self {
        let nothing = String::new;
        Self { url: nothing(), token: nothing(), organization: nothing(), rows: 0, bytes: 0, until: 0 }
    }
}
