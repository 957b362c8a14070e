// Watches: what they deliver, from when, and how they end.

package clients

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A watch, and those of its events that were not looked at yet.
type watching struct {
	*place
	channel clientv3.WatchChan
	events  []*clientv3.Event
}

// Watches, and waits until the watch is there.
func (p *place) watch(t *testing.T, name string, options ...clientv3.OpOption) *watching {
	t.Helper()
	channel := p.Watch(p.ctx, p.key(name), append(options, clientv3.WithCreatedNotify())...)
	equal(t, "created", next(t, "the watch", channel).Created, true)
	return &watching{place: p, channel: channel}
}

func (w *watching) next(t *testing.T) *clientv3.Event {
	t.Helper()
	for len(w.events) == 0 {
		response := next(t, "an event", w.channel)
		must(t, response.Err())
		w.events = response.Events
	}
	event := w.events[0]
	w.events = w.events[1:]
	return event
}

// The next events must be these: `PUT a=1` or `DELETE a`.
func (w *watching) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, want := range want {
		event := w.next(t)
		shown := fmt.Sprint(event.Type, " ", strings.TrimPrefix(string(event.Kv.Key), w.prefix))
		if event.Type == clientv3.EventTypePut {
			shown += "=" + string(event.Kv.Value)
		}
		equal(t, "event", shown, want)
	}
}

func TestWatchRanges(t *testing.T) {
	p := newPlace(t)
	one := p.watch(t, "b")
	prefix := p.watch(t, "b", clientv3.WithPrefix())
	span := p.watch(t, "b", clientv3.WithRange(p.key("c")))
	from := p.watch(t, "c", clientv3.WithFromKey())
	for _, name := range []string{"a", "b", "b1", "c"} {
		p.put(t, name, "v")
	}
	_, err := p.Delete(p.ctx, p.key("b"))
	must(t, err)
	p.put(t, "b", "end")
	p.put(t, "d", "end")
	one.expect(t, "PUT b=v", "DELETE b", "PUT b=end")
	prefix.expect(t, "PUT b=v", "PUT b1=v", "DELETE b", "PUT b=end")
	span.expect(t, "PUT b=v", "PUT b1=v", "DELETE b", "PUT b=end")
	from.expect(t, "PUT c=v", "PUT d=end")
}

func TestWatchPrevKV(t *testing.T) {
	p := newPlace(t)
	w := p.watch(t, "a", clientv3.WithPrevKV())
	p.put(t, "a", "1")
	p.put(t, "a", "2")
	deleted, err := p.Delete(p.ctx, p.key("a"))
	must(t, err)

	created := w.next(t)
	equal(t, "create", created.IsCreate(), true)
	if created.PrevKv != nil {
		t.Fatalf("a new key had %v before", created.PrevKv)
	}
	changed := w.next(t)
	equal(t, "modify", changed.IsModify(), true)
	equal(t, "value before", string(changed.PrevKv.Value), "1")
	gone := w.next(t)
	equal(t, "type", gone.Type, clientv3.EventTypeDelete)
	equal(t, "value before the delete", string(gone.PrevKv.Value), "2")
	equal(t, "revision of the delete", gone.Kv.ModRevision, deleted.Header.Revision)
	equal(t, "value", len(gone.Kv.Value), 0)
}

func TestWatchFromThePast(t *testing.T) {
	p := newPlace(t)
	first := p.put(t, "a", "0").Header.Revision
	var want []string
	for i := range 300 {
		p.put(t, "a", fmt.Sprint(i))
		want = append(want, fmt.Sprint("PUT a=", i))
	}
	w := p.watch(t, "a", clientv3.WithRev(first+1))
	p.put(t, "a", "live")
	w.expect(t, append(want, "PUT a=live")...)
}

func TestWatchFromTheFuture(t *testing.T) {
	p := newPlace(t)
	now := p.put(t, "a", "now").Header.Revision
	w := p.watch(t, "a", clientv3.WithRev(now+3))
	for i := 1; i <= 4; i++ {
		p.put(t, "a", fmt.Sprint(i))
	}
	first := w.next(t)
	if first.Kv.ModRevision < now+3 {
		t.Fatalf("an event of revision %d, watched from %d", first.Kv.ModRevision, now+3)
	}
}

func TestWatchFilters(t *testing.T) {
	p := newPlace(t)
	noPuts := p.watch(t, "", clientv3.WithPrefix(), clientv3.WithFilterPut())
	noDeletes := p.watch(t, "", clientv3.WithPrefix(), clientv3.WithFilterDelete())
	for _, name := range []string{"a", "b"} {
		p.put(t, name, "v")
		_, err := p.Delete(p.ctx, p.key(name))
		must(t, err)
	}
	noPuts.expect(t, "DELETE a", "DELETE b")
	noDeletes.expect(t, "PUT a=v", "PUT b=v")
}

func TestWatchTxnIsOneResponse(t *testing.T) {
	p := newPlace(t)
	w := p.watch(t, "", clientv3.WithPrefix())
	const keys = 100
	var puts []clientv3.Op
	for i := range keys {
		puts = append(puts, clientv3.OpPut(p.key(fmt.Sprintf("%03d", i)), "v"))
	}
	done, err := p.Txn(p.ctx).Then(puts...).Commit()
	must(t, err)
	response := next(t, "the events", w.channel)
	equal(t, "events", len(response.Events), keys)
	for _, event := range response.Events {
		equal(t, "revision", event.Kv.ModRevision, done.Header.Revision)
	}
}

