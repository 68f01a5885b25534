//! One file a sink; [`crate::sink`] chooses between them.

pub mod file;
pub mod stdout;
