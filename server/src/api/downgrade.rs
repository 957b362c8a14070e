//! `Maintenance.Downgrade`: whether the cluster may be downgraded, and that it is going to be.
//!
//! kvd's data does not depend on the version that clients are told, so announcing a downgrade changes
//! nothing but what `Status` says of it.

use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use proto::internal::{DowngradeInfo, command::Op};
use tonic::{Code, Status};

use super::{Identity, status};
use crate::replica::Replica;

/// Major and minor.
type Version = (u64, u64);

pub(super) async fn downgrade(
    replica: &Replica,
    identity: Identity,
    server_version: &str,
    request: DowngradeRequest,
) -> Result<DowngradeResponse, Status> {
    let cluster = parse(server_version).ok_or_else(status::no_cluster_version)?;
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            validate(replica, cluster, &request.version).await?;
        }
        Ok(DowngradeAction::Enable) => {
            let (major, minor) = validate(replica, cluster, &request.version).await?;
            let target_version = format!("{major}.{minor}.0");
            propose(replica, DowngradeInfo { enabled: true, target_version }).await?;
        }
        Ok(DowngradeAction::Cancel) => {
            replica.read_barrier().await.map_err(status::unavailable)?;
            // etcd answers as if there had been one to cancel.
            if replica.store().downgrade_target().is_some() {
                propose(replica, DowngradeInfo::default()).await?;
            }
        }
        Err(_) => return Err(Status::new(Code::Unknown, "etcdserver: unknown method")),
    }
    let header = Some(identity.header(replica, replica.store().revision()));
    let (major, minor) = cluster;
    Ok(DowngradeResponse { header, version: format!("{major}.{minor}") })
}

async fn validate(replica: &Replica, cluster: Version, target: &str) -> Result<Version, Status> {
    let target = parse(target).ok_or_else(status::bad_downgrade_format)?;
    replica.read_barrier().await.map_err(status::unavailable)?;
    let (major, minor) = cluster;
    if Some(target) != minor.checked_sub(1).map(|minor| (major, minor)) {
        return Err(status::bad_downgrade_target());
    }
    match replica.store().downgrade_target() {
        Some(_) => Err(status::downgrade_in_progress()),
        None => Ok(target),
    }
}

async fn propose(replica: &Replica, info: DowngradeInfo) -> Result<(), Status> {
    let applied = replica.propose(Op::DowngradeInfo(info)).await;
    applied.map_err(status::unavailable)?.map(drop).map_err(status::refused)
}

/// `3.5` or `3.5.1`, as etcd reads it; the rest of it does not matter.
fn parse(text: &str) -> Option<Version> {
    let whole = |text: &str| {
        let core = text.split(['+', '-']).next()?;
        let numbers: Vec<u64> =
            core.splitn(3, '.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        match numbers[..] {
            [major, minor, _] => Some((major, minor)),
            _ => None,
        }
    };
    whole(text).or_else(|| whole(&format!("{text}.0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        for (text, expected) in [
            ("3.5", Some((3, 5))),
            ("3.5.0", Some((3, 5))),
            ("3.5.17-rc.1+x", Some((3, 5))),
            ("3", None),
            ("", None),
            ("3.x", None),
            ("3.5.0.1", None),
            ("v3.5", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
