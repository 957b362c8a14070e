// Lists and watches that go on while others write, connections move to other members, and members
// are killed: nothing may be lost, and nothing told twice.

package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

const (
	followedKeys = 30
	writeFor     = 12 * time.Second
	// How long one call may take before it is given up, as the API server gives up.
	callWithin = 3 * time.Second
	endKey     = pods + "zz-end"
)

// What a watch cache has: keys, each with the revision of its last change.
type copied map[string]int64

// Writes until the time is over, whatever becomes of single calls: it always looks first.
func writeAnyhow(ctx context.Context, client *kubernetes.Client, until time.Time) (acknowledged int) {
	for time.Now().Before(until) {
		if write(ctx, client, fmt.Sprintf("%s%02d", pods, rand.IntN(followedKeys))) == nil {
			acknowledged++
		}
	}
	return acknowledged
}

func write(ctx context.Context, client *kubernetes.Client, key string) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	got, err := client.Kubernetes.Get(ctx, key, kubernetes.GetOptions{})
	if err != nil {
		return err
	}
	var revision int64
	if got.KV != nil {
		revision = got.KV.ModRevision
	}
	if got.KV != nil && rand.IntN(4) == 0 {
		_, err = client.OptimisticDelete(ctx, key, revision, kubernetes.DeleteOptions{GetOnFailure: true})
	} else {
		_, err = client.OptimisticPut(ctx, key, []byte("v"), revision, kubernetes.PutOptions{GetOnFailure: true})
	}
	return err
}

// Lists in pages of one revision until it has all of them.
func list(ctx context.Context, client *kubernetes.Client) (copied, int64) {
	for {
		if all, revision, err := listOnce(ctx, client); err == nil {
			return all, revision
		}
		if ctx.Err() != nil {
			return nil, 0
		}
	}
}

func listOnce(ctx context.Context, client *kubernetes.Client) (copied, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	all, page := copied{}, kubernetes.ListOptions{Limit: 7}
	for {
		response, err := client.List(ctx, pods, page)
		if err != nil {
			return nil, 0, err
		}
		for _, pair := range response.Kvs {
			all[string(pair.Key)] = pair.ModRevision
			page.Continue = string(pair.Key) + "\x00"
		}
		if page.Revision == 0 {
			page.Revision = response.Revision
		}
		if int64(len(response.Kvs)) >= response.Count {
			return all, page.Revision, nil
		}
	}
}

// Lists, watches from there, and keeps its copy until the end is written. The connection moves to
// another member time and again.
func follow(ctx context.Context, client *kubernetes.Client) (copied, error) {
	all, revision := list(ctx, client)
	ctx = clientv3.WithRequireLeader(ctx)
	for {
		events := client.Watch(ctx, pods, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithPrevKV())
		for response := range events {
			if response.Err() != nil {
				break
			}
			for _, event := range response.Events {
				if err := all.apply(event, revision); err != nil {
					return nil, err
				}
				revision = event.Kv.ModRevision
				if string(event.Kv.Key) == endKey {
					return all, nil
				}
			}
		}
		// "no leader" ends a watch, and the next one begins behind the last event.
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the end was not seen behind revision %d", revision)
		}
	}
}

// An event must be newer than the last, and be about the key as the copy has it.
func (c copied) apply(event *clientv3.Event, last int64) error {
	key, before := string(event.Kv.Key), int64(0)
	if event.PrevKv != nil {
		before = event.PrevKv.ModRevision
	}
	if event.Kv.ModRevision <= last {
		return fmt.Errorf("an event of revision %d behind %d", event.Kv.ModRevision, last)
	}
	if c[key] != before {
		return fmt.Errorf("%s was changed at %d, and an event of %d says %d", key, c[key], event.Kv.ModRevision, before)
	}
	if event.Type == mvccpb.DELETE {
		delete(c, key)
	} else {
		c[key] = event.Kv.ModRevision
	}
	return nil
}

