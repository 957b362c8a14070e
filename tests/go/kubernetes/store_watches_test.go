// The storage tests that k8s.io/apiserver publishes, over its own etcd3 store: watches.

package kubernetes

import (
	"testing"

	"k8s.io/apiserver/pkg/features"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

func TestStoreWatch(t *testing.T) {
	storagetesting.RunTestWatch(overStore(t))
}

func TestStoreClusterScopedWatch(t *testing.T) {
	storagetesting.RunTestClusterScopedWatch(overStore(t))
}

func TestStoreNamespaceScopedWatch(t *testing.T) {
	storagetesting.RunTestNamespaceScopedWatch(overStore(t))
}

func TestStoreDeleteTriggerWatch(t *testing.T) {
	storagetesting.RunTestDeleteTriggerWatch(overStore(t))
}

func TestStoreWatchFromNonZero(t *testing.T) {
	storagetesting.RunTestWatchFromNonZero(overStore(t))
}

func TestStoreDelayedWatchDelivery(t *testing.T) {
	storagetesting.RunTestDelayedWatchDelivery(overStore(t))
}

func TestStoreWatchContextCancel(t *testing.T) {
	storagetesting.RunTestWatchContextCancel(overStore(t))
}

func TestStoreWatcherTimeout(t *testing.T) {
	storagetesting.RunTestWatcherTimeout(overStore(t))
}

func TestStoreWatchDeleteEventObjectHaveLatestRV(t *testing.T) {
	storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV(overStore(t))
}

func TestStoreWatchInitializationSignal(t *testing.T) {
	storagetesting.RunTestWatchInitializationSignal(overStore(t))
}

func TestStoreWatchFromZero(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestWatchFromZero(s.ctx, t, s.store, s.compact)
}

func TestStoreWatchError(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestWatchError(s.ctx, t, s.store)
}

func TestStoreWatchErrorIsBlockingFurtherEvents(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunWatchErrorIsBlockingFurtherEvents(s.ctx, t, s.store)
}

func TestStoreWatchWithUnsafeDelete(t *testing.T) {
	gate(t, features.AllowUnsafeMalformedObjectDeletion, true)
	s := newSetup(t)
	storagetesting.RunTestWatchWithUnsafeDelete(s.ctx, t, s.store, corruption(t))
}

func TestStoreProgressNotify(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunOptionalTestProgressNotify(s.ctx, t, s.store, s.raiseRevision)
}

func TestStoreWatchDispatchBookmarkEvents(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestWatchDispatchBookmarkEvents(s.ctx, t, s.store, false)
}

func TestStoreSendInitialEventsBackwardCompatibility(t *testing.T) {
	storagetesting.RunSendInitialEventsBackwardCompatibility(overStore(t))
}

// From revision 1, of which nothing may be compacted, and with the same names each time: each has a
// cluster of its own.
func watchSemantics(t *testing.T, stream, concurrently bool) {
	gate(t, features.EtcdRangeStream, stream)
	gate(t, features.ConcurrentWatchObjectDecode, concurrently)
	storagetesting.RunWatchSemantics(overStore(t))
}

func TestFreshStoreWatchSemanticsPages(t *testing.T)  { watchSemantics(t, false, false) }
func TestFreshStoreWatchSemanticsStream(t *testing.T) { watchSemantics(t, true, false) }

func TestFreshStoreWatchSemanticsPagesConcurrentDecode(t *testing.T)  { watchSemantics(t, false, true) }
func TestFreshStoreWatchSemanticsStreamConcurrentDecode(t *testing.T) { watchSemantics(t, true, true) }

func TestStoreWatchSemanticInitialEventsExtended(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		storagetesting.RunWatchSemanticInitialEventsExtended(overStore(t))
	})
}

func TestStoreWatchListMatchSingle(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		storagetesting.RunWatchListMatchSingle(overStore(t))
	})
}
