//! The index against a list of spans that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::watch::index::{Index, Span};

fn span(key: &str, range_end: &str) -> Option<Span> {
    Span::new(key.into(), range_end.into())
}

#[test]
fn spans_follow_the_rules_of_ranges() {
    let contains = |key, end, wanted: &[&str]| {
        let span = span(key, end).unwrap();
        let all = ["\0", "a", "aa", "b", "c", "\u{7f}"];
        let found = all.into_iter().filter(|key| span.contains(key.as_bytes())).collect::<Vec<_>>();
        assert_eq!(found, wanted, "{span:?}");
    };
    contains("a", "", &["a"]);
    contains("", "", &["\0"]);
    contains("a", "b", &["a", "aa"]);
    contains("aa", "\0", &["aa", "b", "c", "\u{7f}"]);
    contains("", "\0", &["\0", "a", "aa", "b", "c", "\u{7f}"]);
    contains("", "b", &["\0", "a", "aa"]);
    assert_eq!(span("b", "b"), None);
    assert_eq!(span("b", "a"), None);
    assert_eq!(span("\0\0", "\0"), Some(Span::new(vec![0, 0], vec![0]).unwrap()));
}

/// Few letters, so that spans meet, nest and repeat.
fn key() -> impl Strategy<Value = String> {
    "[abc]{1,3}"
}

fn any_span() -> impl Strategy<Value = Span> {
    let end = prop_oneof![Just(String::new()), Just("\0".into()), key()];
    (key(), end).prop_filter_map("empty", |(key, end)| span(&key, &end))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn finds_what_a_search_of_all_spans_finds(
        steps in prop::collection::vec((any_span(), any::<prop::sample::Index>(), any::<bool>()), 1..120),
        keys in prop::collection::vec(key(), 1..20),
    ) {
        let mut index = Index::default();
        let mut model = BTreeMap::new();
        for (number, (span, victim, remove)) in steps.into_iter().enumerate() {
            if remove && !model.is_empty() {
                let victim = *model.keys().nth(victim.index(model.len())).unwrap();
                index.remove(&model.remove(&victim).unwrap(), victim);
            } else {
                index.insert(&span, number);
                model.insert(number, span);
            }
            prop_assert_eq!(index.is_empty(), model.is_empty());
        }
        for key in keys {
            let mut found = Vec::new();
            index.wanting(key.as_bytes(), |watcher| found.push(watcher));
            found.sort_unstable();
            let wanted = model.iter().filter(|(_, span)| span.contains(key.as_bytes()));
            prop_assert_eq!(found, wanted.map(|(watcher, _)| *watcher).collect::<Vec<_>>());
        }
        index.clear();
        index.wanting(b"a", |_| panic!("nothing is left"));
    }
}
