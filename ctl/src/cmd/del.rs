//! `del`: a key, a range, a prefix.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use proto::etcdserverpb::DeleteRangeRequest;

use crate::cmd::get::one_of;
use crate::failure::Failure;
use crate::format::{Answer, Subject};
use crate::keys::{self, Keys};
use crate::options::GlobalArgs;
use crate::session::{Call, Session};
use crate::{go, print};

/// How long one has to change one's mind about a range that nothing marks as one.
const RANGE_WARNING: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl del [OPTIONS] <KEY> [RANGE_END]",
    after_help = "Examples:
  kvctl del name
  kvctl del --prefix /app/ --prev-kv   and print what was deleted
  kvctl del --range a d                the keys a <= key < d"
)]
pub(crate) struct Del {
    /// Key, and the end of the range if it is one
    #[arg(value_name = "KEY [RANGE_END]", hide = true)]
    args: Vec<OsString>,
    /// Delete keys with matching prefix
    #[arg(long)]
    prefix: bool,
    /// Return deleted key-value pairs
    #[arg(long)]
    prev_kv: bool,
    /// Delete keys that are greater than or equal to the given key using byte compare
    #[arg(long)]
    from_key: bool,
    /// Delete range of keys without the pause that a RANGE_END brings
    #[arg(long)]
    range: bool,
}

impl Del {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let request = self.request()?;
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let mut session = Session::open(options).await?;
        let response = session.call(Call::Write, |to| {
            let request = request.clone();
            async move { to.kv().delete_range(request).await }
        });
        print::answer(style, &Answer::Delete(&response.await?))
    }

    /// The request. Warns and waits before a range that `--range` does not announce, as etcdctl does.
    pub(super) fn request(&self) -> Result<DeleteRangeRequest, Failure> {
        if self.args.is_empty() || self.args.len() > 2 {
            return Err(Failure::bad_arguments(
                "del command needs one argument as key and an optional argument as range_end; \
                 see 'kvctl del --help'",
            ));
        }
        one_of("--prefix", self.prefix, "--from-key", self.from_key)?;
        let keys = Keys::of(&self.args, self.prefix, self.from_key)?;
        if let ([from, to], false) = (self.args.as_slice(), self.range) {
            let (from, to) = (go::quote(keys::bytes(from)), go::quote(keys::bytes(to)));
            print::note(&format!(
                "Warning: Keys between {from} and {to} will be deleted. Please interrupt the \
                 command within next 2 seconds to cancel. You can provide `--range` flag to avoid \
                 the delay."
            ));
            std::thread::sleep(RANGE_WARNING);
        }
        Ok(DeleteRangeRequest { key: keys.key, range_end: keys.range_end, prev_kv: self.prev_kv })
    }
}
