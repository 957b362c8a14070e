//! `v3lockpb.Lock`: one client at a time holds a name.

use proto::etcdserverpb::request_op::Request as Op;
use proto::v3lockpb::lock_server;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::Caller;
use super::queue::{self, Place};

pub struct Lock {
    caller: Caller,
}

impl Lock {
    pub fn new(caller: Caller) -> Self {
        Self { caller }
    }
}

#[tonic::async_trait]
impl lock_server::Lock for Lock {
    /// Answers when the client holds the lock. Another call with the same lease holds the same lock.
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (caller, LockRequest { name, lease }) = self.caller.of(request);
        let lease = caller.lease_or_new(lease).await?;
        let prefix = queue::prefix(&name);
        let key = queue::key_of(&prefix, lease);
        let (own, holder) =
            (Op::RequestRange(queue::get(&key)), Op::RequestRange(queue::oldest(&prefix)));
        let join = queue::txn(
            queue::created_at(&key, 0),
            [queue::put(&key, b"", lease), holder.clone()],
            [own, holder],
        );
        let joined = caller.txn(join).await?;
        let created = match joined.succeeded {
            true => queue::revision(&joined),
            false => queue::read_at(&joined, 0).map_or(0, |own| own.create_revision),
        };
        let holder = queue::read_at(&joined, 1);
        if holder.is_none_or(|holder| holder.create_revision == created) {
            return Ok(Response::new(LockResponse { header: joined.header, key }));
        }

        let place = Place::new(&caller, &key, None);
        let held = async {
            queue::wait_turn(&caller, &prefix, created).await?;
            caller.range(queue::get(&key)).await
        };
        match held.await {
            Ok(range) if range.kvs.is_empty() => {
                place.keep();
                Err(Status::unknown("mutex: session is expired"))
            }
            Ok(range) => {
                place.keep();
                Ok(Response::new(LockResponse { header: range.header, key }))
            }
            Err(status) => {
                place.leave().await;
                Err(status)
            }
        }
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let (caller, UnlockRequest { key }) = self.caller.of(request);
        let header = caller.delete(key).await?.header;
        Ok(Response::new(UnlockResponse { header }))
    }
}
