//! The struct of answers about users and roles: no two of its lists are ever filled together.

use proto::authpb::Permission;
use serde::Serialize;

use super::{Header, base64, empty};
use crate::failure::Failure;
use crate::format::AuthAnswer;

#[derive(Default, Serialize)]
pub(super) struct Auth<'a> {
    header: Option<Header>,
    #[serde(skip_serializing_if = "empty")]
    enabled: bool,
    #[serde(rename = "authRevision", skip_serializing_if = "empty")]
    auth_revision: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    roles: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    users: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    perm: Vec<Range<'a>>,
}

#[derive(Serialize)]
struct Range<'a> {
    #[serde(rename = "permType", skip_serializing_if = "empty")]
    perm_type: i32,
    #[serde(skip_serializing_if = "<[u8]>::is_empty", serialize_with = "base64")]
    key: &'a [u8],
    #[serde(skip_serializing_if = "<[u8]>::is_empty", serialize_with = "base64")]
    range_end: &'a [u8],
}

impl<'a> Auth<'a> {
    pub(super) fn of(answer: &'a AuthAnswer) -> Result<Self, Failure> {
        let header = Some(Header::of(answer.header()?));
        Ok(match answer {
            AuthAnswer::Done { .. } => Self { header, ..Self::default() },
            AuthAnswer::Status(of) => {
                let (enabled, auth_revision) = (of.enabled, of.auth_revision);
                Self { header, enabled, auth_revision, ..Self::default() }
            }
            AuthAnswer::User { response, .. } => {
                Self { header, roles: &response.roles, ..Self::default() }
            }
            AuthAnswer::Users(of) => Self { header, users: &of.users, ..Self::default() },
            AuthAnswer::Role { response, .. } => {
                let perm = response.perm.iter().map(Range::of).collect();
                Self { header, perm, ..Self::default() }
            }
            AuthAnswer::Roles(of) => Self { header, roles: &of.roles, ..Self::default() },
        })
    }
}

impl<'a> Range<'a> {
    fn of(of: &'a Permission) -> Self {
        Self { perm_type: of.perm_type, key: &of.key, range_end: &of.range_end }
    }
}
