// The package `etcd3` against the cluster that the environment names; see ../main.py.
"use strict";

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { once } = require("node:events");
const { readFileSync } = require("node:fs");
const etcd3 = require("etcd3");

// Whatever is waited for comes within this time, or the test fails.
const PATIENCE_MS = 60_000;
const tls = "KVD_CA" in process.env;
const hosts = process.env.KVD_ENDPOINTS.split(",").map((host) => `http${tls ? "s" : ""}://${host}`);
const pem = (name) => readFileSync(process.env[`KVD_${name}`]);
const known = tls
  ? { credentials: { rootCertificate: pem("CA"), privateKey: pem("KEY"), certChain: pem("CERT") } }
  : {};
const clients = [];

function connect(options = {}) {
  const client = new etcd3.Etcd3({ hosts, ...known, ...options });
  clients.push(client);
  return client;
}

function login(username, password) {
  return connect({ auth: { username, password } });
}

// The result of something that must not take forever.
async function soon(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("not in time")), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The server refuses it with this message, which the library turns into an error of this type.
function refused(promise, type, message) {
  return assert.rejects(async () => promise, (error) => {
    assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
    assert.ok(error.message.includes(message), error.message);
    return true;
  });
}

// The events of a watch as text, until there are as many as asked for.
async function collect(watcher, count, describe) {
  const seen = [];
  const all = new Promise((resolve, reject) => {
    watcher.on("error", reject);
    for (const kind of ["put", "delete"]) {
      watcher.on(kind, (kv, before) => seen.push(describe(kind, kv, before)) >= count && resolve());
    }
  });
  return { seen, all: soon(all) };
}

