//! One file a sink; [`crate::sink`] chooses between them.

pub mod file;
pub mod http;
pub mod kafka;
pub mod stdout;
