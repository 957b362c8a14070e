// Revisions: facts on which objects break when they are wrong.

package kubernetes

import (
	"context"
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// T4.
func TestFreshStoreIsAtRevisionOne(t *testing.T) {
	for _, client := range connectEach(t) {
		response, err := client.Client.Get(t.Context(), "/registry/pods")
		must(t, err)
		equal(t, "revision of an empty store", response.Header.Revision, 1)
	}
	equal(t, "revision of the first write", create(t, connect(t), "/registry/pods/a", "1"), 2)
}

// What a transaction has written, and at which revision by its own answer.
type written struct {
	key      string
	revision int64
	deleted  bool
}

// Creates, updates and deletes a key of its own, over and over.
func writeOwn(ctx context.Context, client *kubernetes.Client, key string, rounds int) ([]written, error) {
	var all []written
	for round := range rounds {
		var revision int64
		for step := range 3 {
			put, err := client.OptimisticPut(ctx, key, fmt.Append(nil, round, step), revision, kubernetes.PutOptions{GetOnFailure: step > 0})
			if err != nil || !put.Succeeded {
				return nil, fmt.Errorf("%s, round %d, step %d: %v, %v", key, round, step, put, err)
			}
			revision = put.Revision
			all = append(all, written{key, revision, false})
		}
		stale, err := client.OptimisticDelete(ctx, key, revision-1, kubernetes.DeleteOptions{GetOnFailure: true})
		if err != nil || stale.Succeeded || stale.KV.ModRevision != revision {
			return nil, fmt.Errorf("%s, round %d: deleted what has changed: %v, %v", key, round, stale, err)
		}
		deleted, err := client.OptimisticDelete(ctx, key, revision, kubernetes.DeleteOptions{})
		if err != nil || !deleted.Succeeded {
			return nil, fmt.Errorf("%s, round %d: not deleted: %v, %v", key, round, deleted, err)
		}
		all = append(all, written{key, deleted.Revision, true})
	}
	return all, nil
}

// T1, T2: a transaction's header, its key and its event carry one and the same revision, which no
// other transaction has.
func TestRevisionIsTheTransactionsOwn(t *testing.T) {
	client := emptied(t)
	before, err := client.Client.Get(t.Context(), "/registry")
	must(t, err)
	const writers, rounds = 12, 6
	watch := client.Watch(t.Context(), "/registry/", clientv3.WithPrefix(), clientv3.WithRev(before.Header.Revision+1))
	byRevision, mutex := map[int64]written{}, sync.Mutex{}
	var group sync.WaitGroup
	for writer := range writers {
		own := connect(t)
		group.Go(func() {
			all, err := writeOwn(t.Context(), own, fmt.Sprintf("/registry/%d", writer), rounds)
			if err != nil {
				t.Error(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			for _, one := range all {
				if other, ok := byRevision[one.revision]; ok {
					t.Errorf("%v and %v have one revision", one, other)
				}
				byRevision[one.revision] = one
			}
		})
	}
	group.Wait()
	equal(t, "writes", len(byRevision), writers*rounds*4)
	for expected := before.Header.Revision + 1; len(byRevision) > 0; {
		response, ok := <-watch
		if !ok || response.Err() != nil {
			t.Fatalf("the watch has ended: %v", response.Err())
		}
		for _, event := range response.Events {
			own := byRevision[event.Kv.ModRevision]
			delete(byRevision, event.Kv.ModRevision)
			equal(t, "event", written{string(event.Kv.Key), event.Kv.ModRevision, event.Type == clientv3.EventTypeDelete}, own)
			equal(t, "revision", event.Kv.ModRevision, expected)
			expected++
		}
	}
}

// T3.
func TestReadsAndRefusalsLeaveTheRevision(t *testing.T) {
	client := emptied(t)
	first := create(t, client, "/registry/a", "1")
	now := update(t, client, "/registry/a", "2", first)
	for name, do := range map[string]func() error{
		"get":     func() error { _, err := client.Client.Get(t.Context(), "/registry/a"); return err },
		"list":    func() error { _, err := client.List(t.Context(), "/registry/", kubernetes.ListOptions{}); return err },
		"grant":   func() error { _, err := client.Grant(t.Context(), 3660); return err },
		"compact": func() error { _, err := client.Compact(t.Context(), first); return err },
		"failed txn": func() error {
			_, err := client.OptimisticPut(t.Context(), "/registry/a", nil, first, kubernetes.PutOptions{GetOnFailure: true})
			return err
		},
		"delete of nothing": func() error { _, err := client.Delete(t.Context(), "/registry/none"); return err },
	} {
		must(t, do())
		for _, each := range connectEach(t) {
			response, err := each.Client.Get(t.Context(), "/registry/pods")
			must(t, err)
			equal(t, "revision after "+name, response.Header.Revision, now)
		}
	}
}

// T5: the codes and texts of revisions that are gone, or not there yet.
func TestRevisionsOutOfRange(t *testing.T) {
	client := emptied(t)
	first := create(t, client, "/registry/a", "1")
	second := update(t, client, "/registry/a", "2", first)
	third := update(t, client, "/registry/a", "3", second)
	_, err := client.Compact(t.Context(), second)
	must(t, err)
	for _, each := range connectEach(t) {
		read := func(revision int64) (*pb.RangeResponse, error) {
			request := &pb.RangeRequest{Key: []byte("/registry/a"), Revision: revision}
			return pb.NewKVClient(each.ActiveConnection()).Range(t.Context(), request)
		}
		_, err := read(first)
		equal(t, "code of what is gone", status.Code(err), codes.OutOfRange)
		equal(t, "its text", status.Convert(err).Message(), "etcdserver: mvcc: required revision has been compacted")
		_, err = read(third + 100)
		equal(t, "code of what is not there yet", status.Code(err), codes.OutOfRange)
		equal(t, "its text", status.Convert(err).Message(), "etcdserver: mvcc: required revision is a future revision")
		kept, err := read(second)
		must(t, err)
		equal(t, "value at the compacted revision", string(kept.Kvs[0].Value), "2")
	}
}

// T6: whichever member is asked, it knows what any member has acknowledged.
func TestEveryMemberReadsTheLastWrite(t *testing.T) {
	emptied(t)
	clients := connectEach(t)
	revision := create(t, clients[0], "/registry/a", "start")
	for round := range 30 {
		for i, writer := range clients {
			value := fmt.Sprint(round, i)
			revision = update(t, writer, "/registry/a", value, revision)
			for _, reader := range clients {
				got, err := reader.Kubernetes.Get(t.Context(), "/registry/a", kubernetes.GetOptions{})
				must(t, err)
				equal(t, "value", string(got.KV.Value), value)
				equal(t, "revision", got.KV.ModRevision, revision)
			}
		}
	}
}
