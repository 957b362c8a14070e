//! Passwords: hashed with bcrypt as in etcd, a few at a time, on threads that serve nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bcrypt::Version;
use tokio::sync::Semaphore;

use crate::limits;

/// bcrypt does not look at more of a password.
const PASSWORD_BYTES_MAX: usize = 72;

pub struct Passwords {
    cost: u32,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordError {
    TooLong,
    /// Too many wait for their turn.
    Busy,
}

/// One that waits for its turn, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub fn new(cost: u32) -> Self {
        let turns = Arc::new(Semaphore::new(limits::PASSWORDS_AT_ONCE));
        Self { cost, turns, waiting: AtomicUsize::new(0) }
    }

    /// The text that etcd stores.
    pub async fn hash(&self, password: String) -> Result<Vec<u8>, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        self.in_turn(move || {
            let hashed = bcrypt::hash_with_result(password, cost);
            let hashed = hashed.expect("the cost is a valid one, and there is randomness");
            hashed.format_for_version(Version::TwoA).into_bytes()
        })
        .await
    }

    /// Whether the password is the one that was hashed. What is no hash matches nothing.
    pub async fn matches(&self, password: String, hash: &[u8]) -> Result<bool, PasswordError> {
        let Ok(hash) = String::from_utf8(hash.to_vec()) else { return Ok(false) };
        self.in_turn(move || bcrypt::verify(password, &hash).unwrap_or(false)).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= limits::PASSWORDS_WAITING_MAX {
            return Err(PasswordError::Busy);
        }
        let turn = self.turns.clone().acquire_owned().await.expect("it is never closed");
        let done = tokio::task::spawn_blocking(move || {
            // Kept by the work, which goes on if the client does not wait for it.
            let _turn = turn;
            work()
        });
        Ok(done.await.expect("a panic ends the process"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_etcds_and_matches_its_password_only() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("pass".into()).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$"), "{}", String::from_utf8_lossy(&hash));
        assert_eq!(passwords.matches("pass".into(), &hash).await, Ok(true));
        assert_eq!(passwords.matches("Pass".into(), &hash).await, Ok(false));
        assert_eq!(passwords.matches(String::new(), b"").await, Ok(false));
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(passwords.hash(long).await, Err(PasswordError::TooLong));
    }

    #[tokio::test]
    async fn a_hash_that_etcd_made_is_known() {
        let passwords = Passwords::new(4);
        let hash = b"$2a$04$cPZluzOJHDVwCpsTNoHYaeQLVYHdzZjEK6R1nwrkMkUSwyBYsmVBi";
        assert_eq!(passwords.matches("secret".into(), hash).await, Ok(true));
        assert_eq!(passwords.matches("secret2".into(), hash).await, Ok(false));
        for password in ["", "pass\0word", &"x".repeat(PASSWORD_BYTES_MAX)] {
            let hash = passwords.hash(password.to_owned()).await.unwrap();
            assert_eq!(passwords.matches(password.to_owned(), &hash).await, Ok(true));
        }
    }
}
