// The requests that an API server sends, one by one, and what it reads in the answers.

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/storage/etcd3"
)

// A cluster without keys, as each of these tests finds it.
func emptied(t *testing.T) *kubernetes.Client {
	t.Helper()
	client := connect(t)
	empty(t, client.Client)
	return client
}

// A8: the key must be new.
func create(t *testing.T, client *kubernetes.Client, key, value string) int64 {
	t.Helper()
	response, err := client.Kubernetes.OptimisticPut(t.Context(), key, []byte(value), 0, kubernetes.PutOptions{})
	must(t, err)
	equal(t, "created", response.Succeeded, true)
	return response.Revision
}

// A9: the key must be as it was.
func update(t *testing.T, client *kubernetes.Client, key, value string, revision int64) int64 {
	t.Helper()
	options := kubernetes.PutOptions{GetOnFailure: true}
	response, err := client.Kubernetes.OptimisticPut(t.Context(), key, []byte(value), revision, options)
	must(t, err)
	equal(t, "updated", response.Succeeded, true)
	return response.Revision
}

// A1, A6, A7.
func TestRequestGet(t *testing.T) {
	client := emptied(t)
	first := create(t, client, "/registry/pods/ns/a", "1")
	second := update(t, client, "/registry/pods/ns/a", "2", first)
	old, err := client.Kubernetes.Get(t.Context(), "/registry/pods/ns/a", kubernetes.GetOptions{Revision: first})
	must(t, err)
	equal(t, "old value", string(old.KV.Value), "1")
	equal(t, "revision of the store", old.Revision, second)
	for _, absent := range []string{"/registry/pods", "/registry/health"} {
		response, err := client.Client.Get(t.Context(), absent)
		must(t, err)
		equal(t, "keys at "+absent, len(response.Kvs), 0)
		equal(t, "revision of the store", response.Header.Revision, second)
	}
}

// A2, A3, A4, A5: pages of one snapshot, with exact counts, while others write.
func TestRequestList(t *testing.T) {
	client := emptied(t)
	const prefix, pods = "/registry/pods/", 25
	for i := range pods {
		create(t, client, fmt.Sprintf("%sns/%02d", prefix, i), "v")
	}
	create(t, client, "/registry/podsother", "v")
	page := kubernetes.ListOptions{Limit: 2}
	var names []string
	for len(names) < pods {
		response, err := client.List(t.Context(), prefix, page)
		must(t, err)
		equal(t, "keys that are left", response.Count, int64(pods-len(names)))
		if page.Revision == 0 {
			page.Revision = response.Revision
			create(t, client, prefix+"ns/zz", "late")
		}
		for _, pair := range response.Kvs {
			names = append(names, string(pair.Key))
		}
		page.Continue, page.Limit = names[len(names)-1]+"\x00", 2*page.Limit
	}
	for i, name := range names {
		equal(t, "name", name, fmt.Sprintf("%sns/%02d", prefix, i))
	}
	count, err := client.Count(t.Context(), prefix, kubernetes.CountOptions{})
	must(t, err)
	equal(t, "count", count, pods+1)
	keys, err := client.Client.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(t, err)
	equal(t, "keys", len(keys.Kvs), pods+1)
	for _, pair := range keys.Kvs {
		equal(t, "value of "+string(pair.Key), len(pair.Value), 0)
	}
	compacted, err := client.Compact(t.Context(), page.Revision+1)
	must(t, err)
	equal(t, "compaction leaves the revision", compacted.Header.Revision, keys.Header.Revision)
	_, err = client.List(t.Context(), prefix, page)
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("a page of a revision that is gone: %v", err)
	}
}

// A8, A9, A10: what fails says what is there.
func TestRequestOptimisticWrites(t *testing.T) {
	client := emptied(t)
	const key = "/registry/pods/ns/a"
	first := create(t, client, key, "1")
	again, err := client.OptimisticPut(t.Context(), key, []byte("x"), 0, kubernetes.PutOptions{})
	must(t, err)
	equal(t, "created again", again.Succeeded, false)
	second := update(t, client, key, "2", first)
	stale, err := client.OptimisticPut(t.Context(), key, []byte("x"), first, kubernetes.PutOptions{GetOnFailure: true})
	must(t, err)
	equal(t, "updated what has changed", stale.Succeeded, false)
	equal(t, "what is there", fmt.Sprint(string(stale.KV.Value), stale.KV.ModRevision), fmt.Sprint("2", second))
	gone, err := client.OptimisticPut(t.Context(), "/registry/none", []byte("x"), first, kubernetes.PutOptions{GetOnFailure: true})
	must(t, err)
	if gone.Succeeded || gone.KV != nil {
		t.Fatalf("updated what is not there: %v", gone)
	}
	kept, err := client.OptimisticDelete(t.Context(), key, first, kubernetes.DeleteOptions{GetOnFailure: true})
	must(t, err)
	equal(t, "deleted what has changed", kept.Succeeded, false)
	equal(t, "what is there", kept.KV.ModRevision, second)
	deleted, err := client.OptimisticDelete(t.Context(), key, second, kubernetes.DeleteOptions{GetOnFailure: true})
	must(t, err)
	equal(t, "deleted", deleted.Succeeded, true)
	equal(t, "revision of the delete", deleted.Revision, second+1)
}

