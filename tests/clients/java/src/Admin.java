// What administrators do: members, maintenance, users, and connections that are refused.

import static io.etcd.jetcd.common.exception.ErrorCode.FAILED_PRECONDITION;
import static io.etcd.jetcd.common.exception.ErrorCode.INVALID_ARGUMENT;
import static io.etcd.jetcd.common.exception.ErrorCode.NOT_FOUND;
import static io.etcd.jetcd.common.exception.ErrorCode.PERMISSION_DENIED;
import static io.etcd.jetcd.common.exception.ErrorCode.UNAUTHENTICATED;
import static io.etcd.jetcd.common.exception.ErrorCode.UNAVAILABLE;

import io.etcd.jetcd.Auth;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.Maintenance;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.cluster.Member;
import io.etcd.jetcd.maintenance.StatusResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.net.URI;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

final class Admin {
    static void tests(Map<String, Suite.Test> tests) {
        tests.put("members and status", Admin::membersAndStatus);
        tests.put("maintenance", Admin::maintenance);
        tests.put("snapshot", Admin::snapshot);
        tests.put("tls", Admin::tls);
        tests.put("auth", Admin::auth);
    }

    private static void membersAndStatus(Client client) throws Exception {
        List<Member> members = Suite.soon(client.getClusterClient().listMember()).getMembers();
        Set<String> urls = new HashSet<>();
        Set<Long> ids = new HashSet<>();
        for (Member member : members) {
            member.getClientURIs().stream().map(URI::toString).forEach(urls::add);
            ids.add(member.getId());
        }
        Suite.equal(urls, Set.copyOf(Suite.ENDPOINTS));
        Set<Long> leaders = new HashSet<>();
        Set<Long> answered = new HashSet<>();
        for (String endpoint : Suite.ENDPOINTS) {
            Maintenance maintenance = client.getMaintenanceClient();
            StatusResponse status = Suite.soon(maintenance.statusMember(endpoint));
            Suite.check(status.getVersion().startsWith("3."), status.getVersion());
            Suite.check(status.getDbSize() > 0 && status.getRaftTerm() > 0, status.toString());
            answered.add(status.getHeader().getMemberId());
            leaders.add(status.getLeader());
        }
        Suite.equal(answered, ids);
        Suite.check(leaders.size() == 1 && ids.containsAll(leaders), leaders + " of " + ids);
        Suite.refused(
                NOT_FOUND,
                "etcdserver: member not found",
                () -> client.getClusterClient().removeMember(1));
    }

    private static void maintenance(Client client) throws Exception {
        Maintenance maintenance = client.getMaintenanceClient();
        Suite.equal(Suite.soon(maintenance.listAlarms()).getAlarms(), List.of());
        long revision = Data.put(client, "hash", "1").getHeader().getRevision();
        Set<Integer> hashes = new HashSet<>();
        for (String endpoint : Suite.ENDPOINTS) {
            // After this the member knows of the put.
            Data.get(Suite.open(Suite.builder(List.of(endpoint))), "hash");
            hashes.add(Suite.soon(maintenance.hashKV(endpoint, revision)).getHash());
            Suite.soon(maintenance.defragmentMember(endpoint));
        }
        Suite.equal(hashes.size(), 1);
    }

    private static void snapshot(Client client) throws Exception {
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        long bytes = Suite.soon(client.getMaintenanceClient().snapshot(file));
        Suite.equal(bytes, (long) file.size());
        int length = file.size() - 32;
        Suite.check(length > 4 * 4096, "a file of pages");
        byte[] data = Arrays.copyOf(file.toByteArray(), length);
        byte[] digest = Arrays.copyOfRange(file.toByteArray(), length, file.size());
        Suite.check(
                Arrays.equals(MessageDigest.getInstance("SHA-256").digest(data), digest),
                "behind the file comes its SHA-256");
    }

    /** Who does not trust the members, or is not known to them, is not served. */
    private static void tls(Client client) throws Exception {
        Data.get(client, "tls");
        String host = URI.create(Suite.ENDPOINTS.get(0)).getAuthority();
        Client plain = Suite.open(Client.builder().endpoints("http://" + host).waitForReady(false));
        Client distrusting =
                Suite.open(
                        Client.builder()
                                .endpoints("https://" + host)
                                .waitForReady(false)
                                .sslContext(tls -> {}));
        fails(distrusting);
        if (Suite.CA != null) {
            // What there is to read for it may be an answer in plain text, too, or the end.
            Suite.failure(() -> plain.getKVClient().get(Suite.bytes("tls")));
            fails(
                    Suite.open(
                            Client.builder()
                                    .endpoints("https://" + host)
                                    .waitForReady(false)
                                    .sslContext(tls -> tls.trustManager(new File(Suite.CA)))));
        }
    }

    private static void fails(Client client) throws Exception {
        Suite.refused(UNAVAILABLE, "", () -> client.getKVClient().get(Suite.bytes("tls")));
    }

