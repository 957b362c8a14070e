// Watches: facts on which the watch cache depends.

package kubernetes

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

const pods = "/registry/pods/"

// W1: answers come in the order of the requests, with ids that no other watch of the stream has.
func TestWatchesAreCreatedInOrder(t *testing.T) {
	client := emptied(t)
	s := openStream(t, client)
	const watches = 20
	for i := range watches {
		s.create(watchPrefix(fmt.Sprintf("/registry/%02d/", i), 0))
	}
	byID := map[int64]int{}
	for i := range watches {
		created := s.next()
		equal(t, "created", created.Created, true)
		_, isTwice := byID[created.WatchId]
		equal(t, "id is used twice", isTwice || created.WatchId < 0, false)
		byID[created.WatchId] = i
	}
	for i := range watches {
		key := fmt.Sprintf("/registry/%02d/pod", i)
		create(t, client, key, "v")
		message := s.next()
		equal(t, "watch of "+key, byID[message.WatchId], i)
		equal(t, "its key", string(message.Events[0].Kv.Key), key)
	}
}

// W2.
func TestEventsCarryWhatWasBefore(t *testing.T) {
	client := emptied(t)
	s := openStream(t, client)
	first := create(t, client, pods+"a", "1")
	s.watch(watchPrefix(pods, first))
	second := update(t, client, pods+"a", "2", first)
	deleted, err := client.OptimisticDelete(t.Context(), pods+"a", second, kubernetes.DeleteOptions{})
	must(t, err)
	again := create(t, client, pods+"a", "3")

	var events []*mvccpb.Event
	for len(events) < 4 {
		events = append(events, s.next().Events...)
	}
	for i, want := range []struct {
		kind              mvccpb.Event_EventType
		value, before     string
		revision, created int64
	}{
		{mvccpb.PUT, "1", "", first, first},
		{mvccpb.PUT, "2", "1", second, first},
		{mvccpb.DELETE, "", "2", deleted.Revision, 0},
		{mvccpb.PUT, "3", "", again, again},
	} {
		event := events[i]
		equal(t, "type", event.Type, want.kind)
		equal(t, "key", string(event.Kv.Key), pods+"a")
		equal(t, "value", string(event.Kv.Value), want.value)
		equal(t, "revision", event.Kv.ModRevision, want.revision)
		equal(t, "created", event.Kv.CreateRevision, want.created)
		equal(t, "has a value before", event.PrevKv != nil, want.before != "")
		if event.PrevKv != nil {
			equal(t, "value before", string(event.PrevKv.Value), want.before)
		}
	}
}

