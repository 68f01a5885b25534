//! One file a format; [`crate::format`] chooses between them.

pub mod ocsf;
pub mod out;
pub mod raw;
