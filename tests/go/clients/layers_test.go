// What clientv3 builds on top of its calls: namespaces, mirrors, order, leased caches, and the
// interface for Kubernetes.

package clients

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

func TestNamespace(t *testing.T) {
	p := newPlace(t)
	inside := connect(t)
	inside.KV = namespace.NewKV(inside.KV, p.prefix)
	inside.Watcher = namespace.NewWatcher(inside.Watcher, p.prefix)
	inside.Lease = namespace.NewLease(inside.Lease, p.prefix)

	watched := inside.Watch(p.ctx, "a", clientv3.WithCreatedNotify(), clientv3.WithPrevKV())
	next(t, "the watch", watched)
	lease, err := inside.Grant(p.ctx, 600)
	must(t, err)
	_, err = inside.Put(p.ctx, "a", "1", clientv3.WithLease(lease.ID))
	must(t, err)
	p.expect(t, "a=1", "a")
	equal(t, "watched key", string(next(t, "the put", watched).Events[0].Kv.Key), "a")
	keys, err := inside.TimeToLive(p.ctx, lease.ID, clientv3.WithAttachedKeys())
	must(t, err)
	equal(t, "attached key", string(keys.Keys[0]), "a")
	all, err := inside.Get(p.ctx, "", clientv3.WithFromKey())
	must(t, err)
	equal(t, "keys of the namespace", all.Count, 1)
	moved, err := inside.Txn(p.ctx).
		If(clientv3util.KeyExists("a"), clientv3util.KeyMissing("b")).
		Then(clientv3.OpDelete("a", clientv3.WithPrevKV()), clientv3.OpPut("b", "2")).
		Commit()
	must(t, err)
	equal(t, "moved", moved.Succeeded, true)
	equal(t, "deleted key", string(moved.Responses[0].GetResponseDeleteRange().PrevKvs[0].Key), "a")
	gone := next(t, "the delete", watched).Events[0]
	equal(t, "key before", string(gone.PrevKv.Key), "a")
	p.expect(t, "b=2", "", clientv3.WithPrefix())
}

func TestMirror(t *testing.T) {
	p := newPlace(t)
	const keys = 2500
	for from := 0; from < keys; from += 100 {
		var puts []clientv3.Op
		for i := from; i < from+100; i++ {
			puts = append(puts, clientv3.OpPut(p.key(fmt.Sprintf("%05d", i)), fmt.Sprint(i)))
		}
		_, err := p.Txn(p.ctx).Then(puts...).Commit()
		must(t, err)
	}
	syncer := mirror.NewSyncer(p.Client, p.prefix, 0)
	base, errs := syncer.SyncBase(p.ctx)
	copied := map[string]string{}
	for response := range base {
		for _, pair := range response.Kvs {
			copied[string(pair.Key)] = string(pair.Value)
		}
	}
	must(t, <-errs)
	equal(t, "keys", len(copied), keys)
	updates := syncer.SyncUpdates(p.ctx)
	p.put(t, "00000", "changed")
	_, err := p.Delete(p.ctx, p.key("00001"))
	must(t, err)
	p.put(t, "end", "end")
	for copied[p.key("end")] == "" {
		response := next(t, "updates", updates)
		must(t, response.Err())
		for _, event := range response.Events {
			if event.Type == mvccpb.DELETE {
				delete(copied, string(event.Kv.Key))
			} else {
				copied[string(event.Kv.Key)] = string(event.Kv.Value)
			}
		}
	}
	original := p.get(t, "", clientv3.WithPrefix())
	equal(t, "keys of the mirror", len(copied), int(original.Count))
	for _, pair := range original.Kvs {
		equal(t, string(pair.Key), copied[string(pair.Key)], string(pair.Value))
	}
}

