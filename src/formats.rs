//! One file a format; [`crate::format`] chooses between them.

pub mod raw;
