"""Runs suites that are written with published client libraries against kvd, or the real etcd.

Each suite runs on four clusters of its own: one member and three, without TLS and with client
certificates. It finds the cluster in its environment:

  KVD_ENDPOINTS              host:port of all members, separated by commas
  KVD_CA, KVD_CERT, KVD_KEY  with TLS: the CA, and what to present as a client (PEM, PKCS#8)

and prints a line `ok NAME` or `FAIL NAME: why` for each test, and at its end `passed N of M`.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import languages
import servers

SHAPES = [(1, False), (3, False), (1, True), (3, True)]
# For one suite on one cluster; they take a tenth of it.
SUITE_SECONDS_MAX = 600
RESULT = re.compile(r"^passed (\d+) of (\d+)$")


def parse():
    parser = argparse.ArgumentParser(
        prog="tests/clients/run",
        description="Suites with client libraries of other languages, against a cluster.",
        epilog="environment: TARGET=etcd runs them on the etcd that tests/go/build has built (or"
        " KVD_ETCD); KVD_BIN is the kvd to run, instead of building one; KVD_REQUIRE_CLIENTS=1"
        " makes what this machine lacks a failure.",
    )
    parser.add_argument("language", nargs="*", help="of: " + ", ".join(languages.ALL))
    parser.add_argument("--members", type=int, choices=[1, 3], help="on clusters of this size only")
    parser.add_argument("--tls", choices=["yes", "no"], help="on clusters with or without TLS only")
    options = parser.parse_args()
    unknown = set(options.language) - set(languages.ALL)
    if unknown:
        parser.error(f"no suite for {', '.join(unknown)}; there are {', '.join(languages.ALL)}")
    return options


def title(shape):
    members, tls = shape
    return f"{members} member{'s' if members > 1 else ''}{', TLS' if tls else ''}"


def follow(suite):
    """Shows what a suite says, to its end: how many tests passed, of how many."""
    passed, total = 0, 0
    for line in suite.stdout:
        print(line, end="", flush=True)
        if result := RESULT.match(line):
            passed, total = map(int, result.groups())
    suite.wait()
    return passed, total


def run_suite(name, command, environment, shape, server, workspace):
    """The cell of the table, and whether all passed. Logs stay where something failed."""
    directory = workspace / f"{name}-{shape[0]}{'-tls' if shape[1] else ''}"
    shutil.rmtree(directory, ignore_errors=True)
    print(f"\n== {name}, {title(shape)}", flush=True)
    began = time.monotonic()
    with servers.Cluster(server, *shape, directory) as cluster:
        suite = subprocess.Popen(
            command, env={**os.environ, **environment, **cluster.environment()},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        timer = servers.Timer(SUITE_SECONDS_MAX, suite.kill)
        try:
            with timer:
                passed, total = follow(suite)
        finally:
            suite.kill()
            status = suite.wait()
        ended = cluster.ended()
    seconds = time.monotonic() - began
    good = status == 0 and 0 < total == passed and not ended
    if timer.fired:
        print(f"FAIL {name}: not done after {SUITE_SECONDS_MAX} s")
    for member in ended:
        print(f"FAIL {name}: {member} ended by itself")
    if good:
        shutil.rmtree(directory)
    else:
        print(f"the members' logs are in {directory}")
    count = f"{passed} of {total}" if total else "broke off"
    return f"{count}  {seconds:.0f} s", good


def show(title_row, rows):
    widths = [max(len(row[column]) for row in [title_row, *rows]) for column in range(len(title_row))]
    print()
    for row in [title_row, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    options = parse()
    shapes = [
        shape
        for shape in SHAPES
        if options.members in (None, shape[0]) and options.tls in (None, "yes" if shape[1] else "no")
    ]
    server = servers.Server.from_environment()
    workspace = servers.target_dir() / "clients"
    rows, all_good = [], True
    for name in options.language or languages.ALL:
        language = languages.ALL[name]
        print(f"\n== {name}: {language.library}", flush=True)
        missing = language.missing()
        if missing:
            print(f"SKIPPED: {missing}")
            all_good &= os.environ.get("KVD_REQUIRE_CLIENTS") != "1"
            rows.append([name, language.library, *["SKIPPED"] * len(shapes)])
            continue
        try:
            command, environment = language.prepare(workspace / name)
        except subprocess.CalledProcessError as error:
            print(f"FAIL {name}: {error}")
            all_good = False
            rows.append([name, language.library, *["not built"] * len(shapes)])
            continue
        cells = []
        for shape in shapes:
            cell, good = run_suite(name, command, environment, shape, server, workspace / "clusters")
            cells.append(cell)
            all_good &= good
        rows.append([name, language.library, *cells])
    print(f"\nagainst {server.describe()}")
    show(["language", "library", *map(title, shapes)], rows)
    return 0 if all_good else 1


if __name__ == "__main__":
    # A suite ends before its members do, whatever ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
