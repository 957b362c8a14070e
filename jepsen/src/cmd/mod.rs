//! The commands, one a file.

pub(crate) mod crash;
pub(crate) mod power_cut;
