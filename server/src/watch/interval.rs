//! An interval tree: which of many ranges contain a key.
//!
//! A treap ordered by (start, end) in which every node knows the greatest end below it. A lookup
//! costs O(log n) plus the ranges found; memory is linear however the ranges overlap. Watchers of
//! the same range share a node.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

/// Where a range stops. Bounds are compared as `At(a) < At(b) < Never` for `a < b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    /// Before this key.
    At(Bytes),
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::At(end) => end.as_ref() > key,
            End::Never => true,
        }
    }
}

/// No node.
const NIL: usize = usize::MAX;

#[derive(Default)]
pub(super) struct IntervalTree {
    nodes: slab::Slab<Node>,
    root: Root,
}

struct Root(usize);

impl Default for Root {
    fn default() -> Self {
        Self(NIL)
    }
}

struct Node {
    start: Bytes,
    end: End,
    members: BTreeSet<usize>,
    /// The greatest end in the subtree.
    latest: End,
    /// A parent's is at least its children's. Random, which keeps the tree flat.
    priority: u32,
    left: usize,
    right: usize,
}

impl Node {
    fn order(&self, start: &[u8], end: &End) -> Ordering {
        (start, end).cmp(&(self.start.as_ref(), &self.end))
    }
}

impl IntervalTree {
    pub(super) fn insert(&mut self, start: Bytes, end: End, member: usize) {
        if let Some(found) = self.find(&start, &end) {
            self.nodes[found].members.insert(member);
            return;
        }
        let node = self.nodes.insert(Node {
            start,
            latest: end.clone(),
            end,
            members: BTreeSet::from([member]),
            priority: rand::random(),
            left: NIL,
            right: NIL,
        });
        self.root = Root(self.insert_below(self.root.0, node));
    }

    pub(super) fn remove(&mut self, start: &[u8], end: &End, member: usize) {
        let Some(found) = self.find(start, end) else { return };
        let members = &mut self.nodes[found].members;
        members.remove(&member);
        if members.is_empty() {
            self.root = Root(self.remove_below(self.root.0, start, end));
        }
    }

    /// Calls `visit` with every member of every range that contains `key`.
    pub(super) fn containing(&self, key: &[u8], visit: &mut impl FnMut(usize)) {
        self.containing_below(self.root.0, key, visit);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn containing_below(&self, at: usize, key: &[u8], visit: &mut impl FnMut(usize)) {
        let Some(node) = self.nodes.get(at) else { return };
        if !node.latest.is_after(key) {
            return;
        }
        self.containing_below(node.left, key, visit);
        if node.start.as_ref() > key {
            return;
        }
        if node.end.is_after(key) {
            node.members.iter().copied().for_each(&mut *visit);
        }
        self.containing_below(node.right, key, visit);
    }

    fn find(&self, start: &[u8], end: &End) -> Option<usize> {
        let mut at = self.root.0;
        while let Some(node) = self.nodes.get(at) {
            match node.order(start, end) {
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
                Ordering::Equal => return Some(at),
            }
        }
        None
    }

    /// Puts a node that is not yet part of the tree under `at`; the new root of that subtree.
    fn insert_below(&mut self, at: usize, new: usize) -> usize {
        if at == NIL {
            return new;
        }
        if self.nodes[new].priority > self.nodes[at].priority {
            let (left, right) = self.split(at, new);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.refresh(new);
            return new;
        }
        match self.compare(new, at) {
            Ordering::Less => {
                let left = self.nodes[at].left;
                self.nodes[at].left = self.insert_below(left, new);
            }
            _ => {
                let right = self.nodes[at].right;
                self.nodes[at].right = self.insert_below(right, new);
            }
        }
        self.refresh(at);
        at
    }

    fn remove_below(&mut self, at: usize, start: &[u8], end: &End) -> usize {
        if at == NIL {
            return NIL;
        }
        let (left, right) = (self.nodes[at].left, self.nodes[at].right);
        match self.nodes[at].order(start, end) {
            Ordering::Equal => {
                self.nodes.remove(at);
                return self.merge(left, right);
            }
            Ordering::Less => self.nodes[at].left = self.remove_below(left, start, end),
            Ordering::Greater => self.nodes[at].right = self.remove_below(right, start, end),
        }
        self.refresh(at);
        at
    }

    /// Cuts the subtree `at` into what is ordered before node `pivot` and what after.
    fn split(&mut self, at: usize, pivot: usize) -> (usize, usize) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.compare(at, pivot) == Ordering::Less {
            let (left, right) = self.split(self.nodes[at].right, pivot);
            self.nodes[at].right = left;
            self.refresh(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.nodes[at].left, pivot);
            self.nodes[at].left = right;
            self.refresh(at);
            (left, at)
        }
    }

    /// Joins two subtrees of which `left` is ordered before `right`.
    fn merge(&mut self, left: usize, right: usize) -> usize {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.nodes[left].priority >= self.nodes[right].priority {
            self.nodes[left].right = self.merge(self.nodes[left].right, right);
            self.refresh(left);
            left
        } else {
            self.nodes[right].left = self.merge(left, self.nodes[right].left);
            self.refresh(right);
            right
        }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.nodes[b].order(&self.nodes[a].start, &self.nodes[a].end)
    }

    /// Recomputes `latest` from the node and its children.
    fn refresh(&mut self, at: usize) {
        let node = &self.nodes[at];
        let below = [node.left, node.right].into_iter().filter_map(|child| self.nodes.get(child));
        let latest = below.map(|child| &child.latest).fold(&node.end, std::cmp::max).clone();
        self.nodes[at].latest = latest;
    }
}
