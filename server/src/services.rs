//! Routes each request to its service.
//!
//! One port speaks gRPC over HTTP/2 and plain HTTP/1; what decides is the request itself.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request};
use hyper::body::Incoming;
use proto::MethodKind;
use proto::etcdserverpb::auth_server::AuthServer;
use proto::etcdserverpb::cluster_server::ClusterServer;
use proto::etcdserverpb::kv_server::KvServer;
use proto::etcdserverpb::lease_server::LeaseServer;
use proto::etcdserverpb::maintenance_server::MaintenanceServer;
use proto::etcdserverpb::watch_server::WatchServer;
use proto::healthpb::health_server::HealthServer;
use proto::v3electionpb::election_server::ElectionServer;
use proto::v3lockpb::lock_server::LockServer;
use tonic::codegen::Service;
use tonic::{Code, Status};

use crate::api::watch::WatchService;
use crate::api::{Auth, Cluster, Election, Health, Kv, Lease, Lock, Maintenance, metadata, status};
use crate::auth::{Client, CommonName};
use crate::body::RequestBody;
use crate::budget::{self, Exhausted};
use crate::connection::{Offers, Serve, Way};
use crate::metered::Meter;
use crate::metrics::{METRICS, Method};
use crate::pages::{Answer, Pages};
use crate::received::Received;
use crate::replica::{Replica, Unavailable};
use crate::{slow, unsent};

/// The services of one runtime. Cloning shares them.
#[derive(Clone)]
pub struct Services {
    pub kv: KvServer<Kv>,
    pub watch: WatchServer<WatchService>,
    pub lease: LeaseServer<Lease>,
    pub cluster: ClusterServer<Cluster>,
    pub maintenance: MaintenanceServer<Maintenance>,
    pub auth: AuthServer<Auth>,
    pub lock: LockServer<Lock>,
    pub election: ElectionServer<Election>,
    pub health: HealthServer<Health>,
    pub replica: Replica,
    pub pages: Arc<Pages>,
    /// Largest message of a request.
    pub message_bytes_max: usize,
    /// Whoever has no token is the user that the certificate names.
    pub certificates_name_users: bool,
    /// Measure the time of every call.
    pub extensive_metrics: bool,
}

impl Serve for Services {
    fn serve(&self, request: Request<Incoming>, way: &Way) -> Answer {
        let takes_grpc = matches!(way.entrance.offers, Offers::Everything | Offers::Grpc);
        if !takes_grpc || !is_grpc(request.headers()) {
            return self.pages.answer(self, request, way);
        }
        let mut request = request.map(|body| RequestBody::Incoming(Received::new(body)));
        if let Some(certificate) = way.certificate.as_ref().filter(|_| self.certificates_name_users)
        {
            request.extensions_mut().insert(CommonName(certificate.common_name.clone()));
        }
        self.call(request)
    }

    fn meter() -> Meter {
        Meter::of(&METRICS.clients)
    }
}

impl Services {
    /// Whether auth is on, and a certificate is enough.
    pub fn users_come_by_certificate(&self) -> bool {
        self.certificates_name_users && self.replica.gate().is_on()
    }

    /// Answers a gRPC call, from a connection or from the gateway.
    pub fn call(&self, request: Request<RequestBody>) -> Answer {
        let Some(method) = Method::of(request.uri().path()) else {
            return answer(status::unimplemented(request.uri().path()));
        };
        if budget::STREAMS.is_exceeded() {
            return answer(Exhausted.into());
        }
        let version = request.headers().get("client-api-version").and_then(|v| v.to_str().ok());
        method.started(version);
        let (now, unary) = (Instant::now(), matches!(method.kind(), MethodKind::Unary));
        let began = self.extensive_metrics.then_some(now);
        let request = match method.kind() {
            MethodKind::BidiStream => request.map(|body| body.counted(method)),
            _ => request,
        };
        let called = self.dispatch(request);
        Box::pin(async move {
            let response = called.await?;
            if unary {
                slow::answered(method.path(), now.elapsed());
            }
            let response = match method.claims_room() {
                true => unsent::in_pieces_if_claimed(response),
                false => unsent::in_pieces(response, method.kind()),
            };
            Ok(method.answered(response, began))
        })
    }

    fn dispatch(&self, request: Request<RequestBody>) -> Answer {
        if let Err(status) = self.check(request.headers(), request.uri().path()) {
            return answer(status);
        }
        if !self.replica.gate().is_on() {
            return self.call_service(request);
        }
        let client = Client::new(request.headers(), request.extensions());
        let this = self.clone();
        Box::pin(async move {
            match this.replica.gate().enter(request.uri().path(), &client).await {
                Ok(()) => this.call_service(request).await,
                Err(denied) => Ok(Status::from(denied).into_http()),
            }
        })
    }

    fn call_service(&self, request: Request<RequestBody>) -> Answer {
        let Some(service) = request.uri().path().split('/').nth(1) else {
            return answer(status::unimplemented(request.uri().path()));
        };
        let called: Answer = match service {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            "v3lockpb.Lock" => self.lock.clone().call(request),
            "v3electionpb.Election" => self.election.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            _ => return answer(status::unimplemented(request.uri().path())),
        };
        Box::pin(async {
            let mut response = called.await?;
            as_grpc_go_says(response.headers_mut());
            Ok(response)
        })
    }

    /// Whether this member may answer such a call at all.
    fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), Status> {
        metadata::check_version(headers)?;
        let standing = self.replica.standing();
        if standing.is_learner && !LEARNER_PATHS.contains(&path) {
            return Err(status::not_for_learner());
        }
        if metadata::needs_leader(headers) && standing.leader == 0 {
            return Err(status::unavailable(Unavailable::NoLeader));
        }
        Ok(())
    }
}

/// What a learner answers; a range only if it need not be linearizable.
const LEARNER_PATHS: [&str; 3] = [
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.KV/Range",
];

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn answer(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// A message above the limit is refused by tonic with a code and text of its own; clients know
/// grpc-go's.
fn as_grpc_go_says(headers: &mut HeaderMap) {
    if headers.get("grpc-status").is_none_or(|code| code != "11") {
        return;
    }
    let Some(numbers) = headers
        .get("grpc-message")
        .and_then(|message| message.to_str().ok())
        .and_then(|message| message.split_once("message%20length%20too%20large"))
        .map(|(_, rest)| rest)
    else {
        return;
    };
    let mut numbers = numbers.split("%20").filter_map(|word| {
        word.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok()
    });
    if let (Some(found), Some(limit)) = (numbers.next(), numbers.next()) {
        let text =
            format!("grpc:%20received%20message%20larger%20than%20max%20({found}%20vs.%20{limit})");
        headers.insert("grpc-status", HeaderValue::from(Code::ResourceExhausted as i32));
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert("grpc-message", text);
        }
    }
}
