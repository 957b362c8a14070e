//! `defrag`: has servers give back space that they do not use.

use std::time::Instant;

use clap::Args;
use proto::etcdserverpb::DefragmentRequest;

use super::endpoint::cluster_endpoints;
use crate::failure::{Exit, Failure};
use crate::options::{GlobalArgs, Options};
use crate::session::{Call, Session};
use crate::{go, print};

#[derive(Args, Debug)]
#[command(
    after_help = "kvd gives space back by itself and answers at once; an etcd stands still meanwhile."
)]
pub(crate) struct Defrag {
    #[arg(hide = true)]
    args: Vec<String>,
    /// Use all endpoints from the cluster member list
    #[arg(long)]
    cluster: bool,
}

impl Defrag {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        super::note_ignored(&self.args, "name endpoints with --endpoints");
        let options = globals.resolve()?;
        let endpoints = match self.cluster {
            true => cluster_endpoints(options.clone()).await?,
            false => options.endpoints.clone(),
        };
        let mut failed = false;
        // One after the other, so that an etcd always has a quorum.
        for endpoint in endpoints {
            let begun = Instant::now();
            let done = defragment(&options, &endpoint).await;
            let took = go::format_duration(begun.elapsed());
            match done {
                Ok(()) => print::line(&format!(
                    "Finished defragmenting etcd member[{endpoint}]. took {took}"
                ))?,
                Err(failure) => {
                    failed = true;
                    let why = failure.text();
                    let what = format!("Failed to defragment etcd member[{endpoint}]");
                    print::note(&format!("{what}. took {took}. ({why})"));
                }
            }
        }
        if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
    }
}

async fn defragment(options: &Options, endpoint: &str) -> Result<(), Failure> {
    let mut session = Session::open(options.at(endpoint)).await?;
    let call = session.call(Call::Write, |to| async move {
        to.maintenance().defragment(DefragmentRequest {}).await
    });
    call.await.map(drop)
}
