// Leases, and what is built on them: locks and elections.

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.election.CampaignResponse;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.election.NoLeaderException;
import io.etcd.jetcd.election.NotLeaderException;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.lock.LockResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.CloseableClient;
import io.etcd.jetcd.watch.WatchEvent;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

final class Turns {
    static void tests(Map<String, Suite.Test> tests) {
        tests.put("leases", Turns::leases);
        tests.put("lease kept alive by the library", Turns::keptAlive);
        tests.put("lease expiry", Turns::expiry);
        tests.put("locks", Turns::locks);
        tests.put("elections", Turns::elections);
    }

    private static long grant(Client client, long seconds) throws Exception {
        return Suite.soon(client.getLeaseClient().grant(seconds)).getID();
    }

    private static void put(Client client, String key, long lease) throws Exception {
        PutOption option = PutOption.builder().withLeaseId(lease).build();
        Suite.soon(client.getKVClient().put(Suite.bytes(key), Suite.bytes("1"), option));
    }

    private static void leases(Client client) throws Exception {
        Lease leases = client.getLeaseClient();
        long lease = grant(client, 60);
        put(client, "lease/a", lease);
        put(client, "lease/b", lease);
        Suite.equal(Data.get(client, "lease/a").getKvs().get(0).getLease(), lease);
        LeaseOption withKeys = LeaseOption.builder().withAttachedKeys().build();
        LeaseTimeToLiveResponse left = Suite.soon(leases.timeToLive(lease, withKeys));
        Suite.equal(left.getGrantedTTL(), 60L);
        Suite.check(left.getTTL() > 0 && left.getTTL() <= 60, "TTL " + left.getTTL());
        List<String> keys = left.getKeys().stream().map(ByteSequence::toString).sorted().toList();
        Suite.equal(keys, List.of("lease/a", "lease/b"));
        Suite.equal(Suite.soon(leases.keepAliveOnce(lease)).getTTL(), 60L);
        Suite.soon(leases.revoke(lease));
        Suite.equal(Data.get(client, "lease/a").getCount(), 0L);
        Suite.equal(Suite.soon(leases.timeToLive(lease, LeaseOption.DEFAULT)).getTTL(), -1L);
        String lost = "requested lease not found";
        Suite.refused(ErrorCode.NOT_FOUND, lost, () -> leases.revoke(lease));
        Suite.refused(ErrorCode.NOT_FOUND, lost, () -> leases.keepAliveOnce(lease));
    }

    private static void keptAlive(Client client) throws Exception {
        // The first of all takes its time, with what the library starts for it.
        try (Renewals first = new Renewals(client, grant(client, 60))) {
            first.next();
        }
        long began = System.nanoTime();
        long lease = grant(client, 4);
        put(client, "kept", lease);
        try (Renewals renewals = new Renewals(client, lease)) {
            while (System.nanoTime() - began < TimeUnit.SECONDS.toNanos(7)) {
                Suite.equal(renewals.next(), 4L);
                Suite.equal(Data.get(client, "kept").getCount(), 1L);
            }
        }
        Suite.soon(client.getLeaseClient().revoke(lease));
    }

