//! What kvctl has of its own: failures in one line, endpoints of every kind, watches that go on.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use harness::{Target, workspace_binary};

use super::Session;
use super::watching::Watching;

/// What kvctl says itself: one line that names what was tried, why it failed and what to do.
#[test]
fn failures_are_one_line_with_a_remedy() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let mut session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    session.node.stop().unwrap();
    let gone = session.endpoint();
    let unreachable =
        format!("kvctl: cannot reach {gone}: connection refused; is kvd running there?");
    let cases = [
        ("ctl get a", 1, unreachable.as_str()),
        ("ctl put a 1", 1, &unreachable),
        ("ctl watch a", 1, &unreachable),
        ("ctl endpoint hashkv --cluster", 1, &unreachable),
        (
            "KVCTL_ENDPOINTS=127.0.0.1:1,127.0.0.1:2 ctl get a",
            1,
            "kvctl: cannot reach any endpoint: 127.0.0.1:1 (",
        ),
        ("KVCTL_ENDPOINTS=pi1 ctl get a", 1, "kvctl: cannot reach pi1: it has no port"),
        (
            "KVCTL_ENDPOINTS=https://127.0.0.1:1 ctl get a",
            1,
            "kvctl: cannot reach https://127.0.0.1:1: TLS needs --cacert",
        ),
        (
            "KVCTL_ENDPOINTS=https://127.0.0.1:1 ctl get a --cacert none.pem",
            1,
            "kvctl: cannot reach https://127.0.0.1:1: cannot read none.pem: no such file or directory; check --cacert",
        ),
        (
            "echo x >x; KVCTL_ENDPOINTS=https://127.0.0.1:1 ctl get a --cacert x",
            1,
            "kvctl: cannot reach https://127.0.0.1:1: x is no PEM file; check --cacert, --cert and --key",
        ),
        (
            "KVCTL_ENDPOINTS=unix:none.sock ctl get a",
            1,
            "kvctl: cannot reach unix:none.sock: no such file or directory; is kvd running there?",
        ),
        (
            "KVCTL_ENDPOINTS=ftp://a:1 ctl get a",
            1,
            "kvctl: cannot reach ftp://a:1: the scheme ftp:// is unknown; write it as host:2379,",
        ),
    ];
    for (line, code, expected) in cases {
        check_failure(&session, line, code, expected);
    }
}

/// So is what it says about a command line that makes no sense.
#[test]
fn misuse_is_one_line_with_a_remedy() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    let cases = [
        ("ctl get a --cert x", 128, "kvctl: --cert and --key belong together; pass both or none"),
        (
            "ctl get a --discovery-srv example.com",
            1,
            "kvctl: cannot look up the members of example.com: --discovery-srv is not supported yet; list them with --endpoints",
        ),
        (
            "ctl get a --perfix",
            1,
            "kvctl: unexpected argument '--perfix' found; a similar argument exists: '--prefix'; see",
        ),
        (
            "ctl gett a",
            1,
            "kvctl: unrecognized subcommand 'gett'; a similar subcommand exists: 'get'; see",
        ),
        (
            "ctl get a --limit x",
            1,
            "kvctl: invalid value 'x' for '--limit <LIMIT>': parsing \"x\": invalid syntax; see",
        ),
        (
            "KVCTL_DIAL_TIMEOUT=soon ctl get a",
            1,
            "kvctl: cannot use KVCTL_DIAL_TIMEOUT as --dial-timeout: invalid duration \"soon\" (write it as 5s",
        ),
        (
            "ctl get a -w yaml",
            4,
            "kvctl: unsupported output format \"yaml\"; pass --write-out=simple,",
        ),
        (
            "printf '\\n\\nput a 1' | ctl txn",
            3,
            "kvctl: cannot read the failure requests: the input ended; end each list with an empty line",
        ),
    ];
    for (line, code, expected) in cases {
        check_failure(&session, line, code, expected);
    }
}

