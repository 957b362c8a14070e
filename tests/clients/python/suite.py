"""The module `pyetcd` against the cluster that the environment names; see ../main.py."""

import contextlib
import hashlib
import io
import os
import queue
import threading
import time
import traceback

import grpc
import pyetcd
from pyetcd import etcdrpc, exceptions
from pyetcd.events import DeleteEvent, PutEvent

# Whatever is waited for comes within this time, or the test fails.
PATIENCE = 60
HOSTS = os.environ["KVD_ENDPOINTS"].split(",")
CA, CERTIFICATE, KEY = (os.environ.get(f"KVD_{name}") for name in ("CA", "CERT", "KEY"))
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def connect(hosts=HOSTS, **login):
    """A client of all members, or of some; it takes another member when one fails."""
    options = {"secure": False}
    if CA:
        credentials = pyetcd.MultiEndpointEtcd3Client.get_secure_creds(CA, KEY, CERTIFICATE)
        options = {"secure": True, "creds": credentials}
    endpoints = [pyetcd.Endpoint(*host.split(":"), **options) for host in hosts]
    client = pyetcd.MultiEndpointEtcd3Client(
        endpoints=endpoints, timeout=PATIENCE, failover=len(hosts) > 1, **login
    )
    if not CA:
        # gRPC sends these over TLS only. The token is in the metadata of each call as well.
        client.call_credentials = None
    return client


@contextlib.contextmanager
def refused(code, message):
    """What is done inside must be refused by the server, with this answer."""
    try:
        yield
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (code, message), error
    except exceptions.Etcd3Exception as error:
        # The library has a type of its own for it, and the answer is what that came from.
        answer = error.__context__
        assert (answer.code(), answer.details()) == (code, message), answer
    else:
        raise AssertionError(f"this must be refused: {message}")


def take(events, count):
    """The next events of a watch; if they do not come, its cancel ends the wait."""
    return [next(events) for _ in range(count)]


@test
def put_get_delete(client):
    first = client.put("kv/a", "1").header.revision
    second = client.put("kv/a", "2", prev_kv=True)
    assert second.prev_kv.value == b"1"
    assert second.header.revision == first + 1
    value, meta = client.get("kv/a")
    assert (value, meta.key, meta.version) == (b"2", b"kv/a", 2)
    assert (meta.create_revision, meta.mod_revision) == (first, first + 1)
    deleted = client.delete("kv/a", prev_kv=True, return_response=True)
    assert (deleted.deleted, deleted.prev_kvs[0].value) == (1, b"2")
    assert client.delete("kv/a") is False
    assert client.get("kv/a") == (None, None)


@test
def ranges(client):
    for key, value in [("range/c", "1"), ("range/a", "3"), ("range/b", "2"), ("rangf", "4")]:
        client.put(key, value)

    def keys(**options):
        found = client.get_prefix_response("range/", **options)
        names = "".join(kv.key.decode()[len("range/"):] for kv in found.kvs)
        return names, found.count, found.more

    assert keys() == ("abc", 3, False)
    assert keys(limit=2) == ("ab", 3, True)
    assert keys(sort_order="descend") == ("cba", 3, False)
    assert keys(sort_order="ascend", sort_target="value", limit=1) == ("c", 3, True)
    assert keys(sort_order="descend", sort_target="mod", limit=2) == ("ba", 3, True)
    assert keys(count_only=True) == ("", 3, False)
    assert [value for value, _ in client.get_prefix("range/", keys_only=True)] == [b""] * 3
    assert [value for value, _ in client.get_range("range/b", "rangf")] == [b"2", b"1"]
    assert len(list(client.get_all())) >= 4
    assert client.delete_prefix("range/").deleted == 3


@test
def old_revisions(client):
    revisions = [client.put("old", value).header.revision for value in "12"]
    client.delete("old")
    assert [client.get("old", revision=revision)[0] for revision in revisions] == [b"1", b"2"]
    message = "etcdserver: mvcc: required revision is a future revision"
    with refused(grpc.StatusCode.OUT_OF_RANGE, message):
        client.get("old", revision=revisions[1] + 1_000_000)


