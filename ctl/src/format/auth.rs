//! Answers about users and roles: what they have in common, and how they read.

use prost::Message;
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;

use crate::failure::{Failure, header};
use crate::keys::prefix_end;

/// What the server answered. Most answers are a header alone, and say in words what was done.
#[derive(Debug)]
pub(crate) enum AuthAnswer {
    Done { what: String, header: Option<pb::ResponseHeader> },
    Status(pb::AuthStatusResponse),
    User { name: String, response: pb::AuthUserGetResponse },
    Users(pb::AuthUserListResponse),
    Role { name: String, response: pb::AuthRoleGetResponse },
    Roles(pb::AuthRoleListResponse),
}

impl AuthAnswer {
    pub(super) fn header(&self) -> Result<&pb::ResponseHeader, Failure> {
        header(match self {
            Self::Done { header, .. } => header.as_ref(),
            Self::Status(of) => of.header.as_ref(),
            Self::User { response, .. } => response.header.as_ref(),
            Self::Users(of) => of.header.as_ref(),
            Self::Role { response, .. } => response.header.as_ref(),
            Self::Roles(of) => of.header.as_ref(),
        })
    }

    /// Lines, each as it is printed.
    pub(super) fn lines(&self) -> Vec<Vec<u8>> {
        let text = |text: &String| text.clone().into_bytes();
        match self {
            Self::Done { what, .. } => vec![text(what)],
            Self::Status(of) => vec![
                format!("Authentication Status: {}", of.enabled).into(),
                format!("AuthRevision: {}", of.auth_revision).into(),
            ],
            Self::User { name, response } => {
                let roles = response.roles.iter().map(|role| format!(" {role}"));
                let roles = format!("Roles:{}", roles.collect::<String>());
                vec![format!("User: {name}").into(), roles.into()]
            }
            Self::Users(of) => of.users.iter().map(text).collect(),
            Self::Role { name, response } => {
                let mut lines = vec![format!("Role {name}").into_bytes(), b"KV Read:".to_vec()];
                lines.extend(ranges(&response.perm, Type::Read));
                lines.push(b"KV Write:".to_vec());
                lines.extend(ranges(&response.perm, Type::Write));
                lines
            }
            Self::Roles(of) => of.roles.iter().map(text).collect(),
        }
    }

    pub(super) fn message(&self) -> Vec<u8> {
        match self {
            // All such answers are alike.
            Self::Done { header, .. } => {
                pb::AuthUserAddResponse { header: *header }.encode_to_vec()
            }
            Self::Status(of) => of.encode_to_vec(),
            Self::User { response, .. } => response.encode_to_vec(),
            Self::Users(of) => of.encode_to_vec(),
            Self::Role { response, .. } => response.encode_to_vec(),
            Self::Roles(of) => of.encode_to_vec(),
        }
    }
}

/// A line for each range that may be read, or written.
fn ranges(permissions: &[Permission], kind: Type) -> impl Iterator<Item = Vec<u8>> {
    let of_kind = move |of: &&Permission| [kind, Type::Readwrite].contains(&of.perm_type());
    permissions.iter().filter(of_kind).map(|of| {
        let (key, end) = (of.key.as_slice(), of.range_end.as_slice());
        let mut line = match end {
            [] => return [b"\t", key].concat(),
            [0] => [b"\t[", key, b", <open ended>"].concat(),
            end => [b"\t[", key, b", ", end, b")"].concat(),
        };
        if !key.is_empty() && prefix_end(key) == end {
            line.extend([b" (prefix ", key, b")"].concat());
        }
        line
    })
}
