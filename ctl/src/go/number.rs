//! `strconv.ParseInt`, `strconv.ParseUint` and `strconv.ParseBool`, with the words of their errors.

use crate::go::quote;

/// `strconv.ParseInt(text, radix, 64)`. Radix 0 reads the prefix (`0x`, `0o`, `0b`, `0`) and allows `_`.
pub(crate) fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    let wrong = |why| format!("parsing {}: {why}", quote(text.as_bytes()));
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) =
        if radix == 0 { prefixed(magnitude) } else { (radix, magnitude.to_owned()) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(wrong("invalid syntax"));
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| wrong("value out of range"))
}

/// `strconv.ParseUint(text, 16, 64)`: hex digits, and no sign or prefix.
pub(crate) fn parse_uint(text: &str) -> Result<u64, String> {
    let wrong = |why| format!("parsing {}: {why}", quote(text.as_bytes()));
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong("invalid syntax"));
    }
    u64::from_str_radix(text, 16).map_err(|_| wrong("value out of range"))
}

/// The radix that a literal's prefix names, and its digits.
fn prefixed(literal: &str) -> (u32, String) {
    let lower = literal.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    // Elsewhere an underscore stays, and is then no digit.
    let leading = radix == 10 && digits.starts_with('_');
    let misplaced = leading || digits.ends_with('_') || digits.contains("__");
    let digits = if misplaced { digits.to_owned() } else { digits.replace('_', "") };
    (radix, digits)
}

/// `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("parsing {}: expected true or false", quote(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_read_as_go_does() {
        let good = [
            ("0", 0, 0),
            ("-5", 0, -5),
            ("+5", 10, 5),
            ("0x1F", 0, 31),
            ("017", 0, 15),
            ("0o17", 0, 15),
            ("0b101", 0, 5),
            ("1_000", 0, 1000),
            ("694d", 16, 0x694d),
            ("-1", 16, -1),
            ("9223372036854775807", 10, i64::MAX),
            ("-9223372036854775808", 10, i64::MIN),
        ];
        for (text, radix, value) in good {
            assert_eq!(parse_int(text, radix), Ok(value), "{text}");
        }
        let bad =
            [("", 0), ("-", 10), ("1_000", 10), ("0x10", 16), ("08", 0), ("1__0", 0), ("+-1", 0)];
        for (text, radix) in bad {
            assert!(parse_int(text, radix).unwrap_err().ends_with("invalid syntax"), "{text}");
        }
        assert_eq!(parse_uint("00fFffffffffffffff"), Ok(u64::MAX));
        for bad in ["", "0x1", "-1", "+1", "1_0", "x"] {
            assert!(parse_uint(bad).unwrap_err().ends_with("invalid syntax"), "{bad}");
        }
        assert!(parse_uint("112233445566778899").unwrap_err().ends_with("out of range"));
        let large = parse_int("9223372036854775808", 10).unwrap_err();
        assert_eq!(large, r#"parsing "9223372036854775808": value out of range"#);
    }
}
