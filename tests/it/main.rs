//! The whole program against a played portal over real HTTP: what it wrote is compared with what the portal
//! holds, never with its own counters.
#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it says")]

mod outage;
mod smoke;
mod support;
