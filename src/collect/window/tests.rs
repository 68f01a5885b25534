//! A stream against a portal and a store in memory.

mod cost;
mod memory;
mod schedules;
mod stories;