const tests = {
  async "put get delete"(client) {
    const first = Number((await client.put("kv/a").value("1")).header.revision);
    const before = await client.put("kv/a").value("2").getPrevious();
    assert.equal(before.value.toString(), "1");
    const [kv] = (await client.get("kv/a").exec()).kvs;
    assert.deepEqual([kv.value.toString(), kv.version], ["2", "2"]);
    assert.deepEqual([kv.create_revision, kv.mod_revision], [`${first}`, `${first + 1}`]);
    assert.equal(await client.get("kv/a").number(), 2);
    await client.put("kv/a").touch();
    assert.equal((await client.get("kv/a").exec()).kvs[0].version, "3");
    const [gone] = await client.delete().key("kv/a").getPrevious();
    assert.equal(gone.value.toString(), "2");
    assert.equal((await client.delete().key("kv/a")).deleted, "0");
    assert.equal(await client.get("kv/a"), null);
    await refused(client.put("").value("1"), etcd3.GRPCInvalidArgumentError, "key is not provided");
    const large = client.put("large").value(Buffer.alloc(1_600_000));
    await refused(large, etcd3.GRPCInvalidArgumentError, "request is too large");
  },

  async ranges(client) {
    const all = client.namespace("range/");
    for (const [key, value] of [["c", "1"], ["a", "3"], ["b", "2"]]) {
      await all.put(key).value(value);
    }
    await client.put("rangf").value("4");
    assert.deepEqual(await all.getAll().strings(), { a: "3", b: "2", c: "1" });
    const range = () => client.getAll().prefix("range/");
    const keys = async (builder) => (await builder.keys()).map((key) => key.slice(-1)).join("");
    assert.equal(await keys(range().limit(2)), "ab");
    assert.equal(await keys(range().sort("Key", "Descend")), "cba");
    assert.equal(await keys(range().sort("Value", "Ascend").limit(1)), "c");
    assert.equal(await keys(range().sort("Mod", "Descend").limit(2)), "ba");
    assert.equal(await keys(client.getAll().inRange({ start: "range/b", end: "rangf" })), "bc");
    assert.equal(await range().count(), 3);
    assert.equal((await range().limit(2).exec()).more, true);
    assert.equal((await all.delete().all()).deleted, "3");
    assert.equal(await client.get("rangf"), "4");
  },

  async "old revisions and compaction"(client) {
    const revisions = [];
    for (const value of ["1", "2", "3"]) {
      revisions.push((await client.put("old").value(value)).header.revision);
    }
    assert.equal(await client.get("old").revision(revisions[0]), "1");
    const future = client.get("old").revision(Number(revisions[2]) + 1_000_000);
    await refused(future.exec(), etcd3.GRPCOutOfRangeError, "required revision is a future");
    await client.kv.compact({ revision: revisions[2], physical: true });
    const gone = client.get("old").revision(revisions[1]);
    await refused(gone.exec(), etcd3.GRPCOutOfRangeError, "required revision has been compacted");
    assert.equal(await client.get("old").revision(revisions[2]), "3");
    const watcher = client.watch().key("old").startRevision(revisions[0]).watcher();
    const error = once(watcher, "error", { signal: AbortSignal.timeout(PATIENCE_MS) });
    assert.match((await error)[0].message, /Watcher canceled/);
  },

  async transactions(client) {
    await client.put("txn").value("1");
    const [{ create_revision: created }] = (await client.get("txn").exec()).kvs;
    const run = () =>
      client
        .if("txn", "Value", "==", "1")
        .and("txn", "Version", "<", 2)
        .and("txn", "Create", "==", Number(created))
        .and("txn", "Mod", "!=", Number(created) + 1)
        .then(client.put("txn").value("2"), client.get("txn"))
        .else(client.get("txn"), client.delete().key("txn"))
        .commit();
    const done = await run();
    assert.equal(done.succeeded, true);
    assert.equal(done.responses[1].response_range.kvs[0].value.toString(), "2");
    const not = await run();
    assert.equal(not.succeeded, false);
    assert.equal(not.responses[1].response_delete_range.deleted, "1");
    const twice = client.if("txn", "Version", "==", 0);
    const both = twice.then(client.put("txn").value("1"), client.put("txn").value("2")).commit();
    await refused(both, etcd3.GRPCInvalidArgumentError, "duplicate key given in txn request");
  },

  // Writers who read, add one, and start again if somebody was faster: nothing is lost.
  async "software transactions"(client) {
    const [writers, rounds] = [6, 8];
    await client.put("counter").value(0);
    const add = async () => {
      for (let round = 0; round < rounds; round += 1) {
        await client.stm({ retries: 1000 }).transact(async (tx) => {
          await tx.put("counter").value((await tx.get("counter").number()) + 1);
        });
      }
    };
    await soon(Promise.all(Array.from({ length: writers }, add)));
    assert.equal(await client.get("counter").number(), writers * rounds);
  },

  async watches(client) {
    const watcher = await soon(client.watch().prefix("watch/").withPreviousKV().create());
    const describe = (kind, kv, before) => `${kind} ${kv.value} after ${before?.value ?? "none"}`;
    const { seen, all } = await collect(watcher, 3, describe);
    await client.put("watch/a").value("1");
    await client.put("watch/a").value("2");
    await client.put("watcj").value("no");
    await client.delete().key("watch/a");
    await all;
    assert.deepEqual(seen, ["put 1 after none", "put 2 after 1", "delete  after 2"]);
    // A second one on the same stream outlives the first.
    const other = await soon(client.watch().prefix("watch/").only("delete").create());
    const deletes = await collect(other, 1, (kind, kv) => `${kind} ${kv.key}`);
    await soon(watcher.cancel());
    await client.put("watch/b").value("1");
    await client.delete().key("watch/b");
    await deletes.all;
    assert.deepEqual(deletes.seen, ["delete watch/b"]);
    assert.equal(seen.length, 3);
    await soon(other.cancel());
  },

  async "watch history"(client) {
    const revisions = [];
    for (let number = 0; number < 20; number += 1) {
      revisions.push((await client.put("history").value(number)).header.revision);
    }
    const watcher = client.watch().key("history").startRevision(revisions[5]).watcher();
    const { seen, all } = await collect(watcher, 15, (_, kv) => kv.mod_revision);
    await all;
    assert.deepEqual(seen, revisions.slice(5));
    await soon(watcher.cancel());
  },

  async leases(client) {
    const lease = client.lease(60, { autoKeepAlive: false });
    const ID = await lease.grant();
    await lease.put("lease/a").value("1");
    await lease.put("lease/b").value("1");
    assert.equal((await client.get("lease/a").exec()).kvs[0].lease, ID);
    const left = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
    assert.equal(left.grantedTTL, "60");
    assert.ok(Number(left.TTL) > 0 && Number(left.TTL) <= 60);
    assert.deepEqual(left.keys.map(String).sort(), ["lease/a", "lease/b"]);
    assert.equal((await lease.keepaliveOnce()).TTL, "60");
    assert.ok((await client.leaseClient.leaseLeases()).leases.some((one) => one.ID === ID));
    await lease.revoke();
    assert.equal(await client.get("lease/a"), null);
    assert.equal((await client.leaseClient.leaseTimeToLive({ ID })).TTL, "-1");
    const put = client.put("lease/a").value("1").lease(ID);
    await refused(put.exec(), etcd3.EtcdLeaseInvalidError, "requested lease not found");
    await refused(lease.keepaliveOnce(), etcd3.EtcdLeaseInvalidError, "expired or revoked");
  },

  async "lease kept alive by the library"(client) {
    const lease = client.lease(4);
    await lease.put("kept").value("1");
    const began = Date.now();
    while (Date.now() - began < 7000) {
      await soon(once(lease, "keepaliveSucceeded"));
      assert.equal(await client.get("kept"), "1");
    }
    lease.release();
    assert.equal(await client.get("kept"), "1");
  },

  // Keys go when their lease ends, and not before.
  async "lease expiry"(client) {
    const watcher = await soon(client.watch().prefix("ends/").create());
    const { seen, all } = await collect(watcher, 4, (kind, kv) => [kind, kv.mod_revision]);
    const began = performance.now();
    const lease = client.lease(4, { autoKeepAlive: false });
    await lease.put("ends/a").value("1");
    await lease.put("ends/b").value("1");
    await all;
    assert.ok(performance.now() - began >= 4000);
    assert.deepEqual(seen[2], ["delete", seen[2][1]]);
    assert.deepEqual(seen[3], seen[2]);
    await soon(watcher.cancel());
  },

  async locks(client) {
    const first = await client.lock("lock").ttl(60).acquire();
    await refused(connect().lock("lock").acquire(), etcd3.EtcdLockFailedError, "lock");
    assert.equal((await client.get("lock").exec()).kvs[0].lease, await first.leaseId());
    await first.release();
    assert.equal(await client.lock("lock").do(() => client.get("lock").exists()), true);
    assert.equal(await client.get("lock").exists(), false);
  },

  async elections(client) {
    const election = client.election("election", 60);
    assert.equal(await election.leader(), undefined);
    const one = election.campaign("one");
    await soon(one.wait());
    const observer = await soon(election.observe());
    const becomes = async (value) => {
      while (observer.leader() !== value) {
        await soon(once(observer, "change"));
      }
    };
    await becomes("one");
    const uno = becomes("uno");
    await one.proclaim("uno");
    await uno;
    const two = connect().election("election", 60).campaign("two");
    const elected = two.wait();
    await soon(once(two, "_isWaiting"));
    assert.equal(await election.leader(), "uno");
    const dos = becomes("two");
    await one.resign();
    await soon(elected);
    await soon(dos);
    await refused(one.proclaim("late"), etcd3.NotCampaigningError, "");
    await two.resign();
    await becomes(undefined);
    await observer.cancel();
  },

  async "members and maintenance"(client) {
    const { members } = await client.cluster.memberList({});
    assert.deepEqual(members.flatMap((member) => member.clientURLs).sort(), [...hosts].sort());
    const leaders = new Set();
    for (const host of hosts) {
      const status = await connect({ hosts: host }).maintenance.status();
      assert.match(status.version, /^3\./);
      assert.ok(Number(status.dbSize) > 0 && Number(status.raftTerm) > 0);
      leaders.add(status.leader);
    }
    assert.equal(leaders.size, 1);
    assert.ok(members.some((member) => leaders.has(member.ID)));
    const unknown = client.cluster.memberRemove({ ID: "1" });
    await refused(unknown, etcd3.GRPCNotFoundError, "member not found");
    assert.ok((await client.maintenance.hash()).hash > 0);
    await client.maintenance.defragment();
  },

  async snapshot(client) {
    const stream = await client.maintenance.snapshot();
    const blobs = [];
    stream.on("data", (answer) => blobs.push(answer.blob));
    await soon(once(stream, "end"));
    const file = Buffer.concat(blobs);
    const data = file.subarray(0, -32);
    assert.ok(data.length > 4 * 4096);
    assert.deepEqual(createHash("sha256").update(data).digest(), file.subarray(-32));
  },

  async alarms(client) {
    const alarm = (action) => client.maintenance.alarm({ action, alarm: etcd3.AlarmType.Nospace });
    const actions = etcd3.AlarmAction;
    assert.deepEqual((await alarm(actions.Get)).alarms, []);
    assert.equal((await alarm(actions.Activate)).alarms.length, 1);
    // A client of its own: the library takes this for a fault, and lets the member rest.
    const put = connect().put("alarm").value("1").exec();
    await refused(put, etcd3.GRPCResourceExhastedError, "database space exceeded");
    await client.delete().key("alarm");
    await alarm(actions.Deactivate);
    assert.deepEqual((await alarm(actions.Get)).alarms, []);
    await client.put("alarm").value("1");
  },

  // Who does not trust the members, or is not known to them, is not served.
  async tls() {
    const strangers = tls
      ? [{ credentials: { rootCertificate: pem("CA") } }, { credentials: undefined }]
      : [{ hosts: hosts[0].replace("http", "https"), credentials: { rootCertificate: Buffer.of() } }];
    for (const options of strangers) {
      const client = connect(options);
      await assert.rejects(soon(client.get("tls").exec()), (error) => error.message !== "not in time");
    }
  },

  // Until the end of this test nobody without a password is served.
  async auth(client) {
    await client.role("root").create();
    const reader = await client.role("reader").create();
    await reader.grant([
      { permission: "Read", range: client.range({ prefix: "auth/" }) },
      { permission: "Readwrite", key: "own" },
    ]);
    const root = await client.user("root").create("r00t");
    await root.addRole("root");
    const ann = await client.user("ann").create("secret");
    await ann.addRole("reader");
    await refused(client.user("ann").create("x"), etcd3.EtcdUserExistsError, "already exists");
    await refused(client.role("reader").create(), etcd3.EtcdRoleExistsError, "already exists");
    await refused(client.user("bob").delete(), etcd3.EtcdUserNotFoundError, "not found");
    assert.deepEqual((await ann.roles()).map((role) => role.name), ["reader"]);
    assert.equal((await reader.permissions()).length, 2);
    await client.put("auth/a").value("1");
    await client.auth.authEnable();
    try {
      await underAuth();
    } finally {
      await login("root", "r00t").auth.authDisable();
    }
    await root.delete();
    await ann.delete();
    await reader.delete();
    await client.role("root").delete();
    assert.equal(await client.get("auth/a"), "1");
  },
};

