// Keys, transactions, watches, compaction.

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.kv.DeleteResponse;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.PutResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

final class Data {
    static void tests(Map<String, Suite.Test> tests) {
        tests.put("put get delete", Data::putGetDelete);
        tests.put("ranges", Data::ranges);
        tests.put("old revisions and compaction", Data::oldRevisionsAndCompaction);
        tests.put("transactions", Data::transactions);
        tests.put("requests that are refused", Data::refusedRequests);
        tests.put("watches", Data::watches);
        tests.put("watch history", Data::watchHistory);
        tests.put("watch progress", Data::watchProgress);
    }

    /** What a watch has sent. */
    static final class Events implements AutoCloseable {
        final BlockingQueue<WatchResponse> answers = new LinkedBlockingQueue<>();
        final CompletableFuture<Throwable> error = new CompletableFuture<>();
        final Watch.Watcher watcher;

        /** Returns when the server has made the watch, unless it is refused. */
        Events(Client client, String key, WatchOption.Builder options) throws Exception {
            CompletableFuture<Void> created = new CompletableFuture<>();
            watcher =
                    client.getWatchClient()
                            .watch(
                                    Suite.bytes(key),
                                    options.withCreateNotify(true).build(),
                                    answer -> {
                                        if (answer.isCreatedNotify()) {
                                            created.complete(null);
                                        } else {
                                            answers.add(answer);
                                        }
                                    },
                                    failure -> {
                                        error.complete(failure);
                                        created.complete(null);
                                    });
            Suite.soon(created);
        }

        WatchResponse next() throws InterruptedException {
            WatchResponse answer = answers.poll(Suite.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Suite.check(answer != null, "the watch has sent nothing");
            return answer;
        }

        List<WatchEvent> take(int count) throws InterruptedException {
            List<WatchEvent> found = new ArrayList<>();
            while (found.size() < count) {
                found.addAll(next().getEvents());
            }
            return found;
        }

        @Override
        public void close() {
            watcher.close();
        }
    }

    static PutResponse put(Client client, String key, String value) throws Exception {
        return Suite.soon(client.getKVClient().put(Suite.bytes(key), Suite.bytes(value)));
    }

    static GetResponse get(Client client, String key) throws Exception {
        return Suite.soon(client.getKVClient().get(Suite.bytes(key)));
    }

    private static void putGetDelete(Client client) throws Exception {
        KV kv = client.getKVClient();
        ByteSequence key = Suite.bytes("kv/a");
        long first = put(client, "kv/a", "1").getHeader().getRevision();
        PutOption withPrevious = PutOption.builder().withPrevKV().build();
        PutResponse second = Suite.soon(kv.put(key, Suite.bytes("2"), withPrevious));
        Suite.equal(second.getPrevKv().getValue().toString(), "1");
        Suite.equal(second.getHeader().getRevision(), first + 1);
        KeyValue found = get(client, "kv/a").getKvs().get(0);
        Suite.equal(found.getValue().toString(), "2");
        Suite.equal(found.getVersion(), 2L);
        Suite.equal(found.getCreateRevision(), first);
        Suite.equal(found.getModRevision(), first + 1);
        DeleteOption option = DeleteOption.builder().withPrevKV(true).build();
        DeleteResponse deleted = Suite.soon(kv.delete(key, option));
        Suite.equal(deleted.getDeleted(), 1L);
        Suite.equal(deleted.getPrevKvs().get(0).getValue().toString(), "2");
        Suite.equal(Suite.soon(kv.delete(key)).getDeleted(), 0L);
        Suite.equal(get(client, "kv/a").getCount(), 0L);
    }

