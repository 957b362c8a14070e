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

use super::{Identity, mismatch, room, status};
use crate::auth::Client;
use crate::budget::{self, Claim};
use crate::metrics::METRICS;
use crate::replica::Replica;
use crate::slow;

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

    /// The answer, and the room that it takes.
    async fn propose(&self, client: &Client, op: Op) -> Result<(Answer, Claim), Status> {
        let caller = self.replica.gate().caller(client).await?;
        let proposed = self.replica.propose_counted(caller, op).await;
        let (outcome, claim) = proposed.map_err(status::unavailable)?;
        Ok((outcome.map_err(status::refused)?, claim))
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
    ) -> Result<(TxnResponse, Claim), Status> {
        self.barrier(check::is_serializable(txn)).await?;
        let pass = self.replica.gate().admit(client, &Need::of_txn(txn)).await?;
        let mut claim = budget::ANSWERS.claim();
        let mut read = self.replica.store().read_txn(txn).map_err(status::refused)?;
        loop {
            let step = read.step().map_err(status::read_failed)?;
            room::make(&mut claim, read.held_bytes())?;
            match step {
                Step::Done(response) => {
                    self.replica.gate().recheck(pass)?;
                    return Ok((response, claim));
                }
                Step::More => tokio::task::yield_now().await,
            }
        }
    }
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
                        room::make(&mut claim, response.encoded_len())?;
                        self.replica.gate().recheck(pass)?;
                        return Ok(response);
                    }
                    Step::More => room::make(&mut claim, read.held_bytes())?,
                }
                tokio::task::yield_now().await;
            }
        };
        let read: Result<RangeResponse, Status> = read.await;
        let took = began.elapsed();
        METRICS.ranged(read.is_ok(), took);
        slow::ranged(&range, read.as_ref().err(), took);
        let mut response = read?;
        self.identity.complete(&self.replica, &mut response.header);
        Ok(room::claimed(response, claim))
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
        let (answer, claim) = self.propose(&client, Op::Put(put)).await?;
        let Answer::Put(mut response) = answer else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(room::claimed(response, claim))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let delete = request.into_inner();
        check::delete_range(&delete).map_err(status::refused)?;
        let (answer, claim) = self.propose(&client, Op::DeleteRange(delete)).await?;
        let Answer::DeleteRange(mut response) = answer else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(room::claimed(response, claim))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let client = self.replica.gate().client(&request);
        let txn = request.into_inner();
        check::txn(&txn, self.max_txn_ops).map_err(status::refused)?;
        let (mut response, claim) = match check::is_read_only(&txn) {
            true => self.read_txn(&client, &txn).await?,
            false => match self.propose(&client, Op::Txn(txn)).await? {
                (Answer::Txn(response), claim) => (response, claim),
                _ => mismatch(),
            },
        };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(room::claimed(response, claim))
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
        let (Answer::Compaction(mut response), _) = answer? else { mismatch() };
        self.identity.complete(&self.replica, &mut response.header);
        Ok(Response::new(response))
    }
}
