//! The inputs that each target begins with.

mod core;
#[cfg(feature = "outside")]
mod outside;

use std::error::Error;

/// Inputs by target.
pub type Seeds = Vec<(&'static str, Vec<Vec<u8>>)>;

pub fn all() -> Result<Seeds, Box<dyn Error>> {
    #[cfg_attr(not(feature = "outside"), expect(unused_mut, reason = "there are no others"))]
    let mut seeds = vec![
        ("wal", core::wal()?),
        ("snapshot", core::snapshot()?),
        ("requests", core::requests()),
        ("commands", core::commands()),
    ];
    #[cfg(feature = "outside")]
    seeds.extend([
        ("peer", outside::peer()),
        ("gateway", outside::gateway()),
        ("config", outside::config()),
        ("connection", outside::connection()),
    ]);
    Ok(seeds)
}
