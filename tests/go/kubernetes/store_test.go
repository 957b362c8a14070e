// The storage of the API server over the cluster under test.

package kubernetes

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagefeature "k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"
)

// What every stored value begins with, so that a value which was not transformed is noticed.
const valuePrefix = "kvd:"

const podsPrefix = "/pods/"

var podResource = schema.GroupResource{Resource: "pods"}

// All that one test has: a store over the whole, empty key space, and a look behind it.
type setup struct {
	ctx    context.Context
	store  *apiStore
	client *kubernetes.Client
	// Counts reads of keys, and notes lists.
	reads *storagetesting.KVRecorder
	lists *storagetesting.KubernetesRecorder
}

// The API server's store, with a transformer that a test may exchange.
type apiStore struct {
	storage.Interface
	codec       runtime.Codec
	transformer *exchangeable
	resize      func(storage.KeysFunc) error
}

type options struct {
	// What all keys begin with; nothing by default.
	prefix string
	codec  runtime.Codec
	// Wraps what is between the objects and the stored bytes.
	wrap func(value.Transformer) value.Transformer
}

func newSetup(t *testing.T) *setup {
	return newSetupWith(t, options{})
}

func newSetupWith(t *testing.T, given options) *setup {
	t.Helper()
	client := connect(t)
	empty(t, client.Client)
	lists := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	reads := storagetesting.NewKVRecorder(client.KV, lists)
	client.Kubernetes, client.KV = lists, reads
	forgetFeatures(t)
	store := newStore(t, client, given)
	return &setup{ctx: t.Context(), store: store, client: client, reads: reads, lists: lists}
}

func newStore(t *testing.T, client *kubernetes.Client, given options) *apiStore {
	t.Helper()
	codec := given.codec
	if codec == nil {
		codec = newCodec()
	}
	plain := storagetesting.NewPrefixTransformer([]byte(valuePrefix), false)
	transformer := &exchangeable{current: plain, plain: plain}
	used := value.Transformer(transformer)
	if given.wrap != nil {
		used = given.wrap(used)
	}
	leases := etcd3.NewDefaultLeaseManagerConfig()
	// Tests wait for objects with a time to live to be gone; a reused lease lives longer.
	leases.ReuseDurationSeconds = 1
	versioner := storage.APIObjectVersioner{}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	store, err := etcd3.New(client, compactor, codec, newPod, newPodList, given.prefix, podsPrefix, podResource,
		used, leases, etcd3.NewDefaultDecoder(codec, versioner), versioner)
	must(t, err)
	t.Cleanup(store.Close)
	return &apiStore{
		Interface: store, codec: codec, transformer: transformer, resize: store.EnableResourceSizeEstimation,
	}
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

func newCodec() runtime.Codec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme).LegacyCodec(examplev1.SchemeGroupVersion)
}

// A transformer behind which another can be put while watches use it.
type exchangeable struct {
	mutex   sync.RWMutex
	current value.Transformer
	plain   *storagetesting.PrefixTransformer
}

func (e *exchangeable) get() value.Transformer {
	e.mutex.RLock()
	defer e.mutex.RUnlock()
	return e.current
}

func (e *exchangeable) TransformFromStorage(ctx context.Context, data []byte, where value.Context) ([]byte, bool, error) {
	return e.get().TransformFromStorage(ctx, data, where)
}

func (e *exchangeable) TransformToStorage(ctx context.Context, data []byte, where value.Context) ([]byte, error) {
	return e.get().TransformToStorage(ctx, data, where)
}

// Puts another in place, and returns what undoes that.
func (e *exchangeable) exchange(next value.Transformer) func() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	before := e.current
	e.current = next
	return func() {
		e.mutex.Lock()
		defer e.mutex.Unlock()
		e.current = before
	}
}

func (s *apiStore) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	changed := *s.transformer.plain
	return s.transformer.exchange(modify(&changed))
}

func (s *apiStore) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	return s.transformer.exchange(modify(s.transformer.get()))
}

// A gate that is set as long as the test runs.
func gate(t *testing.T, feature featuregate.Feature, enabled bool) {
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, feature, enabled)
}

// What an earlier test has found out about the server is found out again.
func forgetFeatures(t *testing.T) {
	before := storagefeature.DefaultFeatureSupportChecker
	storagefeature.DefaultFeatureSupportChecker = storagefeature.NewDefaultFeatureSupportChecker()
	t.Cleanup(func() { storagefeature.DefaultFeatureSupportChecker = before })
}

// A write that is none of the store's, as other resources' are.
func (s *setup) raiseRevision(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	response, err := s.client.Put(ctx, "other", "written")
	must(t, err)
	return response.Header.Revision
}

// Compacts as the API server does, by vote, and waits until the store has heard of it.
func (s *setup) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	parsed, err := storage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	must(t, err)
	revision := int64(parsed)
	var votes, compacted int64
	// The first vote only learns how many there were, if there were any.
	for compacted != revision {
		votes, _, compacted, err = etcd3.Compact(ctx, s.client.Client, votes, revision)
		must(t, err)
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		eventually(t, 10*time.Second, func() error {
			if known := s.store.CompactRevision(); known != revision {
				return fmt.Errorf("the store knows of a compaction at %d, not %d", known, revision)
			}
			return nil
		})
	}
}

// An object must be stored without those fields that only the answer to a request carries.
func (s *setup) storedPlainly(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	response, err := s.client.Client.Get(ctx, key)
	must(t, err)
	if len(response.Kvs) != 1 {
		t.Fatalf("%s is stored %d times", key, len(response.Kvs))
	}
	stored, err := runtime.Decode(s.store.codec, response.Kvs[0].Value[len(valuePrefix):])
	must(t, err)
	pod := stored.(*example.Pod)
	if pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("%s is stored with resource version %q and link %q", key, pod.ResourceVersion, pod.SelfLink)
	}
}

// How many pages a list may read: each is twice as long as the one before, up to 10,000 keys.
func (s *setup) readsAsFewAsPossible(t *testing.T, page, objects uint64) {
	t.Helper()
	if seen := s.store.transformer.plain.GetReadsAndReset(); seen != objects {
		t.Errorf("%d objects were read, not %d", seen, objects)
	}
	pages := uint64(1)
	for read := uint64(1); page > 0 && read < objects; pages++ {
		page = min(2*page, 10_000)
		read += page
	}
	if calls := s.reads.GetReadsAndReset() + s.reads.GetStreamReadsAndReset(); calls != pages {
		t.Fatalf("%d calls were made, not %d", calls, pages)
	}
}

// The keys of the pods, as the estimate of their sizes asks for them.
func (s *setup) podKeys(ctx context.Context) ([]string, error) {
	response, err := s.client.Client.Get(ctx, podsPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(response.Kvs))
	for _, pair := range response.Kvs {
		keys = append(keys, string(pair.Key))
	}
	return keys, nil
}
