//! `version`: kvutl's own, and that of the etcd whose files it knows.

use crate::failure::Failure;
use crate::print;

const API_VERSION: &str = "3.6";

pub(super) fn run() -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    print::data(&format!("kvutl version: {version}\nAPI version: {API_VERSION}\n"))
}
