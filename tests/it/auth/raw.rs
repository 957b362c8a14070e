//! Calls of any method by its path, with a message that is encoded already.

use std::time::Duration;

use harness::Client;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use proto::etcdserverpb::WatchResponse;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

const ANSWER_WITHIN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default)]
struct Bare;

impl Codec for Bare {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Bare;
    type Decoder = Bare;

    fn encoder(&mut self) -> Bare {
        Bare
    }

    fn decoder(&mut self) -> Bare {
        Bare
    }
}

impl Encoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Whether a server carries out a call, and if not what it says about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did, or refused for another reason than who asked.
    LetIn,
    TurnedAway(String),
    /// There is no such method.
    NotBuilt,
}

/// What servers say about callers. A user that is not found may also be one that was asked about.
pub(super) const REASONS: [&str; 5] = [
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: revision of auth store is old",
];

fn verdict(code: Code, message: &str) -> Verdict {
    match REASONS.iter().find(|reason| message.ends_with(**reason)) {
        Some(reason) => Verdict::TurnedAway((*reason).to_owned()),
        None if code == Code::Unimplemented => Verdict::NotBuilt,
        None => Verdict::LetIn,
    }
}

/// Sends one message to the method at `path` and takes the first that comes back.
pub(super) async fn ask(client: &Client, token: Option<&str>, path: &str, body: &[u8]) -> Verdict {
    let mut grpc = Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter([body.to_vec()]));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    let path: PathAndQuery = path.parse().unwrap();
    let is_watch = path.path() == "/etcdserverpb.Watch/Watch";
    let call = async {
        let mut answers = grpc.streaming(request, path, Bare).await?.into_inner();
        answers.message().await
    };
    let Ok(answer) = tokio::time::timeout(ANSWER_WITHIN, call).await else {
        // It waits for something: for a lock perhaps.
        return Verdict::LetIn;
    };
    match answer {
        Ok(Some(answer)) if is_watch => {
            let answer = WatchResponse::decode(answer).unwrap();
            verdict(Code::Ok, &answer.cancel_reason)
        }
        Ok(_) => Verdict::LetIn,
        Err(status) => verdict(status.code(), status.message()),
    }
}
