// Software transactional memory of clientv3's concurrency package, at each isolation level.

package clients

import (
	"fmt"
	"strconv"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var isolations = map[string]concurrency.Isolation{
	"SerializableSnapshot": concurrency.SerializableSnapshot,
	"Serializable":         concurrency.Serializable,
	"RepeatableReads":      concurrency.RepeatableReads,
	"ReadCommitted":        concurrency.ReadCommitted,
}

const accounts, each = 5, 100

// Transactions read from any member without asking the others, at some levels only that way. Only
// the member that wrote is sure to have read it.
func newPlaceAtOneMember(t *testing.T) *place {
	p := newPlace(t)
	p.Client = connectTo(t, endpoints()[0])
	return p
}

// Moves money between accounts. Nothing is lost where a transaction's reads are of one moment.
func (p *place) transfer(isolation concurrency.Isolation, worker, times int) error {
	for i := range times {
		from, to := p.key(fmt.Sprint((worker+i)%accounts)), p.key(fmt.Sprint((worker+2*i+1)%accounts))
		if from == to {
			continue
		}
		move := func(stm concurrency.STM) error {
			rich, err := strconv.Atoi(stm.Get(from))
			if err != nil {
				return err
			}
			poor, err := strconv.Atoi(stm.Get(to))
			if err != nil {
				return err
			}
			amount := rich / 2
			stm.Put(from, strconv.Itoa(rich-amount))
			stm.Put(to, strconv.Itoa(poor+amount))
			return nil
		}
		if _, err := concurrency.NewSTM(p.Client, move, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(p.ctx)); err != nil {
			return err
		}
	}
	return nil
}

func TestSTMTransfers(t *testing.T) {
	for name, isolation := range isolations {
		if name == "ReadCommitted" {
			// It may lose updates, which is what it is for.
			continue
		}
		t.Run(name, func(t *testing.T) {
			p := newPlaceAtOneMember(t)
			for i := range accounts {
				p.put(t, fmt.Sprint(i), fmt.Sprint(each))
			}
			const workers = 4
			done := make(chan error, workers)
			for worker := range workers {
				go func() { done <- p.transfer(isolation, worker, 10) }()
			}
			for range workers {
				must(t, next(t, "a worker", done))
			}
			sum := 0
			for _, pair := range p.get(t, "", clientv3.WithPrefix()).Kvs {
				value, err := strconv.Atoi(string(pair.Value))
				must(t, err)
				sum += value
			}
			equal(t, "sum", sum, accounts*each)
		})
	}
}

func TestSTMReadsAndWrites(t *testing.T) {
	for name, isolation := range isolations {
		t.Run(name, func(t *testing.T) {
			p := newPlaceAtOneMember(t)
			p.put(t, "a", "1")
			p.put(t, "b", "2")
			var own string
			apply := func(stm concurrency.STM) error {
				if stm.Rev(p.key("a")) == 0 || stm.Rev(p.key("none")) != 0 {
					return fmt.Errorf("revisions are wrong")
				}
				stm.Put(p.key("a"), stm.Get(p.key("a"))+stm.Get(p.key("b")))
				own = stm.Get(p.key("a"))
				stm.Del(p.key("b"))
				return nil
			}
			response, err := concurrency.NewSTM(p.Client, apply, concurrency.WithIsolation(isolation),
				concurrency.WithPrefetch(p.key("a"), p.key("b")))
			must(t, err)
			equal(t, "succeeded", response.Succeeded, true)
			equal(t, "its own write", own, "12")
			p.expect(t, "a=12", "", clientv3.WithPrefix())
		})
	}
}

// Another writes what a transaction has read; whether it is tried again depends on the level.
func TestSTMConflicts(t *testing.T) {
	for name, isolation := range isolations {
		t.Run(name, func(t *testing.T) {
			p := newPlaceAtOneMember(t)
			p.put(t, "read", "old")
			tries := 0
			apply := func(stm concurrency.STM) error {
				tries++
				value := stm.Get(p.key("read"))
				if tries == 1 {
					if _, err := p.Put(p.ctx, p.key("read"), "new"); err != nil {
						return err
					}
				}
				stm.Put(p.key("written"), value)
				return nil
			}
			_, err := concurrency.NewSTM(p.Client, apply, concurrency.WithIsolation(isolation))
			must(t, err)
			if isolation == concurrency.ReadCommitted {
				equal(t, "tries", tries, 1)
				p.expect(t, "written=old", "written")
			} else {
				equal(t, "tries", tries, 2)
				p.expect(t, "written=new", "written")
			}
		})
	}
}
