//! `fields`: one `"Name" : value` a line, strings quoted as Go's `%q`.

use std::fmt::Display;

use proto::EncodedKeyValue;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    AlarmMember, DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse,
};
use proto::mvccpb::event::EventType;

use crate::failure::{Failure, header};
use crate::format::{
    Answer, AuthAnswer, EndpointStatus, Format, Style, Subject, Watched, alarm_name, lease_id,
    parse,
};
use crate::go;

pub(super) fn render(hex: bool, answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    let mut out = Fields { hex, text: String::new() };
    match answer {
        Answer::Get(response) => out.get(response)?,
        Answer::Put(response) => out.put(response)?,
        Answer::Delete(response) => out.delete(response)?,
        Answer::Txn(response) => out.txn(response)?,
        Answer::Watch(watched) => out.watch(watched)?,
        Answer::LeaseGranted(granted) => {
            out.header(header(granted.header.as_ref())?);
            out.lease_id(granted.id);
            out.field("TTL", granted.ttl);
        }
        Answer::LeaseRevoked(revoked) => out.header(header(revoked.response.header.as_ref())?),
        Answer::LeaseKept(kept) => {
            out.header(header(kept.header.as_ref())?);
            out.lease_id(kept.id);
            out.field("TTL", kept.ttl);
        }
        Answer::LeaseTime(time) => {
            let of = &time.response;
            out.header(header(of.header.as_ref())?);
            out.lease_id(of.id);
            out.field("TTL", of.ttl);
            out.field("GrantedTTL", of.granted_ttl);
            of.keys.iter().for_each(|key| out.quoted("Key", key));
        }
        Answer::Leases(list) => {
            out.header(header(list.header.as_ref())?);
            list.leases.iter().for_each(|lease| out.lease_id(lease.id));
        }
        Answer::Health(list) => {
            for health in *list {
                out.quoted("Endpoint", health.endpoint.as_bytes());
                out.field("Health", health.healthy);
                out.field("Took", go::format_duration(health.took));
                out.field("Error", &health.error);
                out.text.push('\n');
            }
        }
        Answer::Status(list) => list.iter().for_each(|status| out.status(status)),
        Answer::HashKv(list) => {
            for hash in *list {
                out.header(&hash.header);
                out.quoted("Endpoint", hash.endpoint.as_bytes());
                out.field("Hash", hash.hash.hash);
                out.field("HashRevision", hash.hash.hash_revision);
                out.text.push('\n');
            }
        }
        Answer::Members(list) => {
            out.header(header(list.header.as_ref())?);
            list.members.iter().for_each(|member| out.member(member));
        }
        Answer::Auth(answer) => {
            out.header(answer.header()?);
            out.auth(answer)?;
        }
        Answer::Alarms(list) => {
            // There is none when alarms were disarmed.
            list.header.iter().for_each(|header| out.header(header));
            list.alarms.iter().for_each(|alarm| out.alarm(alarm));
        }
        Answer::MemberAdded(_)
        | Answer::MemberChanged(_)
        | Answer::LeaderMoved(_)
        | Answer::Downgraded(_) => {
            let style = Style { format: Format::Fields, hex, value_only: false };
            return style.check(Subject::Change).map(|()| Vec::new());
        }
    }
    Ok(out.text.into_bytes())
}

struct Fields {
    hex: bool,
    text: String,
}

impl Fields {
    fn field(&mut self, name: &str, value: impl Display) {
        self.text.push_str(&format!("\"{name}\" : {value}\n"));
    }

