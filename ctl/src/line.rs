//! Splits a typed line (a txn request, an interactive watch) into arguments as etcdctl does.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::failure::{Exit, Failure};
use crate::go;

/// Words are separated by blanks. `'...'` is taken as it is, `"..."` is a Go string literal; a quote
/// that nothing closes is dropped. Quotes count only at the start of a word.
pub(crate) fn split(line: &[u8]) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' | b'\'' => quoted_length(rest),
            byte if is_space(*byte) => None,
            _ => Some(rest.iter().position(|b| is_space(*b)).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            rest = &rest[1..];
            continue;
        };
        let (word, tail) = rest.split_at(length);
        words.push(OsString::from_vec(unquoted(word)?));
        rest = tail;
    }
    Ok(words)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

/// Length of the quoted word at the start of `text`, both quotes included.
fn quoted_length(text: &[u8]) -> Option<usize> {
    let quote = text[0];
    let mut index = 1;
    loop {
        match text.get(index)? {
            byte if *byte == quote => return Some(index + 1),
            b'\\' if quote == b'"' => index += 2,
            _ => index += 1,
        }
    }
}

fn unquoted(word: &[u8]) -> Result<Vec<u8>, Failure> {
    match word[0] {
        b'\'' => Ok(word[1..word.len() - 1].to_vec()),
        b'"' => go::scan_quoted(word).map(|(value, _)| value).ok_or_else(|| {
            Failure::new(
                Exit::InvalidInput,
                format!("{} is not a Go string literal", String::from_utf8_lossy(word)),
            )
        }),
        _ => Ok(word.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split(line.as_bytes()).unwrap(), expected, "{line}");
    }

    #[test]
    fn lines_split_as_in_etcdctl() {
        check("", &[]);
        check("  put  a\tb ", &["put", "a", "b"]);
        check(r#"put "a b" 'c "d" e'"#, &["put", "a b", "c \"d\" e"]);
        check(r#"put a "x\n\x41\"""#, &["put", "a", "x\nA\""]);
        check(r#"put a'b "c"d"#, &["put", "a'b", "c", "d"]);
        check(r#"get "open"#, &["get", "open"]);
        check("get 'it", &["get", "it"]);
        check(r#"put a """#, &["put", "a", ""]);
    }

    #[test]
    fn a_bad_escape_is_invalid_input() {
        assert_eq!(split(br#"put a "\q""#).unwrap_err().exit, Exit::InvalidInput);
    }
}
