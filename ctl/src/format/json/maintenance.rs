//! The structs of answers about alarms and downgrades.

use proto::etcdserverpb as pb;
use serde::Serialize;

use super::{Header, empty};

#[derive(Serialize)]
pub(super) struct Alarms {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alarms: Vec<Alarm>,
}

#[derive(Serialize)]
struct Alarm {
    #[serde(rename = "memberID", skip_serializing_if = "empty")]
    member_id: u64,
    #[serde(skip_serializing_if = "empty")]
    alarm: i32,
}

impl Alarms {
    pub(super) fn of(from: &pb::AlarmResponse) -> Self {
        let alarm =
            |alarm: &pb::AlarmMember| Alarm { member_id: alarm.member_id, alarm: alarm.alarm };
        Self {
            header: from.header.as_ref().map(Header::of),
            alarms: from.alarms.iter().map(alarm).collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Downgraded<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
}

impl<'a> Downgraded<'a> {
    pub(super) fn of(from: &'a pb::DowngradeResponse) -> Self {
        Self { header: from.header.as_ref().map(Header::of), version: &from.version }
    }
}
