//! `txn`: comparisons, then what to do if all hold, then what to do otherwise; read from stdin.

use std::ffi::OsString;
use std::io::BufRead;

use clap::{Args, Parser, Subcommand};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use crate::cmd::{del, get, put};
use crate::failure::{Exit, Failure};
use crate::format::{Answer, Subject};
use crate::options::GlobalArgs;
use crate::session::{Call, Session};
use crate::{arguments, compare, line, print};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl txn [OPTIONS] < requests",
    after_help = r#"Standard input has three lists, each ended by an empty line:
  1) conditions     TARGET("key") OP "value"
                    TARGET: ver, create, mod, value, lease (value in hex); OP: = != < >
  2) requests if all conditions hold, 3) requests if one does not:
                    get, put and del with the flags of the commands

Example:
  kvctl txn <<'END'
  mod("key1") > "0"

  put key1 "overwrote-key1"

  put key1 "created-key1"
  put key2 "some extra key"

  END"#
)]
pub(crate) struct Txn {
    #[arg(hide = true)]
    args: Vec<OsString>,
    /// Say what is expected next
    #[arg(short, long)]
    interactive: bool,
}

/// One request line of a transaction.
#[derive(Parser, Debug)]
#[command(name = "txn", no_binary_name = true, infer_subcommands = true, args_override_self = true)]
struct RequestLine {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand, Debug)]
enum Operation {
    Get(get::Get),
    Put(put::Put),
    Del(del::Del),
}

impl Txn {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        if !self.args.is_empty() {
            return Err(Failure::bad_arguments(
                "txn command does not accept argument; write the requests to its standard input",
            ));
        }
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let request = self.read(&mut std::io::stdin().lock())?;
        let mut session = Session::open(options).await?;
        let response = session.call(Call::PatientWrite, |to| {
            let request = request.clone();
            async move { to.kv().txn(request).await }
        });
        print::answer(style, &Answer::Txn(&response.await?))
    }

    fn read(&self, input: &mut impl BufRead) -> Result<TxnRequest, Failure> {
        self.prompt("compares:")?;
        let compare = read_list(input, "comparisons", read_compare)?;
        self.prompt("success requests (get, put, del):")?;
        let success = read_list(input, "success requests", read_operation)?;
        self.prompt("failure requests (get, put, del):")?;
        let failure = read_list(input, "failure requests", read_operation)?;
        Ok(TxnRequest { compare, success, failure })
    }

    fn prompt(&self, text: &str) -> Result<(), Failure> {
        if self.interactive { print::line(text) } else { Ok(()) }
    }
}

/// Reads lines up to an empty one.
fn read_list<T>(
    input: &mut impl BufRead,
    what: &str,
    read: impl Fn(&[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut list = Vec::new();
    loop {
        let mut line = Vec::new();
        let error = match input.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => None,
            Ok(_) => Some("the input ended".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            let message =
                format!("cannot read the {what}: {error}; end each list with an empty line");
            return Err(Failure::new(Exit::InvalidInput, message));
        }
        match trim(&line) {
            [] => return Ok(list),
            line => list.push(read(line)?),
        }
    }
}

/// Without blanks at both ends: those of Unicode where the line is text.
fn trim(line: &[u8]) -> &[u8] {
    str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |text| text.trim().as_bytes())
}

fn read_compare(line: &[u8]) -> Result<Compare, Failure> {
    compare::parse(line).map_err(|why| Failure::new(Exit::InvalidInput, why))
}

fn read_operation(line: &[u8]) -> Result<RequestOp, Failure> {
    let shown = String::from_utf8_lossy(line);
    let invalid = |why: &str| {
        let message = format!("invalid txn request: {shown} ({why})");
        Failure::new(Exit::InvalidInput, message)
    };
    let words = line::split(line)?;
    if words.len() < 2 {
        return Err(invalid("write it as: get KEY, put KEY VALUE or del KEY"));
    }
    let parsed = arguments::parse::<RequestLine>(&words);
    let operation = match parsed {
        Ok(line) => line.operation,
        Err(error) => return Err(invalid(&arguments::one_line(&error))),
    };
    let request = match operation {
        Operation::Get(get) => Request::RequestRange(get.request()?),
        // Standard input is being read for requests: it cannot give a value.
        Operation::Put(put) => Request::RequestPut(put.request(|| Ok(Vec::new()))?),
        Operation::Del(del) => Request::RequestDeleteRange(del.request()?),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

    use super::*;

    fn read(input: &str) -> Result<TxnRequest, Failure> {
        Txn { args: Vec::new(), interactive: false }.read(&mut input.as_bytes())
    }

    fn operation(line: &str) -> Request {
        read_operation(line.as_bytes()).unwrap().request.unwrap()
    }

    #[test]
    fn three_lists_make_a_transaction() {
        let txn = read("mod(\"a\") > \"0\"\n\n  put a b \nget a\n\ndel a\n\n").unwrap();
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 2, 1));
        let empty = read("\n\n\nignored").unwrap();
        assert_eq!(empty, TxnRequest::default());
    }

    #[test]
    fn requests_take_the_flags_of_their_commands() {
        let put = PutRequest {
            key: b"a b".to_vec(),
            value: b"-v\n".to_vec(),
            lease: 0x10,
            prev_kv: true,
            ..PutRequest::default()
        };
        assert_eq!(
            operation(r#"put "a b" --lease=10 --prev-kv -- "-v\n""#),
            Request::RequestPut(put)
        );
        let get = RangeRequest {
            key: b"a".to_vec(),
            range_end: b"b".to_vec(),
            limit: 2,
            ..RangeRequest::default()
        };
        assert_eq!(operation("get --prefix=true a --limit 2"), Request::RequestRange(get));
        let del =
            DeleteRangeRequest { key: b"a".to_vec(), range_end: b"c".to_vec(), prev_kv: false };
        assert_eq!(operation("del a c --range"), Request::RequestDeleteRange(del));
    }

    #[test]
    fn what_cannot_be_read_has_etcdctls_exit_code() {
        let cases = [
            ("", Exit::InvalidInput),
            ("\n\nput a b", Exit::InvalidInput),
            ("mod(a) > 1\n", Exit::InvalidInput),
            ("\nfly a\n", Exit::InvalidInput),
            ("\nget\n", Exit::InvalidInput),
            ("\nput a b --nope\n", Exit::InvalidInput),
            ("\nput a\n", Exit::BadArguments),
            ("\nget a --prefix --from-key\n", Exit::BadArguments),
            ("\nget a --order UP\n", Exit::BadFeature),
        ];
        for (input, exit) in cases {
            assert_eq!(read(input).unwrap_err().exit, exit, "{input:?}");
        }
    }
}
