//! The crate `etcd-client` against the cluster that the environment names; see ../../main.py.

mod admin;
mod data;
mod turns;

use std::fs;
use std::time::{Duration, Instant};

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, Event, Identity, TlsOptions, WatchStream,
};
use tokio::time::timeout;

/// Whatever is waited for comes within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the cluster is, and how it is reached.
#[derive(Clone)]
struct Target {
    endpoints: Vec<String>,
    tls: Option<TlsOptions>,
}

impl Target {
    fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().map(|path| fs::read(path).unwrap());
        let tls = read("KVD_CA").map(|ca| {
            let client = Identity::from_pem(read("KVD_CERT").unwrap(), read("KVD_KEY").unwrap());
            TlsOptions::new().ca_certificate(Certificate::from_pem(ca)).identity(client)
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let hosts = std::env::var("KVD_ENDPOINTS").expect("KVD_ENDPOINTS names the members");
        let endpoints = hosts.split(',').map(|host| format!("{scheme}://{host}")).collect();
        Self { endpoints, tls }
    }

    fn options(&self) -> ConnectOptions {
        let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
        match &self.tls {
            Some(tls) => options.with_tls(tls.clone()),
            None => options,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.endpoints, Some(self.options())).await.unwrap()
    }

    async fn login(&self, name: &str, password: &str) -> Result<Client, Error> {
        let options = self.options().with_user(name, password);
        Client::connect(&self.endpoints, Some(options)).await
    }
}

/// The result of something that must not take forever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// The code and the message of an error that the server has answered.
fn refusal<T>(result: Result<T, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (status.code() as i32, status.message().to_owned()),
        Err(other) => panic!("not an answer of the server: {other}"),
        Ok(_) => panic!("this must be refused"),
    }
}

/// The next events of a watch, as many as asked for.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut found = Vec::new();
    while found.len() < count {
        let answer = soon(stream.message()).await.unwrap().expect("the watch goes on");
        assert!(!answer.canceled(), "canceled: {}", answer.cancel_reason());
        found.extend_from_slice(answer.events());
    }
    found
}

/// Runs tests one after the other, each as a task, so that one that panics ends alone.
macro_rules! run {
    ($target:expr, $($module:ident :: $test:ident),* $(,)?) => {{
        let (mut passed, mut total) = (0, 0);
        $(
            let began = Instant::now();
            let result = tokio::spawn($module::$test($target.clone())).await;
            let (name, took) = (stringify!($test).replace('_', " "), began.elapsed().as_millis());
            total += 1;
            match result {
                Ok(()) => { passed += 1; println!("ok {name} ({took} ms)"); }
                Err(_) => println!("FAIL {name}: see the panic above"),
            }
        )*
        (passed, total)
    }};
}

#[tokio::main]
async fn main() {
    let target = Target::from_env();
    let (passed, total): (u32, u32) = run!(
        target,
        data::put_get_delete,
        data::ranges,
        data::old_revisions,
        data::transactions,
        data::counters,
        data::requests_that_are_refused,
        data::watch_keys,
        data::watch_history,
        data::watch_progress_and_cancel,
        data::compaction,
        turns::lease_grant_to_revoke,
        turns::lease_expiry,
        turns::locks,
        turns::lock_of_a_lease_that_ends,
        turns::elections,
        admin::members_and_status,
        admin::hashes,
        admin::snapshot,
        admin::alarms,
        admin::tls,
        admin::auth,
    );
    println!("passed {passed} of {total}");
    if passed < total {
        std::process::exit(1);
    }
}
