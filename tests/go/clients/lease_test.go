// Leases: granted, kept alive, revoked, expired.

package clients

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *place) grant(t *testing.T, seconds int64) clientv3.LeaseID {
	t.Helper()
	response, err := p.Grant(p.ctx, seconds)
	must(t, err)
	equal(t, "time to live", response.TTL, seconds)
	return response.ID
}

func (p *place) expectGone(t *testing.T, lease clientv3.LeaseID) {
	t.Helper()
	response, err := p.TimeToLive(p.ctx, lease)
	must(t, err)
	equal(t, "time to live of no lease", response.TTL, -1)
}

func TestLeaseTimeToLive(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 600)
	p.put(t, "a", "1", clientv3.WithLease(lease))
	p.put(t, "b", "1", clientv3.WithLease(lease))
	without, err := p.TimeToLive(p.ctx, lease)
	must(t, err)
	equal(t, "granted", without.GrantedTTL, 600)
	equal(t, "keys that were not asked for", len(without.Keys), 0)
	if without.TTL < 500 || without.TTL > 600 {
		t.Fatalf("%d seconds are left of 600", without.TTL)
	}
	with, err := p.TimeToLive(p.ctx, lease, clientv3.WithAttachedKeys())
	must(t, err)
	equal(t, "keys", len(with.Keys), 2)
	// A key that is put without it, or with another, leaves it.
	p.put(t, "a", "2")
	p.put(t, "b", "2", clientv3.WithLease(p.grant(t, 500)))
	with, err = p.TimeToLive(p.ctx, lease, clientv3.WithAttachedKeys())
	must(t, err)
	equal(t, "keys that are left", len(with.Keys), 0)
	p.expectGone(t, 1)
}

func TestLeaseList(t *testing.T) {
	p := newPlace(t)
	wanted := map[clientv3.LeaseID]bool{}
	for range 10 {
		wanted[p.grant(t, 600)] = true
	}
	// A member lists those that it knows, and may be a little behind.
	eventually(t, func() error {
		response, err := p.Leases(p.ctx)
		if err != nil {
			return err
		}
		found := 0
		for _, status := range response.Leases {
			if wanted[status.ID] {
				found++
			}
		}
		if found != len(wanted) {
			return fmt.Errorf("%d of %d leases are listed", found, len(wanted))
		}
		return nil
	})
}

func TestLeaseRevoke(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 600)
	w := p.watch(t, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	p.put(t, "a", "1", clientv3.WithLease(lease))
	p.put(t, "b", "2", clientv3.WithLease(lease))
	p.put(t, "c", "3")
	w.expect(t, "PUT a=1", "PUT b=2", "PUT c=3")
	revoked, err := p.Revoke(p.ctx, lease)
	must(t, err)
	response := next(t, "the deletes", w.channel)
	equal(t, "deletes", len(response.Events), 2)
	for _, event := range response.Events {
		equal(t, "type", event.Type, clientv3.EventTypeDelete)
		equal(t, "revision", event.Kv.ModRevision, revoked.Header.Revision)
		equal(t, "lease before", event.PrevKv.Lease, int64(lease))
	}
	p.expect(t, "c=3", "", clientv3.WithPrefix())
	p.expectGone(t, lease)
	_, err = p.Revoke(p.ctx, lease)
	fails(t, err, rpctypes.ErrLeaseNotFound)
	_, err = p.KeepAliveOnce(p.ctx, lease)
	fails(t, err, rpctypes.ErrLeaseNotFound)
}

func TestLeaseExpires(t *testing.T) {
	p := newPlace(t)
	w := p.watch(t, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	granted := time.Now()
	lease := p.grant(t, 2)
	const keys = 50
	var puts []clientv3.Op
	for i := range keys {
		puts = append(puts, clientv3.OpPut(p.key(fmt.Sprintf("%02d", i)), fmt.Sprint(i), clientv3.WithLease(lease)))
	}
	_, err := p.Txn(p.ctx).Then(puts...).Commit()
	must(t, err)
	equal(t, "puts", len(next(t, "the puts", w.channel).Events), keys)
	response := next(t, "the deletes", w.channel)
	if lived := time.Since(granted); lived < 2*time.Second {
		t.Fatalf("a lease of 2 s has expired after %v", lived)
	}
	equal(t, "deletes in one revision", len(response.Events), keys)
	for i, event := range response.Events {
		equal(t, "type", event.Type, clientv3.EventTypeDelete)
		equal(t, "value before", string(event.PrevKv.Value), fmt.Sprint(i))
		equal(t, "revision", event.Kv.ModRevision, response.Events[0].Kv.ModRevision)
	}
	p.expectGone(t, lease)
}

func TestLeaseKeepAliveOnce(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 4)
	p.put(t, "a", "1", clientv3.WithLease(lease))
	// Long enough for the lease to be gone, had nobody kept it.
	for since := time.Now(); time.Since(since) < 6*time.Second; time.Sleep(500 * time.Millisecond) {
		response, err := p.KeepAliveOnce(p.ctx, lease)
		must(t, err)
		equal(t, "renewed to", response.TTL, 4)
	}
	p.expect(t, "a=1", "a")
}

func TestLeaseKeepAlive(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 3)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	alive, err := p.KeepAlive(ctx, lease)
	must(t, err)
	w := p.watch(t, "a")
	p.put(t, "a", "1", clientv3.WithLease(lease))
	w.expect(t, "PUT a=1")
	for since := time.Now(); time.Since(since) < 5*time.Second; {
		response := next(t, "an answer to a keepalive", alive)
		equal(t, "lease", response.ID, lease)
		equal(t, "renewed to", response.TTL, 3)
	}
	cancel()
	closed(t, "the keepalive that was canceled", alive)
	w.expect(t, "DELETE a")
}

func TestLeaseKeepAliveEndsWithTheLease(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 3)
	alive, err := p.KeepAlive(p.ctx, lease)
	must(t, err)
	next(t, "an answer to a keepalive", alive)
	_, err = p.Revoke(p.ctx, lease)
	must(t, err)
	closed(t, "the keepalive", alive)
}

func TestLeaseGrantRefused(t *testing.T) {
	p := newPlace(t)
	_, err := p.Grant(p.ctx, 9_000_000_001)
	fails(t, err, rpctypes.ErrLeaseTTLTooLarge)
}

func TestLeaseIsTheSameOnEveryMember(t *testing.T) {
	p := newPlace(t)
	lease := p.grant(t, 600)
	p.put(t, "a", "1", clientv3.WithLease(lease))
	for _, endpoint := range endpoints() {
		client := connectTo(t, endpoint)
		eventually(t, func() error {
			response, err := client.TimeToLive(p.ctx, lease, clientv3.WithAttachedKeys())
			if err == nil && (response.GrantedTTL != 600 || len(response.Keys) != 1) {
				err = fmt.Errorf("%s says %v", endpoint, response)
			}
			return err
		})
		_, err := client.KeepAliveOnce(p.ctx, lease)
		must(t, err)
	}
}
