//! Which keys a command names: one key, a range, everything with a prefix, everything from a key on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::failure::Failure;

/// `key` and `range_end` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
}

/// A range end that stands for "no end"; as a key, the first one there can be.
const ZERO: &[u8] = b"\0";

impl Keys {
    /// The keys for `<key> [range_end]` with `--prefix` or `--from-key`.
    pub(crate) fn of(args: &[OsString], prefix: bool, from_key: bool) -> Result<Self, Failure> {
        let (key, range_end) = match args {
            [] => (&[][..], None),
            [key] => (bytes(key), None),
            [key, range_end, ..] => (bytes(key), Some(bytes(range_end))),
        };
        if range_end.is_some() && (prefix || from_key) {
            return Err(Failure::bad_arguments(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        Ok(match range_end {
            Some(range_end) => Self { key: key.to_vec(), range_end: range_end.to_vec() },
            None if prefix && !key.is_empty() => {
                Self { key: key.to_vec(), range_end: prefix_end(key) }
            }
            None if prefix || from_key => {
                let first = if key.is_empty() { ZERO } else { key };
                Self { key: first.to_vec(), range_end: ZERO.to_vec() }
            }
            None => Self { key: key.to_vec(), range_end: Vec::new() },
        })
    }
}

pub(crate) fn bytes(argument: &OsStr) -> &[u8] {
    argument.as_bytes()
}

/// The first key after all keys that begin with `prefix`; no end if they are the last ones.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        }
        None => ZERO.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn check(args: &[&[u8]], prefix: bool, from_key: bool, key: &[u8], range_end: &[u8]) {
        let args: Vec<OsString> = args.iter().map(|a| OsString::from_vec(a.to_vec())).collect();
        let keys = Keys::of(&args, prefix, from_key).unwrap();
        assert_eq!((keys.key.as_slice(), keys.range_end.as_slice()), (key, range_end), "{args:?}");
    }

    #[test]
    fn argument_forms_name_ranges() {
        check(&[b"a"], false, false, b"a", b"");
        check(&[b"a", b"c"], false, false, b"a", b"c");
        check(&[b"a", b"c", b"ignored"], false, false, b"a", b"c");
        check(&[b"a"], true, false, b"a", b"b");
        check(&[b"a\xff\xff"], true, false, b"a\xff\xff", b"b");
        check(&[b"\xff"], true, false, b"\xff", b"\0");
        check(&[b""], true, false, b"\0", b"\0");
        check(&[b"a"], false, true, b"a", b"\0");
        check(&[b""], false, true, b"\0", b"\0");
    }

    #[test]
    fn a_range_end_excludes_prefix() {
        let args = ["a".into(), "b".into()];
        assert_eq!(
            Keys::of(&args, true, false).unwrap_err().exit,
            crate::failure::Exit::BadArguments
        );
    }
}