fn check_failure(session: &Session, line: &str, code: i32, expected: &str) {
    let output = session.run(line).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
    assert!(stderr.starts_with(expected), "{line}\n{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{line}\n{stderr}");
    assert!(output.stdout.is_empty(), "{line}");
}

/// A server that does not speak TLS is told from one that is not there.
#[test]
fn tls_with_a_server_without_it_is_told() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    let line = "KVCTL_ENDPOINTS=https://$ENDPOINT ctl get a --insecure-skip-tls-verify";
    let output = session.run(line).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.ends_with("does not speak TLS; write http:// before the address\n"), "{stderr}");
}

/// A socket in the file system, with and without slashes.
#[test]
fn unix_sockets_are_endpoints() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = session.endpoint();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    for prefix in ["unix://", "unix:"] {
        let line = format!("KVCTL_ENDPOINTS={prefix}{} ctl put a 1", socket.display());
        let output = session.run(&line).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\n", "{line}: {output:?}");
    }
}

/// The first endpoint is down: the next one answers.
#[test]
fn the_next_endpoint_is_tried() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    let line = "KVCTL_ENDPOINTS=127.0.0.1:1,$ENDPOINT ctl put a 1";
    let output = session.run(line).unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"OK\n"[..], &b""[..]));
}

/// Who logs in where nobody needs to is let in, as by etcdctl.
#[test]
fn a_server_without_users_lets_everyone_in() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    for login in ["--user root:secret", "--user root --password secret"] {
        let output = session.run(&format!("ctl put a 1 {login}")).unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"OK\n"[..], &b""[..]));
    }
}

/// A reader that has seen enough is no error.
#[test]
fn a_broken_pipe_is_success() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    let line = "ctl put a 1 >/dev/null; { ctl get a; echo $? >&2; } | true";
    let output = session.run(line).unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "0\n");
}

/// A watch survives its server: nothing is lost and nothing told twice.
#[test]
fn a_watch_goes_on_after_a_restart() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let mut session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    session.run("ctl put a 1").unwrap();
    let endpoint = session.endpoint();
    let mut watch = Watching::start(&session.program, &endpoint, &["a", "--rev", "2"]);
    assert_eq!(watch.event(), ["PUT", "a", "1"]);
    session.node.kill().unwrap();
    session.node.start_again().unwrap();
    session.run("ctl put a 2").unwrap();
    assert_eq!(watch.event(), ["PUT", "a", "2"]);
    session.run("ctl del a").unwrap();
    assert_eq!(watch.event(), ["DELETE", "a", ""]);
}

/// What is typed while a watch connects again disturbs nothing, and is done.
#[test]
fn a_watch_asked_for_while_another_connects_again_disturbs_nothing() {
    let kvctl = workspace_binary("kvctl").unwrap();
    let mut session = Session::start(Target::from_env().unwrap(), kvctl).unwrap();
    session.run("ctl put a 1").unwrap();
    let endpoint = session.endpoint();
    let mut watch = Watching::start(&session.program, &endpoint, &["-i"]);
    watch.input.write_all(b"watch a --rev 2\n").unwrap();
    assert_eq!(watch.event(), ["PUT", "a", "1"]);
    session.node.kill().unwrap();
    let mut notes = watch.notes.by_ref().map(Result::unwrap);
    notes.find(|note| note.contains("connecting again")).expect("it says so");
    // Each attempt that fails makes the next one come later.
    let nobody = TcpListener::bind(endpoint.trim_start_matches("http://")).unwrap();
    (0..6).for_each(|_| drop(nobody.accept().unwrap()));
    drop(nobody);
    session.node.start_again().unwrap();
    watch.input.write_all(b"watch b --rev 2\n").unwrap();
    session.run("ctl put a 2").unwrap();
    session.run("ctl put b 1").unwrap();
    let both = [watch.event(), watch.event()].concat();
    assert!(both.windows(3).any(|event| event == ["PUT", "a", "2"]), "{both:?}");
    assert!(both.windows(3).any(|event| event == ["PUT", "b", "1"]), "{both:?}");
}