    /** Until the end of this test nobody without a password is served. */
    private static void auth(Client client) throws Exception {
        Auth auth = client.getAuthClient();
        ByteSequence root = Suite.bytes("root");
        ByteSequence ann = Suite.bytes("ann");
        ByteSequence reader = Suite.bytes("reader");
        Suite.soon(auth.roleAdd(root));
        Suite.soon(auth.roleAdd(reader));
        grant(auth, reader, "auth/", "auth0", Permission.Type.READ);
        grant(auth, reader, "own", "own\0", Permission.Type.READWRITE);
        Suite.soon(auth.userAdd(root, Suite.bytes("r00t")));
        Suite.soon(auth.userGrantRole(root, root));
        Suite.soon(auth.userAdd(ann, Suite.bytes("secret")));
        Suite.soon(auth.userGrantRole(ann, reader));
        Suite.refused(
                FAILED_PRECONDITION,
                "etcdserver: user name already exists",
                () -> auth.userAdd(ann, Suite.bytes("again")));
        Suite.equal(Suite.soon(auth.userGet(ann)).getRoles(), List.of("reader"));
        Suite.equal(Suite.soon(auth.roleGet(reader)).getPermissions().size(), 2);
        Data.put(client, "auth/a", "1");
        Suite.soon(auth.authEnable());
        try {
            underAuth();
        } finally {
            Suite.soon(Suite.login("root", "r00t").getAuthClient().authDisable());
        }
        for (ByteSequence user : List.of(root, ann)) {
            Suite.soon(auth.userDelete(user));
        }
        for (ByteSequence role : List.of(root, reader)) {
            Suite.soon(auth.roleDelete(role));
        }
        Suite.equal(Suite.soon(auth.userList()).getUsers(), List.of());
        Suite.equal(Data.get(client, "auth/a").getCount(), 1L);
    }

    private static void grant(
            Auth auth, ByteSequence role, String key, String end, Permission.Type type)
            throws Exception {
        Suite.soon(auth.roleGrantPermission(role, Suite.bytes(key), Suite.bytes(end), type));
    }

    private static void underAuth() throws Exception {
        String wrong = "etcdserver: authentication failed, invalid user ID or password";
        for (List<String> pair : List.of(List.of("ann", "guess"), List.of("bob", "secret"))) {
            Client stranger = Suite.login(pair.get(0), pair.get(1));
            ByteSequence key = Suite.bytes("auth/a");
            // The library logs in when it must, and says so in its own way when it could not.
            Suite.refused(UNAUTHENTICATED, wrong, () -> stranger.getKVClient().get(key));
        }
        String denied = "etcdserver: permission denied";
        ByteSequence own = Suite.bytes("own");
        ByteSequence one = Suite.bytes("1");
        Client nobody = Suite.connect();
        // A client certificate names a user, who is one without permissions here.
        Suite.refused(
                Suite.CA == null ? INVALID_ARGUMENT : PERMISSION_DENIED,
                Suite.CA == null ? "etcdserver: user name is empty" : denied,
                () -> nobody.getKVClient().put(own, one));
        Client ann = Suite.login("ann", "secret");
        Client root = Suite.login("root", "r00t");
        Suite.equal(Data.get(ann, "auth/a").getKvs().get(0).getValue().toString(), "1");
        Data.put(ann, "own", "1");
        ByteSequence other = Suite.bytes("auth/a");
        DeleteOption prefix = DeleteOption.builder().isPrefix(true).build();
        Suite.refused(PERMISSION_DENIED, denied, () -> ann.getKVClient().put(other, one));
        Suite.refused(PERMISSION_DENIED, denied, () -> ann.getKVClient().get(Suite.bytes("x")));
        Suite.refused(PERMISSION_DENIED, denied, () -> ann.getKVClient().delete(other, prefix));
        Suite.refused(PERMISSION_DENIED, denied, () -> ann.getAuthClient().userAdd(own, one));
        Cmp holds = new Cmp(own, Cmp.Op.EQUAL, CmpTarget.value(one));
        Op put = Op.put(other, one, PutOption.DEFAULT);
        Suite.refused(
                PERMISSION_DENIED,
                denied,
                () -> ann.getKVClient().txn().If(holds).Then(put).commit());
        WatchOption.Builder all = WatchOption.builder().isPrefix(true);
        try (Data.Events events = new Data.Events(ann, "auth/", all)) {
            Data.put(root, "auth/b", "1");
            Suite.equal(events.take(1).get(0).getKeyValue().getKey().toString(), "auth/b");
        }
        Suite.soon(root.getAuthClient().userChangePassword(Suite.bytes("ann"), Suite.bytes("new")));
        Suite.equal(Data.get(Suite.login("ann", "new"), "auth/a").getCount(), 1L);
    }

    private Admin() {}
}
