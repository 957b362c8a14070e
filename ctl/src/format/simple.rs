//! `simple`: keys and values as they are, one a line; endpoints and members as comma-separated cells.

use std::fmt::Write;

use proto::EncodedKeyValue;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse};
use proto::mvccpb::event::EventType;

use crate::failure::{Failure, header};
use crate::format::{
    Answer, LeaseTime, MemberAdded, MemberChanged, Style, Watched, alarm_name, hash_cells,
    lease_id, member_cells, parse, status_cells,
};
use crate::go;

pub(super) fn render(style: Style, answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    let mut out = Simple { style, bytes: Vec::new() };
    match answer {
        Answer::Get(response) => out.get(response)?,
        Answer::Put(response) => out.put(response)?,
        Answer::Delete(response) => out.delete(response)?,
        Answer::Txn(response) => out.txn(response)?,
        Answer::Watch(watched) => out.watch(watched)?,
        Answer::LeaseGranted(granted) => {
            let ttl = granted.ttl;
            out.line(&format!("lease {} granted with TTL({ttl}s)", lease_id(granted.id)));
        }
        Answer::LeaseRevoked(revoked) => {
            out.line(&format!("lease {} revoked", lease_id(revoked.id)));
        }
        Answer::LeaseKept(kept) => {
            out.line(&format!("lease {} keepalived with TTL({})", lease_id(kept.id), kept.ttl));
        }
        Answer::LeaseTime(time) => out.lease_time(time),
        Answer::Leases(list) => {
            out.line(&format!("found {} leases", list.leases.len()));
            list.leases.iter().for_each(|lease| out.line(&lease_id(lease.id)));
        }
        Answer::Health(list) => {
            for health in list.iter().filter(|health| health.error.is_empty()) {
                let took = go::format_duration(health.took);
                let what = "is healthy: successfully committed proposal: took =";
                out.line(&format!("{} {what} {took}", health.endpoint));
            }
        }
        Answer::Status(list) => list.iter().for_each(|s| out.line(&status_cells(s).join(", "))),
        Answer::HashKv(list) => list.iter().for_each(|h| out.line(&hash_cells(h).join(", "))),
        Answer::Members(list) => {
            list.members.iter().for_each(|m| out.line(&member_cells(m).join(", ")));
        }
        Answer::MemberAdded(added) => out.member_added(added)?,
        Answer::MemberChanged(changed) => out.member_changed(changed)?,
        Answer::Auth(answer) => answer.lines().iter().for_each(|line| out.raw_line(line)),
        Answer::LeaderMoved(moved) => {
            out.line(&format!("Leadership transferred from {:x} to {:x}", moved.from, moved.to));
        }
        Answer::Alarms(list) => {
            for alarm in &list.alarms {
                let member = match alarm.member_id {
                    0 => String::new(),
                    id => format!("memberID:{id} "),
                };
                out.line(&format!("{member}alarm:{} ", alarm_name(alarm)));
            }
        }
        Answer::Downgraded(done) => {
            let (what, version) = (done.what, &done.response.version);
            out.line(&format!("Downgrade {what} success, cluster version {version}"));
        }
    }
    Ok(out.bytes)
}

struct Simple {
    style: Style,
    bytes: Vec<u8>,
}

impl Simple {
    fn line(&mut self, text: &str) {
        self.raw_line(text.as_bytes());
    }

    fn raw_line(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(b'\n');
    }

    fn key_or_value(&mut self, bytes: &[u8]) {
        if self.style.hex {
            self.line(&hex(bytes));
        } else {
            self.raw_line(bytes);
        }
    }

    fn kv(&mut self, kv: &EncodedKeyValue) -> Result<(), Failure> {
        let kv = parse(kv)?;
        if !self.style.value_only {
            self.key_or_value(&kv.key);
        }
        self.key_or_value(&kv.value);
        Ok(())
    }

    fn get(&mut self, response: &RangeResponse) -> Result<(), Failure> {
        response.kvs.iter().try_for_each(|kv| self.kv(kv))
    }

    fn put(&mut self, response: &PutResponse) -> Result<(), Failure> {
        self.line("OK");
        response.prev_kv.iter().try_for_each(|kv| self.kv(kv))
    }

    fn delete(&mut self, response: &DeleteRangeResponse) -> Result<(), Failure> {
        self.line(&response.deleted.to_string());
        response.prev_kvs.iter().try_for_each(|kv| self.kv(kv))
    }

    fn txn(&mut self, response: &TxnResponse) -> Result<(), Failure> {
        self.line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
        for operation in &response.responses {
            self.line("");
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
        for event in watched.events.iter().flatten() {
            self.line(match event.r#type() {
                EventType::Put => "PUT",
                EventType::Delete => "DELETE",
            });
            event.prev_kv.iter().chain(&event.kv).try_for_each(|kv| self.kv(kv))?;
        }
        Ok(())
    }

    fn lease_time(&mut self, time: &LeaseTime) {
        let of = &time.response;
        let id = lease_id(of.id);
        if of.granted_ttl == 0 && of.ttl == -1 {
            return self.line(&format!("lease {id} already expired"));
        }
        let (granted, left) = (of.granted_ttl, of.ttl);
        let text = format!("lease {id} granted with TTL({granted}s), remaining({left}s)");
        self.bytes.extend_from_slice(text.as_bytes());
        if time.keys {
            self.bytes.extend_from_slice(b", attached keys([");
            self.bytes.extend_from_slice(&of.keys.join(&b' '));
            self.bytes.extend_from_slice(b"])");
        }
        self.line("");
    }

    /// The new id, and the options that the new member is to be started with.
    fn member_added(&mut self, added: &MemberAdded) -> Result<(), Failure> {
        let cluster = header(added.response.header.as_ref())?.cluster_id;
        let member = added.response.member.clone().unwrap_or_default();
        let role = if member.is_learner { " as learner" } else { "" };
        self.line(&format!("Member {:>16x} added{role} to cluster {cluster:>16x}", member.id));
        self.line("");
        let urls = added.response.members.iter().flat_map(|of| {
            let name = if of.id == member.id { &added.name } else { &of.name };
            of.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
        });
        let cluster = urls.collect::<Vec<_>>().join(",");
        let mut variable = |name, value: &str| {
            self.line(&format!("ETCD_{name}={}", go::quote(value.as_bytes())));
        };
        variable("NAME", &added.name);
        variable("INITIAL_CLUSTER", &cluster);
        variable("INITIAL_ADVERTISE_PEER_URLS", &added.peer_urls);
        variable("INITIAL_CLUSTER_STATE", "existing");
        Ok(())
    }

    fn member_changed(&mut self, changed: &MemberChanged) -> Result<(), Failure> {
        let cluster = header(changed.members.header.as_ref())?.cluster_id;
        let (id, what) = (changed.id, changed.what);
        self.line(&format!("Member {id:>16x} {what} cluster {cluster:>16x}"));
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4);
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}
