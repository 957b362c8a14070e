//! `version`: kvctl's own, and that of the API it speaks.

use crate::failure::Failure;
use crate::print;

/// The etcd API that kvctl follows.
const API_VERSION: &str = "3.6";

pub(super) fn run() -> Result<(), Failure> {
    print::line(&format!("kvctl version: {}", env!("CARGO_PKG_VERSION")))?;
    print::line(&format!("API version: {API_VERSION}"))
}