    private static void ranges(Client client) throws Exception {
        put(client, "range/c", "1");
        put(client, "range/a", "3");
        put(client, "range/b", "2");
        put(client, "rangf", "4");
        GetOption.SortOrder down = GetOption.SortOrder.DESCEND;
        Suite.equal(keys(client, prefix()), "abc of 3");
        Suite.equal(keys(client, prefix().withLimit(2)), "ab of 3, more");
        Suite.equal(keys(client, prefix().withSortOrder(down)), "cba of 3");
        GetOption.Builder byValue =
                prefix().withSortField(GetOption.SortTarget.VALUE)
                        .withSortOrder(GetOption.SortOrder.ASCEND);
        Suite.equal(keys(client, byValue.withLimit(1)), "c of 3, more");
        GetOption.Builder newest =
                prefix().withSortField(GetOption.SortTarget.MOD).withSortOrder(down).withLimit(2);
        Suite.equal(keys(client, newest), "ba of 3, more");
        Suite.equal(keys(client, prefix().withCountOnly(true)), " of 3");
        GetOption.Builder range = GetOption.builder().withRange(Suite.bytes("range/b"));
        Suite.equal(keys(client, range), "a of 1");
        DeleteOption all = DeleteOption.builder().isPrefix(true).build();
        DeleteResponse deleted =
                Suite.soon(client.getKVClient().delete(Suite.bytes("range/"), all));
        Suite.equal(deleted.getDeleted(), 3L);
    }

    private static GetOption.Builder prefix() {
        return GetOption.builder().isPrefix(true);
    }

    private static String keys(Client client, GetOption.Builder options) throws Exception {
        GetResponse found =
                Suite.soon(client.getKVClient().get(Suite.bytes("range/"), options.build()));
        StringBuilder text = new StringBuilder();
        for (KeyValue kv : found.getKvs()) {
            text.append(kv.getKey().toString().substring("range/".length()));
        }
        return text + " of " + found.getCount() + (found.isMore() ? ", more" : "");
    }

    private static void oldRevisionsAndCompaction(Client client) throws Exception {
        KV kv = client.getKVClient();
        ByteSequence key = Suite.bytes("old");
        List<Long> revisions = new ArrayList<>();
        for (String value : List.of("1", "2", "3")) {
            revisions.add(put(client, "old", value).getHeader().getRevision());
        }
        GetOption first = GetOption.builder().withRevision(revisions.get(0)).build();
        Suite.equal(Suite.soon(kv.get(key, first)).getKvs().get(0).getValue().toString(), "1");
        GetOption future = GetOption.builder().withRevision(revisions.get(2) + 1_000_000).build();
        Suite.refused(
                ErrorCode.OUT_OF_RANGE,
                "mvcc: required revision is a future revision",
                () -> kv.get(key, future));
        CompactOption physical = CompactOption.builder().withCompactPhysical(true).build();
        Suite.soon(kv.compact(revisions.get(2), physical));
        String compacted = "mvcc: required revision has been compacted";
        Suite.refused(ErrorCode.OUT_OF_RANGE, compacted, () -> kv.get(key, first));
        Suite.refused(ErrorCode.OUT_OF_RANGE, compacted, () -> kv.compact(revisions.get(2)));
        WatchOption.Builder past = WatchOption.builder().withRevision(revisions.get(0));
        try (Events events = new Events(client, "old", past)) {
            Throwable error = Suite.soon(events.error);
            Suite.check(error instanceof CompactedException, error.toString());
            Suite.equal(((CompactedException) error).getCompactedRevision(), revisions.get(2));
        }
    }

    private static void transactions(Client client) throws Exception {
        put(client, "txn", "1");
        long created = get(client, "txn").getKvs().get(0).getCreateRevision();
        TxnResponse done = transaction(client, created);
        Suite.check(done.isSucceeded(), "everything holds");
        TxnResponse inner = done.getTxnResponses().get(0);
        Suite.check(inner.isSucceeded(), "what is inside is decided with the rest");
        Suite.equal(inner.getGetResponses().get(0).getKvs().get(0).getValue().toString(), "2");
        TxnResponse not = transaction(client, created);
        Suite.check(!not.isSucceeded(), "the value is another");
        Suite.equal(not.getDeleteResponses().get(0).getDeleted(), 1L);
        Op put = Op.put(Suite.bytes("twice"), Suite.bytes("1"), PutOption.DEFAULT);
        Suite.refused(
                ErrorCode.INVALID_ARGUMENT,
                "etcdserver: duplicate key given in txn request",
                () -> client.getKVClient().txn().Then(put, put).commit());
    }