@test
def transactions(client):
    t = client.transactions
    client.put("txn", "1")
    created = client.get("txn")[1].create_revision

    def run():
        # What is inside is decided with the rest, before anything is done.
        nested = t.txn(compare=[t.version("txn") == 1], success=[t.get("txn")], failure=[])
        return client.transaction(
            compare=[t.value("txn") == "1", t.version("txn") < 2,
                     t.create("txn") == created, t.mod("txn") != created + 1],
            success=[t.put("txn", "2"), nested],
            failure=[t.get("txn"), t.delete("txn")],
        )

    done, answers = run()
    assert done and len(answers) == 2
    inner = answers[1].response_txn
    assert inner.succeeded and inner.responses[0].response_range.kvs[0].value == b"2"
    done, answers = run()
    assert not done
    assert answers[0][0][0] == b"2" and answers[1].response_delete_range.deleted == 1
    assert client.put_if_not_exists("txn", "3") and not client.put_if_not_exists("txn", "4")
    assert client.replace("txn", "3", "5") and not client.replace("txn", "3", "6")
    assert client.get("txn")[0] == b"5"
    with refused(grpc.StatusCode.INVALID_ARGUMENT,
                 "etcdserver: duplicate key given in txn request"):
        client.transaction(compare=[], success=[t.put("twice", "1"), t.put("twice", "2")],
                           failure=[])


