//! Addresses to listen at, and names to be reached by.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Site;

pub(super) fn look(site: &mut Site<'_>) {
    let config = site.config;
    for (option, urls) in [
        ("listen-client-urls", &config.listen_client_urls),
        ("listen-client-http-urls", &config.http.listen_client_http_urls),
        ("listen-metrics-urls", &config.http.listen_metrics_urls),
        ("listen-peer-urls", &config.listen_peer_urls),
    ] {
        for url in urls {
            match (url.listen_address(), url.socket_path()) {
                (Some(address), _) => tcp(site, option, address),
                (None, Some(path)) => unix(site, option, path),
                (None, None) => {}
            }
        }
    }
    for (option, urls) in [
        ("advertise-client-urls", &config.advertise_client_urls),
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
    ] {
        for url in urls.iter().filter(|url| url.socket_path().is_none()) {
            if let Err(error) = (url.host(), url.port()).to_socket_addrs() {
                let what = format!("{} cannot be resolved here ({error})", url.host());
                site.warning(option, what);
            }
        }
    }
}

/// Bound for a moment, as nothing else tells whether it can be.
fn tcp(site: &mut Site<'_>, option: &str, address: SocketAddr) {
    let Err(error) = TcpListener::bind(address) else { return };
    let why = format!("cannot listen on {address} ({error})");
    match error.kind() {
        // Quite likely the member that is to be restarted.
        io::ErrorKind::AddrInUse => site.warning(
            option,
            format_args!("a process listens on {address} now: fine if it is this member"),
        ),
        io::ErrorKind::AddrNotAvailable => {
            site.problem(option, why, "name an address of this machine");
        }
        _ => site.problem(option, why, "choose another address"),
    }
}

fn unix(site: &mut Site<'_>, option: &str, path: &Path) {
    if UnixStream::connect(path).is_ok() {
        let what = format!("a process listens on {} now", path.display());
        site.warning(option, format_args!("{what}: fine if it is this member"));
        return;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        let why = format!("no socket can be made in {} ({error})", dir.display());
        site.problem(option, why, "choose a directory that exists and may be written");
    }
}
