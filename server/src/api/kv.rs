//! `etcdserverpb.KV`: ranges, puts, deletes, transactions, compaction.

use std::pin::Pin;
use std::time::Instant;

use prost::Message;
use proto::etcdserverpb::kv_server;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use proto::internal::command::Op;
use store::ReadError;
use store::mvcc::{Need, Response as Answer, Step, check};
use tonic::{Request, Response, Status};

use super::{Identity, mismatch, status};
use crate::auth::Client;
use crate::budget::{self, Claim};
use crate::limits;
use crate::metrics::METRICS;
use crate::replica::Replica;
use crate::unsent::{self, Claimed};

pub struct Kv {
    replica: Replica,
    identity: Identity,
    max_txn_ops: usize,
    /// Sizes the chunks of a streamed range.
    request_bytes_max: usize,
}

impl Kv {
    pub fn new(
        replica: Replica,
        identity: Identity,
        max_txn_ops: usize,
        request_bytes_max: usize,
    ) -> Self {
        Self { replica, identity, max_txn_ops, request_bytes_max }
    }

    async fn propose(&self, client: &Client, op: Op) -> Result<Answer, Status> {
        let caller = self.replica.gate().caller(client).await?;
        let outcome = self.replica.propose_as(caller, op).await.map_err(status::unavailable)?;
        outcome.map_err(status::refused)
    }

    async fn barrier(&self, serializable: bool) -> Result<(), Status> {
        match serializable {
            true => Ok(()),
            false => self.replica.read_barrier().await.map_err(status::unavailable),
        }
    }

    async fn read_txn(
        &self,
        client: &Client,
        txn: &TxnRequest,
        claim: &mut Claim,
    ) -> Result<TxnResponse, Status> {
        self.barrier(check::is_serializable(txn)).await?;
        let pass = self.replica.gate().admit(client, &Need::of_txn(txn)).await?;
        let mut read = self.replica.store().read_txn(txn).map_err(status::refused)?;
        loop {
            let step = read.step().map_err(status::read_failed)?;
            make_room(claim, read.held_bytes())?;
            match step {
                Step::Done(response) => {
                    self.replica.gate().recheck(pass)?;
                    return Ok(response);
                }
                Step::More => tokio::task::yield_now().await,
            }
        }
    }
}

/// Makes room for what an answer takes. What is small is bounded by the number of calls.
fn make_room(claim: &mut Claim, bytes: usize) -> Result<(), Status> {
    match bytes {
        0..=limits::ANSWER_PIECE_BYTES => Ok(()),
        bytes => Ok(unsent::grow(claim, bytes)?),
    }
}

/// The same for a change that is made already: its answer is given, whatever room there is.
fn respond<T: Message>(message: T) -> Response<T> {
    let mut claim = budget::ANSWERS.claim();
    let bytes = message.encoded_len();
    if bytes > limits::ANSWER_PIECE_BYTES {
        claim.take(bytes);
    }
    claimed(message, claim)
}

fn claimed<T>(message: T, claim: Claim) -> Response<T> {
    let mut response = Response::new(message);
    if claim.size() > 0 {
        response.extensions_mut().insert(Claimed::new(claim));
    }
    response
}

/// Runs a read to its end and lets others run between its steps.
pub async fn run<T>(mut step: impl FnMut() -> Result<Step<T>, ReadError>) -> Result<T, Status> {
    loop {
        match step().map_err(status::read_failed)? {
            Step::Done(result) => return Ok(result),
            Step::More => tokio::task::yield_now().await,
        }
    }
}

type RangeStream =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let range = request.into_inner();
        if !range.serializable && self.replica.standing().is_learner {
            return Err(status::not_for_learner());
        }
        check::range(&range).map_err(status::refused)?;
        self.barrier(range.serializable).await?;
        let began = Instant::now();
        let mut claim = budget::ANSWERS.claim();
        let read = async {
            let pass = self.replica.gate().admit(&client, &[Need::of_range(&range)]).await?;
            let mut read = self.replica.store().range(&range).map_err(status::refused)?;
            loop {
                // Nothing waits for its turn that is not counted.
                match read.step().map_err(status::read_failed)? {
                    Step::Done(response) => {
                        make_room(&mut claim, response.encoded_len())?;
                        self.replica.gate().recheck(pass)?;
                        return Ok(response);
                    }
                    Step::More => make_room(&mut claim, read.held_bytes())?,
                }
                tokio::task::yield_now().await;
            }
        };
        let read: Result<RangeResponse, Status> = read.await;
        METRICS.ranged(read.is_ok(), began.elapsed());
        let mut response = read?;
        self.identity.complete(&self.replica, &mut response.header);
        Ok(claimed(response, claim))
    }

    type RangeStreamStream = RangeStream;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeStream>, Status> {
        let client = self.replica.gate().client(&request);
        let range = request.into_inner();
        check::range(&range).map_err(status::refused)?;
        check::range_stream(&range).map_err(Status::unimplemented)?;
        self.barrier(range.serializable).await?;
        let pass = self.replica.gate().admit(&client, &[Need::of_range(&range)]).await?;
        let mut read = self.replica.store().range_stream(&range).map_err(status::refused)?;
        let (replica, identity) = (self.replica.clone(), self.identity);
        let chunk_bytes = self.request_bytes_max;
        let chunks = std::iter::from_fn(move || {
            let chunk = read.next_chunk(chunk_bytes).map_err(status::read_failed).transpose()?;
            let chunk = chunk.and_then(|chunk| {
                replica.gate().recheck(pass)?;
                Ok(chunk)
            });
            Some(chunk.map(|mut response| {
                if response.header.is_some() {
                    identity.complete(&replica, &mut response.header);
                }
                RangeStreamResponse { range_response: Some(response) }
            }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let put = request.into_inner();
        check::put(&put).map_err(status::refused)?;
        let answer = self.propose(&client, Op::Put(put)).await?;
        let Answer::Put(mut response) = answer else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(respond(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let delete = request.into_inner();
        check::delete_range(&delete).map_err(status::refused)?;
        let answer = self.propose(&client, Op::DeleteRange(delete)).await?;
        let Answer::DeleteRange(mut response) = answer else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(respond(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let txn = request.into_inner();
        check::txn(&txn, self.max_txn_ops).map_err(status::refused)?;
        let mut response = match check::is_read_only(&txn) {
            true => {
                let mut claim = budget::ANSWERS.claim();
                let mut response = self.read_txn(&client, &txn, &mut claim).await?;
                self.identity.complete(&self.replica, &mut response.header);
                return Ok(claimed(response, claim));
            }
            false => match self.propose(&client, Op::Txn(txn)).await? {
                Answer::Txn(response) => response,
                _ => mismatch(),
            },
        };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(respond(response))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let compaction = request.into_inner();
        let answer = self.propose(&client, Op::Compaction(compaction)).await;
        // Also when it was refused because another one came first, as in etcd.
        if compaction.physical && compaction.revision <= self.replica.store().compacted() {
            self.replica.wait_compacted(compaction.revision).await.map_err(status::unavailable)?;
        }
        let Answer::Compaction(mut response) = answer? else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(Response::new(response))
    }
}
