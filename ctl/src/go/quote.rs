//! `strconv.Quote` and the quoted half of `fmt.Sscanf`, over bytes that need not be UTF-8.

use std::fmt::Write;

/// `%q` of a Go string: double quotes, Go's escapes, bytes that are no UTF-8 as `\xNN`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            push_format(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        _ if is_print(c) => out.push(c),
        _ if c < ' ' || c == '\x7f' => push_format(out, format_args!("\\x{:02x}", u32::from(c))),
        _ if u32::from(c) < 0x10000 => push_format(out, format_args!("\\u{:04x}", u32::from(c))),
        _ => push_format(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

fn push_format(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
///
/// The standard library has that table but shows it only through escaping: after a first character
/// (where combining marks would be escaped too) a character is left alone exactly if it is printable.
/// It is younger than Go's: characters added after Unicode 15 print as themselves here.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let text: String = ['a', c].iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

/// `Sscanf`'s `%q`: a Go string literal at the start of `input` (blanks before it are skipped).
/// Returns the string and what follows it.
pub(crate) fn scan_quoted(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let start = input.iter().position(|b| !is_blank(*b))?;
    let (quote, body) = input[start..].split_first()?;
    match quote {
        b'"' => unquote(body),
        b'`' => {
            let end = body.iter().position(|b| *b == b'`')?;
            Some((body[..end].to_vec(), &body[end + 1..]))
        }
        _ => None,
    }
}

/// A blank inside a line, as Go's scanner skips it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

/// The string literal whose opening quote was just read, and what follows its closing quote.
fn unquote(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    loop {
        let (byte, tail) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some((out, tail)),
            b'\n' => return None,
            b'\\' => unescape(tail, &mut out)?,
            _ => {
                out.push(*byte);
                tail
            }
        };
    }
}

/// Reads one escape, of which the backslash was just read, and returns what follows it.
fn unescape<'a>(input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (kind, tail) = input.split_first()?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => *kind,
        b'x' => u8::try_from(digits(tail, 2, 16)?).ok()?,
        b'0'..=b'7' => u8::try_from(digits(input, 3, 8)?).ok()?,
        b'u' | b'U' => {
            let length = if *kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(digits(tail, length, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&tail[length..]);
        }
        _ => return None,
    };
    out.push(simple);
    Some(match kind {
        b'x' => &tail[2..],
        b'0'..=b'7' => &input[3..],
        _ => tail,
    })
}

fn digits(input: &[u8], length: usize, radix: u32) -> Option<u32> {
    let mut value = 0u32;
    for byte in input.get(..length)? {
        value = value.checked_mul(radix)? + char::from(*byte).to_digit(radix)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_equals_go() {
        // Each right side was printed by Go's fmt.Printf("%q").
        let cases: [(&[u8], &str); 10] = [
            (b"", r#""""#),
            (b"plain key/1", r#""plain key/1""#),
            (b"x<y>&\"\\'", r#""x<y>&\"\\'""#),
            (b"\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            (b"\xff\xfea\xc3", r#""\xff\xfea\xc3""#),
            ("äöü €🦀".as_bytes(), "\"äöü €🦀\""),
            ("\u{a0}\u{200b}\u{feff}\u{85}".as_bytes(), r#""\u00a0\u200b\ufeff\u0085""#),
            ("e\u{301}".as_bytes(), "\"e\u{301}\""),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
        ];
        for (input, expected) in cases {
            assert_eq!(quote(input), expected, "{input:?}");
        }
    }

    #[test]
    fn what_was_quoted_scans_back() {
        let inputs: [&[u8]; 5] =
            [b"", b"a b", b"\x00\xff\"\\", "ä\u{200b}".as_bytes(), &[b'\n', 0xe0, 0x80]];
        for input in inputs {
            let quoted = quote(input) + ") tail";
            let (value, rest) = scan_quoted(quoted.as_bytes()).unwrap();
            assert_eq!((value.as_slice(), rest), (input, b") tail".as_slice()));
        }
    }

    #[test]
    fn scanning_knows_go_literals() {
        let scan = |text: &str| scan_quoted(text.as_bytes()).map(|(value, _)| value);
        assert_eq!(scan(r#"  "a""#), Some(b"a".to_vec()));
        assert_eq!(scan("`raw\\n`"), Some(b"raw\\n".to_vec()));
        assert_eq!(scan(r#""\101\x41\u0041\U00000041""#), Some(b"AAAA".to_vec()));
        for bad in
            [r#""open"#, "bare", "", r#""\q""#, r#""\'""#, r#""\x4""#, r#""\400""#, r#""\ud800""#]
        {
            assert_eq!(scan(bad), None, "{bad}");
        }
    }
}
