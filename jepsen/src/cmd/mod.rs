//! The commands, one a file.

pub(crate) mod crash;
pub(crate) mod failover;
pub(crate) mod full_disk;
pub(crate) mod lag;
pub(crate) mod memory;
pub(crate) mod mixed;
pub(crate) mod one_row;
pub(crate) mod power_cut;
