"""Clusters of kvd or etcd on free ports of this machine, with certificates where TLS is asked for."""

import os
import pathlib
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
# Below the range from which kernels take the local ports of outgoing connections.
PORTS = range(15_000, 32_000)
taken = set()


def target_dir():
    """Where cargo builds, and where all that is made at run time goes."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def free_port():
    start = random.randrange(len(PORTS))
    for step in range(len(PORTS)):
        port = PORTS[(start + step) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            taken.add(port)
            return port
    sys.exit("no free port")


class Timer(threading.Timer):
    """Calls something if a `with` block takes too long."""

    def __init__(self, seconds, call):
        super().__init__(seconds, self.fire)
        self.call, self.fired = call, False

    def fire(self):
        self.fired = True
        self.call()

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.cancel()


class Server:
    """The program that members run."""

    def __init__(self, name, path):
        self.name, self.path = name, pathlib.Path(path).resolve()

    @classmethod
    def from_environment(cls):
        name = os.environ.get("TARGET", "kvd")
        if name == "etcd":
            path = pathlib.Path(os.environ.get("KVD_ETCD", ROOT / "target/go/etcd"))
            remedy = "tests/go/build etcd, or set KVD_ETCD"
        elif name == "kvd":
            path = os.environ.get("KVD_BIN")
            if not path:
                subprocess.run(["cargo", "build", "--locked", "--bin=kvd"], cwd=ROOT, check=True)
                path = target_dir() / "debug/kvd"
            path, remedy = pathlib.Path(path), "set KVD_BIN to it"
        else:
            sys.exit(f"unknown TARGET '{name}': kvd or etcd")
        if not path.is_file():
            sys.exit(f"no {name} at {path}: {remedy}")
        return cls(name, path)

    def describe(self):
        version = subprocess.run([self.path, "--version"], capture_output=True, text=True).stdout
        return f"{version.splitlines()[0] if version else self.name} at {self.path}"


class Certificates:
    """A CA, and what it signed for members and for a client; valid for a day."""

    def __init__(self, directory):
        directory.mkdir(parents=True)
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.openssl("req", "-x509", "-new", "-key", self.key("ca"), "-out", self.ca,
                     "-subj", "/CN=kvd clients CA", "-days", "1")
        self.sign("member", "serverAuth,clientAuth")
        self.sign("client", "clientAuth")

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.directory, check=True, capture_output=True)

    def key(self, name):
        path = self.directory / f"{name}.key"
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-out", path)
        return path

    def sign(self, name, usage):
        request, extensions = f"{name}.csr", self.directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n"
        )
        self.openssl("req", "-new", "-key", self.key(name), "-out", request,
                     "-subj", f"/CN=kvd-{name}")
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", "1", "-extfile", extensions,
                     "-out", f"{name}.pem")

    def flags(self):
        member, key = self.directory / "member.pem", self.directory / "member.key"
        return [
            f"--cert-file={member}", f"--key-file={key}", f"--trusted-ca-file={self.ca}",
            "--client-cert-auth=true",
            f"--peer-cert-file={member}", f"--peer-key-file={key}",
            f"--peer-trusted-ca-file={self.ca}", "--peer-client-cert-auth=true",
        ]

    def environment(self):
        client = self.directory / "client"
        return {"KVD_CA": str(self.ca), "KVD_CERT": f"{client}.pem", "KVD_KEY": f"{client}.key"}

    def context(self):
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.directory / "client.pem", self.directory / "client.key")
        return context


class Cluster:
    """Members that run while the `with` block does. Their data and logs are in `directory`."""

    def __init__(self, server, members, tls, directory):
        self.server, self.directory = server, directory
        directory.mkdir(parents=True)
        self.certificates = Certificates(directory / "certificates") if tls else None
        scheme = "https" if tls else "http"
        self.names = [f"m{number + 1}" for number in range(members)]
        self.hosts = [f"127.0.0.1:{free_port()}" for _ in self.names]
        self.clients = [f"{scheme}://{host}" for host in self.hosts]
        self.peers = [f"{scheme}://127.0.0.1:{free_port()}" for _ in self.names]
        self.processes = {}

    def __enter__(self):
        try:
            for name, client, peer in zip(self.names, self.clients, self.peers):
                self.spawn(name, client, peer)
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def spawn(self, name, client, peer):
        cluster = ",".join(f"{name}={peer}" for name, peer in zip(self.names, self.peers))
        command = [
            self.server.path, f"--name={name}", f"--data-dir={self.directory / name}.data",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={cluster}",
        ]
        command += self.certificates.flags() if self.certificates else []
        # What the caller has set for etcd or kvd is not meant for these.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "KVD_"))}
        with open(self.directory / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_ready(self):
        """Until each member says that it is healthy, for which it must know a leader."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        context = self.certificates.context() if self.certificates else None
        for name, client in zip(self.names, self.clients):
            while not self.is_healthy(client, context):
                if self.ended() or time.monotonic() > deadline:
                    log = (self.directory / f"{name}.log").read_text(errors="replace")
                    tail = "\n".join(log.splitlines()[-20:])
                    sys.exit(f"{name} of {self.directory} is not ready; its log ends:\n{tail}")
                time.sleep(0.02)

    @staticmethod
    def is_healthy(client, context):
        try:
            with urllib.request.urlopen(f"{client}/health", timeout=5, context=context) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ended(self):
        """Names of members that do not run any more."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def environment(self):
        tls = self.certificates.environment() if self.certificates else {}
        return {"KVD_ENDPOINTS": ",".join(self.hosts), **tls}

    def __exit__(self, *_):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
