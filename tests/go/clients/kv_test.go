// Put, get, delete and compact, with every option that clientv3 has for them.

package clients

import (
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPutOptions(t *testing.T) {
	p := newPlace(t)
	if first := p.put(t, "a", "1", clientv3.WithPrevKV()); first.PrevKv != nil {
		t.Fatalf("a new key had %v before", first.PrevKv)
	}
	second := p.put(t, "a", "2", clientv3.WithPrevKV())
	equal(t, "value before", string(second.PrevKv.Value), "1")
	equal(t, "version before", second.PrevKv.Version, 1)

	lease, err := p.Grant(p.ctx, 600)
	must(t, err)
	p.put(t, "a", "3", clientv3.WithLease(lease.ID))
	p.put(t, "a", "", clientv3.WithIgnoreValue(), clientv3.WithLease(lease.ID))
	kept := p.expect(t, "a=3", "a").Kvs[0]
	equal(t, "lease", kept.Lease, int64(lease.ID))
	equal(t, "version", kept.Version, 4)
	p.put(t, "a", "5", clientv3.WithIgnoreLease())
	equal(t, "lease after WithIgnoreLease", p.expect(t, "a=5", "a").Kvs[0].Lease, int64(lease.ID))
	p.put(t, "a", "6")
	equal(t, "lease after a plain put", p.get(t, "a").Kvs[0].Lease, 0)

	_, err = p.Put(p.ctx, p.key("none"), "", clientv3.WithIgnoreValue())
	fails(t, err, rpctypes.ErrKeyNotFound)
	_, err = p.Put(p.ctx, p.key("none"), "x", clientv3.WithIgnoreLease())
	fails(t, err, rpctypes.ErrKeyNotFound)
	_, err = p.Put(p.ctx, p.key("a"), "value", clientv3.WithIgnoreValue())
	fails(t, err, rpctypes.ErrValueProvided)
	_, err = p.Put(p.ctx, p.key("a"), "x", clientv3.WithLease(1))
	fails(t, err, rpctypes.ErrLeaseNotFound)
	_, err = p.Put(p.ctx, "", "x")
	fails(t, err, rpctypes.ErrEmptyKey)
	_, err = p.Put(p.ctx, p.key("large"), strings.Repeat("x", 1600<<10))
	fails(t, err, rpctypes.ErrRequestTooLarge)
	p.expect(t, "a=6", "", clientv3.WithPrefix())
}

func TestGetRanges(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"a", "b", "b/1", "b/2", "c", "d"} {
		p.put(t, name, "v")
	}
	p.expect(t, "b=v", "b")
	p.expect(t, "b=v b/1=v b/2=v", "b", clientv3.WithPrefix())
	p.expect(t, "b=v b/1=v b/2=v c=v", "b", clientv3.WithRange(p.key("d")))
	p.expect(t, "", "d", clientv3.WithRange(p.key("b")))
	p.expect(t, "", "missing")
	from := p.get(t, "c", clientv3.WithFromKey(), clientv3.WithLimit(2))
	equal(t, "from key", p.shown(from), "c=v d=v")

	keys := p.get(t, "b", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	equal(t, "keys only", p.shown(keys), "b= b/1= b/2=")
	if keys.Kvs[0].ModRevision == 0 {
		t.Fatal("keys come with their revisions")
	}
	count := p.get(t, "b", clientv3.WithPrefix(), clientv3.WithCountOnly())
	equal(t, "count", count.Count, 3)
	equal(t, "keys beside the count", len(count.Kvs), 0)
	p.expect(t, "a=v b=v b/1=v b/2=v c=v d=v", "", clientv3.WithPrefix(), clientv3.WithSerializable())
	_, err := p.Get(p.ctx, "")
	fails(t, err, rpctypes.ErrEmptyKey)
}

func TestGetPages(t *testing.T) {
	p := newPlace(t)
	const keys, page = 57, 10
	for i := range keys {
		p.put(t, fmt.Sprintf("%03d", i), "v")
	}
	first := p.get(t, "", clientv3.WithPrefix(), clientv3.WithLimit(page))
	revision := first.Header.Revision
	// What is written now is on no page of that revision.
	p.put(t, "0305", "late")
	_, err := p.Delete(p.ctx, p.key("050"))
	must(t, err)

	end := clientv3.GetPrefixRangeEnd(p.prefix)
	seen, response := len(first.Kvs), first
	for response.More {
		left := int64(keys - seen)
		last := string(response.Kvs[len(response.Kvs)-1].Key)
		response, err = p.Get(p.ctx, last+"\x00", clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		must(t, err)
		equal(t, "count of what is left", response.Count, left)
		for i, pair := range response.Kvs {
			equal(t, "key", string(pair.Key), p.key(fmt.Sprintf("%03d", seen+i)))
		}
		seen += len(response.Kvs)
	}
	equal(t, "keys on all pages", seen, keys)
	equal(t, "count at first", first.Count, keys)
}

func TestGetSorted(t *testing.T) {
	p := newPlace(t)
	p.put(t, "b", "1")
	p.put(t, "a", "3")
	p.put(t, "c", "2")
	p.put(t, "b", "9")
	for _, by := range []struct {
		target         clientv3.SortTarget
		ascends, falls string
	}{
		{clientv3.SortByKey, "a=3 b=9 c=2", "c=2 b=9 a=3"},
		{clientv3.SortByValue, "c=2 a=3 b=9", "b=9 a=3 c=2"},
		{clientv3.SortByCreateRevision, "b=9 a=3 c=2", "c=2 a=3 b=9"},
		{clientv3.SortByModRevision, "a=3 c=2 b=9", "b=9 c=2 a=3"},
	} {
		p.expect(t, by.ascends, "", clientv3.WithPrefix(), clientv3.WithSort(by.target, clientv3.SortAscend))
		p.expect(t, by.falls, "", clientv3.WithPrefix(), clientv3.WithSort(by.target, clientv3.SortDescend))
	}
	version := p.get(t, "", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1))
	equal(t, "most often written", p.shown(version), "b=9")

	for want, options := range map[string][]clientv3.OpOption{
		"b=9": clientv3.WithFirstCreate(), "c=2": clientv3.WithLastCreate(),
		"a=3": clientv3.WithFirstKey(),
	} {
		p.expect(t, want, "", options...)
	}
	p.expect(t, "a=3", "", clientv3.WithFirstRev()...)
	p.expect(t, "b=9", "", clientv3.WithLastRev()...)
	p.expect(t, "c=2", "", clientv3.WithLastKey()...)
}

func TestGetByRevision(t *testing.T) {
	p := newPlace(t)
	first := p.put(t, "a", "1").Header.Revision
	second := p.put(t, "a", "2").Header.Revision
	created := p.put(t, "b", "3").Header.Revision
	p.expect(t, "a=1", "a", clientv3.WithRev(first))
	old := p.expect(t, "a=2", "", clientv3.WithPrefix(), clientv3.WithRev(second))
	if old.Header.Revision < created {
		t.Fatalf("the header says %d of now, which is %d or later", old.Header.Revision, created)
	}
	all := clientv3.WithPrefix()
	p.expect(t, "b=3", "", all, clientv3.WithMinModRev(created))
	p.expect(t, "a=2", "", all, clientv3.WithMaxModRev(second))
	p.expect(t, "b=3", "", all, clientv3.WithMinCreateRev(second))
	p.expect(t, "a=2", "", all, clientv3.WithMaxCreateRev(first))
	_, err := p.Get(p.ctx, p.key("a"), clientv3.WithRev(created+1_000_000))
	fails(t, err, rpctypes.ErrFutureRev)
}

func TestDelete(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{"a", "b1", "b2", "c", "d"} {
		p.put(t, name, name)
	}
	one, err := p.Delete(p.ctx, p.key("a"), clientv3.WithPrevKV())
	must(t, err)
	equal(t, "deleted", one.Deleted, 1)
	equal(t, "value before", string(one.PrevKvs[0].Value), "a")
	none, err := p.Delete(p.ctx, p.key("a"))
	must(t, err)
	equal(t, "deleted again", none.Deleted, 0)
	equal(t, "revision of nothing", none.Header.Revision, one.Header.Revision)
	prefix, err := p.Delete(p.ctx, p.key("b"), clientv3.WithPrefix(), clientv3.WithPrevKV())
	must(t, err)
	equal(t, "deleted by prefix", prefix.Deleted, 2)
	equal(t, "their values", len(prefix.PrevKvs), 2)
	span, err := p.Delete(p.ctx, p.key("c"), clientv3.WithRange(p.key("d")))
	must(t, err)
	equal(t, "deleted by range", span.Deleted, 1)
	p.expect(t, "d=d", "", clientv3.WithPrefix())
	// A key that comes again begins anew.
	p.put(t, "a", "again")
	equal(t, "version", p.get(t, "a").Kvs[0].Version, 1)
}

func TestCompact(t *testing.T) {
	p := newPlace(t)
	first := p.put(t, "a", "1").Header.Revision
	p.put(t, "b", "1")
	second := p.put(t, "a", "2").Header.Revision
	compacted, err := p.Compact(p.ctx, second, clientv3.WithCompactPhysical())
	must(t, err)
	if compacted.Header.Revision < second {
		t.Fatalf("compacting made the revision %d of %d", compacted.Header.Revision, second)
	}
	_, err = p.Get(p.ctx, p.key("a"), clientv3.WithRev(first))
	fails(t, err, rpctypes.ErrCompacted)
	p.expect(t, "a=2 b=1", "", clientv3.WithPrefix(), clientv3.WithRev(second))
	_, err = p.Compact(p.ctx, second)
	fails(t, err, rpctypes.ErrCompacted)
	_, err = p.Compact(p.ctx, second+1_000_000)
	fails(t, err, rpctypes.ErrFutureRev)
}

func TestEveryMemberReadsWhatWasWritten(t *testing.T) {
	p := newPlace(t)
	for round := range 20 {
		value := fmt.Sprint(round)
		revision := p.put(t, "a", value).Header.Revision
		for _, endpoint := range endpoints() {
			response, err := connectTo(t, endpoint).Get(p.ctx, p.key("a"))
			must(t, err)
			equal(t, "value at "+endpoint, string(response.Kvs[0].Value), value)
			equal(t, "revision at "+endpoint, response.Kvs[0].ModRevision, revision)
		}
	}
}
