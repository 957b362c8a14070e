// The storage tests that k8s.io/apiserver publishes, over its own etcd3 store: objects and lists.
//
// Nothing of them is here: each is named, and given what it asks for. complete_test.go sees to it
// that none is missing.

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
)

// What those tests take that need nothing but a store.
func overStore(t *testing.T) (context.Context, *testing.T, storage.Interface) {
	s := newSetup(t)
	return s.ctx, t, s.store
}

func TestStoreCreateWithTTL(t *testing.T) {
	storagetesting.RunTestCreateWithTTL(overStore(t))
}

func TestStoreCreateWithKeyExist(t *testing.T) {
	storagetesting.RunTestCreateWithKeyExist(overStore(t))
}

func TestStoreGet(t *testing.T) {
	storagetesting.RunTestGet(overStore(t))
}

func TestStoreUnconditionalDelete(t *testing.T) {
	storagetesting.RunTestUnconditionalDelete(overStore(t))
}

func TestStoreConditionalDelete(t *testing.T) {
	storagetesting.RunTestConditionalDelete(overStore(t))
}

func TestStoreDeleteWithSuggestion(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestion(overStore(t))
}

func TestStoreDeleteWithSuggestionAndConflict(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestionAndConflict(overStore(t))
}

func TestStoreDeleteWithConflict(t *testing.T) {
	storagetesting.RunTestDeleteWithConflict(overStore(t))
}

func TestStoreDeleteWithSuggestionOfDeletedObject(t *testing.T) {
	storagetesting.RunTestDeleteWithSuggestionOfDeletedObject(overStore(t))
}

func TestStoreValidateDeletionWithSuggestion(t *testing.T) {
	storagetesting.RunTestValidateDeletionWithSuggestion(overStore(t))
}

func TestStoreValidateDeletionWithOnlySuggestionValid(t *testing.T) {
	storagetesting.RunTestValidateDeletionWithOnlySuggestionValid(overStore(t))
}

func TestStorePreconditionalDeleteWithSuggestion(t *testing.T) {
	storagetesting.RunTestPreconditionalDeleteWithSuggestion(overStore(t))
}

func TestStorePreconditionalDeleteWithOnlySuggestionPass(t *testing.T) {
	storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass(overStore(t))
}

func TestStoreGetListRecursivePrefix(t *testing.T) {
	storagetesting.RunTestGetListRecursivePrefix(overStore(t))
}

func TestStoreListPaging(t *testing.T) {
	storagetesting.RunTestListPaging(overStore(t))
}

func TestStoreNamespaceScopedList(t *testing.T) {
	storagetesting.RunTestNamespaceScopedList(overStore(t))
}

func TestStoreKeySchema(t *testing.T) {
	storagetesting.RunTestKeySchema(overStore(t))
}

func TestStoreGuaranteedUpdateWithTTL(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithTTL(overStore(t))
}

func TestStoreGuaranteedUpdateWithConflict(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithConflict(overStore(t))
}

func TestStoreGuaranteedUpdateWithSuggestionAndConflict(t *testing.T) {
	storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict(overStore(t))
}

func TestStoreCreate(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestCreate(s.ctx, t, s.store, s.storedPlainly)
}

func TestStoreGuaranteedUpdate(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestGuaranteedUpdate(s.ctx, t, s.store, s.storedPlainly)
}

func TestStoreGuaranteedUpdateChecksStoredData(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestGuaranteedUpdateChecksStoredData(s.ctx, t, s.store)
}

func TestStoreTransformationFailure(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestTransformationFailure(s.ctx, t, s.store)
}

// Lists are read as a stream where the server has that, and in pages.
func bothWays(t *testing.T, test func(*testing.T)) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("RangeStream=%v", stream), func(t *testing.T) {
			gate(t, features.EtcdRangeStream, stream)
			test(t)
		})
	}
}

func TestStoreList(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		s := newSetup(t)
		storagetesting.RunTestList(s.ctx, t, s.store, s.compact, false, s.lists)
	})
}

func TestStoreConsistentList(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		s := newSetup(t)
		storagetesting.RunTestConsistentList(s.ctx, t, s.store, s.raiseRevision, false, true, false)
	})
}

func TestStoreGetListNonRecursive(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestGetListNonRecursive(s.ctx, t, s.raiseRevision, s.store)
}

// For tests that count reads: neither the compactor's own, nor a stream that the server may not have.
func onlyPages(t *testing.T) {
	gate(t, features.ListFromCacheSnapshot, false)
	gate(t, features.EtcdRangeStream, false)
}

func TestStoreListContinuation(t *testing.T) {
	onlyPages(t)
	s := newSetup(t)
	storagetesting.RunTestListContinuation(s.ctx, t, s.store, s.readsAsFewAsPossible)
}

