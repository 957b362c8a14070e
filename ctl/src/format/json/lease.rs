//! The structs of answers about leases: Go's client embeds the header in most of them.

use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use proto::etcdserverpb as pb;
use serde::{Serialize, Serializer};

use super::Header;
use crate::failure::Failure;

#[derive(Serialize)]
pub(super) struct Granted<'a> {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
    #[serde(rename = "Error")]
    error: &'a str,
}

impl<'a> Granted<'a> {
    pub(super) fn of(of: &'a pb::LeaseGrantResponse) -> Result<Self, Failure> {
        let header = Header::required(of.header.as_ref())?;
        Ok(Self { header, id: of.id, ttl: of.ttl, error: &of.error })
    }
}

#[derive(Serialize)]
pub(super) struct Revoked {
    header: Header,
}

impl Revoked {
    pub(super) fn of(of: &pb::LeaseRevokeResponse) -> Result<Self, Failure> {
        Ok(Self { header: Header::required(of.header.as_ref())? })
    }
}

#[derive(Serialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    header: Header,
    #[serde(rename = "ID")]
    id: i64,
    #[serde(rename = "TTL")]
    ttl: i64,
}

impl Kept {
    pub(super) fn of(of: &pb::LeaseKeepAliveResponse) -> Result<Self, Failure> {
        Ok(Self { header: Header::required(of.header.as_ref())?, id: of.id, ttl: of.ttl })
    }
}

#[derive(Serialize)]
pub(super) struct Time<'a> {
    #[serde(flatten)]
    header: Header,
    id: i64,
    ttl: i64,
    #[serde(rename = "granted-ttl")]
    granted_ttl: i64,
    /// Go writes a list that nothing was appended to as `null`.
    keys: Option<Vec<Base64<'a>>>,
}

impl<'a> Time<'a> {
    pub(super) fn of(of: &'a pb::LeaseTimeToLiveResponse) -> Result<Self, Failure> {
        let keys = of.keys.iter().map(|key| Base64(key)).collect::<Vec<_>>();
        Ok(Self {
            header: Header::required(of.header.as_ref())?,
            id: of.id,
            ttl: of.ttl,
            granted_ttl: of.granted_ttl,
            keys: (!keys.is_empty()).then_some(keys),
        })
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(self.0, &STANDARD).fmt(f)
    }
}

#[derive(Serialize)]
pub(super) struct Leases {
    #[serde(flatten)]
    header: Header,
    leases: Vec<Lease>,
}

#[derive(Serialize)]
struct Lease {
    id: i64,
}

impl Leases {
    pub(super) fn of(of: &pb::LeaseLeasesResponse) -> Result<Self, Failure> {
        let leases = of.leases.iter().map(|lease| Lease { id: lease.id }).collect();
        Ok(Self { header: Header::required(of.header.as_ref())?, leases })
    }
}
