// Sessions, mutexes and elections of clientv3's concurrency package.

package clients

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (p *place) session(t *testing.T, options ...concurrency.SessionOption) *concurrency.Session {
	t.Helper()
	session, err := concurrency.NewSession(p.Client, options...)
	must(t, err)
	return session
}

func TestSession(t *testing.T) {
	p := newPlace(t)
	session := p.session(t, concurrency.WithTTL(5))
	p.put(t, "a", "1", clientv3.WithLease(session.Lease()))
	must(t, session.Close())
	closed(t, "the session", session.Done())
	p.expect(t, "", "a")

	orphan := p.session(t, concurrency.WithTTL(600))
	orphan.Orphan()
	closed(t, "the orphan", orphan.Done())
	adopted := p.session(t, concurrency.WithLease(orphan.Lease()))
	equal(t, "lease", adopted.Lease(), orphan.Lease())
	_, err := p.Revoke(p.ctx, adopted.Lease())
	must(t, err)
	closed(t, "the session whose lease is gone", adopted.Done())
}

func TestMutex(t *testing.T) {
	p := newPlace(t)
	first, second := p.session(t), p.session(t)
	one, two := concurrency.NewMutex(first, p.prefix), concurrency.NewMutex(second, p.prefix)
	must(t, one.Lock(p.ctx))
	equal(t, "owner", p.holds(t, one.IsOwner()), true)
	fails(t, two.TryLock(p.ctx), concurrency.ErrLocked)
	locked := make(chan error, 1)
	go func() { locked <- two.Lock(p.ctx) }()
	eventually(t, func() error {
		if waiting := p.get(t, "", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count; waiting != 2 {
			return fmt.Errorf("%d keys wait", waiting)
		}
		return nil
	})
	select {
	case err := <-locked:
		t.Fatalf("two own the mutex: %v", err)
	default:
	}
	must(t, one.Unlock(p.ctx))
	must(t, next(t, "the second owner", locked))
	equal(t, "owner", p.holds(t, two.IsOwner()), true)
	// Its owner's end ends it.
	must(t, second.Close())
	must(t, one.TryLock(p.ctx))
	must(t, one.Unlock(p.ctx))
	p.expect(t, "", "", clientv3.WithPrefix())
}

func TestMutexGivesUp(t *testing.T) {
	p := newPlace(t)
	first, second := p.session(t), p.session(t)
	one, two := concurrency.NewMutex(first, p.prefix), concurrency.NewMutex(second, p.prefix)
	must(t, one.Lock(p.ctx))
	ctx, cancel := context.WithTimeout(p.ctx, 200*time.Millisecond)
	defer cancel()
	if err := two.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waiting in vain ended with %v", err)
	}
	equal(t, "keys of those who wait", p.get(t, "", clientv3.WithPrefix()).Count, 1)
}

func TestMutexExcludes(t *testing.T) {
	p := newPlace(t)
	const workers, rounds = 5, 4
	var inside, most atomic.Int64
	done := make(chan error, workers)
	for range workers {
		session := p.session(t)
		go func() {
			mutex := concurrency.NewMutex(session, p.prefix)
			for range rounds {
				if err := mutex.Lock(p.ctx); err != nil {
					done <- err
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				if err := mutex.Unlock(p.ctx); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		must(t, next(t, "a worker", done))
	}
	equal(t, "owners at once", most.Load(), 1)
}

func TestElection(t *testing.T) {
	p := newPlace(t)
	first, second := p.session(t), p.session(t)
	one, two := concurrency.NewElection(first, p.prefix), concurrency.NewElection(second, p.prefix)
	if _, err := one.Leader(p.ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Fatalf("nobody leads, and the answer is %v", err)
	}
	observed := one.Observe(p.ctx)
	leads := func(value string) {
		t.Helper()
		for string(next(t, "the leader", observed).Kvs[0].Value) != value {
			continue
		}
		leader, err := two.Leader(p.ctx)
		must(t, err)
		equal(t, "leader", string(leader.Kvs[0].Value), value)
	}
	must(t, one.Campaign(p.ctx, "one"))
	leads("one")
	elected := make(chan error, 1)
	go func() { elected <- two.Campaign(p.ctx, "two") }()
	must(t, one.Proclaim(p.ctx, "one again"))
	leads("one again")
	resumed := concurrency.ResumeElection(first, p.prefix, one.Key(), one.Rev())
	must(t, resumed.Proclaim(p.ctx, "one resumed"))
	leads("one resumed")
	must(t, one.Resign(p.ctx))
	must(t, next(t, "the second leader", elected))
	leads("two")
	if err := one.Proclaim(p.ctx, "no more"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Fatalf("who resigned may not proclaim, and the answer is %v", err)
	}
	must(t, second.Close())
	if _, err := one.Leader(p.ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Fatalf("the leader is gone, and the answer is %v", err)
	}
}
