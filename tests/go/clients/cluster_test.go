// The cluster under test, and small things that all tests need.
//
// `tests/go/run` starts it and says in the environment where it is:
//
//	KVD_SUITE_ENDPOINTS  client URLs of all members, with commas between them
//	KVD_SUITE_TARGET     kvd or etcd
//
// Each test keeps to keys of its own, but some change users, alarms or compact, so that none runs
// beside another.
package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	dialTimeout = 10 * time.Second
	// How long anything may take that must happen at some time.
	patience = 30 * time.Second
	// How long a test may take that waits for nothing in particular.
	testWithin = 60 * time.Second
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

// For the few things in which etcd is not to be followed.
func isEtcd() bool {
	return os.Getenv("KVD_SUITE_TARGET") == "etcd"
}

// A test's own part of the cluster.
type place struct {
	*clientv3.Client
	ctx context.Context
	// What all its keys begin with.
	prefix string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	client := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), testWithin)
	t.Cleanup(cancel)
	p := &place{Client: client, ctx: ctx, prefix: fmt.Sprintf("%s-%d/", t.Name(), time.Now().UnixNano())}
	return p
}

func connect(t *testing.T, change ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: endpoints(), DialTimeout: dialTimeout, Logger: zap.NewNop()}
	for _, change := range change {
		change(&config)
	}
	client, err := clientv3.New(config)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func connectTo(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	return connect(t, func(config *clientv3.Config) { config.Endpoints = []string{endpoint} })
}

func (p *place) key(name string) string { return p.prefix + name }

func (p *place) put(t *testing.T, name, value string, options ...clientv3.OpOption) *clientv3.PutResponse {
	t.Helper()
	response, err := p.Put(p.ctx, p.key(name), value, options...)
	must(t, err)
	return response
}

func (p *place) get(t *testing.T, name string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	response, err := p.Get(p.ctx, p.key(name), options...)
	must(t, err)
	return response
}

// Keys without the test's prefix and values, as in `a=1 b=2`.
func (p *place) shown(response *clientv3.GetResponse) string {
	var shown []string
	for _, pair := range response.Kvs {
		shown = append(shown, strings.TrimPrefix(string(pair.Key), p.prefix)+"="+string(pair.Value))
	}
	return strings.Join(shown, " ")
}

func (p *place) expect(t *testing.T, want, name string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	response := p.get(t, name, options...)
	equal(t, "keys", p.shown(response), want)
	return response
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

func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// Tries until it works, and fails with the last error when it does not.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", patience, err)
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

// Waits for a channel to be closed, whatever else comes out of it before.
func closed[T any](t *testing.T, what string, channel <-chan T) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-channel:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not closed within %v", what, patience)
		}
	}
}
