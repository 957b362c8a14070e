//! `grpc.health.v1.Health`: that this member serves, for tools that know gRPC and not etcd.
//!
//! As in etcd there is one service, without a name, and it serves as long as the process takes calls.

use std::pin::Pin;

use proto::healthpb::health_check_response::ServingStatus;
use proto::healthpb::health_server;
use proto::healthpb::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::status;
use crate::replica::Unavailable;

pub struct Health {
    stop: watch::Receiver<bool>,
}

impl Health {
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self { stop }
    }
}

/// The service that stands for all of them.
const ALL: &str = "";

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            ALL => Ok(Response::new(answer(ServingStatus::Serving))),
            _ => Err(Status::not_found("unknown service")),
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = [(ALL.to_owned(), answer(ServingStatus::Serving))].into();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Tells the status, which does not change until this member stops.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let status = match request.get_ref().service.as_str() {
            ALL => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        };
        let (tell, told) = tokio::sync::mpsc::channel(1);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            let stopped = async {
                // The sender is gone only when the process stops.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            tokio::select! {
                // The client may be gone meanwhile.
                () = stopped => drop(tell.try_send(Err(status::unavailable(Unavailable::Stopped)))),
                () = tell.closed() => {}
            }
        });
        let first = tokio_stream::once(Ok(answer(status)));
        let rest = tokio_stream::wrappers::ReceiverStream::new(told);
        Ok(Response::new(Box::pin(first.chain(rest))))
    }
}
