//! The comparisons of a transaction: `mod("key") > "0"`.

use proto::etcdserverpb::Compare;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::go;

/// Reads one comparison. The error says what is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Compare, String> {
    let shown = String::from_utf8_lossy(line);
    let malformed = || format!("malformed comparison: {shown} (write it as mod(\"key\") > \"0\")");
    let (target, key, operator, value) = scan(line).ok_or_else(malformed)?;
    let number = |radix| {
        let text = String::from_utf8_lossy(&value);
        go::parse_int(&text, radix)
            .map_err(|why| format!("invalid txn compare request: {shown} ({why})"))
    };
    let (target, union) = match target {
        b"ver" | b"version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        b"c" | b"create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        b"m" | b"mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        b"val" | b"value" => (CompareTarget::Value, TargetUnion::Value(value)),
        b"lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!(
                "malformed comparison: {shown} (unknown target {other}; \
                 there are ver, create, mod, value and lease)"
            ));
        }
    };
    let result = match operator {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!(
                "malformed comparison: {shown} (unknown operator {other}; there are = != > <)"
            ));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key,
        target_union: Some(union),
        range_end: Vec::new(),
    })
}

/// Target, key, operator and value, with blanks where Go's scanner allows them.
#[allow(
    clippy::type_complexity,
    reason = "the four parts of one line, taken apart by the caller at once"
)]
fn scan(line: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8], Vec<u8>)> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let (key, rest) = go::scan_quoted(&line[open + 1..])?;
    let rest = rest.strip_prefix(b")")?.trim_ascii_start();
    let end = rest.iter().position(u8::is_ascii_whitespace)?;
    let (value, _) = go::scan_quoted(&rest[end..])?;
    Some((&line[..open], key, &rest[..end], value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) {
        let compare = parse(line.as_bytes()).unwrap();
        assert_eq!(compare.key, b"k", "{line}");
        assert_eq!(compare.target(), target, "{line}");
        assert_eq!(compare.result(), result, "{line}");
        assert_eq!(compare.target_union, Some(union), "{line}");
    }

    #[test]
    fn all_targets_and_operators_parse() {
        use CompareResult::{Equal, Greater, Less, NotEqual};
        use CompareTarget::{Create, Lease, Mod, Value, Version};
        check(r#"ver("k") = "1""#, Version, Equal, TargetUnion::Version(1));
        check(r#"version("k") != "-1""#, Version, NotEqual, TargetUnion::Version(-1));
        check(r#"c("k") > "0""#, Create, Greater, TargetUnion::CreateRevision(0));
        check(r#"create("k") < "9""#, Create, Less, TargetUnion::CreateRevision(9));
        check(r#"m("k")   =   "5" and more"#, Mod, Equal, TargetUnion::ModRevision(5));
        check("mod(`k`) = `5`", Mod, Equal, TargetUnion::ModRevision(5));
        check(r#"val("\x6b") = "\xff\n""#, Value, Equal, TargetUnion::Value(vec![0xff, b'\n']));
        check(r#"value("k") > """#, Value, Greater, TargetUnion::Value(Vec::new()));
        check(r#"lease("k") = "694d""#, Lease, Equal, TargetUnion::Lease(0x694d));
    }

    #[test]
    fn malformed_comparisons_are_told() {
        let bad = [
            "",
            "mod",
            r#"mod(k) > "0""#,
            r#"mod("k" ) > "0""#,
            r#"mod("k")>"0""#,
            r#"mod("k") >"#,
            r#"mod("k") > 0"#,
            r#"size("k") > "0""#,
            r#"mod("k") >= "0""#,
        ];
        for line in bad {
            assert!(
                parse(line.as_bytes()).unwrap_err().starts_with("malformed comparison"),
                "{line}"
            );
        }
        let number = parse(br#"mod("k") > "x""#).unwrap_err();
        assert!(number.starts_with("invalid txn compare request: "), "{number}");
    }
}
