//! Tokens: what a client shows after it gave its password once. Three kinds, as `--auth-token` says.

mod jwt;
mod simple;

use std::path::PathBuf;
use std::time::Duration;

use proto::internal::{Caller, Command};
use store::{LogId, Refusal};

use crate::replica::Current;
use jwt::Jwt;
use simple::Simple;

/// What `--auth-token` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenKind {
    /// Letters that every member remembers for a while.
    #[default]
    Simple,
    /// Signed claims, which any member can check without remembering anything.
    Jwt { method: String, public_key: Option<PathBuf>, private_key: Option<PathBuf>, ttl: Duration },
    /// Only certificates say who a client is.
    None,
}

pub enum Tokens {
    Simple(Simple),
    Jwt(Box<Jwt>),
    None,
}

impl Tokens {
    /// `restarted_at` is the last entry of the log at the start: tokens from before it are forgotten,
    /// though applying may begin earlier.
    ///
    /// # Errors
    /// When a key cannot be read or is not of its kind.
    pub fn new(kind: &TokenKind, ttl: Duration, restarted_at: u64) -> anyhow::Result<Self> {
        Ok(match kind {
            TokenKind::Simple => Self::Simple(Simple::new(ttl, restarted_at)),
            TokenKind::Jwt { method, public_key, private_key, ttl } => {
                let keys = (public_key.as_deref(), private_key.as_deref());
                Self::Jwt(Box::new(Jwt::new(method, keys, *ttl)?))
            }
            TokenKind::None => Self::None,
        })
    }

    /// The letters of a new simple token.
    pub fn letters() -> String {
        Simple::letters()
    }

    /// The user of a token.
    pub async fn caller(&self, token: &str, current: &Current) -> Result<Caller, Refusal> {
        let caller = match self {
            Self::Simple(tokens) => tokens.caller(token, current).await,
            Self::Jwt(jwt) => jwt.caller(token),
            Self::None => None,
        };
        caller.ok_or(Refusal::InvalidAuthToken)
    }

    /// A command was applied: the members learn of simple tokens from the log, and forget them.
    pub fn applied(&self, id: LogId, command: &Command) {
        if let (Self::Simple(tokens), Some(op)) = (self, &command.op) {
            tokens.applied(id, op);
        }
    }

    /// Entries of the log are passed over, which may have ended any of the simple tokens.
    pub fn passed_over(&self) {
        if let Self::Simple(tokens) = self {
            tokens.forget_all();
        }
    }
}
