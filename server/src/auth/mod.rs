//! Who a client is, and whether it may do what it asks for.
//!
//! ```text
//!  client      what a call says about its caller: a token, or the name in a certificate
//!  tokens/     from a token to a user: letters that members remember, or signed claims
//!  passwords   hashing, on threads of its own
//!  access      one line for each RPC: who may call it. What is not in it is not served
//!  gate        puts these together; the services ask it
//! ```
//! Users, roles and permissions are the store's (`mvcc/auth`), and so is the table of what each
//! field needs: writes are decided when they are applied, reads where they are made.
//!
//! # Invariants
//! - A command of a client carries its user, or nobody; nobody may nothing as long as auth is on.
//!   What members decide by themselves goes into the log by other doors.
//! - Passwords are in no log entry and in no log line.

mod access;
pub mod client;
mod gate;
mod passwords;
mod tokens;

pub use access::Access;
pub use client::{Client, CommonName};
pub use gate::{Denied, Gate};
pub use passwords::{PasswordError, Passwords};
pub use tokens::{TokenKind, Tokens};
