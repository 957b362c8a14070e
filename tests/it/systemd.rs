//! systemd starts a member with `Type=notify` and a watchdog.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use harness::{Node, NodeOptions, Target};

/// What a service manager hears at its socket.
struct Manager {
    dir: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn listen() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Manager { dir, socket }
    }

    /// A member that was told of the socket, and of the watchdog as these variables say.
    fn start(&self, target: Target, watchdog: &[(&str, &str)]) -> Node {
        let path = self.dir.path().join("notify");
        let mut options = NodeOptions::new(target).env("NOTIFY_SOCKET", path.to_str().unwrap());
        for (name, value) in watchdog {
            options = options.env(name, value);
        }
        let mut node = Node::prepare(options).unwrap();
        node.spawn().unwrap();
        node
    }

    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn the_manager_hears_of_readiness_life_and_end() {
    let manager = Manager::listen();
    let target = Target::from_env().unwrap();
    let mut node = manager.start(target, &[("WATCHDOG_USEC", "300000")]);
    assert!(manager.told().starts_with("READY=1"));
    // Whoever is told so may come at once.
    let before = std::time::Instant::now();
    node.wait_ready().unwrap();
    assert!(before.elapsed() < Duration::from_secs(5), "ready, and did not answer");
    // etcd gives no signs of life.
    if target == Target::Kvd {
        assert_eq!([manager.told(), manager.told()], ["WATCHDOG=1", "WATCHDOG=1"]);
        node.stop().unwrap();
        while manager.told() != "STOPPING=1" {}
    }
}

/// A watchdog of another process, or none, gets no signs: the next word is the last one.
#[test]
fn signs_of_life_are_for_who_waits_for_them() {
    let target = Target::from_env().unwrap();
    if target == Target::Etcd {
        return;
    }
    let others = [("WATCHDOG_USEC", "3000"), ("WATCHDOG_PID", "1")];
    for watchdog in [&others[..], &[], &[("WATCHDOG_USEC", "soon")]] {
        let manager = Manager::listen();
        let mut node = manager.start(target, watchdog);
        assert!(manager.told().starts_with("READY=1"));
        node.wait_ready().unwrap();
        node.stop().unwrap();
        assert_eq!(manager.told(), "STOPPING=1", "{watchdog:?}");
    }
}