// A11, A12: of many API servers one wins each vote.
func TestRequestCompactionVote(t *testing.T) {
	client := emptied(t)
	revision := create(t, client, "/registry/a", "1")
	const servers, rounds = 5, 4
	for round := range int64(rounds) {
		winners := make(chan int64, servers)
		var group sync.WaitGroup
		for range servers {
			own := connect(t)
			group.Go(func() {
				votes, _, compacted, err := etcd3.Compact(t.Context(), own.Client, round, revision)
				if err != nil || votes != round+1 {
					t.Errorf("after vote %d there were %d: %v", round+1, votes, err)
				}
				winners <- compacted
			})
		}
		group.Wait()
		close(winners)
		for compacted := range winners {
			equal(t, "compacted", compacted, revision)
		}
		vote, err := client.Client.Get(t.Context(), "compact_rev_key")
		must(t, err)
		equal(t, "votes", vote.Kvs[0].Version, round+1)
		revision = vote.Header.Revision
	}
}

// A13, A14: a lease has an id and its time; each endpoint says a version that is strict semver.
func TestRequestLeaseAndStatus(t *testing.T) {
	client := emptied(t)
	lease, err := client.Grant(t.Context(), 3660)
	must(t, err)
	equal(t, "time to live", lease.TTL, 3660)
	if lease.ID <= 0 {
		t.Fatalf("a lease has the id %d", lease.ID)
	}
	for _, endpoint := range endpoints() {
		answer, err := client.Status(t.Context(), endpoint)
		must(t, err)
		parsed, err := version.ParseSemantic(answer.Version)
		must(t, err)
		if parsed.LessThan(version.MustParseSemantic("3.5.24")) || answer.DbSize <= 0 {
			t.Fatalf("%s is of version %s and has %d bytes", endpoint, answer.Version, answer.DbSize)
		}
	}
}

// A17: the whole range of one revision in pieces. A server that has no such call says so by code 12.
func TestRequestRangeStream(t *testing.T) {
	client := emptied(t)
	const prefix, keys = "/registry/pods/", 137
	var last int64
	for i := range keys {
		last = create(t, client, fmt.Sprintf("%s%03d", prefix, i), strings.Repeat("x", i*10))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := pb.NewKVClient(client.ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)),
	})
	must(t, err)
	seen := 0
	for {
		message, err := stream.Recv()
		if status.Code(err) == codes.Unimplemented && seen == 0 {
			// etcd 3.6. The API server then reads pages, as TestRequestList does.
			return
		}
		must(t, err)
		answer := message.GetRangeResponse()
		for _, pair := range answer.GetKvs() {
			equal(t, "key", string(pair.Key), fmt.Sprintf("%s%03d", prefix, seen))
			if seen == 0 {
				create(t, client, prefix+"0000", "written meanwhile")
			}
			seen++
		}
		if answer.GetHeader() != nil {
			equal(t, "keys", seen, keys)
			equal(t, "count", answer.Count, keys)
			equal(t, "revision", answer.Header.Revision, last)
			return
		}
	}
}

// C4: what is too large is refused with a text and a code that become HTTP 413.
func TestRequestTooLarge(t *testing.T) {
	client := emptied(t)
	put := func(bytes int) error {
		_, err := pb.NewKVClient(client.ActiveConnection()).Put(t.Context(), &pb.PutRequest{
			Key: []byte("/registry/large"), Value: make([]byte, bytes),
		})
		return err
	}
	must(t, put(1400<<10))
	refused := status.Convert(put(1600 << 10))
	equal(t, "code", refused.Code(), codes.InvalidArgument)
	equal(t, "text", refused.Message(), "etcdserver: request is too large")
}
