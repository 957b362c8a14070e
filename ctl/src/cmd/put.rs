//! `put`: one key, its value from the command line or from standard input.

use std::ffi::OsString;
use std::io::Read;

use clap::Args;
use proto::etcdserverpb::PutRequest;

use crate::failure::{Exit, Failure};
use crate::format::{Answer, Subject};
use crate::keys;
use crate::options::GlobalArgs;
use crate::session::{Call, Session};
use crate::{go, print};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl put [OPTIONS] <KEY> [VALUE]",
    after_help = "Without VALUE (and without --ignore-value) the value is read from standard input.
A VALUE that begins with '-' must come after '--'.

Examples:
  kvctl put name value
  kvctl put name < file
  kvctl put --prev-kv name value    also print what it replaces
  kvctl put name -- -5"
)]
pub(crate) struct Put {
    /// Key, and value
    #[arg(value_name = "KEY [VALUE]", hide = true)]
    args: Vec<OsString>,
    /// Lease ID (in hexadecimal) to attach to the key
    #[arg(long, default_value = "0", value_name = "ID", hide_default_value = true)]
    lease: String,
    /// Return the previous key-value pair before modification
    #[arg(long)]
    prev_kv: bool,
    /// Updates the key using its current value
    #[arg(long)]
    ignore_value: bool,
    /// Updates the key using its current lease
    #[arg(long)]
    ignore_lease: bool,
}

impl Put {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let request = self.request(read_stdin)?;
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let mut session = Session::open(options).await?;
        let response = session.call(Call::Write, |to| {
            let request = request.clone();
            async move { to.kv().put(request).await }
        });
        print::answer(style, &Answer::Put(&response.await?))
    }

    /// The request. `stdin` gives the value if the arguments do not.
    pub(super) fn request(
        &self,
        stdin: impl FnOnce() -> Result<Vec<u8>, Failure>,
    ) -> Result<PutRequest, Failure> {
        let needs = "put command needs 1 argument and input from stdin or 2 arguments";
        let Some(key) = self.args.first() else {
            return Err(Failure::bad_arguments(format!("{needs}; see 'kvctl put --help'")));
        };
        let value = match self.args.get(1) {
            Some(_) if self.ignore_value => {
                return Err(Failure::bad_arguments(
                    "put command needs only 1 argument when 'ignore-value' is set; drop the value",
                ));
            }
            Some(value) => keys::bytes(value).to_vec(),
            None if self.ignore_value => Vec::new(),
            None => stdin()?,
        };
        if value.is_empty() && self.args.len() < 2 && !self.ignore_value {
            return Err(Failure::bad_arguments(format!("{needs} (there was none)")));
        }
        let lease = go::parse_int(&self.lease, 16).map_err(|why| {
            Failure::bad_arguments(format!("bad lease ID ({why}), expecting ID in Hex"))
        })?;
        Ok(PutRequest {
            key: keys::bytes(key).to_vec(),
            value,
            lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).map_err(|error| {
        Failure::new(Exit::BadArguments, format!("cannot read the value from stdin: {error}"))
    })?;
    Ok(value)
}