// T7, T2.
func TestListAndWatchLoseNothing(t *testing.T) {
	client := emptied(t)
	const writers, followers = 4, 6
	until := time.Now().Add(writeFor)
	ctx, cancel := context.WithTimeout(t.Context(), writeFor+2*patience)
	defer cancel()
	var writing, following sync.WaitGroup
	acknowledged := make(chan int, writers)
	for range writers {
		own := connect(t)
		writing.Go(func() { acknowledged <- writeAnyhow(ctx, own, until) })
	}
	copies := make(chan copied, followers)
	for i := range followers {
		own := connect(t)
		following.Go(func() {
			all, err := follow(ctx, own)
			if err != nil {
				t.Error(err)
			}
			copies <- all
		})
		following.Go(func() { moveAbout(own, i, until) })
	}
	writing.Wait()
	eventually(t, patience, func() error {
		_, err := client.Put(ctx, endKey, "end")
		return err
	})
	following.Wait()
	close(acknowledged)
	close(copies)
	total := 0
	for writes := range acknowledged {
		total += writes
	}
	if total < 50 {
		t.Fatalf("only %d writes were acknowledged", total)
	}
	wanted, _ := list(ctx, client)
	for all := range copies {
		if !maps.Equal(all, wanted) {
			t.Errorf("a copy is %v, and the store has %v", all, wanted)
		}
	}
}

// Moves a client's connection, then lets it use all members again.
func moveAbout(client *kubernetes.Client, start int, until time.Time) {
	for i := start; time.Now().Before(until); i++ {
		time.Sleep(time.Second)
		client.SetEndpoints(endpoints()[i%len(endpoints())])
		time.Sleep(time.Second)
		client.SetEndpoints(endpoints()...)
	}
}

// W7: whatever is asked for progress, on which member, is told of no revision whose events the stream
// did not have yet. Each follower compares what it was told with a list at that very revision.
func TestProgressIsWhatAListSays(t *testing.T) {
	client := emptied(t)
	before, err := client.Client.Get(t.Context(), "/registry/pods")
	must(t, err)
	start, until := before.Header.Revision+1, time.Now().Add(writeFor/2)
	ctx, cancel := context.WithTimeout(t.Context(), writeFor+2*patience)
	defer cancel()
	var group sync.WaitGroup
	for range 3 {
		own := connect(t)
		group.Go(func() { writeAnyhow(ctx, own, until) })
	}
	checked := make(chan int, len(endpoints()))
	for _, each := range connectEach(t) {
		s := openStream(t, each)
		group.Go(func() { checked <- checkProgress(ctx, t, client, s, start, until) })
	}
	group.Wait()
	close(checked)
	all := slices.Collect(func(yield func(int) bool) {
		for count := range checked {
			if !yield(count) {
				return
			}
		}
	})
	if slices.Max(all) == 0 {
		t.Fatal("no progress was told by any member")
	}
}

// Returns how often progress was compared. A stream ends when its member is killed.
func checkProgress(ctx context.Context, t *testing.T, client *kubernetes.Client, s *stream, start int64, until time.Time) int {
	all, checked := copied{}, 0
	if s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: watchPrefix(pods, start)}}) != nil {
		return 0
	}
	for time.Now().Before(until) {
		progress := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
		if s.Send(&pb.WatchRequest{RequestUnion: progress}) != nil {
			return checked
		}
		var message *pb.WatchResponse
		select {
		case message = <-s.messages:
		case <-time.After(100 * time.Millisecond):
			// A request is not answered while a watch of the stream is behind.
			continue
		}
		if message == nil || message.Canceled {
			return checked
		}
		for _, event := range message.Events {
			if event.Type == mvccpb.DELETE {
				delete(all, string(event.Kv.Key))
			} else {
				all[string(event.Kv.Key)] = event.Kv.ModRevision
			}
		}
		if message.WatchId != -1 {
			continue
		}
		call, cancel := context.WithTimeout(ctx, callWithin)
		then, err := client.Client.Get(call, pods, clientv3.WithPrefix(), clientv3.WithRev(message.Header.Revision))
		cancel()
		if err != nil {
			continue
		}
		wanted := copied{}
		for _, pair := range then.Kvs {
			wanted[string(pair.Key)] = pair.ModRevision
		}
		if !maps.Equal(all, wanted) {
			t.Errorf("at revision %d a watch has told %v, and a list says %v", message.Header.Revision, all, wanted)
		}
		checked++
	}
	return checked
}
