//! Lockstep keeps a SIEM and an asset inventory in step with ThreatLocker, and proves what it has seen.
//!
//! The main flow: `schedule` wakes a stream, `collect` asks the `portal` page by page under its limiter,
//! `store` commits new rows, seen ids and coverage in one transaction; `deliver` reads the outbox,
//! encodes each entry in a format, a sink writes, and the sink's position is committed. The two halves
//! meet only in the store. Nothing is remembered before it is safe on disk; nothing is forgotten before
//! the sink has it.

pub mod app;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod control;
pub mod coverage;
pub mod credentials;
pub mod deliver;
pub mod durable;
mod epitaph;
#[cfg(feature = "failpoints")]
pub mod fault;
pub mod format;
pub mod formats;
pub mod metrics;
pub mod model;
pub mod normalise;
pub mod order;
pub mod portal;
pub mod reach;
pub mod record;
pub mod redact;
pub mod schedule;
pub mod select;
pub mod simulator;
pub mod sink;
pub mod sinks;
pub mod source;
pub mod sources;
pub mod status;
pub mod store;
pub mod web;