    /** The TTLs that a lease was given while the library keeps it alive. */
    private static final class Renewals
            implements StreamObserver<LeaseKeepAliveResponse>, AutoCloseable {
        private final BlockingQueue<Long> ttls = new LinkedBlockingQueue<>();
        private final CloseableClient keeper;

        Renewals(Client client, long lease) {
            keeper = client.getLeaseClient().keepAlive(lease, this);
        }

        long next() throws InterruptedException {
            Long ttl = ttls.poll(Suite.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Suite.check(ttl != null, "no renewal");
            return ttl;
        }

        @Override
        public void onNext(LeaseKeepAliveResponse answer) {
            ttls.add(answer.getTTL());
        }

        @Override
        public void onError(Throwable error) {
            error.printStackTrace();
        }

        @Override
        public void onCompleted() {}

        @Override
        public void close() {
            keeper.close();
        }
    }

    /** Keys go when their lease ends, and not before. */
    private static void expiry(Client client) throws Exception {
        WatchOption.Builder prefix = WatchOption.builder().isPrefix(true);
        try (Data.Events events = new Data.Events(client, "ends/", prefix)) {
            long began = System.nanoTime();
            long lease = grant(client, 4);
            put(client, "ends/a", lease);
            put(client, "ends/b", lease);
            List<WatchEvent> ends = events.take(4).subList(2, 4);
            Suite.check(System.nanoTime() - began >= TimeUnit.SECONDS.toNanos(4), "too early");
            for (WatchEvent end : ends) {
                Suite.equal(end.getEventType(), WatchEvent.EventType.DELETE);
            }
            long revision = ends.get(0).getKeyValue().getModRevision();
            Suite.equal(ends.get(1).getKeyValue().getModRevision(), revision);
        }
    }

    private static void locks(Client client) throws Exception {
        Lock locks = client.getLockClient();
        ByteSequence name = Suite.bytes("lock");
        long[] leases = {grant(client, 60), grant(client, 60), grant(client, 60)};
        LockResponse first = Suite.soon(locks.lock(name, leases[0]));
        Suite.check(first.getKey().toString().startsWith("lock/"), "keys are under the name");
        CompletableFuture<LockResponse> second =
                Suite.connect().getLockClient().lock(name, leases[1]);
        GetOption queue = GetOption.builder().isPrefix(true).withCountOnly(true).build();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Suite.PATIENCE_SECONDS);
        ByteSequence under = Suite.bytes("lock/");
        while (Suite.soon(client.getKVClient().get(under, queue)).getCount() < 2) {
            Suite.check(System.nanoTime() < deadline, "the second is not in the queue");
        }
        Suite.check(!second.isDone(), "the first has it");
        Suite.soon(locks.unlock(first.getKey()));
        Suite.equal(Data.get(client, Suite.soon(second).getKey().toString()).getCount(), 1L);
        // A lease that ends gives the lock to the next as well.
        CompletableFuture<LockResponse> third = locks.lock(name, leases[2]);
        Suite.soon(client.getLeaseClient().revoke(leases[1]));
        Suite.soon(locks.unlock(Suite.soon(third).getKey()));
        Suite.equal(Suite.soon(client.getKVClient().get(under, queue)).getCount(), 0L);
    }

    private static void elections(Client client) throws Exception {
        Election elections = client.getElectionClient();
        ByteSequence name = Suite.bytes("election");
        fails(NoLeaderException.class, elections.leader(name));
        long[] leases = {grant(client, 60), grant(client, 60)};
        CampaignResponse one = Suite.soon(elections.campaign(name, leases[0], Suite.bytes("one")));
        Suite.equal(one.getLeader().getLease(), leases[0]);
        BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        Suite.connect().getElectionClient().observe(name, observer(seen));
        Suite.equal(seen.poll(Suite.PATIENCE_SECONDS, TimeUnit.SECONDS), "one");
        Suite.soon(elections.proclaim(one.getLeader(), Suite.bytes("uno")));
        Suite.equal(seen.poll(Suite.PATIENCE_SECONDS, TimeUnit.SECONDS), "uno");
        CompletableFuture<CampaignResponse> two =
                Suite.connect()
                        .getElectionClient()
                        .campaign(name, leases[1], Suite.bytes("two"));
        Suite.equal(Suite.soon(elections.leader(name)).getKv().getValue().toString(), "uno");
        Suite.check(!two.isDone(), "the first leads");
        Suite.soon(elections.resign(one.getLeader()));
        Suite.equal(Suite.soon(two).getLeader().getLease(), leases[1]);
        Suite.equal(seen.poll(Suite.PATIENCE_SECONDS, TimeUnit.SECONDS), "two");
        fails(NotLeaderException.class, elections.proclaim(one.getLeader(), Suite.bytes("late")));
        Suite.soon(client.getLeaseClient().revoke(leases[1]));
        fails(NoLeaderException.class, elections.leader(name));
    }

    private static Election.Listener observer(BlockingQueue<String> seen) {
        return new Election.Listener() {
            @Override
            public void onNext(LeaderResponse answer) {
                seen.add(answer.getKv().getValue().toString());
            }

            @Override
            public void onError(Throwable error) {}

            @Override
            public void onCompleted() {}
        };
    }

    private static void fails(Class<?> type, CompletableFuture<?> future) throws Exception {
        Throwable cause = Suite.failure(() -> future).getCause();
        Suite.check(type.isInstance(cause), cause + " is not a " + type.getSimpleName());
    }

    private Turns() {}
}
