//! All listeners of a member, and what is served at each.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::{Config, Url};
use crate::connection::{self, Arrival, Entrance, Offers};
use crate::listen::{self, Bound};
use crate::{limits, tls};

/// Sockets that are bound, in the order of the URLs in the configuration.
pub struct Listeners {
    clients: Vec<Bound>,
    http: Vec<Bound>,
    metrics: Vec<Bound>,
    pub peers: Vec<Bound>,
}

/// The same with what is served at each.
pub struct Entrances {
    pub clients: Vec<(Bound, Arc<Entrance>)>,
    pub metrics: Vec<(Bound, Arc<Entrance>)>,
    pub peers: Vec<(Bound, Arc<Entrance>)>,
}

impl Listeners {
    pub fn bind(config: &Config) -> anyhow::Result<Listeners> {
        let bind = |urls: &[Url], option| listen::bind(urls, option, config.share_ports);
        Ok(Listeners {
            clients: bind(&config.listen_client_urls, "--listen-client-urls")?,
            http: bind(&config.http.listen_client_http_urls, "--listen-client-http-urls")?,
            metrics: bind(&config.http.listen_metrics_urls, "--listen-metrics-urls")?,
            peers: bind(&config.listen_peer_urls, "--listen-peer-urls")?,
        })
    }

    pub fn entrances(self, config: &Config, tls: &tls::Ends) -> Entrances {
        let open = |bound: Vec<Bound>, urls: &[Url], offers, tls: &Option<Arc<tls::Acceptor>>| {
            let entrance = |url: &Url| {
                Arc::new(Entrance { offers, tls: tls.clone().filter(|_| url.is_tls()) })
            };
            bound.into_iter().zip(urls.iter().map(entrance)).collect::<Vec<_>>()
        };
        let for_clients = match config.http.listen_client_http_urls.is_empty() {
            true => Offers::Everything,
            false => Offers::Grpc,
        };
        let mut clients = open(self.clients, &config.listen_client_urls, for_clients, &tls.clients);
        let http = &config.http.listen_client_http_urls;
        clients.extend(open(self.http, http, Offers::Http, &tls.clients));
        let metrics = &config.http.listen_metrics_urls;
        let peers = &config.listen_peer_urls;
        Entrances {
            clients,
            metrics: open(self.metrics, metrics, Offers::Metrics, &tls.clients),
            peers: open(self.peers, peers, Offers::Everything, &tls.members),
        }
    }
}

/// Hands connections out in turn, one to each runtime.
pub struct Dealers {
    pub deal: Vec<mpsc::UnboundedSender<Arrival>>,
    /// For connections that may be open at a time.
    pub places: Arc<Semaphore>,
    pub stop: watch::Receiver<bool>,
}

impl Dealers {
    pub fn accept_all(&self, open: Vec<(Bound, Arc<Entrance>)>) -> std::io::Result<()> {
        for (bound, entrance) in open {
            let to = (self.deal.clone(), self.places.clone());
            let accept = connection::accept(bound.listen()?, entrance, to, self.stop.clone());
            tokio::spawn(accept);
        }
        Ok(())
    }
}

/// Asks for as many files as this process may have, and says how many connections of clients that is:
/// they must not take what the log needs for its next segment.
pub fn places_for_clients() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that is refused, there are as many as there are.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = files.saturating_sub(limits::FILES_RESERVED).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).min(limits::CONNECTIONS_MAX)
}
