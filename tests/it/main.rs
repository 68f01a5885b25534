//! Behaviour seen from outside: real parts, real files, the portal played over HTTP. What the program wrote
//! is compared with what the portal holds, never with its own counters.
#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it says")]

mod again;
mod approvals;
mod backfill;
mod bad_input;
mod broken_parts;
mod bulk;
mod checkins;
mod cost;
mod crash;
mod details;
mod devices;
mod docs;
mod every_source;
mod hec;
mod house;
mod integrations;
mod inventory;
mod kafka;
mod late;
mod live;
mod log;
mod matrix;
mod online_devices;
mod outage;
mod own_reads;
mod poison;
mod post;
mod privacy;
mod private;
mod records;
mod reload;
mod remediations;
mod reports;
mod rotation;
mod scale;
mod schedules;
mod select;
mod sites;
mod smoke;
mod states;
mod stopping;
mod support;
mod threats;
mod transport;