// W3: a revision is never in two messages, whatever else the stream has to say meanwhile.
func TestRevisionIsOneMessage(t *testing.T) {
	client := emptied(t)
	s := openStream(t, client)
	s.watch(watchPrefix(pods, 0))
	const rounds, keys = 20, 60
	done := make(chan error, 1)
	go func() {
		for round := range rounds {
			var puts []clientv3.Op
			for i := range keys {
				puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%02d", pods, i), fmt.Sprint(round)))
			}
			if _, err := client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	last, seen := int64(0), 0
	for seen < rounds*keys {
		s.requestProgress()
		message := s.next()
		count := map[int64]int{}
		for _, event := range message.Events {
			count[event.Kv.ModRevision]++
		}
		for revision, events := range count {
			equal(t, fmt.Sprint("events of revision ", revision), events, keys)
		}
		if len(message.Events) > 0 {
			if message.Events[0].Kv.ModRevision <= last {
				t.Fatalf("revision %d after %d", message.Events[0].Kv.ModRevision, last)
			}
			last = message.Events[len(message.Events)-1].Kv.ModRevision
		} else if message.Header.Revision < last {
			t.Fatalf("progress to %d after events of %d", message.Header.Revision, last)
		} else {
			last = message.Header.Revision
		}
		seen += len(message.Events)
	}
	must(t, next(t, "the writer", done))
}

// W4.
func TestWatchOfWhatIsCompacted(t *testing.T) {
	client := emptied(t)
	first := create(t, client, pods+"a", "1")
	second := update(t, client, pods+"a", "2", first)
	_, err := client.Compact(t.Context(), second)
	must(t, err)
	s := openStream(t, client)
	id := s.watch(watchPrefix(pods, first))
	canceled := s.next()
	equal(t, "canceled", canceled.Canceled, true)
	equal(t, "watch", canceled.WatchId, id)
	equal(t, "where history begins", canceled.CompactRevision, second)
	// The stream goes on.
	s.watch(watchPrefix(pods, second))
	equal(t, "event", string(s.next().Events[0].Kv.Value), "2")
}

// W5.
func TestWatchThatIsRefused(t *testing.T) {
	s := openStream(t, emptied(t))
	// The one refusal that needs no users and no permissions: a range that ends before it begins.
	s.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	refused := s.next()
	equal(t, "created", refused.Created, true)
	equal(t, "canceled", refused.Canceled, true)
	equal(t, "watch", refused.WatchId, -1)
	if refused.CancelReason == "" {
		t.Fatal("no reason is given")
	}
}

// W6: an idle watch that wants it hears how far it is, and one that does not want it hears nothing.
func TestPeriodicProgress(t *testing.T) {
	client := emptied(t)
	s := openStream(t, client)
	silent := s.watch(watchPrefix(pods, 0))
	wanted := watchPrefix(pods, 0)
	wanted.ProgressNotify = true
	hearing := s.watch(wanted)
	revision := create(t, client, "/registry/other/a", "1")
	for heard := 0; heard < 3; {
		message := s.next()
		if message.WatchId == silent {
			t.Fatalf("a watch that wants no progress hears %v", message)
		}
		equal(t, "watch", message.WatchId, hearing)
		equal(t, "events", len(message.Events), 0)
		if message.Header.Revision >= revision {
			heard++
		}
	}
	equal(t, "revision of the next event", create(t, client, pods+"a", "1"), revision+1)
	for i := range 2 {
		equal(t, fmt.Sprint("events ", i), len(s.nextWithEvents().Events), 1)
	}
}

func (s *stream) nextWithEvents() *pb.WatchResponse {
	s.t.Helper()
	for {
		if message := s.next(); len(message.Events) > 0 {
			return message
		}
	}
}

// W7: progress that was asked for comes behind all events up to its revision, also while a watch of
// the stream still reads history.
func TestRequestedProgress(t *testing.T) {
	client := emptied(t)
	const history = 300
	first := create(t, client, pods+"a", "0")
	last := first
	for i := 1; i < history; i++ {
		last = update(t, client, pods+"a", fmt.Sprint(i), last)
	}
	s := openStream(t, client)
	s.create(watchPrefix(pods, 0))
	s.create(watchPrefix(pods, first))
	seen := 0
	for {
		s.requestProgress()
		message := s.next()
		seen += len(message.Events)
		if message.WatchId != -1 {
			continue
		}
		// A member that is behind says how far it is itself. Nothing else is written meanwhile.
		progress := message.Header.Revision
		equal(t, fmt.Sprint("events before progress to ", progress), int64(seen), progress-first+1)
		if progress == last {
			equal(t, "events", seen, history)
			return
		}
	}
}

// T5: a watch from a revision that is not there yet hears nothing of what is before it.
func TestWatchOfTheFuture(t *testing.T) {
	client := emptied(t)
	now := create(t, client, pods+"a", "0")
	s := openStream(t, client)
	request := watchPrefix(pods, now+4)
	request.ProgressNotify = true
	s.watch(request)
	revision := now
	for i := range 5 {
		s.requestProgress()
		revision = update(t, client, pods+"a", fmt.Sprint(i+1), revision)
	}
	message := s.next()
	equal(t, "first event", string(message.Events[0].Kv.Value), "4")
	equal(t, "its revision", message.Events[0].Kv.ModRevision, now+4)
}

// W8: cancelling one watch answers for that one, and its siblings on the stream go on.
func TestCancelTouchesNoSibling(t *testing.T) {
	client := emptied(t)
	s := openStream(t, client)
	var ids []int64
	for range 3 {
		ids = append(ids, s.watch(watchPrefix(pods, 0)))
	}
	s.cancel(ids[1])
	canceled := s.next()
	equal(t, "canceled", canceled.Canceled, true)
	equal(t, "watch", canceled.WatchId, ids[1])
	create(t, client, pods+"a", "1")
	heard := map[int64]bool{}
	for range 2 {
		heard[s.next().WatchId] = true
	}
	equal(t, "siblings that hear", heard[ids[0]] && heard[ids[2]], true)
	s.requestProgress()
	equal(t, "progress of the others", s.next().WatchId, -1)
}
