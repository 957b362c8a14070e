//! How auth is kept: in the engine as one message cut into rows, in a snapshot file as etcd's buckets.
//!
//! It is small and changes rarely, so a checkpoint writes all of it if anything has changed. Rows that
//! it needs no more are behind those that count, and are removed when the others are durable.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};
use proto::authpb::{Role, User};
use proto::internal::AuthState;

use super::Auth;
use crate::Fatal;
use crate::engine::{Reader, WriteBatch};
use crate::mvcc::meta::Tables;
use crate::mvcc::rows;

/// Of the message in one row, leaving room for the row's key, a number and the checksum.
const ROW_BYTES: usize = 940;

const FLAGS: &str = "auth";
const USERS: &str = "authUsers";
const ROLES: &str = "authRoles";
const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

fn row_key(number: u32) -> Bytes {
    let mut key = vec![rows::AUTH_ROWS];
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// Adds all rows. Returns how many, and their size, roughly.
pub(in crate::mvcc) fn put_rows(batch: &mut WriteBatch, auth: &Auth) -> (u32, usize) {
    let state = AuthState {
        enabled: auth.enabled,
        revision: auth.revision,
        users: auth.users.values().map(|user| User::clone(user)).collect(),
        roles: auth.roles.values().map(|role| Role::clone(role)).collect(),
    };
    let message = state.encode_to_vec();
    let pieces = message.chunks(ROW_BYTES);
    let count = pieces.len() as u32;
    for (number, piece) in (0..).zip(pieces) {
        let mut body = Vec::new();
        if number == 0 {
            encode_varint(count.into(), &mut body);
        }
        body.extend_from_slice(piece);
        let key = row_key(number);
        let row = rows::seal(&key, body);
        batch.put(key, row);
    }
    (count, message.len())
}

/// Rows of an earlier state that are too many.
pub(in crate::mvcc) fn gone_rows(numbers: Range<u32>) -> impl Iterator<Item = Bytes> {
    numbers.map(row_key)
}

/// What the engine holds, and in how many rows.
pub(in crate::mvcc) struct Restored {
    pub(in crate::mvcc) auth: Arc<Auth>,
    pub(in crate::mvcc) rows: u32,
}

pub(in crate::mvcc) fn restore(reader: &dyn Reader) -> Result<Restored, Fatal> {
    let (start, end) = ([rows::AUTH_ROWS], [rows::AUTH_ROWS + 1]);
    let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let mut pieces = Vec::new();
    let mut failed = None;
    reader.scan(range, &mut |key, row| match rows::unseal(key, row) {
        Ok(body) => {
            pieces.push(body.to_vec());
            ControlFlow::Continue(())
        }
        Err(fatal) => {
            failed = Some(fatal);
            ControlFlow::Break(())
        }
    })?;
    if let Some(fatal) = failed {
        return Err(fatal);
    }
    let malformed = || Fatal::Engine("the rows of users and roles are malformed".into());
    let auth = match pieces.is_empty() {
        true => Auth::default(),
        false => joined(&pieces).ok_or_else(malformed)?,
    };
    Ok(Restored { auth: Arc::new(auth), rows: pieces.len() as u32 })
}

fn joined(pieces: &[Vec<u8>]) -> Option<Auth> {
    let mut first = pieces.first()?.as_slice();
    let count = usize::try_from(decode_varint(&mut first).ok()?).ok()?;
    let rest = pieces.get(1..count)?;
    let message =
        [&[first], &rest.iter().map(Vec::as_slice).collect::<Vec<_>>()[..]].concat().concat();
    let AuthState { enabled, revision, users, roles } = AuthState::decode(&*message).ok()?;
    Some(Auth::of(enabled, revision, users, roles))
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Auth {
    fn of(enabled: bool, revision: u64, users: Vec<User>, roles: Vec<Role>) -> Self {
        Self {
            enabled,
            // As a member of etcd does that finds none.
            revision: revision.max(1),
            users: users.into_iter().map(|user| (name(&user.name), Arc::new(user))).collect(),
            roles: roles.into_iter().map(|role| (name(&role.name), Arc::new(role))).collect(),
            permits: Default::default(),
        }
    }

    /// Adds etcd's buckets, unless auth was never used.
    pub(crate) fn put_tables(&self, tables: &mut Tables) {
        if *self == Self::default() {
            return;
        }
        let flags = [
            (Bytes::from_static(ENABLED), Bytes::copy_from_slice(&[u8::from(self.enabled)])),
            (Bytes::from_static(REVISION), Bytes::copy_from_slice(&self.revision.to_be_bytes())),
        ];
        tables.insert(FLAGS.into(), flags.into());
        let users = self.users.iter();
        let users = users.map(|(name, user)| (name.clone().into(), user.encode_to_vec().into()));
        tables.insert(USERS.into(), users.collect());
        let roles = self.roles.iter();
        let roles = roles.map(|(name, role)| (name.clone().into(), role.encode_to_vec().into()));
        tables.insert(ROLES.into(), roles.collect());
    }

    /// Takes etcd's buckets out of the tables. `None` if they are not what etcd writes.
    pub(crate) fn take_tables(tables: &mut Tables) -> Option<Self> {
        let flags = tables.remove(FLAGS).unwrap_or_default();
        let enabled = flags.get(ENABLED).is_some_and(|flag| **flag == [1]);
        let revision = match flags.get(REVISION) {
            Some(revision) => u64::from_be_bytes(revision[..].try_into().ok()?),
            None => 0,
        };
        let users = messages(tables.remove(USERS))?;
        let roles = messages(tables.remove(ROLES))?;
        Some(Self::of(enabled, revision, users, roles))
    }
}

fn messages<M: Message + Default>(table: Option<BTreeMap<Bytes, Bytes>>) -> Option<Vec<M>> {
    let messages = table.unwrap_or_default().into_values();
    messages.map(|message| M::decode(message).ok()).collect()
}
