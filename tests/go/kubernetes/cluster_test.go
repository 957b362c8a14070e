// The cluster under test, and small things that all tests need.
//
// `tests/go/run` starts it and says in the environment where it is:
//
//	KVD_SUITE_ENDPOINTS  client URLs of all members, with commas between them
//	KVD_SUITE_KILLS      1: members are being killed and started again
//
// Each test deletes ALL keys first, which stands for the new server that each test of the API
// server's own starts. That is why these tests run nowhere by default. Tests whose names begin with
// TestFresh have a cluster of their own, in which nothing was written, and nothing compacted.
package kubernetes

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
)

const (
	dialTimeout = 20 * time.Second
	// How long anything may take that must happen at some time.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv("KVD_SUITE_ENDPOINTS") == "" {
		fmt.Fprintln(os.Stderr, "no KVD_SUITE_ENDPOINTS: start these tests with tests/go/run")
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func endpoints() []string {
	return strings.Split(os.Getenv("KVD_SUITE_ENDPOINTS"), ",")
}

// A client as the API server has one for each resource.
func connect(t *testing.T) *kubernetes.Client {
	t.Helper()
	return connectTo(t, endpoints())
}

func connectTo(t *testing.T, where []string) *kubernetes.Client {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:            where,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zap.NewNop(),
	})
	must(t, err)
	t.Cleanup(func() { client.Close() })
	client.Kubernetes = persistentIfKilled(client.Kubernetes)
	return client
}

// One client to each member, for what must hold on every one.
func connectEach(t *testing.T) []*kubernetes.Client {
	t.Helper()
	var clients []*kubernetes.Client
	for _, endpoint := range endpoints() {
		clients = append(clients, connectTo(t, []string{endpoint}))
	}
	return clients
}

// Deletes all keys.
func empty(t *testing.T, client *clientv3.Client) {
	t.Helper()
	eventually(t, patience, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := client.Delete(ctx, "\x00", clientv3.WithFromKey())
		return err
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// Tries until it works, and fails with the last error when it does not.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Waits for something to come out of a channel.
func next[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case value, ok := <-from:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return value
	case <-time.After(patience):
		t.Fatalf("%s: nothing within %v", what, patience)
		panic("unreachable")
	}
}