    fn quoted(&mut self, name: &str, value: &[u8]) {
        self.field(name, go::quote(value));
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease_id(&mut self, id: i64) {
        if self.hex { self.field("ID", lease_id(id)) } else { self.field("ID", id) }
    }

    fn header(&mut self, header: &ResponseHeader) {
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn kv(&mut self, prefix: &str, kv: &EncodedKeyValue) -> Result<(), Failure> {
        let kv = parse(kv)?;
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        let name = format!("{prefix}Lease");
        if self.hex {
            self.field(&name, signed_hex(kv.lease));
        } else {
            self.field(&name, kv.lease);
        }
        Ok(())
    }

    fn get(&mut self, response: &RangeResponse) -> Result<(), Failure> {
        self.header(header(response.header.as_ref())?);
        response.kvs.iter().try_for_each(|kv| self.kv("", kv))?;
        self.field("More", response.more);
        self.field("Count", response.count);
        Ok(())
    }

    fn put(&mut self, response: &PutResponse) -> Result<(), Failure> {
        self.header(header(response.header.as_ref())?);
        response.prev_kv.iter().try_for_each(|kv| self.kv("Prev", kv))
    }

    fn delete(&mut self, response: &DeleteRangeResponse) -> Result<(), Failure> {
        self.header(header(response.header.as_ref())?);
        self.field("Deleted", response.deleted);
        response.prev_kvs.iter().try_for_each(|kv| self.kv("Prev", kv))
    }

    fn txn(&mut self, response: &TxnResponse) -> Result<(), Failure> {
        self.header(header(response.header.as_ref())?);
        self.field("Succeeded", response.succeeded);
        for operation in &response.responses {
            match &operation.response {
                Some(Response::ResponseRange(range)) => self.get(range)?,
                Some(Response::ResponsePut(put)) => self.put(put)?,
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete)?,
                Some(Response::ResponseTxn(txn)) => self.txn(txn)?,
                None => {}
            }
        }
        Ok(())
    }

    fn watch(&mut self, watched: &Watched) -> Result<(), Failure> {
        self.header(&watched.header);
        for event in watched.events.iter().flatten() {
            self.field(
                "Type",
                match event.r#type() {
                    EventType::Put => "PUT",
                    EventType::Delete => "DELETE",
                },
            );
            event.prev_kv.iter().try_for_each(|kv| self.kv("Prev", kv))?;
            event.kv.iter().try_for_each(|kv| self.kv("", kv))?;
        }
        Ok(())
    }

    fn member(&mut self, member: &Member) {
        self.id("ID", member.id);
        self.quoted("Name", member.name.as_bytes());
        member.peer_ur_ls.iter().for_each(|url| self.quoted("PeerURL", url.as_bytes()));
        member.client_ur_ls.iter().for_each(|url| self.quoted("ClientURL", url.as_bytes()));
        self.field("IsLearner", member.is_learner);
        self.text.push('\n');
    }

    fn alarm(&mut self, alarm: &AlarmMember) {
        self.id("MemberID", alarm.member_id);
        self.field("AlarmType", alarm_name(alarm));
        self.text.push('\n');
    }

    fn auth(&mut self, answer: &AuthAnswer) -> Result<(), Failure> {
        match answer {
            AuthAnswer::Done { .. } => {}
            AuthAnswer::Role { response, .. } => {
                for permission in &response.perm {
                    // Go prints a space more here.
                    self.field(
                        "PermType",
                        format_args!(" {}", permission.perm_type().as_str_name()),
                    );
                    self.quoted("Key", &permission.key);
                    self.quoted("RangeEnd", &permission.range_end);
                }
            }
            AuthAnswer::Roles(list) => {
                let roles =
                    list.roles.iter().map(|role| format!(" {}", go::quote(role.as_bytes())));
                self.text.push_str(&format!("\"Roles\" :{}\n", roles.collect::<String>()));
            }
            AuthAnswer::Status(_) | AuthAnswer::User { .. } | AuthAnswer::Users(_) => {
                let style = Style { format: Format::Fields, hex: self.hex, value_only: false };
                style.check(Subject::Users)?;
            }
        }
        Ok(())
    }

    fn status(&mut self, of: &EndpointStatus) {
        let status = &of.status;
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.header(&of.header);
        self.quoted("Version", status.version.as_bytes());
        self.quoted("StorageVersion", status.storage_version.as_bytes());
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("DBSizeQuota", status.db_size_quota);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.quoted("Endpoint", of.endpoint.as_bytes());
        self.quoted("DowngradeTargetVersion", downgrade.target_version.as_bytes());
        self.field("DowngradeEnabled", downgrade.enabled);
        self.text.push('\n');
    }
}

/// Go's `%016x` of a signed number: the sign is written and counts among the 16.
fn signed_hex(value: i64) -> String {
    if value < 0 { format!("-{:015x}", value.unsigned_abs()) } else { format!("{value:016x}") }
}
