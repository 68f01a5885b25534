//! The ThreatLocker portal, played over real HTTP as the contract describes it.
//!
//! Deterministic from a seed, with a movable clock, live rows, fault scripts and dialects for what is
//! unknown of the real one. [`answer::answer`] is the pure core; it needs neither HTTP nor JSON.
//! Shares no code with the client ([`crate::portal`]), so that neither hides the other's mistakes.

pub mod answer;
pub mod clock;
pub mod computers;
pub mod dialect;
mod dice;
mod listing;
mod live;
pub mod rows;
mod text;
pub mod world;
