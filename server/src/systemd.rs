//! What systemd is told: that the member is ready, that it lives, that it stops. Whoever starts it
//! otherwise sets no `NOTIFY_SOCKET`, and nothing is said.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::RangeRequest;
use store::mvcc::Step;

use crate::replica::Current;

/// Tells the service manager, if there is one.
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Between two signs of life; None: nobody waits for any.
    sign_every: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    pub fn from_environment() -> Manager {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|path| match open(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(
                    "NOTIFY_SOCKET {path} cannot be used ({error}): systemd hears nothing"
                );
                None
            }
        });
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|_| meant).map(Duration::from_micros);
        Manager { socket, sign_every: patience.map(|patience| patience / 3) }
    }

    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving clients");
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Gives a sign of life as long as there is some: this runtime turns, and the store can be read.
    pub async fn watch(&self, current: Arc<Current>) {
        let Some(pause) = self.sign_every.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        loop {
            if can_read(&current) {
                self.tell("WATCHDOG=1");
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn tell(&self, what: &str) {
        if let Some((socket, manager)) = &self.socket
            && let Err(error) = socket.send_to_addr(what.as_bytes(), manager)
        {
            tracing::debug!("telling systemd {what:?}: {error}");
        }
    }
}

fn open(path: &str) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    Ok((UnixDatagram::unbound()?, manager))
}

fn can_read(current: &Arc<Current>) -> bool {
    let request = RangeRequest { key: b"\0".to_vec(), limit: 1, ..Default::default() };
    let read = current.load().range(&request);
    read.is_ok_and(|mut read| {
        loop {
            match read.step() {
                Ok(Step::More) => {}
                result => return result.is_ok(),
            }
        }
    })
}
