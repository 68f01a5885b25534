//! What the themes share.

pub(crate) mod binary;
pub(crate) mod output;
