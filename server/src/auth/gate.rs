//! The gate: which user a client is, and what it may do by the state of this member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::internal::{Caller, Command, command::Op};
use store::mvcc::{Need, Response};
use store::{LogId, Refusal};
use tonic::Request;

use super::{Access, Client, Passwords, Tokens};
use crate::replica::Current;

/// One for all runtimes.
pub struct Gate {
    current: Arc<Current>,
    /// Whether the store in use wants to know who somebody is: asked by every call.
    on: AtomicBool,
    pub tokens: Tokens,
    pub passwords: Passwords,
}

/// A read was allowed by users and roles of this revision; 0: nobody asked.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "what was read counts only if the pass still holds"]
pub struct Pass(u64);

/// What the gate says no with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied(pub Refusal);

impl From<Refusal> for Denied {
    fn from(why: Refusal) -> Denied {
        Denied(why)
    }
}

impl From<Denied> for Refusal {
    fn from(Denied(why): Denied) -> Refusal {
        why
    }
}

impl Gate {
    pub fn new(current: Arc<Current>, tokens: Tokens, passwords: Passwords) -> Self {
        let on = AtomicBool::new(current.load().auth_enabled());
        Self { current, on, tokens, passwords }
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// The store may be another one, or may have been told to switch. Before anybody hears of it.
    pub fn look(&self) {
        self.on.store(self.current.load().auth_enabled(), Ordering::Release);
    }

    /// What a call says about who makes it; nothing while nobody wants to know.
    pub fn client<T>(&self, request: &Request<T>) -> Client {
        match self.is_on() {
            true => Client::of(request),
            false => Client::default(),
        }
    }

    /// The user, to be proposed with its commands. `None` if the client does not say who it is, and
    /// while auth is off.
    pub async fn caller(&self, client: &Client) -> Result<Option<Caller>, Denied> {
        if !self.is_on() {
            return Ok(None);
        }
        match (&client.token, &client.common_name) {
            (Some(token), _) => Ok(Some(self.tokens.caller(token, &self.current).await?)),
            (None, Some(name)) => {
                let auth_revision = self.current.load().auth().revision();
                Ok(Some(Caller { user: name.as_ref().to_owned(), auth_revision }))
            }
            (None, None) => Ok(None),
        }
    }

    /// Whether a client may call the method at `path` at all.
    pub async fn enter(&self, path: &str, client: &Client) -> Result<(), Denied> {
        match Access::of(path) {
            None => Err(Denied(Refusal::PermissionDenied)),
            Some(Access::Open | Access::Fields) => Ok(()),
            Some(Access::User) => self.check_user(client).await,
            Some(Access::Root) => self.check_root(client).await,
        }
    }

    /// Whether the client is any user.
    pub async fn check_user(&self, client: &Client) -> Result<(), Denied> {
        match self.caller(client).await? {
            None if self.is_on() => Err(Denied(Refusal::UserEmpty)),
            _ => Ok(()),
        }
    }

    pub async fn check_root(&self, client: &Client) -> Result<(), Denied> {
        let caller = self.caller(client).await?.unwrap_or_default();
        Ok(self.current.load().auth().check_root(&caller)?)
    }

    /// Whether the client may do what a request needs. After the read the pass must [hold
    /// still](Self::recheck).
    pub async fn admit(&self, client: &Client, needs: &[Need<'_>]) -> Result<Pass, Denied> {
        if !self.is_on() {
            return Ok(Pass::default());
        }
        let caller = self.caller(client).await?.unwrap_or_default();
        let store = self.current.load();
        let auth = store.auth();
        store.check_needs(&auth, &caller, needs)?;
        Ok(Pass(if caller.auth_revision == 0 { 0 } else { auth.revision() }))
    }

    /// Users and roles are what they were when the pass was given.
    pub fn recheck(&self, pass: Pass) -> Result<(), Denied> {
        match pass.0 {
            0 => Ok(()),
            revision if revision == self.current.load().auth().revision() => Ok(()),
            _ => Err(Denied(Refusal::OldAuthRevision)),
        }
    }

    /// A command was applied on this member.
    pub fn applied(&self, id: LogId, command: &Command, outcome: &Result<Response, Refusal>) {
        if outcome.is_ok() {
            self.tokens.applied(id, command);
            if let Some(Op::AuthEnable(_) | Op::AuthDisable(_)) = command.op {
                self.look();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb as pb;
    use proto::internal::NewUser;
    use store::engine::MemoryEngine;
    use store::mvcc::{Input, ROOT, Store, StoreOptions};

    use crate::auth::client::CommonName;

    /// Auth is on, with the users `root` and `user`, who may nothing.
    fn gate() -> Gate {
        let store =
            Store::open(Arc::new(MemoryEngine::default()), StoreOptions::default()).unwrap();
        let gate = Gate::new(Arc::new(Current::new(store)), Tokens::None, Passwords::new(4));
        let add = |name: &str| Op::UserAdd(NewUser { name: name.into(), ..Default::default() });
        let root = pb::AuthUserGrantRoleRequest { user: ROOT.into(), role: ROOT.into() };
        for op in [add(ROOT), add("user"), Op::UserGrantRole(root), enable()] {
            apply(&gate, op);
        }
        gate
    }

    fn enable() -> Op {
        Op::AuthEnable(pb::AuthEnableRequest {})
    }

    /// As root.
    fn apply(gate: &Gate, op: Op) {
        let store = gate.current.load();
        let caller = Caller { user: ROOT.into(), auth_revision: store.auth().revision() };
        let command = Command { caller: Some(caller), ..Command::from(op) };
        let id = LogId { term: 1, index: store.applied().index + 1 };
        let applied = store.apply(id, Input::Command(&command)).unwrap();
        assert!(applied.outcome.is_ok(), "{applied:?}");
        gate.applied(id, &command, &applied.outcome);
    }

    fn named(name: &str) -> Client {
        let mut request = Request::new(());
        request.extensions_mut().insert(CommonName(name.into()));
        Client::of(&request)
    }

    const KEY: &[Need<'static>] = &[Need::Read { key: b"key", end: b"" }];

    #[tokio::test]
    async fn the_name_of_a_certificate_is_a_user() {
        let gate = gate();
        assert_eq!(gate.check_root(&named(ROOT)).await, Ok(()));
        assert_eq!(gate.check_root(&named("user")).await, Err(Denied(Refusal::PermissionDenied)));
        assert_eq!(gate.check_root(&named("stranger")).await, Err(Denied(Refusal::UserNotFound)));
        assert_eq!(gate.check_root(&Client::default()).await, Err(Denied(Refusal::UserEmpty)));
        assert!(gate.admit(&named(ROOT), KEY).await.is_ok());
        let denied = gate.admit(&named("user"), KEY).await.map(|_| ());
        assert_eq!(denied, Err(Denied(Refusal::PermissionDenied)));
        let token = Client { token: Some("abc.1".into()), ..named(ROOT) };
        assert_eq!(gate.check_root(&token).await, Err(Denied(Refusal::InvalidAuthToken)));
    }

    #[tokio::test]
    async fn what_is_not_listed_nobody_may_call() {
        let gate = gate();
        let denied = gate.enter("/etcdserverpb.KV/New", &named(ROOT)).await;
        assert_eq!(denied, Err(Denied(Refusal::PermissionDenied)));
        let path = "/etcdserverpb.Maintenance/Snapshot";
        assert_eq!(gate.enter(path, &named(ROOT)).await, Ok(()));
        assert_eq!(gate.enter(path, &named("user")).await, Err(Denied(Refusal::PermissionDenied)));
    }

    #[tokio::test]
    async fn a_pass_ends_when_auth_changes() {
        let gate = gate();
        let pass = gate.admit(&named(ROOT), KEY).await.unwrap();
        assert_eq!(gate.recheck(pass), Ok(()));
        apply(&gate, Op::RoleAdd(pb::AuthRoleAddRequest { name: "role".into() }));
        assert_eq!(gate.recheck(pass), Err(Denied(Refusal::OldAuthRevision)));
    }

    #[tokio::test]
    async fn off_nobody_is_asked() {
        let gate = gate();
        apply(&gate, Op::AuthDisable(pb::AuthDisableRequest {}));
        assert!(!gate.is_on());
        assert_eq!(gate.check_root(&Client::default()).await, Ok(()));
        let pass = gate.admit(&Client::default(), KEY).await.unwrap();
        apply(&gate, enable());
        assert_eq!(gate.recheck(pass), Ok(()), "it was let in when nobody was asked");
        assert!(gate.is_on());
    }
}
