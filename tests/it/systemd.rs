//! systemd starts a member with `Type=notify` and a watchdog.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use harness::{Node, NodeOptions, Target};

#[test]
fn the_manager_hears_of_readiness_life_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let target = Target::from_env().unwrap();
    let options = NodeOptions::new(target)
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "300000");
    let mut node = Node::prepare(options).unwrap();
    node.spawn().unwrap();
    assert!(told().starts_with("READY=1"));
    // etcd gives no signs of life.
    if target == Target::Kvd {
        assert_eq!([told(), told()], ["WATCHDOG=1", "WATCHDOG=1"]);
        node.stop().unwrap();
        while told() != "STOPPING=1" {}
    }
}