async function underAuth() {
  for (const [user, password] of [["ann", "guess"], ["bob", "secret"]]) {
    const get = login(user, password).get("auth/a").exec();
    await refused(get, etcd3.EtcdAuthenticationFailedError, "authentication failed");
  }
  // A client certificate names a user, who is one without permissions here.
  const nobody = connect().put("own").value("1").exec();
  await (tls
    ? refused(nobody, etcd3.EtcdPermissionDeniedError, "permission denied")
    : refused(nobody, etcd3.GRPCInvalidArgumentError, "user name is empty"));
  const [ann, root] = [login("ann", "secret"), login("root", "r00t")];
  assert.equal(await ann.get("auth/a"), "1");
  await ann.put("own").value("1");
  for (const attempt of [
    () => ann.put("auth/a").value("2").exec(),
    () => ann.get("other").exec(),
    () => ann.delete().prefix("auth/").exec(),
    () => ann.if("own", "Value", "==", "1").then(ann.put("auth/a").value("2")).commit(),
    () => ann.user("eve").create("x"),
  ]) {
    await refused(attempt(), etcd3.EtcdPermissionDeniedError, "permission denied");
  }
  const watcher = await soon(ann.watch().prefix("auth/").create());
  const { seen, all } = await collect(watcher, 1, (_, kv) => kv.key.toString());
  await root.put("auth/b").value("1");
  await all;
  assert.deepEqual(seen, ["auth/b"]);
  await soon(watcher.cancel());
  // With the password that the library knows it gets no new token when the old one is gone.
  await root.user("ann").setPassword("new");
  const late = ann.get("auth/a").exec();
  await refused(late, etcd3.EtcdAuthenticationFailedError, "authentication failed");
  assert.equal(await login("ann", "new").get("auth/a"), "1");
}

async function main() {
  let passed = 0;
  for (const [name, test] of Object.entries(tests)) {
    const began = Date.now();
    try {
      await test(connect());
      passed += 1;
      console.log(`ok ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      console.error(error);
      console.log(`FAIL ${name}: ${error.message}`);
    }
    clients.splice(0).forEach((client) => client.close());
  }
  const total = Object.keys(tests).length;
  console.log(`passed ${passed} of ${total}`);
  process.exit(passed === total ? 0 : 1);
}

main();
