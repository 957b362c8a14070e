//! `etcdserverpb.Auth`: users, roles, permissions, and the token for a password.
//!
//! Changes are decided when they are applied. Questions are answered by this member once it has heard
//! of everything that was decided before, instead of through the log as in etcd.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::{ResponseHeader, auth_server};
use proto::internal::{IssueToken, NewPassword, NewUser, command::Op};
use store::Refusal;
use store::mvcc::{Auth as State, ROOT, Response as Answer};
use tonic::{Request, Response, Status};

use super::{Identity, mismatch, status};
use crate::auth::{Client, Gate, Tokens};
use crate::limits;
use crate::replica::Replica;

/// A name is a key of the file that a snapshot is, and etcd could not write a longer one.
fn check_length(name: &str) -> Result<(), Status> {
    match name.len() > limits::NAME_BYTES_MAX {
        true => Err(status::name_too_long()),
        false => Ok(()),
    }
}

pub struct Auth {
    replica: Replica,
    identity: Identity,
}

impl Auth {
    pub fn new(replica: Replica, identity: Identity) -> Self {
        Self { replica, identity }
    }

    fn gate(&self) -> &Gate {
        self.replica.gate()
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(self.identity.header(&self.replica, self.replica.store().revision()))
    }

    /// Carries out a change for a client.
    async fn change(&self, client: &Client, op: Op) -> Result<Option<ResponseHeader>, Status> {
        let caller = self.gate().caller(client).await?;
        let outcome = self.replica.propose_as(caller, op).await.map_err(status::unavailable)?;
        let Answer::Auth(header) = outcome.map_err(status::refused)? else { mismatch() };
        let mut header = Some(header);
        self.identity.complete(&self.replica, &mut header);
        Ok(header)
    }

    async fn barrier(&self) -> Result<(), Status> {
        self.replica.read_barrier().await.map_err(status::unavailable)
    }

    /// Reads users and roles as of now, which takes root, or `also`.
    async fn read<T>(
        &self,
        client: &Client,
        also: impl Fn(&State, &str) -> bool,
        read: impl Fn(&State) -> Result<T, Refusal>,
    ) -> Result<T, Status> {
        self.barrier().await?;
        let caller = self.gate().caller(client).await?;
        let caller = caller.unwrap_or_default();
        let auth = self.replica.store().auth();
        if let Err(refusal) = auth.check_root(&caller)
            && !also(&auth, &caller.user)
        {
            return Err(status::refused(refusal));
        }
        read(&auth).map_err(status::refused)
    }

    /// Checks a password. Returns the auth revision by which it was right.
    async fn check_password(&self, name: &str, password: &str) -> Result<u64, Status> {
        let (revision, hash) = {
            let auth = self.replica.store().auth();
            if !auth.enabled() {
                return Err(status::refused(Refusal::AuthNotEnabled));
            }
            let user = auth.user(name).ok_or_else(|| status::refused(Refusal::AuthFailed))?;
            if user.options.as_ref().is_some_and(|options| options.no_password) {
                return Err(status::no_password_user());
            }
            (auth.revision(), user.password.clone())
        };
        let passwords = &self.gate().passwords;
        match passwords.matches(password.to_owned(), &hash).await.map_err(status::password)? {
            true => Ok(revision),
            false => {
                tracing::info!(user = name, "a wrong password");
                Err(status::refused(Refusal::AuthFailed))
            }
        }
    }

    async fn simple_token(&self, user: String) -> Result<pb::AuthenticateResponse, Status> {
        let op = Op::IssueToken(IssueToken { user, letters: Tokens::letters() });
        let outcome = self.replica.propose(op).await.map_err(status::unavailable)?;
        let Answer::Token(mut response) = outcome.map_err(status::refused)? else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(response)
    }