@test
def requests_that_are_refused(client):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided"):
        client.put("", "1")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large"):
        client.put("large", b"." * 1_600_000)
    with refused(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found"):
        client.put("leased", "1", lease=12345)


@test
def watch_keys(client):
    events, cancel = client.watch_prefix("watch/", prev_kv=True)
    timer = threading.Timer(PATIENCE, cancel)
    timer.start()
    for value in "12":
        client.put("watch/a", value)
    client.put("watcj", "no")
    client.delete("watch/a")
    first, second, last = take(events, 3)
    timer.cancel()
    assert isinstance(first, PutEvent) and (first.value, first.prev_value) == (b"1", b"")
    assert isinstance(second, PutEvent) and (second.value, second.prev_value) == (b"2", b"1")
    assert isinstance(last, DeleteEvent) and (last.key, last.prev_value) == (b"watch/a", b"2")
    cancel()
    assert list(events) == []


@test
def watch_history(client):
    revisions = [client.put("history", str(number)).header.revision for number in range(20)]
    events, cancel = client.watch("history", start_revision=revisions[5])
    timer = threading.Timer(PATIENCE, cancel)
    timer.start()
    assert [event.mod_revision for event in take(events, 15)] == revisions[5:]
    timer.cancel()
    cancel()


@test
def watch_filters_and_cancel(client):
    seen = queue.Queue()
    deletes = etcdrpc.WatchCreateRequest.NOPUT
    watch = client.add_watch_callback("filter", seen.put, filters=[deletes])
    client.put("filter", "1")
    client.delete("filter")
    (event,) = seen.get(timeout=PATIENCE).events
    assert isinstance(event, DeleteEvent)
    client.cancel_watch(watch)
    client.put("filter", "2")
    client.delete("filter")
    # On the same stream, so that nothing of the first watch can come after this.
    other = queue.Queue()
    client.add_watch_callback("filter/end", other.put)
    client.put("filter/end", "1")
    assert other.get(timeout=PATIENCE).events[0].value == b"1"
    assert seen.empty()


@test
def compaction(client):
    revisions = [client.put("compact", value).header.revision for value in "123"]
    client.compact(revisions[2], physical=True)
    message = "etcdserver: mvcc: required revision has been compacted"
    with refused(grpc.StatusCode.OUT_OF_RANGE, message):
        client.get("compact", revision=revisions[1])
    with refused(grpc.StatusCode.OUT_OF_RANGE, message):
        client.compact(revisions[2])
    assert client.get("compact", revision=revisions[2])[0] == b"3"
    events, cancel = client.watch("compact", start_revision=revisions[0])
    timer = threading.Timer(PATIENCE, cancel)
    timer.start()
    try:
        event = next(events)
        raise AssertionError(f"this history is gone: {event}")
    except exceptions.RevisionCompactedError as error:
        assert error.compacted_revision == revisions[2]
    timer.cancel()


@test
def lease_grant_to_revoke(client):
    lease = client.lease(60)
    assert lease.ttl == 60
    for key in ("lease/a", "lease/b"):
        client.put(key, "1", lease=lease)
    assert client.get("lease/a")[1].lease_id == lease.id
    assert lease.granted_ttl == 60 and 0 < lease.remaining_ttl <= 60
    assert sorted(lease.keys) == [b"lease/a", b"lease/b"]
    assert [answer.TTL for answer in lease.refresh()] == [60]
    lease.revoke()
    assert client.get("lease/a") == (None, None)
    assert lease.remaining_ttl == -1
    assert [answer.TTL for answer in lease.refresh()] == [0]
    with refused(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found"):
        lease.revoke()
    chosen = client.lease(60, lease_id=4711)
    assert chosen.id == 4711
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists"):
        client.lease(60, lease_id=4711)
    chosen.revoke()


@test
def lease_expiry(client):
    """Keys go when their lease ends, and not before."""
    events, cancel = client.watch_prefix("ends/")
    timer = threading.Timer(PATIENCE, cancel)
    timer.start()
    began = time.monotonic()
    lease = client.lease(4)
    client.put("ends/a", "1", lease=lease)
    client.put("ends/b", "1", lease=lease)
    ends = take(events, 4)[2:]
    took = time.monotonic() - began
    timer.cancel()
    cancel()
    assert took >= lease.ttl, took
    assert all(isinstance(event, DeleteEvent) for event in ends)
    assert ends[0].mod_revision == ends[1].mod_revision


@test
def locks(client):
    first, second = client.lock("lock", ttl=60), connect().lock("lock", ttl=60)
    assert first.acquire(timeout=PATIENCE) and first.is_acquired()
    assert not second.acquire(timeout=0)
    assert first.refresh()[0].TTL == 60
    taken = threading.Event()
    waiter = threading.Thread(target=lambda: second.acquire(timeout=PATIENCE) and taken.set())
    waiter.start()
    assert not taken.is_set() and first.release()
    assert taken.wait(PATIENCE) and second.is_acquired() and not first.is_acquired()
    waiter.join()
    # Without its lease the lock is lost.
    second.lease.revoke()
    assert not second.is_acquired()


@test
def members_and_status(client):
    members = list(client.members)
    assert sorted(url.split("//")[1] for m in members for url in m.client_urls) == sorted(HOSTS)
    leaders = set()
    for host in HOSTS:
        status = connect([host]).status()
        assert status.version.startswith("3.") and status.db_size > 0
        assert status.raft_term > 0 and status.raft_index > 0
        leaders.add(status.leader.id)
    assert len(leaders) == 1 and leaders <= {member.id for member in members}
    with refused(grpc.StatusCode.NOT_FOUND, "etcdserver: member not found"):
        client.remove_member(1)


@test
def snapshot(client):
    file = io.BytesIO()
    client.snapshot(file)
    data, digest = file.getvalue()[:-32], file.getvalue()[-32:]
    assert len(data) > 4 * 4096 and hashlib.sha256(data).digest() == digest
    # The magic number of a bbolt file, behind the header of its first page.
    assert data[16:20] == (0xED0CDAED).to_bytes(4, "little")


@test
def alarms(client):
    assert list(client.list_alarms()) == []
    assert len(client.create_alarm()) == 1
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"):
        client.put("alarm", "1")
    client.delete("alarm")
    client.disarm_alarm()
    assert list(client.list_alarms()) == []
    client.put("alarm", "1")
    client.defragment()
    assert client.hash() > 0


@test
def tls(_):
    """Who does not trust the members, or is not known to them, is not served."""
    host, port = HOSTS[0].split(":")
    other_roots = pyetcd.Endpoint(host, port, creds=grpc.ssl_channel_credentials())
    ask = [pyetcd.MultiEndpointEtcd3Client([other_roots], timeout=PATIENCE)]
    if CA:
        ask.append(pyetcd.Etcd3Client(host, port, timeout=PATIENCE))
        ask.append(pyetcd.Etcd3Client(host, port, ca_cert=CA, timeout=PATIENCE))
        with_all = pyetcd.Etcd3Client(host, port, CA, KEY, CERTIFICATE, timeout=PATIENCE)
        assert with_all.get("tls") == (None, None)
    for client in ask:
        try:
            client.get("tls")
            raise AssertionError("this must not be served")
        except exceptions.ConnectionFailedError:
            pass


@test
def auth(client):
    """The library logs in, and has the messages for the rest. Until the end nobody else is served."""
    rpc, a = etcdrpc, client.authstub
    for role in ("root", "reader"):
        a.RoleAdd(rpc.AuthRoleAddRequest(name=role))
    for key, end, kind in [(b"auth/", b"auth0", "READ"), (b"own", b"", "READWRITE")]:
        permission = {"permType": kind, "key": key, "range_end": end}
        a.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="reader", perm=permission))
    for user, password, role in [("root", "r00t", "root"), ("ann", "secret", "reader")]:
        a.UserAdd(rpc.AuthUserAddRequest(name=user, password=password))
        a.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=role))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: user name already exists"):
        a.UserAdd(rpc.AuthUserAddRequest(name="ann", password="again"))
    assert list(a.UserGet(rpc.AuthUserGetRequest(name="ann")).roles) == ["reader"]
    client.put("auth/a", "1")
    a.AuthEnable(rpc.AuthEnableRequest())
    try:
        under_auth()
    finally:
        root = connect(user="root", password="r00t")
        root.authstub.AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata)
    for user in ("root", "ann"):
        a.UserDelete(rpc.AuthUserDeleteRequest(name=user))
    for role in ("root", "reader"):
        a.RoleDelete(rpc.AuthRoleDeleteRequest(role=role))
    assert client.get("auth/a")[0] == b"1"