func TestStoreListPaginationRareObject(t *testing.T) {
	onlyPages(t)
	s := newSetup(t)
	storagetesting.RunTestListPaginationRareObject(s.ctx, t, s.store, s.readsAsFewAsPossible)
}

func TestStoreListContinuationWithFilter(t *testing.T) {
	onlyPages(t)
	s := newSetup(t)
	storagetesting.RunTestListContinuationWithFilter(s.ctx, t, s.store, s.readsAsFewAsPossible)
}

func TestStoreListInconsistentContinuation(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestListInconsistentContinuation(s.ctx, t, s.store, s.compact)
}

func TestStoreListResourceVersionMatch(t *testing.T) {
	s := newSetup(t)
	storagetesting.RunTestListResourceVersionMatch(s.ctx, t, s.store)
}

func TestStoreCompactRevision(t *testing.T) {
	// Only then does a store watch for the compactions of others.
	gate(t, features.ListFromCacheSnapshot, true)
	s := newSetup(t)
	storagetesting.RunTestCompactRevision(s.ctx, t, s.store, s.raiseRevision, s.compact)
}

func TestStoreStats(t *testing.T) {
	for _, sizes := range []bool{false, true} {
		t.Run(fmt.Sprintf("Sizes=%v", sizes), func(t *testing.T) {
			s := newSetup(t)
			if sizes {
				must(t, s.store.resize(s.podKeys))
			}
			storagetesting.RunTestStats(s.ctx, t, s.store, s.store.codec, s.store.transformer, sizes)
		})
	}
}

// An error as the store's own wrapper makes it of a value that cannot be read.
func corruption(t *testing.T) error {
	t.Helper()
	broken := etcd3.WithCorruptObjErrorHandlingTransformer(&breakable{broken: func() bool { return true }})
	_, _, err := broken.TransformFromStorage(t.Context(), nil, value.DefaultContext("key"))
	if err == nil {
		t.Fatal("a broken transformer works")
	}
	return err
}

// Works as the one within until it is broken.
type breakable struct {
	value.Transformer
	broken func() bool
}

var errBroken = errors.New("broken on purpose")

func (b *breakable) TransformFromStorage(ctx context.Context, data []byte, where value.Context) ([]byte, bool, error) {
	if b.broken() {
		return nil, false, errBroken
	}
	return b.Transformer.TransformFromStorage(ctx, data, where)
}

// The same of a codec.
type breakableCodec struct {
	runtime.Codec
	broken func() bool
}

func (b *breakableCodec) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if b.broken() {
		return nil, nil, errBroken
	}
	return b.Codec.Decode(data, kind, into)
}

// What is read can be broken by a switch, either before or after it was transformed.
func brokenBySwitch(t *testing.T, test func(*testing.T, *setup, func(bool))) {
	gate(t, features.AllowUnsafeMalformedObjectDeletion, true)
	t.Run("Transform", func(t *testing.T) {
		var broken atomic.Bool
		wrap := func(inner value.Transformer) value.Transformer {
			return &breakable{Transformer: inner, broken: broken.Load}
		}
		test(t, newSetupWith(t, options{wrap: wrap}), broken.Store)
	})
	t.Run("Decode", func(t *testing.T) {
		var broken atomic.Bool
		codec := &breakableCodec{Codec: newCodec(), broken: broken.Load}
		test(t, newSetupWith(t, options{codec: codec}), broken.Store)
	})
}

func TestStoreDeleteExpectedTransformOrDecodeError(t *testing.T) {
	brokenBySwitch(t, func(t *testing.T, s *setup, fail func(bool)) {
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(s.ctx, t, s.store, fail)
	})
}

func TestStoreDeleteWithConflictAndMissingExpectedTransformOrDecodeError(t *testing.T) {
	brokenBySwitch(t, func(t *testing.T, s *setup, fail func(bool)) {
		storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(s.ctx, t, s.store, fail)
	})
}

func TestStoreDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(t *testing.T) {
	gate(t, features.AllowUnsafeMalformedObjectDeletion, true)
	s := newSetup(t)
	storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(s.ctx, t, s.store)
}

func TestStoreGetListWithErrorAggregation(t *testing.T) {
	gate(t, features.AllowUnsafeMalformedObjectDeletion, true)
	s := newSetup(t)
	s.store.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(s.store.Interface, podResource)
	storagetesting.RunTestGetListWithErrorAggregation(s.ctx, t, s.store, corruption(t))
}

func TestStoreGetListWithoutErrorAggregation(t *testing.T) {
	gate(t, features.AllowUnsafeMalformedObjectDeletion, false)
	s := newSetup(t)
	storagetesting.RunTestGetListWithoutErrorAggregation(s.ctx, t, s.store, corruption(t))
}