    /// A token for a password. When users change while it is checked it is checked again.
    async fn log_in(
        &self,
        request: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, Status> {
        self.barrier().await?;
        let pb::AuthenticateRequest { name, password } = request;
        loop {
            let revision = self.check_password(&name, &password).await?;
            let response = match &self.gate().tokens {
                Tokens::Simple(_) => self.simple_token(name.clone()).await?,
                Tokens::Jwt(jwt) => {
                    let token = jwt.sign(&name, revision).map_err(|_| status::verify_only())?;
                    pb::AuthenticateResponse { header: self.header(), token }
                }
                Tokens::None => return Err(status::refused(Refusal::AuthFailed)),
            };
            if self.replica.store().auth().revision() == revision {
                return Ok(response);
            }
        }
    }

    /// The hash of a new password, for somebody who may ask for one.
    async fn hash(&self, client: &Client, password: String) -> Result<Vec<u8>, Status> {
        self.gate().check_user(client).await?;
        self.gate().passwords.hash(password).await.map_err(status::password)
    }
}

fn nobody_else(_: &State, _: &str) -> bool {
    false
}

/// What root may touch, though no role says so.
fn everything() -> proto::authpb::Permission {
    let perm_type = proto::authpb::permission::Type::Readwrite.into();
    proto::authpb::Permission { perm_type, key: Vec::new(), range_end: vec![0] }
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::AuthEnable(request.into_inner())).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::AuthDisable(request.into_inner())).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::UserDelete(request.into_inner())).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::UserGrantRole(request.into_inner())).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::UserRevokeRole(request.into_inner())).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let client = self.gate().client(&request);
        let request = request.into_inner();
        check_length(&request.name)?;
        let header = self.change(&client, Op::RoleAdd(request)).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::RoleDelete(request.into_inner())).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::RoleGrantPermission(request.into_inner())).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let client = self.gate().client(&request);
        let header = self.change(&client, Op::RoleRevokePermission(request.into_inner())).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        self.log_in(request.into_inner()).await.map(Response::new)
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let client = self.gate().client(&request);
        let read = |auth: &State| Ok((auth.enabled(), auth.revision()));
        let (enabled, auth_revision) = self.read(&client, nobody_else, read).await?;
        let header = self.header();
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let client = self.gate().client(&request);
        let pb::AuthUserAddRequest { name, password, options, .. } = request.into_inner();
        check_length(&name)?;
        let no_password = options.is_some_and(|options| options.no_password);
        let password_hash = match no_password {
            true => Vec::new(),
            false => self.hash(&client, password).await?,
        };
        let op = Op::UserAdd(NewUser { name, password_hash, no_password });
        let header = self.change(&client, op).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let client = self.gate().client(&request);
        let pb::AuthUserChangePasswordRequest { name, password, hashed_password } =
            request.into_inner();
        let password_hash = match password.is_empty() {
            // A client may have hashed it; an empty one is no hash, and nobody can log in.
            true => STANDARD.decode(hashed_password).map_err(|_| status::no_password_user())?,
            false => self.hash(&client, password).await?,
        };
        let op = Op::UserChangePassword(NewPassword { name, password_hash });
        let header = self.change(&client, op).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let client = self.gate().client(&request);
        let name = request.into_inner().name;
        let read = |auth: &State| {
            auth.user(&name).map(|user| user.roles.clone()).ok_or(Refusal::UserNotFound)
        };
        let roles = self.read(&client, |_, caller| caller == name, read).await?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.header(), roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let client = self.gate().client(&request);
        let read = |auth: &State| Ok(auth.user_names().map(str::to_owned).collect());
        let users = self.read(&client, nobody_else, read).await?;
        Ok(Response::new(pb::AuthUserListResponse { header: self.header(), users }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let client = self.gate().client(&request);
        let name = request.into_inner().role;
        let read = |auth: &State| match auth.role(&name) {
            None => Err(Refusal::RoleNotFound),
            Some(_) if name == ROOT => Ok(vec![everything()]),
            Some(role) => Ok(role.key_permission.clone()),
        };
        let own = |auth: &State, caller: &str| auth.has_role(caller, &name);
        let perm = self.read(&client, own, read).await?;
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.header(), perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let client = self.gate().client(&request);
        let read = |auth: &State| Ok(auth.role_names().map(str::to_owned).collect());
        let roles = self.read(&client, nobody_else, read).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header: self.header(), roles }))
    }
}