// Reads in order from whichever member answers, if need be by asking the next one.
func TestOrdering(t *testing.T) {
	p := newPlace(t)
	client := connect(t)
	kv := ordering.NewKV(client.KV, ordering.NewOrderViolationSwitchEndpointClosure(client))
	var last int64
	for i := range 50 {
		p.put(t, "a", fmt.Sprint(i))
		response, err := kv.Get(p.ctx, p.key("a"), clientv3.WithSerializable())
		if errors.Is(err, ordering.ErrNoGreaterRev) {
			// A follower is behind what was read before, and the others were already asked.
			continue
		}
		must(t, err)
		if response.Header.Revision < last {
			t.Fatalf("revision %d after %d", response.Header.Revision, last)
		}
		last = response.Header.Revision
	}
	if last == 0 {
		t.Fatal("nothing was read")
	}
}

func TestLeasing(t *testing.T) {
	p := newPlace(t)
	cached, closeCached, err := leasing.NewKV(connect(t), p.key("leases/"))
	must(t, err)
	defer closeCached()
	other, closeOther, err := leasing.NewKV(connect(t), p.key("leases/"))
	must(t, err)
	defer closeOther()
	p.put(t, "a", "1")
	for i := range 10 {
		response, err := cached.Get(p.ctx, p.key("a"))
		must(t, err)
		equal(t, "own value", string(response.Kvs[0].Value), fmt.Sprint(i+1))
		// The other owner must take the key's lease away from the cache before it writes.
		_, err = other.Put(p.ctx, p.key("a"), fmt.Sprint(i+2))
		must(t, err)
	}
	_, err = cached.Delete(p.ctx, p.key("a"))
	must(t, err)
	gone, err := other.Get(p.ctx, p.key("a"))
	must(t, err)
	equal(t, "keys", len(gone.Kvs), 0)
}

func TestKubernetesInterface(t *testing.T) {
	p := newPlace(t)
	client, err := kubernetes.New(clientv3.Config{Endpoints: endpoints(), DialTimeout: dialTimeout})
	must(t, err)
	defer client.Close()
	key := p.key("a")
	created, err := client.OptimisticPut(p.ctx, key, []byte("1"), 0, kubernetes.PutOptions{})
	must(t, err)
	equal(t, "created", created.Succeeded, true)
	again, err := client.OptimisticPut(p.ctx, key, []byte("x"), 0, kubernetes.PutOptions{GetOnFailure: true})
	must(t, err)
	equal(t, "created again", again.Succeeded, false)
	equal(t, "what is there", again.KV.ModRevision, created.Revision)
	changed, err := client.OptimisticPut(p.ctx, key, []byte("2"), created.Revision, kubernetes.PutOptions{})
	must(t, err)
	equal(t, "changed", changed.Succeeded, true)
	got, err := client.Kubernetes.Get(p.ctx, key, kubernetes.GetOptions{Revision: created.Revision})
	must(t, err)
	equal(t, "old value", string(got.KV.Value), "1")
	list, err := client.List(p.ctx, p.prefix, kubernetes.ListOptions{Limit: 1})
	must(t, err)
	equal(t, "count", list.Count, 1)
	count, err := client.Count(p.ctx, p.prefix, kubernetes.CountOptions{})
	must(t, err)
	equal(t, "counted", count, 1)
	stale, err := client.OptimisticDelete(p.ctx, key, created.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	must(t, err)
	equal(t, "deleted what has changed", stale.Succeeded, false)
	equal(t, "what is there", string(stale.KV.Value), "2")
	deleted, err := client.OptimisticDelete(p.ctx, key, changed.Revision, kubernetes.DeleteOptions{})
	must(t, err)
	equal(t, "deleted", deleted.Succeeded, true)
	equal(t, "one revision more", deleted.Revision, changed.Revision+1)
}

// A client that was told of one member finds the others.
func TestClientSyncsEndpoints(t *testing.T) {
	p := newPlace(t)
	client := connectTo(t, endpoints()[0])
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	must(t, client.Sync(ctx))
	equal(t, "endpoints", len(client.Endpoints()), len(endpoints()))
}