    private static TxnResponse transaction(Client client, long created) throws Exception {
        ByteSequence key = Suite.bytes("txn");
        Op get = Op.get(key, GetOption.DEFAULT);
        Cmp once = new Cmp(key, Cmp.Op.EQUAL, CmpTarget.version(1));
        return Suite.soon(
                client.getKVClient()
                        .txn()
                        .If(
                                new Cmp(key, Cmp.Op.EQUAL, CmpTarget.value(Suite.bytes("1"))),
                                new Cmp(key, Cmp.Op.LESS, CmpTarget.version(2)),
                                new Cmp(key, Cmp.Op.EQUAL, CmpTarget.createRevision(created)),
                                new Cmp(key, Cmp.Op.GREATER, CmpTarget.modRevision(created - 1)))
                        .Then(
                                Op.put(key, Suite.bytes("2"), PutOption.DEFAULT),
                                Op.txn(new Cmp[] {once}, new Op[] {get}, new Op[0]))
                        .Else(Op.delete(key, DeleteOption.DEFAULT))
                        .commit());
    }

    private static void refusedRequests(Client client) throws Exception {
        KV kv = client.getKVClient();
        Suite.refused(
                ErrorCode.INVALID_ARGUMENT,
                "etcdserver: key is not provided",
                () -> kv.put(ByteSequence.EMPTY, Suite.bytes("1")));
        ByteSequence large = ByteSequence.from(new byte[1_600_000]);
        Suite.refused(
                ErrorCode.INVALID_ARGUMENT,
                "etcdserver: request is too large",
                () -> kv.put(Suite.bytes("large"), large));
        PutOption leased = PutOption.builder().withLeaseId(12345).build();
        Suite.refused(
                ErrorCode.NOT_FOUND,
                "etcdserver: requested lease not found",
                () -> kv.put(Suite.bytes("leased"), Suite.bytes("1"), leased));
    }

    private static void watches(Client client) throws Exception {
        WatchOption.Builder options = WatchOption.builder().isPrefix(true).withPrevKV(true);
        WatchOption.Builder deletes = WatchOption.builder().withNoPut(true);
        try (Events events = new Events(client, "watch/", options);
                Events ends = new Events(client, "watch/a", deletes)) {
            put(client, "watch/a", "1");
            put(client, "watch/a", "2");
            put(client, "watcj", "no");
            Suite.soon(client.getKVClient().delete(Suite.bytes("watch/a")));
            List<String> seen = new ArrayList<>();
            for (WatchEvent event : events.take(3)) {
                String value = event.getKeyValue().getValue().toString();
                seen.add(event.getEventType() + " " + value + "/" + event.getPrevKV().getValue());
            }
            Suite.equal(seen, List.of("PUT 1/", "PUT 2/1", "DELETE /2"));
            Suite.equal(ends.take(1).get(0).getEventType(), WatchEvent.EventType.DELETE);
            // One that is closed sends nothing, while the other goes on.
            ends.close();
            put(client, "watch/a", "3");
            Suite.soon(client.getKVClient().delete(Suite.bytes("watch/a")));
            events.take(2);
            Suite.check(ends.answers.isEmpty(), "closed");
        }
    }

    private static void watchHistory(Client client) throws Exception {
        List<Long> revisions = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            revisions.add(put(client, "history", "" + number).getHeader().getRevision());
        }
        WatchOption.Builder past = WatchOption.builder().withRevision(revisions.get(5));
        try (Events events = new Events(client, "history", past)) {
            List<Long> seen = new ArrayList<>();
            for (WatchEvent event : events.take(15)) {
                seen.add(event.getKeyValue().getModRevision());
            }
            Suite.equal(seen, revisions.subList(5, 20));
        }
    }

    private static void watchProgress(Client client) throws Exception {
        try (Events events = new Events(client, "progress", WatchOption.builder())) {
            long revision = put(client, "not/watched", "1").getHeader().getRevision();
            long known = 0;
            // A member that has not heard of the put yet answers with what it knows.
            while (known < revision) {
                client.getWatchClient().requestProgress();
                WatchResponse progress = events.next();
                Suite.check(progress.isProgressNotify(), "nothing has happened to the key");
                known = progress.getHeader().getRevision();
            }
        }
    }

    private Data() {}
}
