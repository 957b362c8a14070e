// Leases, as events and the API servers' own records use them.

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func grant(t *testing.T, client *kubernetes.Client, seconds int64) clientv3.LeaseID {
	t.Helper()
	lease, err := client.Grant(t.Context(), seconds)
	must(t, err)
	return lease.ID
}

func putWith(t *testing.T, client *kubernetes.Client, key string, revision int64, lease clientv3.LeaseID) int64 {
	t.Helper()
	options := kubernetes.PutOptions{GetOnFailure: true, LeaseID: lease}
	response, err := client.OptimisticPut(t.Context(), key, []byte("v"), revision, options)
	must(t, err)
	equal(t, "put "+key, response.Succeeded, true)
	return response.Revision
}

// Creates one, also if an attempt whose outcome is unknown has done so already.
func createEvent(ctx context.Context, client *kubernetes.Client, key string, lease clientv3.LeaseID) error {
	options := kubernetes.PutOptions{LeaseID: lease, GetOnFailure: true}
	for attempt := 0; ; attempt++ {
		created, err := client.OptimisticPut(ctx, key, []byte("event"), 0, options)
		switch {
		case err != nil && attempt < 20:
			continue
		case err == nil && !created.Succeeded && attempt == 0:
			return errors.New("it was there before")
		default:
			return err
		}
	}
}

// L1: nobody keeps an event's lease alive and nobody revokes it. It expires, not early, and takes its
// thousand keys along, with events that carry what they were.
func TestEventsExpire(t *testing.T) {
	client := emptied(t)
	const prefix, keys, writers, seconds = "/registry/events/", 1000, 8, 8
	watch := client.Watch(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	next(t, "the watch", watch)
	granted := time.Now()
	lease := grant(t, client, seconds)
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for i := writer; i < keys; i += writers {
				if err := createEvent(t.Context(), client, fmt.Sprintf("%s%04d", prefix, i), lease); err != nil {
					t.Errorf("event %d: %v", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	living := map[string]bool{}
	for deleted := 0; deleted < keys; {
		response := next(t, "events", watch)
		must(t, response.Err())
		for _, event := range response.Events {
			key := string(event.Kv.Key)
			if event.Type == mvccpb.PUT {
				living[key] = true
				continue
			}
			if lived := time.Since(granted); lived < seconds*time.Second {
				t.Fatalf("an event has expired after %v", lived)
			}
			equal(t, key+" was there", living[key], true)
			equal(t, "value before", string(event.PrevKv.Value), "event")
			equal(t, "lease before", event.PrevKv.Lease, int64(lease))
			delete(living, key)
			deleted++
		}
	}
	count, err := client.Count(t.Context(), prefix, kubernetes.CountOptions{})
	must(t, err)
	equal(t, "events that are left", count, 0)
}

// L2: a record that was put again with a new lease outlives the old one.
func TestRecordOutlivesItsOldLease(t *testing.T) {
	client := emptied(t)
	const key = "/registry/masterleases/127.0.0.1"
	old, renewed := grant(t, client, 2), grant(t, client, 600)
	first := putWith(t, client, key, 0, old)
	second := putWith(t, client, key, first, renewed)
	eventually(t, patience, func() error {
		left, err := client.TimeToLive(t.Context(), old)
		if err == nil && left.TTL != -1 {
			err = fmt.Errorf("the old lease has %d s left", left.TTL)
		}
		return err
	})
	got, err := client.Kubernetes.Get(t.Context(), key, kubernetes.GetOptions{})
	must(t, err)
	equal(t, "revision of the record", got.KV.ModRevision, second)
	equal(t, "revision of the store", got.Revision, second)
	equal(t, "lease", got.KV.Lease, int64(renewed))
}

// L3: a put without a lease detaches; one with a lease that nobody granted undoes its transaction.
func TestLeaseZeroDetaches(t *testing.T) {
	client := emptied(t)
	lease := grant(t, client, 600)
	first := putWith(t, client, "/registry/a", 0, lease)
	second := putWith(t, client, "/registry/a", first, 0)
	_, err := client.Revoke(t.Context(), lease)
	must(t, err)
	got, err := client.Kubernetes.Get(t.Context(), "/registry/a", kubernetes.GetOptions{})
	must(t, err)
	equal(t, "revision", got.KV.ModRevision, second)
	equal(t, "lease", got.KV.Lease, 0)

	put := func(key string, lease int64) *pb.RequestOp {
		request := &pb.PutRequest{Key: []byte(key), Value: []byte("x"), Lease: lease}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: request}}
	}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{put("/registry/a", 0), put("/registry/b", int64(lease))}}
	_, err = pb.NewKVClient(client.ActiveConnection()).Txn(t.Context(), txn)
	equal(t, "code", status.Code(err), codes.NotFound)
	equal(t, "text", status.Convert(err).Message(), "etcdserver: requested lease not found")
	after, err := client.List(t.Context(), "/registry/", kubernetes.ListOptions{})
	must(t, err)
	equal(t, "keys", after.Count, 1)
	equal(t, "value", string(after.Kvs[0].Value), "v")
	equal(t, "revision of the store", after.Revision, second)
}
