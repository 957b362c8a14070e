"""How each language's suite is built, what with, and what a machine needs for that."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def run(*command, cwd=None):
    """Says nothing unless it fails."""
    command = [str(word) for word in command]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, command)


def lacking(programs, packages):
    """What to do about programs that are not on the PATH; "" if all are."""
    absent = [program for program in programs if not shutil.which(program)]
    return f"no {', '.join(absent)}: apt-get install {packages}" if absent else ""


def is_done(out, *inputs):
    """Whether `mark_done` was called in this folder for the same inputs."""
    stamp = out / "stamp"
    return stamp.is_file() and stamp.read_text() == digest(inputs)


def mark_done(out, *inputs):
    (out / "stamp").write_text(digest(inputs))


def digest(inputs):
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()


class Rust:
    library = "etcd-client 0.21.1"
    packages = "openssl protobuf-compiler libprotobuf-dev"

    def missing(self):
        # The crate's build compiles etcd's protocol, with what protoc brings along.
        absent = lacking(["cargo", "openssl", "protoc"], self.packages)
        protoc = shutil.which("protoc")
        if absent or (pathlib.Path(protoc).parents[1] / "include/google/protobuf").is_dir():
            return absent
        return f"protoc is without its files: apt-get install {self.packages}"

    def prepare(self, out):
        manifest = HERE / "rust/Cargo.toml"
        run("cargo", "build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", out)
        return [out / "debug/kvd-clients-rust"], {"RUST_BACKTRACE": "0"}


class Python:
    # The `etcd3` of PyPI is of 2020, and its generated code refuses protobuf 4 and later.
    # `etcd-sdk-python` (August 2025) is its successor: the same classes, as the module `pyetcd`,
    # generated anew. `aetcd` (June 2026), another descendant, is newer but has no TLS.
    library = "etcd-sdk-python 0.0.7"

    def missing(self):
        if sys.version_info < (3, 9):
            return "Python is older than 3.9: apt-get install python3"
        try:
            import ensurepip  # noqa: F401 (venv needs it, and Debian packs it apart)
        except ImportError:
            return "no ensurepip: apt-get install python3-venv"
        return lacking(["openssl"], "openssl")

    def prepare(self, out):
        requirements = HERE / "python/requirements.txt"
        python = out / "bin/python"
        if not is_done(out, requirements):
            run(sys.executable, "-m", "venv", "--clear", out)
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                "--requirement", requirements)
            mark_done(out, requirements)
        return [python, HERE / "python/suite.py"], {"GRPC_VERBOSITY": "NONE"}


class Node:
    library = "etcd3 1.1.2"

    def missing(self):
        return lacking(["node", "npm", "openssl"], "nodejs npm openssl")

    def prepare(self, out):
        inputs = [HERE / "node/package.json", HERE / "node/package-lock.json"]
        if not is_done(out, *inputs):
            out.mkdir(parents=True, exist_ok=True)
            for path in inputs:
                shutil.copy(path, out)
            run("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", cwd=out)
            mark_done(out, *inputs)
        environment = {"NODE_PATH": str(out / "node_modules"), "NODE_NO_WARNINGS": "1"}
        return ["node", HERE / "node/suite.js"], environment


class Java:
    library = "jetcd 0.8.7"

    def missing(self):
        return lacking(["mvn", "javac", "openssl"], "maven openjdk-17-jdk-headless openssl")

    def prepare(self, out):
        run("mvn", "--quiet", "--batch-mode", "--file", HERE / "java/pom.xml",
            f"--define=out={out}", "compile")
        classes = os.pathsep.join([str(out / "classes"), str(out / "libraries/*")])
        return ["java", "-cp", classes, "Suite"], {}


ALL = {"rust": Rust(), "python": Python(), "node": Node(), "java": Java()}
