// jetcd against the cluster that the environment names; see ../../main.py.

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.common.exception.ErrorCode;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.common.exception.EtcdExceptionFactory;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

final class Suite {
    /** Whatever is waited for comes within this time, or the test fails. */
    static final long PATIENCE_SECONDS = 60;
    static final String CA = System.getenv("KVD_CA");
    static final List<String> ENDPOINTS = new ArrayList<>();

    private static final List<Client> clients = new ArrayList<>();

    interface Test {
        void run(Client client) throws Exception;
    }

    static ClientBuilder builder(List<String> endpoints) throws Exception {
        ClientBuilder builder =
                Client.builder()
                        .endpoints(endpoints.toArray(new String[0]))
                        .connectTimeout(Duration.ofSeconds(PATIENCE_SECONDS));
        if (CA != null) {
            File certificate = new File(System.getenv("KVD_CERT"));
            File key = new File(System.getenv("KVD_KEY"));
            // What the members' certificates are for; the endpoints may be several.
            builder.authority("localhost");
            builder.sslContext(tls -> tls.trustManager(new File(CA)).keyManager(certificate, key));
        }
        return builder;
    }

    static Client open(ClientBuilder builder) {
        Client client = builder.build();
        clients.add(client);
        return client;
    }

    static Client connect() throws Exception {
        return open(builder(ENDPOINTS));
    }

    static Client login(String user, String password) throws Exception {
        return open(builder(ENDPOINTS).user(bytes(user)).password(bytes(password)));
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    /** The result of something that must not take forever. */
    static <T> T soon(CompletableFuture<T> future) throws Exception {
        return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object left, Object right) {
        check(Objects.equals(left, right), left + " is not " + right);
    }

    /** The server refuses it with this code and message. The error is the library's own. */
    static void refused(
            ErrorCode code, String message, Callable<? extends CompletableFuture<?>> request)
            throws Exception {
        ExecutionException failure = failure(request);
        EtcdException error = EtcdExceptionFactory.toEtcdException(failure.getCause());
        check(error.getErrorCode() == code, error.getErrorCode() + ": " + error.getMessage());
        check(reasons(failure).contains(message), reasons(failure));
    }

    /** How a request fails, which it must. */
    static ExecutionException failure(Callable<? extends CompletableFuture<?>> request)
            throws Exception {
        try {
            soon(request.call());
        } catch (ExecutionException failure) {
            return failure;
        }
        throw new AssertionError("this must be refused");
    }

    /** What an error and all that it came from say. */
    private static String reasons(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(cause).append("; ");
        }
        return text.toString();
    }

    private static boolean passes(String name, Test test) {
        long began = System.nanoTime();
        try {
            test.run(connect());
            long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
            System.out.println("ok " + name + " (" + took + " ms)");
            return true;
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.out.println("FAIL " + name + ": " + failure);
            return false;
        } finally {
            clients.forEach(Client::close);
            clients.clear();
        }
    }

    public static void main(String[] args) {
        Logger.getLogger("").setLevel(Level.SEVERE);
        for (String host : System.getenv("KVD_ENDPOINTS").split(",")) {
            ENDPOINTS.add((CA == null ? "http://" : "https://") + host);
        }
        Map<String, Test> tests = new LinkedHashMap<>();
        Data.tests(tests);
        Turns.tests(tests);
        Admin.tests(tests);
        long passed = 0;
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            passed += passes(test.getKey(), test.getValue()) ? 1 : 0;
        }
        System.out.println("passed " + passed + " of " + tests.size());
        // Not by way of the library's threads.
        System.exit(passed == tests.size() ? 0 : 1);
    }

    private Suite() {}
}
