//! `protobuf`: the encoded message, nothing around it.

use prost::Message;
use proto::etcdserverpb::WatchResponse;

use crate::failure::{Failure, header};
use crate::format::{Answer, Format, Style, Subject, Watched};

pub(super) fn render(answer: &Answer<'_>) -> Result<Vec<u8>, Failure> {
    match answer {
        Answer::Get(response) => Ok(response.encode_to_vec()),
        Answer::Put(response) => Ok(response.encode_to_vec()),
        Answer::Delete(response) => Ok(response.encode_to_vec()),
        Answer::Txn(response) => Ok(response.encode_to_vec()),
        Answer::Watch(watched) => Ok(watch_response(watched).encode_to_vec()),
        // What etcdctl finds to encode in these is the header.
        Answer::LeaseGranted(granted) => Ok(header(granted.header.as_ref())?.encode_to_vec()),
        Answer::LeaseKept(kept) => Ok(header(kept.header.as_ref())?.encode_to_vec()),
        Answer::LeaseTime(time) => Ok(header(time.response.header.as_ref())?.encode_to_vec()),
        Answer::Leases(list) => Ok(header(list.header.as_ref())?.encode_to_vec()),
        Answer::LeaseRevoked(_) => {
            let style = Style { format: Format::Protobuf, hex: false, value_only: false };
            style.check(Subject::LeaseRevoked).map(|()| Vec::new())
        }
        Answer::Members(list) => Ok(list.encode_to_vec()),
        Answer::MemberAdded(added) => Ok(added.response.encode_to_vec()),
        // All such answers have the list's two fields.
        Answer::MemberChanged(changed) => Ok(changed.members.encode_to_vec()),
        Answer::Auth(answer) => Ok(answer.message()),
        Answer::LeaderMoved(moved) => Ok(moved.response.encode_to_vec()),
        Answer::Alarms(list) => Ok(list.encode_to_vec()),
        Answer::Downgraded(done) => Ok(done.response.encode_to_vec()),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => {
            let style = Style { format: Format::Protobuf, hex: false, value_only: false };
            style.check(Subject::Endpoints).map(|()| Vec::new())
        }
    }
}

/// The message as Go's client keeps it: without watch id and reason.
fn watch_response(watched: &Watched) -> WatchResponse {
    WatchResponse {
        header: Some(watched.header),
        events: watched.events.clone().unwrap_or_default(),
        compact_revision: watched.compact_revision,
        canceled: watched.canceled,
        ..WatchResponse::default()
    }
}
