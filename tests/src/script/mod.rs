//! Golden scripts: what clients ask, and everything that etcd answered.
//!
//! A file under `tests/scripts` is a list of steps. A step is a comment that says why, one or more
//! commands, `---`, and the answers, down to the next empty line:
//!
//! ```text
//! # A put that asks for the previous pair and finds none.
//! c1: put a 1 prev_kv
//! ---
//! put {C M T rev=2}
//! ```
//!
//! Scripts are recorded from a real etcd (`TARGET=etcd UPDATE_GOLDENFILES=1`), read as a diff by a
//! human, committed, and then replayed on kvd: every byte must be the same. Each file runs on a
//! fresh server. A file may start with `server --flag..` to give it more flags.
//!
//! # Commands
//!
//! A command may start with the client that sends it (`c2:`, default `c1:`); each client has its
//! own connection. Words are bytes: `\0`, `\xff`, `\n`, `\s` (space), `"quoted words"`.
//!
//! | command | options |
//! |---|---|
//! | `put KEY VALUE` | `lease= prev_kv ignore_value ignore_lease fill=N` (a value of N bytes) |
//! | `range KEY [END]` | `limit= rev= order= target= serializable keys_only count_only min_mod= max_mod= min_create= max_create=` |
//! | `del KEY [END]` | `prev_kv` |
//! | `txn (if TARGET KEY [END] OP OPERAND).. (then COMMAND).. (else COMMAND)..` | `(128 then put k{} v)` stands for 128 such groups, `{}` for 0 to 127 |
//! | `compact REV` | `physical` |
//! | `hashkv [REV]`, `status`, `restart`, `kill` | |
//! | `lease grant TTL ID` | `0` lets the server choose |
//! | `lease revoke ID`, `lease list`, `lease ttl ID` | `keys` |
//! | `lease keep ID..` | a stream with one request each |
//! | `lease gone ID` | waits until the lease has ended |
//! | `login USER PASSWORD`, `token TEXT`, `token none` | whose calls the client's are from now on; the administrator is `root` with the password `root` |
//! | `auth enable`, `auth disable`, `auth status` | |
//! | `user add NAME PASSWORD`, `user add NAME`, `user delete NAME`, `user get NAME`, `user list`, `user passwd NAME PASSWORD` | without a password it has none |
//! | `user grant NAME ROLE`, `user revoke NAME ROLE` | |
//! | `role add NAME`, `role delete NAME`, `role get NAME`, `role list` | |
//! | `role grant NAME TYPE KEY [END]`, `role grant NAME nothing`, `role revoke NAME KEY [END]` | |
//! | `members` | `serializable` |
//! | `member add NAME URL..` | `learner`; the script calls it NAME from now on, the server itself `M` |
//! | `member update NAME URL..`, `member promote NAME`, `member remove NAME` | `own` as URL is the server's |
//! | `alarm get\|activate\|deactivate none\|nospace\|corrupt [MEMBER]` | `own` is the member's id |
//! | `defragment`, `downgrade validate\|enable\|cancel [VERSION]` | |
//! | `lock NAME LEASE`, `unlock KEY` | `0` as lease has the server grant one |
//! | `campaign NAME LEASE VALUE`, `leader NAME` | |
//! | `proclaim KEY REV LEASE VALUE`, `resign KEY REV LEASE` | `none` for KEY REV LEASE |
//! | `begin CALL COMMAND`, `end CALL`, `drop CALL` | one of these that is waited for later, or given up |
//! | `observe CALL NAME`, `told CALL` | waits for one message |
//! | `until KEY there\|gone` | |
//! | `health SERVICE`, `health_watch SERVICE`, `health_list` | |
//! | `repeat N COMMAND` | `{}` in words is 0 to N-1; only the last answer is printed |
//! | `watch STREAM create KEY [END]` | `start= id= progress prev_kv fragment filter=` |
//! | `watch STREAM cancel ID`, `progress`, `empty`, `half_close` | sent, not waited for |
//! | `watch STREAM recv N` | waits for N responses, printed by watch id |
//! | `watch STREAM fence` | asks for progress until all watchers have everything; prints what came |
//!
//! Nothing waits for time to pass: "no event comes" is a `fence`, or the event of a later put.

mod auth;
mod file;
mod lex;
pub(crate) mod members;
pub(crate) mod request;
mod session;
mod stream;
pub(crate) mod turns;

pub use file::{Step, check_directory, parse_steps, play};
pub(crate) use lex::tokens;
pub(crate) use request::Args;
pub use stream::WatchStream;
