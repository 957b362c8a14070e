// The same published tests through the API server's watch cache, which is how it serves nearly
// everything: lists and gets come from what one watch has told it, and a consistent list asks the
// server for progress until the cache is as new as the store.

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	clientcache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

const nodeField = "spec.nodeName"

// A store with a cache before it.
type cached struct {
	*setup
	storage.Interface
	cache *cacher.Cacher
}

// How a cache finds its objects.
type shape struct {
	clusterScoped bool
	indexed       bool
}

func newCached(t *testing.T) *cached {
	return newCachedWith(t, shape{})
}

func newCachedWith(t *testing.T, shape shape) *cached {
	t.Helper()
	s := newSetupWith(t, options{prefix: "/registry"})
	key := storage.NamespaceKeyFunc
	if shape.clusterScoped {
		key = storage.NoNamespaceKeyFunc
	}
	config := cacher.Config{
		Storage:             s.store.Interface,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       podResource,
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      podsPrefix,
		KeyFunc:             func(object runtime.Object) (string, error) { return key(podsPrefix, object) },
		GetAttrsFunc:        podAttributes,
		NewFunc:             newPod,
		NewListFunc:         newPodList,
		Indexers:            &clientcache.Indexers{},
		Codec:               s.store.codec,
		Clock:               clock.RealClock{},
	}
	if shape.indexed {
		config.IndexerFuncs = storage.IndexerFuncs{nodeField: func(object runtime.Object) string {
			return object.(*example.Pod).Spec.NodeName
		}}
		config.Indexers = &clientcache.Indexers{
			storage.FieldIndex(nodeField): func(object any) ([]string, error) {
				return []string{object.(*example.Pod).Spec.NodeName}, nil
			},
			storage.FieldIndex("metadata.namespace"): func(object any) ([]string, error) {
				return []string{object.(*example.Pod).Namespace}, nil
			},
		}
	}
	cache, err := cacher.NewCacherFromConfig(config)
	must(t, err)
	t.Cleanup(cache.Stop)
	// Until then it refuses everything.
	must(t, cache.Wait(s.ctx))
	delegator := cacher.NewCacheDelegator(cache, s.store.Interface)
	t.Cleanup(delegator.Stop)
	return &cached{setup: s, Interface: delegator, cache: cache}
}

func podAttributes(object runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := object.(*example.Pod)
	if !ok {
		return nil, nil, errors.New("not a pod")
	}
	return pod.Labels, fields.Set{
		"metadata.name":      pod.Name,
		"metadata.namespace": pod.Namespace,
		nodeField:            pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
	}, nil
}

// Compacts, and lets the cache forget what it had of before.
func (c *cached) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	c.setup.compact(ctx, t, resourceVersion)
	must(t, c.cache.Compact(resourceVersion))
}

// The cache asks only now and then how far the store is compacted.
func (c *cached) compactAndWait(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	c.compact(ctx, t, resourceVersion)
	eventually(t, patience, func() error {
		if known := c.Interface.CompactRevision(); fmt.Sprint(known) != resourceVersion {
			return fmt.Errorf("the cache knows of a compaction at %d, not %s", known, resourceVersion)
		}
		return nil
	})
}

// A store whose creations return when the cache has them.
type patient struct {
	storage.Interface
}

func (p patient) Create(ctx context.Context, key string, object, out runtime.Object, ttl uint64) error {
	if err := p.Interface.Create(ctx, key, object, out, ttl); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		known := newPod()
		err := p.Get(ctx, key, storage.GetOptions{ResourceVersion: "0"}, known)
		if err == nil && equality.Semantic.DeepEqual(known, out) {
			return nil
		}
		if err != nil && !storage.IsNotFound(err) {
			return err
		}
	}
	return fmt.Errorf("the cache does not hear of %s", key)
}

// What those tests take that need nothing but a store.
func overCache(t *testing.T) (context.Context, *testing.T, storage.Interface) {
	c := newCached(t)
	return c.ctx, t, c.Interface
}

func overPatientCache(t *testing.T) (context.Context, *testing.T, storage.Interface) {
	c := newCached(t)
	return c.ctx, t, patient{c.Interface}
}

func uncounted(*testing.T, uint64, uint64) {}

// Lists at an old revision come from snapshots of the cache, and from the server.
func withSnapshotsAndWithout(t *testing.T, test func(*testing.T, bool)) {
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprintf("Snapshots=%v", snapshots), func(t *testing.T) {
			gate(t, features.ListFromCacheSnapshot, snapshots)
			test(t, snapshots)
		})
	}
}

func TestCacheList(t *testing.T) {
	withSnapshotsAndWithout(t, func(t *testing.T, _ bool) {
		c := newCached(t)
		storagetesting.RunTestList(c.ctx, t, c.Interface, c.compact, true, c.lists)
	})
}

func TestCacheConsistentList(t *testing.T) {
	withSnapshotsAndWithout(t, func(t *testing.T, snapshots bool) {
		c := newCached(t)
		storagetesting.RunTestConsistentList(c.ctx, t, c.Interface, c.raiseRevision, true, true, snapshots)
	})
}

func TestCacheGetListNonRecursive(t *testing.T) {
	withSnapshotsAndWithout(t, func(t *testing.T, _ bool) {
		c := newCached(t)
		storagetesting.RunTestGetListNonRecursive(c.ctx, t, c.raiseRevision, c.Interface)
	})
}

