//! The ThreatLocker portal, played over real HTTP as the contract describes it.
//!
//! Deterministic from a seed, with a movable clock, live rows, fault scripts and dialects for what is
//! unknown of the real one. [`answer::answer`] is the pure core; it needs neither HTTP nor JSON.
//! Shares no code with the client, so that neither hides the other's mistakes.
//!
//! | module | holds |
//! |---|---|
//! | `answer`, `dialect` | the pure core: which rows a request gets, in how many tongues |
//! | `world`, `live`, `listing`, `computers`, `checkins`, `approvals`, `maintenance`, `policies`, `private`, `story`, `rows` | what the portal holds, how it goes on, how it is written |
//! | `stage`, `requests`, `reply`, `faults`, `truth`, `stats`, `clock` | the answer to one request |
//! | `http`, `control`, `line`, `serve` | the network side and the handle for tests |

pub mod answer;
pub mod approvals;
pub mod checkins;
pub mod clock;
pub mod computers;
mod control;
pub mod details;
pub mod dialect;
pub mod dice;
pub mod faults;
pub mod http;
pub mod line;
pub mod listing;
mod live;
pub mod maintenance;
pub mod online_devices;
pub mod policies;
pub mod private;
pub mod reply;
pub mod reports;
pub mod requests;
pub mod rows;
mod serve;
pub mod stage;
pub mod stats;
pub mod story;
pub mod text;
pub mod truth;
pub mod world;

pub use serve::{Options, ServeOptions, Simulator, SimulatorError, demo_world, serve};

#[cfg(test)]
mod tests;
