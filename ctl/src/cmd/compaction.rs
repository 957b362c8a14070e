//! `compaction`: gives up the history before a revision.

use clap::Args;
use proto::etcdserverpb::CompactionRequest;

use crate::failure::{Exit, Failure};
use crate::options::GlobalArgs;
use crate::session::{Call, Session};
use crate::{go, print};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl compaction [OPTIONS] <REVISION>",
    after_help = "Example:
  kvctl compaction 1000    reads and watches before revision 1000 are refused from now on"
)]
pub(crate) struct Compaction {
    /// Revision to compact at
    #[arg(value_name = "REVISION", hide = true)]
    args: Vec<String>,
    /// Wait for compaction to physically remove all old revisions
    #[arg(long)]
    physical: bool,
}

impl Compaction {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let [revision] = self.args.as_slice() else {
            return Err(Failure::bad_arguments(
                "compaction command needs 1 argument: the revision to compact at",
            ));
        };
        let revision = go::parse_int(revision, 10).map_err(|why| {
            Failure::new(Exit::Error, format!("bad revision: {why}; pass a decimal number"))
        })?;
        let request = CompactionRequest { revision, physical: self.physical };
        let mut session = Session::open(globals.resolve()?).await?;
        session.call(Call::Write, |to| async move { to.kv().compact(request).await }).await?;
        print::line(&format!("compacted revision {revision}"))
    }
}
