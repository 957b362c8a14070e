//! Writes the inputs that fuzzing begins with, made by our own encoders: `seeds <folder>`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use kvd_fuzz::seeds;
// All of the package is built with coverage, which is counted there.
use libfuzzer_sys as _;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("seeds <folder>")?);
    for (target, inputs) in seeds::all()? {
        write(&folder.join(target), &inputs)?;
    }
    Ok(())
}

fn write(folder: &Path, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), input)?;
    }
    Ok(())
}
