//! What the themes share.

pub(crate) mod binary;
pub(crate) mod power;
pub(crate) mod verdict;