def under_auth():
    wrong = "etcdserver: authentication failed, invalid user ID or password"
    for user, password in [("ann", "guess"), ("bob", "secret")]:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, wrong):
            connect(user=user, password=password)
    denied = grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied"
    # A client certificate names a user, who is one without permissions here.
    nobody = denied if CA else (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty")
    with refused(*nobody):
        connect().put("own", "1")
    ann, root = connect(user="ann", password="secret"), connect(user="root", password="r00t")
    assert ann.get("auth/a")[0] == b"1"
    ann.put("own", "1")
    for attempt in [
        lambda: ann.put("auth/a", "2"),
        lambda: ann.get("other"),
        lambda: ann.delete_prefix("auth/"),
        lambda: ann.replace("auth/a", "1", "2"),
        lambda: ann.compact(1),
    ]:
        with refused(*denied):
            attempt()
    events, cancel = ann.watch_prefix("auth/")
    timer = threading.Timer(PATIENCE, cancel)
    timer.start()
    root.put("auth/b", "1")
    assert take(events, 1)[0].key == b"auth/b"
    timer.cancel()
    cancel()


def main():
    passed = 0
    for function in TESTS:
        name, began = function.__name__.replace("_", " "), time.monotonic()
        try:
            function(connect())
        except Exception as error:
            traceback.print_exc()
            print(f"FAIL {name}: {error!r}", flush=True)
            continue
        passed += 1
        print(f"ok {name} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
    print(f"passed {passed} of {len(TESTS)}", flush=True)
    # Not by way of the library's threads, which wait for streams.
    os._exit(passed < len(TESTS))


main()
