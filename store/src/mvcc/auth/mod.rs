//! Auth: users, the roles they have, and the keys that roles may read and write.
//!
//! A change makes a new [`Auth`] and leaves the old one to whoever is looking at it; the apply thread
//! is the only one that changes anything. Each change but switching on raises the **auth revision**.
//! A client's command carries the revision by which its user was let in ([`Caller`]), and is refused
//! when users or roles have changed since, so that nothing is applied by permissions that are gone.
//!
//! ```text
//!  needs    what a request needs, field by field: the one table for everything that touches a key
//!  ranges   which keys a user may touch: the union of what its roles were granted
//!  change   the commands that change users, roles, permissions
//!  rows     how all of it is kept: rows of the engine, buckets of a snapshot file
//! ```
//! While auth is off nobody is asked anything. Whoever has the role `root` may do everything.

mod change;
mod needs;
mod ranges;
mod rows;

#[cfg(test)]
mod tests;

pub use needs::Need;

pub(super) use rows::{Restored, gone_rows, put_rows, restore};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use proto::authpb::{Role, User};
use proto::internal::Caller;

use super::store::Store;
use crate::Refusal;
use ranges::Permits;

/// The user and the role that administer.
pub const ROOT: &str = "root";

/// Users and roles at one moment.
#[derive(Debug)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, Arc<User>>,
    roles: BTreeMap<String, Arc<Role>>,
    /// What users may touch, worked out when it is asked for first.
    permits: Mutex<BTreeMap<String, Arc<Permits>>>,
}

impl Default for Auth {
    fn default() -> Self {
        let (users, roles, permits) = Default::default();
        Self { enabled: false, revision: 1, users, roles, permits }
    }
}

/// What is to become the next state: nothing is worked out yet.
impl Clone for Auth {
    fn clone(&self) -> Self {
        let Self { enabled, revision, users, roles, .. } = self;
        let (enabled, revision) = (*enabled, *revision);
        let (users, roles) = (users.clone(), roles.clone());
        Self { enabled, revision, users, roles, permits: Mutex::default() }
    }
}

impl PartialEq for Auth {
    fn eq(&self, other: &Self) -> bool {
        (self.enabled, self.revision) == (other.enabled, other.revision)
            && (&self.users, &self.roles) == (&other.users, &other.roles)
    }
}

impl Auth {
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// In the order of their names.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(|role| &**role)
    }

    /// In the order of their names.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    pub fn has_role(&self, user: &str, role: &str) -> bool {
        self.user(user).is_some_and(|user| user.roles.iter().any(|has| has == role))
    }

    /// Whether the caller may do everything.
    pub fn check_root(&self, caller: &Caller) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        match self.user(&caller.user) {
            None => Err(Refusal::UserNotFound),
            Some(_) if self.has_role(&caller.user, ROOT) => Ok(()),
            Some(_) => Err(Refusal::PermissionDenied),
        }
    }

    /// Whether the caller may do all that a request needs. `keys_of` tells the keys of a lease.
    pub fn check(
        &self,
        caller: &Caller,
        needs: &[Need<'_>],
        keys_of: &dyn Fn(i64) -> Vec<Vec<u8>>,
    ) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        for need in needs {
            match need {
                Need::Root => self.check_root(caller)?,
                Need::Read { key, end } => self.check_keys(caller, key, end, Permits::may_read)?,
                Need::Write { key, end } => {
                    self.check_keys(caller, key, end, Permits::may_write)?
                }
                Need::ReadKeysOf(lease) => {
                    self.check_leased(caller, keys_of, *lease, Permits::may_read)?;
                }
                Need::WriteKeysOf(lease) => {
                    self.check_leased(caller, keys_of, *lease, Permits::may_write)?;
                }
            }
        }
        Ok(())
    }

    fn check_leased(
        &self,
        caller: &Caller,
        keys_of: &dyn Fn(i64) -> Vec<Vec<u8>>,
        lease: i64,
        may: fn(&Permits, &[u8], &[u8]) -> bool,
    ) -> Result<(), Refusal> {
        // As in etcd, root is not asked for the revision here.
        if self.check_root(caller).is_ok() {
            return Ok(());
        }
        keys_of(lease).iter().try_for_each(|key| self.check_keys(caller, key, b"", may))
    }

    fn check_keys(
        &self,
        caller: &Caller,
        key: &[u8],
        end: &[u8],
        may: fn(&Permits, &[u8], &[u8]) -> bool,
    ) -> Result<(), Refusal> {
        if caller.auth_revision == 0 {
            return Err(Refusal::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(Refusal::OldAuthRevision);
        }
        if self.user(&caller.user).is_none() {
            return Err(Refusal::PermissionDenied);
        }
        let allowed =
            self.has_role(&caller.user, ROOT) || may(&self.permits_of(&caller.user), key, end);
        allowed.then_some(()).ok_or(Refusal::PermissionDenied)
    }

    fn permits_of(&self, name: &str) -> Arc<Permits> {
        let mut known = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permits) = known.get(name) {
            return permits.clone();
        }
        let roles = self.user(name).into_iter().flat_map(|user| &user.roles);
        let granted =
            roles.filter_map(|role| self.role(role)).flat_map(|role| &role.key_permission);
        let permits = Arc::new(Permits::of(granted));
        known.insert(name.to_owned(), permits.clone());
        permits
    }
}

/// The state in use. Whether auth is on can be asked without a lock, as every command does.
#[derive(Debug)]
pub(super) struct Cell {
    enabled: AtomicBool,
    auth: RwLock<Arc<Auth>>,
}

impl Cell {
    pub(super) fn new(auth: Arc<Auth>) -> Self {
        Self { enabled: AtomicBool::new(auth.enabled), auth: RwLock::new(auth) }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub(super) fn load(&self) -> Arc<Auth> {
        self.auth.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, auth: Auth) {
        let enabled = auth.enabled;
        *self.auth.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(auth);
        self.enabled.store(enabled, Ordering::Release);
    }
}

impl Store {
    pub fn auth_enabled(&self) -> bool {
        self.auth.is_enabled()
    }

    /// Users and roles as of now.
    pub fn auth(&self) -> Arc<Auth> {
        self.auth.load()
    }

    /// Whether a caller may do all that a request needs, by the state of auth that is given.
    pub fn check_needs(
        &self,
        auth: &Auth,
        caller: &Caller,
        needs: &[Need<'_>],
    ) -> Result<(), Refusal> {
        auth.check(caller, needs, &|lease| self.lease_keys(lease).unwrap_or_default())
    }
}
