//! Commands that change users, roles and permissions, by etcd's rules.

use std::sync::Arc;

use proto::authpb::{Permission, Role, User, UserAddOptions};
use proto::etcdserverpb as pb;
use proto::internal::{IssueToken, NewPassword, NewUser, command::Op};

use super::{Auth, Cell, ROOT};
use crate::Refusal;

type Done = Result<(), Refusal>;

impl Cell {
    /// Applies a command about users or roles; `None` if it is about something else.
    pub(in crate::mvcc) fn apply(&self, op: &Op) -> Option<Done> {
        if let Op::IssueToken(request) = op {
            return Some(self.load().may_have_token(request));
        }
        let mut next = Auth::clone(&self.load());
        let done = match op {
            Op::AuthEnable(_) => next.enable(),
            Op::AuthDisable(_) => next.disable(),
            Op::UserAdd(request) => next.add_user(request),
            Op::UserDelete(request) => next.delete_user(request),
            Op::UserChangePassword(request) => next.change_password(request),
            Op::UserGrantRole(request) => next.grant_role(request),
            Op::UserRevokeRole(request) => next.revoke_role(request),
            Op::RoleAdd(request) => next.add_role(request),
            Op::RoleDelete(request) => next.delete_role(request),
            Op::RoleGrantPermission(request) => next.grant_permission(request),
            Op::RoleRevokePermission(request) => next.revoke_permission(request),
            _ => return None,
        };
        if done.is_ok() {
            self.replace(next);
        }
        Some(done)
    }
}

impl Auth {
    /// Something has changed: whoever was let in before is to look again.
    fn changed(&mut self) -> Done {
        self.revision += 1;
        Ok(())
    }

    fn enable(&mut self) -> Done {
        if self.enabled {
            return Ok(());
        }
        self.user(ROOT).ok_or(Refusal::RootUserMissing)?;
        if !self.has_role(ROOT, ROOT) {
            return Err(Refusal::RootRoleMissing);
        }
        self.enabled = true;
        Ok(())
    }

    fn disable(&mut self) -> Done {
        if !self.enabled {
            return Ok(());
        }
        self.enabled = false;
        self.changed()
    }

    fn may_have_token(&self, request: &IssueToken) -> Done {
        if !self.enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        match self.user(&request.user) {
            Some(user) if !has_no_password(user) => Ok(()),
            _ => Err(Refusal::AuthFailed),
        }
    }

    fn known_user(&self, name: &str) -> Result<User, Refusal> {
        self.user(name).cloned().ok_or(Refusal::UserNotFound)
    }

    fn known_role(&self, name: &str) -> Result<Role, Refusal> {
        self.role(name).cloned().ok_or(Refusal::RoleNotFound)
    }

    fn put_user(&mut self, name: &str, user: User) -> Done {
        self.users.insert(name.to_owned(), Arc::new(user));
        self.changed()
    }

    fn put_role(&mut self, name: &str, role: Role) -> Done {
        self.roles.insert(name.to_owned(), Arc::new(role));
        self.changed()
    }

    fn add_user(&mut self, request: &NewUser) -> Done {
        if request.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.user(&request.name).is_some() {
            return Err(Refusal::UserExists);
        }
        let user = User {
            name: request.name.clone().into(),
            password: request.password_hash.clone(),
            roles: Vec::new(),
            options: Some(UserAddOptions { no_password: request.no_password }),
        };
        self.put_user(&request.name, user)
    }

    fn delete_user(&mut self, request: &pb::AuthUserDeleteRequest) -> Done {
        if self.enabled && request.name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.users.remove(&request.name).ok_or(Refusal::UserNotFound)?;
        self.changed()
    }

    fn change_password(&mut self, request: &NewPassword) -> Done {
        let mut user = self.known_user(&request.name)?;
        user.password = match has_no_password(&user) {
            true => Vec::new(),
            false => request.password_hash.clone(),
        };
        self.put_user(&request.name, user)
    }

    /// The role `root` need not be there to be granted.
    fn grant_role(&mut self, request: &pb::AuthUserGrantRoleRequest) -> Done {
        let mut user = self.known_user(&request.user)?;
        if request.role != ROOT {
            self.known_role(&request.role)?;
        }
        if user.roles.contains(&request.role) {
            return Ok(());
        }
        user.roles.push(request.role.clone());
        user.roles.sort();
        self.put_user(&request.user, user)
    }

    fn revoke_role(&mut self, request: &pb::AuthUserRevokeRoleRequest) -> Done {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut user = self.known_user(&request.name)?;
        if !user.roles.contains(&request.role) {
            return Err(Refusal::RoleNotGranted);
        }
        user.roles.retain(|role| *role != request.role);
        self.put_user(&request.name, user)
    }

    fn add_role(&mut self, request: &pb::AuthRoleAddRequest) -> Done {
        if request.name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.role(&request.name).is_some() {
            return Err(Refusal::RoleExists);
        }
        let name = request.name.clone().into();
        self.put_role(&request.name, Role { name, key_permission: Vec::new() })
    }

    fn delete_role(&mut self, request: &pb::AuthRoleDeleteRequest) -> Done {
        if self.enabled && request.role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(&request.role).ok_or(Refusal::RoleNotFound)?;
        for user in self.users.values_mut().filter(|user| user.roles.contains(&request.role)) {
            Arc::make_mut(user).roles.retain(|role| *role != request.role);
        }
        self.changed()
    }

    /// What was granted for the same keys before is replaced, so that less can be granted, too.
    fn grant_permission(&mut self, request: &pb::AuthRoleGrantPermissionRequest) -> Done {
        let granted = request.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
        if !is_range(granted) {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut role = self.known_role(&request.name)?;
        let permissions = &mut role.key_permission;
        let same_keys =
            |of: &&mut Permission| of.key == granted.key && of.range_end == granted.range_end;
        match permissions.iter_mut().find(same_keys) {
            Some(permission) => permission.perm_type = granted.perm_type,
            None => {
                let at = permissions.partition_point(|of| of.key <= granted.key);
                permissions.insert(at, granted.clone());
            }
        }
        self.put_role(&request.name, role)
    }

    fn revoke_permission(&mut self, request: &pb::AuthRoleRevokePermissionRequest) -> Done {
        let mut role = self.known_role(&request.role)?;
        let before = role.key_permission.len();
        role.key_permission.retain(|of| of.key != request.key || of.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(Refusal::PermissionNotGranted);
        }
        self.put_role(&request.role, role)
    }
}

fn has_no_password(user: &User) -> bool {
    user.options.as_ref().is_some_and(|options| options.no_password)
}

/// One key, a range with keys in it, or all keys from one on.
fn is_range(permission: &Permission) -> bool {
    let (key, end) = (&permission.key, &permission.range_end);
    !key.is_empty() && (end.is_empty() || *end == [0] || key < end)
}