func TestWatchFragments(t *testing.T) {
	p := newPlace(t)
	value := strings.Repeat("x", 500<<10)
	first := p.put(t, "start", "v").Header.Revision
	const keys = 8
	for i := range keys {
		p.put(t, fmt.Sprint(i), value)
	}
	w := p.watch(t, "", clientv3.WithPrefix(), clientv3.WithFragment(), clientv3.WithRev(first+1))
	for i := range keys {
		event := w.next(t)
		equal(t, "key", string(event.Kv.Key), p.key(fmt.Sprint(i)))
		equal(t, "length", len(event.Kv.Value), len(value))
	}
}

func TestWatchCompacted(t *testing.T) {
	p := newPlace(t)
	first := p.put(t, "a", "1").Header.Revision
	second := p.put(t, "a", "2").Header.Revision
	_, err := p.Compact(p.ctx, second)
	must(t, err)
	channel := p.Watch(p.ctx, p.key("a"), clientv3.WithRev(first))
	response := next(t, "the end of the watch", channel)
	fails(t, response.Err(), rpctypes.ErrCompacted)
	equal(t, "canceled", response.Canceled, true)
	equal(t, "where history begins", response.CompactRevision, second)
	closed(t, "the watch", channel)
	p.put(t, "a", "3")
	again := p.watch(t, "a", clientv3.WithRev(second))
	again.expect(t, "PUT a=2", "PUT a=3")
}

func TestWatchProgress(t *testing.T) {
	p := newPlace(t)
	// Of its own, since progress is that of all watches of a stream.
	ctx := clientv3.WithRequireLeader(p.ctx)
	revision := p.put(t, "a", "1").Header.Revision
	channel := p.Watch(ctx, p.key("a"), clientv3.WithCreatedNotify())
	next(t, "the watch", channel)
	for {
		must(t, p.RequestProgress(ctx))
		response := next(t, "progress", channel)
		must(t, response.Err())
		if response.IsProgressNotify() && response.Header.Revision >= revision {
			return
		}
	}
}

func TestWatchProgressIsNotAheadOfEvents(t *testing.T) {
	p := newPlace(t)
	ctx := clientv3.WithRequireLeader(p.ctx)
	const writes = 200
	channel := p.Watch(ctx, p.prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	next(t, "the watch", channel)
	done := make(chan error, 1)
	go func() {
		for i := range writes {
			if _, err := p.Put(p.ctx, p.key("a"), fmt.Sprint(i)); err != nil {
				done <- err
				return
			}
			if err := p.RequestProgress(ctx); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for seen, progress := 0, int64(0); seen < writes; {
		var response clientv3.WatchResponse
		select {
		case received, ok := <-channel:
			if !ok {
				t.Fatal("the watch has ended")
			}
			response = received
		case err := <-done:
			must(t, err)
			// A receive from nil is never ready: all is written, and the events are still to come.
			done = nil
			continue
		case <-time.After(patience):
			t.Fatalf("no events and no progress within %v", patience)
		}
		must(t, response.Err())
		if response.IsProgressNotify() {
			progress = response.Header.Revision
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision <= progress {
				t.Fatalf("an event of revision %d after progress to %d", event.Kv.ModRevision, progress)
			}
			equal(t, "value", string(event.Kv.Value), fmt.Sprint(seen))
			seen++
		}
	}
}

func TestWatchPeriodicProgress(t *testing.T) {
	p := newPlace(t)
	revision := p.put(t, "a", "1").Header.Revision
	w := p.watch(t, "a", clientv3.WithProgressNotify())
	for {
		response := next(t, "progress", w.channel)
		must(t, response.Err())
		if response.IsProgressNotify() && response.Header.Revision >= revision {
			return
		}
	}
}

func TestWatchRequiresLeader(t *testing.T) {
	p := newPlace(t)
	channel := p.Watch(clientv3.WithRequireLeader(p.ctx), p.key("a"), clientv3.WithCreatedNotify())
	next(t, "the watch", channel)
	p.put(t, "a", "1")
	w := &watching{place: p, channel: channel}
	w.expect(t, "PUT a=1")
}

func TestWatchCanceled(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancel(p.ctx)
	leaving := p.Watch(ctx, p.key("a"), clientv3.WithCreatedNotify())
	next(t, "the watch", leaving)
	staying := p.watch(t, "a")
	cancel()
	closed(t, "the watch that was canceled", leaving)
	p.put(t, "a", "1")
	staying.expect(t, "PUT a=1")
}

func TestWatchMany(t *testing.T) {
	p := newPlace(t)
	const watches, keys = 100, 5
	var all []*watching
	for range watches {
		all = append(all, p.watch(t, "", clientv3.WithPrefix()))
	}
	var want []string
	for i := range keys {
		p.put(t, fmt.Sprint(i), "v")
		want = append(want, fmt.Sprintf("PUT %d=v", i))
	}
	for _, w := range all {
		w.expect(t, want...)
	}
}

// The client goes on at another member where it was; with members being killed it must as well.
func TestWatchResumesElsewhere(t *testing.T) {
	p := newPlace(t)
	watcher := connectTo(t, endpoints()[0])
	channel := watcher.Watch(p.ctx, p.key("a"), clientv3.WithCreatedNotify())
	next(t, "the watch", channel)
	w := &watching{place: p, channel: channel}
	var want []string
	for i := range 30 {
		if i == 10 {
			all := endpoints()
			watcher.SetEndpoints(all[len(all)-1])
		}
		p.put(t, "a", fmt.Sprint(i))
		want = append(want, fmt.Sprint("PUT a=", i))
	}
	w.expect(t, want...)
}
