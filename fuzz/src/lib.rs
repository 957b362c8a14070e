//! What the fuzz targets share. Each target reads what comes from outside as the program would, and
//! goes on with what was understood; it must neither panic, nor hang, nor contradict itself.

pub mod image;
pub mod machine;
pub mod pieces;
pub mod seeds;
