//! What kubeadm and k3s start etcd with starts a member that they can work with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::certs::{Authority, Subject};
use harness::http::Ask;
use harness::{Target, etcd_is_required, free_port, go_binary};

use super::{forget_variables, kvctl, kvd, text};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The node's address beside 127.0.0.1.
const NODE: &str = "127.0.0.2";

/// A machine as the installer prepared it: `pki/etcd` with its certificates.
struct Host {
    dir: tempfile::TempDir,
    clients: u16,
    peers: u16,
    metrics: u16,
}

impl Host {
    fn prepare() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki/etcd");
        fs::create_dir_all(&pki).unwrap();
        let ca = Authority::new(&pki, "ca").unwrap();
        fs::rename(&ca.cert, pki.join("ca.crt")).unwrap();
        let hosts = ["node-1", "localhost", "127.0.0.1", NODE];
        for (name, common_name, hosts) in [
            ("server", "node-1", &hosts[..]),
            ("peer", "node-1", &hosts[..]),
            ("healthcheck-client", "kube-etcd-healthcheck-client", &[]),
        ] {
            let subject = Subject { common_name, hosts, ..Subject::default() };
            let pair = ca.issue(name, &subject).unwrap();
            fs::rename(pair.cert, pki.join(format!("{name}.crt"))).unwrap();
            fs::rename(pair.key, pki.join(format!("{name}.key"))).unwrap();
        }
        Host { dir, clients: free_port(), peers: free_port(), metrics: free_port() }
    }

    fn pki(&self, name: &str) -> String {
        self.dir.path().join("pki/etcd").join(name).display().to_string()
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("etcd")
    }

    /// kubeadm's static pod, word by word; `more` is what differs between versions.
    fn kubeadm(&self, more: &[&str]) -> Vec<String> {
        let Host { clients, peers, metrics, .. } = self;
        let mut flags = vec![
            format!("--advertise-client-urls=https://{NODE}:{clients}"),
            format!("--cert-file={}", self.pki("server.crt")),
            "--client-cert-auth=true".into(),
            format!("--data-dir={}", self.data_dir().display()),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        flags.extend([
            format!("--initial-advertise-peer-urls=https://{NODE}:{peers}"),
            format!("--initial-cluster=node-1=https://{NODE}:{peers}"),
            format!("--key-file={}", self.pki("server.key")),
            format!("--listen-client-urls=https://127.0.0.1:{clients},https://{NODE}:{clients}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
            format!("--listen-peer-urls=https://{NODE}:{peers}"),
            "--name=node-1".into(),
            format!("--peer-cert-file={}", self.pki("peer.crt")),
            "--peer-client-cert-auth=true".into(),
            format!("--peer-key-file={}", self.pki("peer.key")),
            format!("--peer-trusted-ca-file={}", self.pki("ca.crt")),
            "--snapshot-count=10000".into(),
            format!("--trusted-ca-file={}", self.pki("ca.crt")),
        ]);
        flags
    }

    fn start(&self, target: Target, flags: &[String]) -> Member {
        let log = self.dir.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = Command::new(target.binary().unwrap());
        forget_variables(&mut command);
        command.args(flags).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let member = Member { child, log, metrics: format!("127.0.0.1:{}", self.metrics) };
        member.wait_ready();
        member
    }

    /// A client with the certificate that kubeadm's probes have.
    fn ctl(&self, program: &Path, words: &[&str]) -> (bool, String) {
        self.run(program, &["healthcheck-client.crt", "healthcheck-client.key"], words)
    }

    fn run(&self, program: &Path, shown: &[&str], words: &[&str]) -> (bool, String) {
        let mut command = Command::new(program);
        command.arg(format!("--endpoints=https://127.0.0.1:{}", self.clients));
        command.arg(format!("--cacert={}", self.pki("ca.crt")));
        if let [cert, key] = shown {
            command.arg(format!("--cert={}", self.pki(cert)));
            command.arg(format!("--key={}", self.pki(key)));
        }
        let output = command.args(words).output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }
}

/// The process, killed if a test ends early.
struct Member {
    child: Child,
    log: PathBuf,
    metrics: String,
}

impl Member {
    fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut answer = Ask::get(&self.metrics, path).send()?;
        Ok((answer.status, answer.text()?))
    }

    /// Until the probe of the installer says so.
    fn wait_ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.get("/readyz").is_ok_and(|(status, _)| status == 200) {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(&self.log).unwrap());
            std::thread::yield_now();
        }
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + STOP_WITHIN;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "no end within {STOP_WITHIN:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended, and then there is nobody to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// etcdctl, if it is there, and kvctl.
fn clients() -> Vec<PathBuf> {
    let etcdctl = go_binary("etcdctl").ok();
    assert!(etcdctl.is_some() || !etcd_is_required(), "no etcdctl, and KVD_REQUIRE_ETCD is set");
    etcdctl.into_iter().chain([kvctl()]).collect()
}

