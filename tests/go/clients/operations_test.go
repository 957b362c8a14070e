// What operators ask: status, members, alarms, hashes, snapshots, defragmentation.

package clients

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestStatus(t *testing.T) {
	p := newPlace(t)
	revision := p.put(t, "a", "1").Header.Revision
	leaders := map[uint64]bool{}
	members := map[uint64]bool{}
	for _, endpoint := range endpoints() {
		eventually(t, func() error {
			status, err := p.Status(p.ctx, endpoint)
			if err != nil {
				return err
			}
			leaders[status.Leader], members[status.Header.MemberId] = true, true
			if status.Header.Revision < revision {
				return fmt.Errorf("%s is at revision %d, not %d", endpoint, status.Header.Revision, revision)
			}
			if !strings.HasPrefix(status.Version, "3.") || status.DbSize <= 0 || status.RaftTerm == 0 ||
				status.RaftAppliedIndex > status.RaftIndex || status.IsLearner || len(status.Errors) != 0 {
				return fmt.Errorf("%s says %v", endpoint, status)
			}
			return nil
		})
	}
	equal(t, "members", len(members), len(endpoints()))
	for leader := range leaders {
		equal(t, "the leader is a member", members[leader], true)
	}
}

func TestMemberList(t *testing.T) {
	p := newPlace(t)
	for _, endpoint := range endpoints() {
		response, err := connectTo(t, endpoint).MemberList(p.ctx)
		must(t, err)
		equal(t, "members", len(response.Members), len(endpoints()))
		var urls []string
		for _, member := range response.Members {
			urls = append(urls, member.ClientURLs...)
			if member.ID == 0 || member.Name == "" || len(member.PeerURLs) == 0 || member.IsLearner {
				t.Fatalf("a member is %v", member)
			}
		}
		for _, wanted := range endpoints() {
			equal(t, wanted+" is listed", strings.Contains(strings.Join(urls, " "), wanted), true)
		}
	}
	_, err := p.MemberRemove(p.ctx, 1)
	fails(t, err, rpctypes.ErrMemberNotFound)
	_, err = p.MemberPromote(p.ctx, 1)
	fails(t, err, rpctypes.ErrMemberNotFound)
}

func TestHashKVIsTheSameOnEveryMember(t *testing.T) {
	p := newPlace(t)
	for i := range 50 {
		p.put(t, fmt.Sprint(i%7), fmt.Sprint(i))
	}
	revision := p.put(t, "end", "end").Header.Revision
	hashes := map[uint32]bool{}
	for _, endpoint := range endpoints() {
		eventually(t, func() error {
			response, err := p.HashKV(p.ctx, endpoint, revision)
			if err == nil {
				hashes[response.Hash] = true
			}
			return err
		})
	}
	equal(t, "different hashes", len(hashes), 1)
	other := p.put(t, "end", "other").Header.Revision
	eventually(t, func() error {
		response, err := p.HashKV(p.ctx, endpoints()[0], other)
		if err == nil && hashes[response.Hash] {
			err = fmt.Errorf("the hash of another state is the same")
		}
		return err
	})
}

func TestAlarmsAreNone(t *testing.T) {
	p := newPlace(t)
	alarms, err := p.AlarmList(p.ctx)
	must(t, err)
	equal(t, "alarms", len(alarms.Alarms), 0)
	_, err = p.AlarmDisarm(p.ctx, &clientv3.AlarmMember{})
	must(t, err)
}

func TestSnapshot(t *testing.T) {
	p := newPlace(t)
	value := strings.Repeat("snapshot", 100)
	for i := range 100 {
		p.put(t, fmt.Sprint(i), value)
	}
	response, err := p.SnapshotWithVersion(p.ctx)
	must(t, err)
	defer response.Snapshot.Close()
	file, err := io.ReadAll(response.Snapshot)
	must(t, err)
	if !strings.HasPrefix(response.Version, "3.") {
		t.Fatalf("a snapshot of version %q", response.Version)
	}
	if len(file) < 100*len(value) || !bytes.Contains(file, []byte(p.key("7"))) {
		t.Fatalf("%d bytes hold not what was put", len(file))
	}
	// The file ends with its digest, as etcdutl wants it.
	body := len(file) - sha256.Size
	digest := sha256.Sum256(file[:body])
	equal(t, "bytes after whole pages", body%512, 0)
	equal(t, "digest", fmt.Sprintf("%x", file[body:]), fmt.Sprintf("%x", digest))
}

func TestDefragment(t *testing.T) {
	p := newPlace(t)
	p.put(t, "a", "1")
	for _, endpoint := range endpoints() {
		_, err := p.Defragment(p.ctx, endpoint)
		must(t, err)
	}
	p.expect(t, "a=1", "a")
}

func TestMoveLeader(t *testing.T) {
	p := newPlace(t)
	if len(endpoints()) == 1 {
		status, err := p.Status(p.ctx, endpoints()[0])
		must(t, err)
		_, err = p.MoveLeader(p.ctx, status.Leader+1)
		if err == nil {
			t.Fatal("a member that is not there leads")
		}
		return
	}
	byID := map[uint64]string{}
	var leader uint64
	for _, endpoint := range endpoints() {
		status, err := p.Status(p.ctx, endpoint)
		must(t, err)
		byID[status.Header.MemberId], leader = endpoint, status.Leader
	}
	for target, endpoint := range byID {
		if target == leader {
			continue
		}
		_, err := connectTo(t, endpoint).MoveLeader(p.ctx, target)
		fails(t, err, rpctypes.ErrNotLeader)
		_, err = connectTo(t, byID[leader]).MoveLeader(p.ctx, target)
		must(t, err)
		eventually(t, func() error {
			status, err := p.Status(p.ctx, endpoint)
			if err == nil && status.Leader != target {
				err = fmt.Errorf("%x leads, not %x", status.Leader, target)
			}
			return err
		})
		break
	}
	p.put(t, "a", "1")
}
