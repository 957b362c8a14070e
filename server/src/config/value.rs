//! Values as text: durations, sizes, booleans, lists. Every error is half a sentence that says what
//! would be right.

use std::time::Duration;

use super::options::Kind;
use super::{InitialMember, Url, gates};

/// Whether an option of this kind can have this value.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::Bool => boolean(text).map(drop),
        Kind::Integer(min, max) => integer(text, min, max).map(drop),
        Kind::Duration => duration(text).map(drop),
        Kind::Milliseconds => milliseconds(text).map(drop),
        Kind::Bytes => bytes(text).map(drop),
        Kind::Urls => urls(text).map(drop),
        Kind::Cluster => cluster(text).map(drop),
        Kind::Gates => gates::parse(text).map(drop),
        Kind::Choice(words) => match words.contains(&text) {
            true => Ok(()),
            false => {
                let words: Vec<&str> = words.iter().copied().filter(|w| !w.is_empty()).collect();
                Err(format!("must be one of {}, not \"{text}\"", words.join(", ")))
            }
        },
    }
}

/// Whether two values of this kind mean the same.
pub(super) fn same(kind: Kind, one: &str, other: &str) -> bool {
    match kind {
        Kind::Bool => boolean(one) == boolean(other),
        Kind::Integer(min, max) => integer(one, min, max) == integer(other, min, max),
        Kind::Duration => duration(one) == duration(other),
        Kind::Bytes => bytes(one) == bytes(other),
        _ => one.trim() == other.trim(),
    }
}

/// What Go's flags take for a boolean.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("must be true or false, not \"{text}\"")),
    }
}

pub(super) fn integer(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let number: i64 =
        text.trim().parse().map_err(|_| format!("must be a whole number, not \"{text}\""))?;
    if !(min..=max).contains(&number) {
        return Err(match max {
            i64::MAX => format!("must be at least {min}, not {number}"),
            _ => format!("must be between {min} and {max}, not {number}"),
        });
    }
    Ok(number)
}

/// A duration as Go writes it: `1h30m`, `2.5s`, `100ms`; a bare 0 needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a duration like 5s, 100ms or 1h30m, not \"{text}\"");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("needs a unit, as in {rest}s or {rest}ms"));
    }
    if rest.starts_with('-') {
        return Err(format!("must not be negative, but is \"{text}\""));
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |length| digits + length);
        seconds += number
            * match &rest[digits..unit] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    // Rounded, because 0.1 + 0.2 seconds are 300 ms.
    let nanoseconds = (seconds * 1e9).round();
    if nanoseconds > i64::MAX as f64 {
        return Err(format!("must be less than 292 years, not \"{text}\""));
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// A number of milliseconds as etcd takes it, or a duration.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse::<u64>() {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => duration(text).map_err(|_| {
            format!("must be a number of milliseconds or a duration like 100ms, not \"{text}\"")
        }),
    }
}

/// A number of bytes, with `KiB`, `MiB`, `GiB` or `TiB` if wanted.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("must be a number of bytes like 67108864 or 64MiB, not \"{text}\"");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let number: i64 = trimmed[..digits].trim_end().parse().map_err(|_| wrong())?;
    let unit: i64 = match trimmed[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// The words of a comma-separated list, blanks around them dropped.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

pub(super) fn urls(text: &str) -> Result<Vec<Url>, String> {
    list(text)
        .map(|word| Url::parse(word).map_err(|why| format!("\"{word}\" cannot be used: {why}")))
        .collect()
}

/// The members of `name=url,name=url`, sorted by name, the URLs of a name collected and sorted.
pub(super) fn cluster(text: &str) -> Result<Vec<InitialMember>, String> {
    let mut members: Vec<InitialMember> = Vec::new();
    for word in list(text) {
        let (name, url) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("\"{word}\" must have the form name=http://host:port"))?;
        let url = Url::parse(url).map_err(|why| format!("\"{url}\" cannot be used: {why}"))?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url),
            None => members.push(InitialMember { name: name.into(), peer_urls: vec![url] }),
        }
    }
    members.sort_by(|one, other| one.name.cmp(&other.name));
    for member in &mut members {
        member.peer_urls.sort();
    }
    Ok(members)
}
