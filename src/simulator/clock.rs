//! The portal's clock, which tests move.

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::model::Micros;

/// The simulated portal's time: the system's plus an offset, or standing still.
#[derive(Clone)]
pub struct PortalClock {
    system: Clock,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Running { offset: Micros },
    Frozen { at: Micros },
}

impl PortalClock {
    /// A clock that shows `now` at this moment and runs on.
    pub fn starting_at(now: Micros) -> Self {
        let system = Clock::system();
        let offset = now - system.now().timestamp_micros();
        Self { system, state: State::Running { offset } }
    }

    /// The system's time.
    pub fn system() -> Self {
        Self { system: Clock::system(), state: State::Running { offset: 0 } }
    }

    pub fn now(&self) -> Micros {
        match self.state {
            State::Running { offset } => self.system.now().timestamp_micros() + offset,
            State::Frozen { at } => at,
        }
    }

    /// Moves the clock, running or not.
    pub fn advance(&mut self, by: Micros) {
        match &mut self.state {
            State::Running { offset } => *offset += by,
            State::Frozen { at } => *at += by,
        }
    }

    /// Sets the clock, running or not.
    pub fn set(&mut self, now: Micros) {
        self.advance(now - self.now());
    }

    /// Stops the clock, or lets it run on from where it stands.
    pub fn freeze(&mut self, frozen: bool) {
        let now = self.now();
        self.state = match frozen {
            true => State::Frozen { at: now },
            false => State::Running { offset: now - self.system.now().timestamp_micros() },
        };
    }
}

/// A moment as a date; the years that a date cannot show become the first or the last.
pub fn date(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or(if at < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}