func TestCacheCompactRevision(t *testing.T) {
	gate(t, features.ListFromCacheSnapshot, true)
	c := newCached(t)
	storagetesting.RunTestCompactRevision(c.ctx, t, c.Interface, c.raiseRevision, c.compactAndWait)
}

func TestCacheListContinuation(t *testing.T) {
	c := newCached(t)
	storagetesting.RunTestListContinuation(c.ctx, t, c.Interface, uncounted)
}

func TestCacheListContinuationWithFilter(t *testing.T) {
	c := newCached(t)
	storagetesting.RunTestListContinuationWithFilter(c.ctx, t, c.Interface, uncounted)
}

func TestCacheNamespaceScopedList(t *testing.T) {
	c := newCachedWith(t, shape{indexed: true})
	storagetesting.RunTestNamespaceScopedList(c.ctx, t, c.Interface)
}

func TestCacheClusterScopedWatch(t *testing.T) {
	c := newCachedWith(t, shape{indexed: true, clusterScoped: true})
	storagetesting.RunTestClusterScopedWatch(c.ctx, t, c.Interface)
}

func TestCacheNamespaceScopedWatch(t *testing.T) {
	c := newCachedWith(t, shape{indexed: true})
	storagetesting.RunTestNamespaceScopedWatch(c.ctx, t, c.Interface)
}

func TestCacheWatchDispatchBookmarkEvents(t *testing.T) {
	c := newCached(t)
	storagetesting.RunTestWatchDispatchBookmarkEvents(c.ctx, t, c.Interface, true)
}

func TestCacheWatchBookmarksWithCorrectResourceVersion(t *testing.T) {
	storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(overCache(t))
}

func TestFreshCacheWatchSemantics(t *testing.T) {
	storagetesting.RunWatchSemantics(overPatientCache(t))
}

func TestCacheWatchSemanticInitialEventsExtended(t *testing.T) {
	storagetesting.RunWatchSemanticInitialEventsExtended(overPatientCache(t))
}

func TestCacheWatchListMatchSingle(t *testing.T) {
	storagetesting.RunWatchListMatchSingle(overPatientCache(t))
}

func TestCacheCreateWithTTL(t *testing.T) {
	storagetesting.RunTestCreateWithTTL(overCache(t))
}

func TestCacheCreateWithKeyExist(t *testing.T) {
	storagetesting.RunTestCreateWithKeyExist(overCache(t))
}

func TestCacheGet(t *testing.T) {
	storagetesting.RunTestGet(overCache(t))
}

func TestCacheUnconditionalDelete(t *testing.T) {
	storagetesting.RunTestUnconditionalDelete(overCache(t))
}

func TestCacheConditionalDelete(t *testing.T) {
	storagetesting.RunTestConditionalDelete(overCache(t))
}

func TestCacheDeleteWithSuggestion(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestion(overCache(t))
}

func TestCacheDeleteWithSuggestionAndConflict(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestionAndConflict(overCache(t))
}

func TestCacheDeleteWithConflict(t *testing.T) {
	storagetesting.RunTestDeleteWithConflict(overCache(t))
}

func TestCacheDeleteWithSuggestionOfDeletedObject(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestionOfDeletedObject(overCache(t))
}

func TestCacheValidateDeletionWithSuggestion(t *testing.T) {
	storagetesting.RunTestValidateDeletionWithSuggestion(overCache(t))
}

func TestCacheValidateDeletionWithOnlySuggestionValid(t *testing.T) {
	storagetesting.RunTestValidateDeletionWithOnlySuggestionValid(overCache(t))
}

func TestCachePreconditionalDeleteWithSuggestion(t *testing.T) {
	storagetesting.RunTestPreconditionalDeleteWithSuggestion(overCache(t))
}

func TestCachePreconditionalDeleteWithOnlySuggestionPass(t *testing.T) {
	storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass(overCache(t))
}

func TestCacheGetListRecursivePrefix(t *testing.T) {
	storagetesting.RunTestGetListRecursivePrefix(overCache(t))
}

func TestCacheListPaging(t *testing.T) {
	storagetesting.RunTestListPaging(overCache(t))
}

func TestCacheKeySchema(t *testing.T) {
	storagetesting.RunTestKeySchema(overCache(t))
}

func TestCacheGuaranteedUpdateWithTTL(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithTTL(overCache(t))
}

func TestCacheGuaranteedUpdateWithConflict(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithConflict(overCache(t))
}

func TestCacheGuaranteedUpdateWithSuggestionAndConflict(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict(overCache(t))
}

func TestCacheWatch(t *testing.T) {
	storagetesting.RunTestWatch(overCache(t))
}

func TestCacheDeleteTriggerWatch(t *testing.T) {
	storagetesting.RunTestDeleteTriggerWatch(overCache(t))
}

func TestCacheWatchFromNonZero(t *testing.T) {
	storagetesting.RunTestWatchFromNonZero(overCache(t))
}

func TestCacheDelayedWatchDelivery(t *testing.T) {
	storagetesting.RunTestDelayedWatchDelivery(overCache(t))
}

func TestCacheWatcherTimeout(t *testing.T) {
	storagetesting.RunTestWatcherTimeout(overCache(t))
}

func TestCacheWatchDeleteEventObjectHaveLatestRV(t *testing.T) {
	storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV(overCache(t))
}

func TestCacheWatchInitializationSignal(t *testing.T) {
	storagetesting.RunTestWatchInitializationSignal(overCache(t))
}

func TestCacheSendInitialEventsBackwardCompatibility(t *testing.T) {
	storagetesting.RunSendInitialEventsBackwardCompatibility(overCache(t))
}
