//! Wall time and randomness: the only place that asks the system for either.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Our own clock and dice. It only sets the pace; ages of coverage run on the portal's time
/// ([`crate::portal::PortalTime`]).
#[derive(Clone)]
pub struct Clock {
    offset: chrono::Duration,
    random: Arc<Mutex<StdRng>>,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.offset)
    }
}

impl Clock {
    /// The system's clock and dice.
    pub fn system() -> Self {
        Self { offset: chrono::Duration::zero(), random: Arc::new(Mutex::new(StdRng::from_os_rng())) }
    }

    /// A clock that runs `offset` beside the system's, with dice that repeat.
    pub fn shifted(offset: chrono::Duration, seed: u64) -> Self {
        Self { offset, random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    #[expect(clippy::disallowed_methods, reason = "the one door to the system's time")]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.offset
    }

    /// A number in `[0, 1)`.
    pub fn fraction(&self) -> f64 {
        self.random.lock().expect("no holder of the dice panics").random()
    }

    /// Random bytes, fit for secrets when the clock is the system's.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.random.lock().expect("no holder of the dice panics").random()
    }

    /// `length` changed by up to `share` of itself in either direction.
    pub fn jittered(&self, length: std::time::Duration, share: f64) -> std::time::Duration {
        length.mul_f64(1.0 + share * (2.0 * self.fraction() - 1.0))
    }
}
