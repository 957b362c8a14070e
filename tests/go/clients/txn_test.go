// Transactions: every comparison, both branches, nested ones, and what is refused.

package clients

import (
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Whether comparisons hold now. Reads are in both branches, because etcd's members judge a transaction
// without any by what they have themselves, however old.
func (p *place) holds(t *testing.T, compares ...clientv3.Cmp) bool {
	t.Helper()
	read := clientv3.OpGet(p.prefix)
	response, err := p.Txn(p.ctx).If(compares...).Then(read).Else(read).Commit()
	must(t, err)
	return response.Succeeded
}

func TestTxnComparisons(t *testing.T) {
	p := newPlace(t)
	lease, err := p.Grant(p.ctx, 600)
	must(t, err)
	created := p.put(t, "a", "m").Header.Revision
	changed := p.put(t, "a", "m", clientv3.WithLease(lease.ID)).Header.Revision
	key, none := p.key("a"), p.key("none")
	for _, c := range []struct {
		name   string
		target clientv3.Cmp
		equal  any
		above  any
		below  any
	}{
		{"value", clientv3.Value(key), "m", "z", "a"},
		{"version", clientv3.Version(key), 2, 3, 1},
		{"created", clientv3.CreateRevision(key), created, created + 1, created - 1},
		{"changed", clientv3.ModRevision(key), changed, changed + 1, changed - 1},
		{"lease", clientv3.LeaseValue(key), lease.ID, lease.ID + 1, lease.ID - 1},
	} {
		truths := []clientv3.Cmp{
			clientv3.Compare(c.target, "=", c.equal), clientv3.Compare(c.target, "!=", c.above),
			clientv3.Compare(c.target, "<", c.above), clientv3.Compare(c.target, ">", c.below),
		}
		lies := []clientv3.Cmp{
			clientv3.Compare(c.target, "=", c.above), clientv3.Compare(c.target, "!=", c.equal),
			clientv3.Compare(c.target, "<", c.equal), clientv3.Compare(c.target, ">", c.equal),
		}
		for i, truth := range truths {
			equal(t, fmt.Sprint(c.name, " truth ", i), p.holds(t, truth), true)
		}
		for i, lie := range lies {
			equal(t, fmt.Sprint(c.name, " lie ", i), p.holds(t, lie), false)
			equal(t, fmt.Sprint(c.name, " truths and a lie ", i), p.holds(t, truths[0], lie), false)
		}
		equal(t, c.name+" together", p.holds(t, truths...), true)
	}
	equal(t, "no value of a missing key", p.holds(t, clientv3.Compare(clientv3.Value(none), "=", "")), false)
	equal(t, "version of a missing key", p.holds(t, clientv3.Compare(clientv3.Version(none), "=", 0)), true)
	p.put(t, "b", "m")
	everywhere := clientv3.Compare(clientv3.Value(p.prefix).WithPrefix(), "=", "m")
	equal(t, "a whole prefix", p.holds(t, everywhere), true)
	p.put(t, "c", "n")
	equal(t, "a prefix with another", p.holds(t, everywhere), false)
	equal(t, "nothing to compare", p.holds(t), true)
}

func TestTxnBranches(t *testing.T) {
	p := newPlace(t)
	missing := clientv3.Compare(clientv3.CreateRevision(p.key("a")), "=", 0)
	commit := func() *clientv3.TxnResponse {
		response, err := p.Txn(p.ctx).If(missing).Then(
			clientv3.OpPut(p.key("a"), "1"), clientv3.OpGet(p.key("a")), clientv3.OpDelete(p.key("b")),
		).Else(
			clientv3.OpGet(p.prefix, clientv3.WithPrefix()), clientv3.OpDelete(p.key("a"), clientv3.WithPrevKV()),
		).Commit()
		must(t, err)
		return response
	}
	p.put(t, "b", "2")
	then := commit()
	equal(t, "succeeded", then.Succeeded, true)
	equal(t, "answers", len(then.Responses), 3)
	read := then.Responses[1].GetResponseRange()
	equal(t, "read after the put", string(read.Kvs[0].Value), "1")
	equal(t, "its revision", read.Kvs[0].ModRevision, then.Header.Revision)
	equal(t, "deleted", then.Responses[2].GetResponseDeleteRange().Deleted, 1)

	otherwise := commit()
	equal(t, "succeeded again", otherwise.Succeeded, false)
	equal(t, "keys", len(otherwise.Responses[0].GetResponseRange().Kvs), 1)
	deleted := otherwise.Responses[1].GetResponseDeleteRange()
	equal(t, "deleted value", string(deleted.PrevKvs[0].Value), "1")
	equal(t, "one revision more", otherwise.Header.Revision, then.Header.Revision+1)

	reads, err := p.Txn(p.ctx).Then(clientv3.OpGet(p.key("a"))).Commit()
	must(t, err)
	equal(t, "reading changes nothing", reads.Header.Revision, otherwise.Header.Revision)
}

func TestTxnNested(t *testing.T) {
	p := newPlace(t)
	p.put(t, "a", "1")
	is := func(value string) []clientv3.Cmp {
		return []clientv3.Cmp{clientv3.Compare(clientv3.Value(p.key("a")), "=", value)}
	}
	set := func(name, value string) []clientv3.Op {
		return []clientv3.Op{clientv3.OpPut(p.key(name), value)}
	}
	innermost := clientv3.OpTxn(is("1"), set("deep", "yes"), set("deep", "no"))
	inner := clientv3.OpTxn(is("2"), set("inner", "yes"), append(set("inner", "no"), innermost))
	response, err := p.Txn(p.ctx).If(is("1")...).Then(append(set("outer", "yes"), inner)...).Commit()
	must(t, err)
	equal(t, "outer", response.Succeeded, true)
	nested := response.Responses[1].GetResponseTxn()
	equal(t, "inner", nested.Succeeded, false)
	equal(t, "innermost", nested.Responses[1].GetResponseTxn().Succeeded, true)
	all := p.expect(t, "a=1 deep=yes inner=no outer=yes", "", clientv3.WithPrefix())
	for _, pair := range all.Kvs[1:] {
		equal(t, "revision of "+string(pair.Key), pair.ModRevision, response.Header.Revision)
	}
}

func TestTxnRefused(t *testing.T) {
	p := newPlace(t)
	p.put(t, "a", "1")
	twice := clientv3.OpPut(p.key("b"), "2")
	_, err := p.Txn(p.ctx).Then(twice, twice).Commit()
	fails(t, err, rpctypes.ErrDuplicateKey)
	var many []clientv3.Op
	for i := range 129 {
		many = append(many, clientv3.OpPut(p.key(fmt.Sprint(i)), "x"))
	}
	_, err = p.Txn(p.ctx).Then(many...).Commit()
	fails(t, err, rpctypes.ErrTooManyOps)
	p.expect(t, "a=1", "", clientv3.WithPrefix())
	_, err = p.Txn(p.ctx).Then(many[:128]...).Commit()
	must(t, err)
}

// What can only be found out while a transaction is applied undoes all of it.
func TestTxnUndone(t *testing.T) {
	t.Run("lease", func(t *testing.T) {
		p := newPlace(t)
		p.put(t, "a", "1")
		_, err := p.Txn(p.ctx).Then(clientv3.OpPut(p.key("b"), "2"), clientv3.OpPut(p.key("c"), "3", clientv3.WithLease(1))).Commit()
		fails(t, err, rpctypes.ErrLeaseNotFound)
		p.expect(t, "a=1", "", clientv3.WithPrefix())
	})
	t.Run("revision", func(t *testing.T) {
		if isEtcd() && len(endpoints()) > 1 {
			t.Skip("etcd 3.6: only the member that was asked undoes it, and the others differ from then on")
		}
		p := newPlace(t)
		future := p.put(t, "a", "1").Header.Revision + 1_000_000
		_, err := p.Txn(p.ctx).Then(clientv3.OpPut(p.key("b"), "2"), clientv3.OpGet(p.key("a"), clientv3.WithRev(future))).Commit()
		fails(t, err, rpctypes.ErrFutureRev)
		p.expect(t, "a=1", "", clientv3.WithPrefix())
	})
}

func TestTxnCountersAreExact(t *testing.T) {
	p := newPlace(t)
	const workers, steps = 5, 10
	p.put(t, "counter", "0")
	var group sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		group.Go(func() { errs <- p.count(steps) })
	}
	group.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	counter := p.expect(t, fmt.Sprint("counter=", workers*steps), "counter").Kvs[0]
	equal(t, "version", counter.Version, workers*steps+1)
}

// Raises the counter so many times, each by compare and swap.
func (p *place) count(steps int) error {
	key := p.key("counter")
	for done := 0; done < steps; {
		read, err := p.Get(p.ctx, key)
		if err != nil {
			return err
		}
		var value int
		if _, err := fmt.Sscan(string(read.Kvs[0].Value), &value); err != nil {
			return err
		}
		same := clientv3.Compare(clientv3.ModRevision(key), "=", read.Kvs[0].ModRevision)
		swapped, err := p.Txn(p.ctx).If(same).Then(clientv3.OpPut(key, fmt.Sprint(value+1))).Commit()
		if err != nil {
			return err
		}
		if swapped.Succeeded {
			done++
		}
	}
	return nil
}