/// The probes of all versions, and clients with and without a certificate.
fn check_member(host: &Host, member: &Member) {
    for path in [
        "/livez",
        "/readyz",
        "/health?exclude=NOSPACE&serializable=true",
        "/health?serializable=false",
        "/metrics",
    ] {
        let (status, body) = member.get(path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(member.get("/readyz").unwrap().1.trim_end(), "ok");
    for client in clients() {
        for words in [&["put", "k", "v"][..], &["get", "k"], &["endpoint", "health"]] {
            let (ok, said) = host.ctl(&client, words);
            assert!(ok, "{}: {words:?}: {said}", client.display());
        }
        let (ok, said) = host.ctl(&client, &["member", "list"]);
        assert!(ok && said.contains(&format!("https://{NODE}:{}", host.peers)), "{said}");
        let words = ["--dial-timeout=2s", "--command-timeout=2s", "get", "k"];
        let (ok, said) = host.run(&client, &[], &words);
        assert!(!ok, "without a certificate: {said}");
    }
}

#[test]
fn kubeadms_static_pod_starts() {
    let target = Target::from_env().unwrap();
    for more in [
        &["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"][..],
        &[
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
        ],
        // Where a second node is joined, the first one keeps its flags and its data.
        &[
            "--feature-gates=InitialCorruptCheck=true",
            "--initial-cluster-state=existing",
            "--watch-progress-notify-interval=5s",
        ],
    ] {
        let host = Host::prepare();
        let flags = host.kubeadm(more);
        let first: Vec<String> =
            flags.iter().filter(|flag| !flag.ends_with("=existing")).cloned().collect();
        if target == Target::Kvd {
            let args: Vec<&str> =
                ["config", "check"].into_iter().chain(first.iter().map(String::as_str)).collect();
            let output = kvd(&args, &[]);
            assert!(output.status.success(), "{}", text(&output.stdout));
        }
        let member = host.start(target, &first);
        check_member(&host, &member);
        member.stop();
        let member = host.start(target, &flags);
        check_member(&host, &member);
        member.stop();
    }
}

/// k3s writes a file; to etcd it is handed from within, with the same keys.
#[test]
fn k3ss_file_starts() {
    let host = Host::prepare();
    let Host { clients, peers, metrics, .. } = &host;
    let lines = [
        "name: node-1".to_owned(),
        format!("data-dir: {}", host.data_dir().display()),
        format!("listen-client-urls: https://127.0.0.1:{clients},https://{NODE}:{clients}"),
        format!("listen-client-http-urls: https://127.0.0.1:{}", free_port()),
        format!("listen-metrics-urls: http://127.0.0.1:{metrics}"),
        format!("listen-peer-urls: https://127.0.0.1:{peers},https://{NODE}:{peers}"),
        format!("advertise-client-urls: https://{NODE}:{clients}"),
        format!("initial-advertise-peer-urls: https://{NODE}:{peers}"),
        format!("initial-cluster: node-1=https://{NODE}:{peers}"),
        "initial-cluster-state: new".to_owned(),
        "client-transport-security:".to_owned(),
        format!("  cert-file: {}", host.pki("server.crt")),
        "  client-cert-auth: true".to_owned(),
        format!("  key-file: {}", host.pki("server.key")),
        format!("  trusted-ca-file: {}", host.pki("ca.crt")),
        "peer-transport-security:".to_owned(),
        format!("  cert-file: {}", host.pki("peer.crt")),
        "  client-cert-auth: true".to_owned(),
        format!("  key-file: {}", host.pki("peer.key")),
        format!("  trusted-ca-file: {}", host.pki("ca.crt")),
        "election-timeout: 5000".to_owned(),
        "heartbeat-interval: 500".to_owned(),
        "force-new-cluster: false".to_owned(),
        "logger: zap".to_owned(),
        "log-outputs: [stderr]".to_owned(),
        "snapshot-count: 10000".to_owned(),
        "socket-options: {reuse-address: true, reuse-port: true}".to_owned(),
        "experimental-initial-corrupt-check: true".to_owned(),
        "experimental-watch-progress-notify-interval: 5000000000".to_owned(),
        "a-key-of-a-later-version: {with: [more, below]}".to_owned(),
    ];
    let file = host.dir.path().join("config");
    fs::write(&file, lines.join("\n")).unwrap();
    let flags = [format!("--config-file={}", file.display())];
    let member = host.start(Target::from_env().unwrap(), &flags);
    check_member(&host, &member);
    member.stop();
}
