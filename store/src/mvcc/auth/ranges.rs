//! Sets of keys: what a user may read and what it may write.

use proto::authpb::Permission;
use proto::authpb::permission::Type;

/// What the roles of a user add up to.
#[derive(Debug, Default)]
pub(super) struct Permits {
    read: Ranges,
    write: Ranges,
}

impl Permits {
    pub(super) fn of<'p>(granted: impl Iterator<Item = &'p Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in granted {
            let range = || range_of(&permission.key, &permission.range_end);
            let kind = permission.perm_type();
            if matches!(kind, Type::Read | Type::Readwrite) {
                read.push(range());
            }
            if matches!(kind, Type::Write | Type::Readwrite) {
                write.push(range());
            }
        }
        Self { read: Ranges::union(read), write: Ranges::union(write) }
    }

    pub(super) fn may_read(&self, key: &[u8], end: &[u8]) -> bool {
        self.read.cover(key, end)
    }

    pub(super) fn may_write(&self, key: &[u8], end: &[u8]) -> bool {
        self.write.cover(key, end)
    }
}

/// From a key up to another, which is not in it; `None`: there is no end.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// As requests and permissions write it: without an end it is one key, and `\0` stands for no end.
fn range_of(key: &[u8], end: &[u8]) -> Range {
    match end {
        [] => (key.to_vec(), Some([key, &[0]].concat())),
        [0] => (key.to_vec(), None),
        end => (key.to_vec(), Some(end.to_vec())),
    }
}

/// In order, none touching the next.
#[derive(Debug, Default)]
struct Ranges(Vec<Range>);

impl Ranges {
    fn union(mut ranges: Vec<Range>) -> Self {
        // A range without keys would not make any room.
        ranges.retain(|(start, end)| end.as_ref().is_none_or(|end| start < end));
        ranges.sort();
        let mut union: Vec<Range> = Vec::new();
        for (start, end) in ranges {
            match union.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| *last >= start) => {
                    if last.is_some() && later(end.as_deref(), last.as_deref()) {
                        *last = end;
                    }
                }
                _ => union.push((start, end)),
            }
        }
        Self(union)
    }

    /// Whether one of them holds the whole range. One that ends before it begins has no keys, and counts
    /// as the one it begins with; in etcd that depends on what else was granted.
    fn cover(&self, key: &[u8], end: &[u8]) -> bool {
        let after = self.0.partition_point(|(start, _)| start.as_slice() <= key);
        let Some((_, upto)) = after.checked_sub(1).map(|at| &self.0[at]) else { return false };
        let Some(upto) = upto else { return true };
        let (_, end) = range_of(key, end);
        end.is_some_and(|end| *upto >= end) && upto.as_slice() > key
    }
}

fn later(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}
