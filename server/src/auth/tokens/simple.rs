//! Simple tokens: sixteen letters and the index of the log entry that made it. All members learn of
//! one from the log; each forgets it when it was not shown there for a while, and when it restarts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto::internal::{Caller, command::Op};
use rand::Rng;
use store::LogId;

use crate::limits;
use crate::replica::Current;

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LENGTH: usize = 16;
/// How often tokens are looked through for those that are too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

pub struct Simple {
    ttl: Duration,
    restarted_at: u64,
    known: Mutex<Known>,
}

struct Known {
    tokens: HashMap<String, Issued>,
    swept: Instant,
}

struct Issued {
    user: String,
    until: Instant,
}

impl Simple {
    pub(super) fn new(ttl: Duration, restarted_at: u64) -> Self {
        let known = Known { tokens: HashMap::new(), swept: Instant::now() };
        Self { ttl, restarted_at, known: Mutex::new(known) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The letters of a new token.
    pub(super) fn letters() -> String {
        let mut random = rand::rng();
        (0..LENGTH).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
    }

    /// A member that is behind the log does not know the newest tokens: it waits until it does.
    pub(super) async fn caller(&self, token: &str, current: &Current) -> Option<Caller> {
        let (_, index) = token.split_once('.')?;
        let index = index.parse().ok()?;
        let applied = current.wait_applied(index);
        tokio::time::timeout(limits::TOKEN_WAIT_MAX, applied)
            .await
            .ok()
            .filter(|applied| *applied)?;
        let auth_revision = current.load().auth().revision();
        let user = self.shown(token, Instant::now())?;
        Some(Caller { user, auth_revision })
    }

    /// Whoever shows a token keeps it.
    fn shown(&self, token: &str, now: Instant) -> Option<String> {
        let mut known = self.lock();
        let issued = known.tokens.get_mut(token).filter(|issued| now < issued.until)?;
        issued.until = now + self.ttl;
        Some(issued.user.clone())
    }

    pub(super) fn applied(&self, id: LogId, op: &Op) {
        match op {
            Op::IssueToken(issued) if id.index > self.restarted_at => {
                let token = format!("{}.{}", issued.letters, id.index);
                self.issue(token, issued.user.clone(), Instant::now());
            }
            Op::UserDelete(of) => self.forget(&of.name),
            Op::UserChangePassword(of) => self.forget(&of.name),
            Op::AuthDisable(_) => self.forget_all(),
            _ => {}
        }
    }

    fn issue(&self, token: String, user: String, now: Instant) {
        let mut known = self.lock();
        if now.duration_since(known.swept) >= SWEEP_INTERVAL {
            known.swept = now;
            known.tokens.retain(|_, issued| now < issued.until);
        }
        known.tokens.insert(token, Issued { user, until: now + self.ttl });
    }

    pub(super) fn forget_all(&self) {
        self.lock().tokens.clear();
    }

    fn forget(&self, user: &str) {
        self.lock().tokens.retain(|_, issued| issued.user != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb as pb;
    use proto::internal::IssueToken;

    const TTL: Duration = Duration::from_secs(10);

    fn issue(tokens: &Simple, index: u64) -> String {
        let letters = Simple::letters();
        let token = format!("{letters}.{index}");
        let op = Op::IssueToken(IssueToken { user: "u".into(), letters });
        tokens.applied(LogId { term: 1, index }, &op);
        token
    }

    #[test]
    fn a_token_lives_as_long_as_it_is_shown() {
        let tokens = Simple::new(TTL, 0);
        let token = issue(&tokens, 7);
        let mut now = Instant::now();
        for _ in 0..3 {
            now += TTL - Duration::from_millis(1);
            assert_eq!(tokens.shown(&token, now).as_deref(), Some("u"));
        }
        assert_eq!(tokens.shown(&token, now + TTL), None);
        assert_eq!(tokens.shown("aaaaaaaaaaaaaaaa.7", now), None);
    }

    #[test]
    fn tokens_end_with_their_user_its_password_and_auth() {
        let tokens = Simple::new(TTL, 0);
        let id = LogId { term: 1, index: 9 };
        let name = || "u".to_owned();
        let password = proto::internal::NewPassword { name: name(), ..Default::default() };
        for op in [
            Op::UserDelete(pb::AuthUserDeleteRequest { name: name() }),
            Op::UserChangePassword(password),
            Op::AuthDisable(pb::AuthDisableRequest {}),
        ] {
            let token = issue(&tokens, 8);
            assert!(tokens.shown(&token, Instant::now()).is_some());
            tokens.applied(id, &op);
            assert_eq!(tokens.shown(&token, Instant::now()), None, "{op:?}");
        }
    }

    #[test]
    fn what_a_restart_applies_again_issues_nothing() {
        let tokens = Simple::new(TTL, 5);
        let (old, new) = (issue(&tokens, 5), issue(&tokens, 6));
        assert_eq!(tokens.shown(&old, Instant::now()), None);
        assert!(tokens.shown(&new, Instant::now()).is_some());
    }
}
