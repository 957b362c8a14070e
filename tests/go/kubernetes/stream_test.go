// One Watch RPC, message by message, as it is on the wire.

package kubernetes

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/metadata"
)

type stream struct {
	pb.Watch_WatchClient
	t        *testing.T
	messages chan *pb.WatchResponse
	// Why there are no more, once they are closed.
	end error
}

// Opens one as API servers do, with `hasleader: true`.
func openStream(t *testing.T, client *kubernetes.Client) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true", "client-api-version", "3.6")
	opened, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	must(t, err)
	s := &stream{Watch_WatchClient: opened, t: t, messages: make(chan *pb.WatchResponse)}
	go func() {
		defer close(s.messages)
		for {
			message, err := opened.Recv()
			if err != nil {
				s.end = err
				return
			}
			select {
			case s.messages <- message:
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}

func (s *stream) next() *pb.WatchResponse {
	s.t.Helper()
	select {
	case message := <-s.messages:
		if message == nil {
			s.t.Fatalf("the stream has ended: %v", s.end)
		}
		return message
	case <-time.After(patience):
		s.t.Fatalf("no message within %v", patience)
		panic("unreachable")
	}
}

func (s *stream) create(request *pb.WatchCreateRequest) {
	s.t.Helper()
	union := &pb.WatchRequest_CreateRequest{CreateRequest: request}
	must(s.t, s.Send(&pb.WatchRequest{RequestUnion: union}))
}

func (s *stream) cancel(id int64) {
	s.t.Helper()
	union := &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}
	must(s.t, s.Send(&pb.WatchRequest{RequestUnion: union}))
}

func (s *stream) requestProgress() {
	s.t.Helper()
	union := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
	must(s.t, s.Send(&pb.WatchRequest{RequestUnion: union}))
}

// Creates a watch and waits for the answer; returns its id.
func (s *stream) watch(request *pb.WatchCreateRequest) int64 {
	s.t.Helper()
	s.create(request)
	created := s.next()
	equal(s.t, "created", created.Created && !created.Canceled, true)
	return created.WatchId
}

// A15: what the API server watches a resource with.
func watchPrefix(prefix string, revision int64) *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{
		Key:           []byte(prefix),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd(prefix)),
		StartRevision: revision,
		PrevKv:        true,
	}
}
