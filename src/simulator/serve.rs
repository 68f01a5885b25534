//! Starting and stopping the played portal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::clock::PortalClock;
use super::dialect::Dialect;
use super::faults::{Effect, Fault};
use super::http::{Shared, router};
use super::line::{Cutter, Door, loopback};
use super::stage::{Stage, token};
use super::stats::{Logged, Stats};
use super::truth::{TruthComputer, TruthRequest, TruthRow, TruthState};
use super::world::{Source, World, WorldOptions};
use crate::clock::Clock;
use crate::model::Micros;

/// Why the simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    #[error("the simulator cannot listen on loopback port {port}: choose another port, or 0 for a free one")]
    Listen { port: u16, source: std::io::Error },
}

/// How the simulator is served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 0 takes a free port.
    pub port: u16,
    pub dialect: Dialect,
    /// The clock stands still at the world's start until it is moved.
    pub frozen: bool,
}

/// A running portal. It ends when this is dropped.
pub struct Simulator {
    pub url: String,
    pub token: String,
    port: u16,
    shared: Shared,
    door: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Simulator {
    /// Serves a world on loopback, its clock starting at the world's start.
    ///
    /// # Errors
    /// Fails when the port is taken.
    pub async fn start(world: World, options: Options) -> Result<Self, SimulatorError> {
        let mut clock = PortalClock::starting_at(world.options.start);
        if options.frozen {
            clock.freeze(true);
            clock.set(world.options.start);
        }
        let stage = Stage::new(world, clock, options.dialect);
        let token = stage.tokens[0].clone();
        let mut simulator =
            Self { url: String::new(), token, port: options.port, shared: Shared::new(stage), door: None };
        simulator.open().await?;
        Ok(simulator)
    }

    /// Everything that is played, to look at and to change; never kept over an await.
    pub fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.shared.lock()
    }

    /// Goes away: connections are reset and new ones refused.
    pub async fn stop(&mut self) {
        let Some((closed, serving)) = self.door.take() else { return };
        closed.store(true, Ordering::Release);
        serving.abort();
        // The listener is gone once the task has ended; how it ended says nothing.
        drop(serving.await);
    }

    /// Comes back on the same port with the same world.
    ///
    /// # Errors
    /// Fails when somebody else took the port meanwhile.
    pub async fn restart(&mut self) -> Result<(), SimulatorError> {
        self.stop().await;
        self.open().await
    }

    async fn open(&mut self) -> Result<(), SimulatorError> {
        let failed = |source| SimulatorError::Listen { port: self.port, source };
        let listener = TcpListener::bind(loopback(self.port)).await.map_err(failed)?;
        self.port = listener.local_addr().map_err(failed)?.port();
        self.url = format!("http://127.0.0.1:{}", self.port);
        let closed = Arc::new(AtomicBool::new(false));
        let door = Door { listener, closed: closed.clone() };
        let service = router(self.shared.clone()).into_make_service_with_connect_info::<Cutter>();
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(door, service).await {
                tracing::error!(%error, "the simulator stopped serving");
            }
        });
        self.door = Some((closed, serving));
        Ok(())
    }

    /// The id of the organization at this index; 0 is the parent.
    pub fn organization(&self, index: usize) -> uuid::Uuid {
        self.stage().world.organizations[index].id
    }

    /// The portal's now.
    pub fn now(&self) -> Micros {
        self.stage().tick()
    }

    /// Moves the portal's clock by microseconds.
    pub fn advance(&self, by: Micros) -> Micros {
        let mut stage = self.stage();
        stage.clock.advance(by);
        stage.tick()
    }

    /// Adds a fault and answers its number.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.stage().faults.add(fault)
    }

    /// The next requests fail with this status.
    pub fn fail_next(&self, times: u32, status: u16) -> u64 {
        let effect = Effect::Status { status, retry_after: None, message: None };
        self.fault(Fault::next(times, effect))
    }

    /// Ends one fault, or all of them.
    pub fn clear_faults(&self, number: Option<u64>) {
        self.stage().faults.clear(number);
    }

    /// A further token that opens the portal.
    pub fn add_token(&self) -> String {
        let mut stage = self.stage();
        let token = token(stage.world.options.seed, stage.tokens.len() as u64);
        stage.tokens.push(token.clone());
        token
    }

    /// The truth of a source, sorted by its rows' time on the dialect's axis.
    pub fn truth(&self, source: Source, ever: bool) -> Vec<TruthRow> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_rows(source, ever).iter().map(|row| stage.truth(source, row, false)).collect()
    }

    /// The truth of the computers.
    pub fn true_computers(&self, history: bool) -> Vec<TruthComputer> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_computers(history)
    }

    /// The truth of the policies.
    pub fn true_policies(&self, history: bool) -> Vec<TruthState> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_policies(history)
    }

    /// The truth of the devices without an agent.
    pub fn true_online_devices(&self, history: bool) -> Vec<TruthState> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_online_devices(history)
    }

    /// The truth of the organizations.
    pub fn true_organizations(&self, history: bool) -> Vec<TruthState> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_organizations(history)
    }

    /// The truth of the requests for approval.
    pub fn true_requests(&self, history: bool) -> Vec<TruthRequest> {
        let mut stage = self.stage();
        stage.tick();
        stage.true_requests(history)
    }

    pub fn stats(&self) -> Stats {
        self.stage().stats.clone()
    }

    /// The kept requests with a number above this.
    pub fn requests_since(&self, number: u64) -> Vec<Logged> {
        self.stage().stats.since(number)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some((closed, serving)) = self.door.take() {
            closed.store(true, Ordering::Release);
            serving.abort();
        }
    }
}

/// What `lockstep simulate` can choose.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub port: u16,
    pub dialect: Dialect,
    pub world: WorldOptions,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { port: 0, dialect: Dialect::default(), world: demo_options() }
    }
}

/// Serves a portal until the future is dropped. `ready` hears where, once it answers.
///
/// # Errors
/// Fails when the port is taken.
pub async fn serve(options: ServeOptions, ready: impl FnOnce(&Simulator)) -> Result<(), SimulatorError> {
    let served = Options { port: options.port, dialect: options.dialect, frozen: false };
    let simulator = Simulator::start(World::new(options.world), served).await?;
    ready(&simulator);
    std::future::pending().await
}

/// The demo's portal: 3 organizations, 200 computers, a day of backlog with some 100,000 rows, and live.
pub fn demo_world() -> World {
    World::new(demo_options())
}

fn demo_options() -> WorldOptions {
    WorldOptions {
        start: Clock::system().now().timestamp_micros(),
        computers: 200,
        rows_per_day: 100_000,
        audit_rows_per_day: 2_000,
        computer_changes_per_day: 400,
        policies: 120,
        policy_changes_per_day: 100,
        ..WorldOptions::default()
    }
}
