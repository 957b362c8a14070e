//! The config file: YAML (so JSON too) with etcd's keys.
//!
//! The file is flattened while it is parsed: `client-transport-security: {cert-file: x}` becomes
//! the path `client-transport-security.cert-file`. Going through the parser's events rather than
//! serde keeps the line of every key, which errors need, and rejects keys given twice.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::options::{self, Kind, Opt};
use super::settings::{Origin, Settings};
use super::{Error, suggest};

/// One key with a value.
struct Entry {
    path: String,
    /// The items of a list are joined by commas.
    text: String,
    /// Written without quotes, so `5` is a number.
    plain: bool,
    line: usize,
    column: usize,
}

/// Reads the file into the settings.
pub(super) fn apply(name: &str, text: &str, settings: &mut Settings) -> Result<(), Error> {
    for entry in flatten(name, text)? {
        let Entry { path, text, plain, line, column } = entry;
        let origin =
            |key: &str| Origin::File { path: name.into(), line, column, key: key.to_string() };
        let option = options::by_key(&path).ok_or_else(|| {
            Error::of_value(&origin(&path), "there is no such key", remedy(&path))
        })?;
        if option.name == "config-file" {
            return Err(Error::of_value(
                &origin(&path),
                "a config file cannot name another one",
                "remove the key",
            ));
        }
        let text = match plain && option.kind == Kind::Duration {
            true => nanoseconds(&text)
                .map_err(|why| Error::of_value(&origin(&path), why, "correct the value"))?,
            false => text,
        };
        settings.set(option, text, origin(&path));
    }
    Ok(())
}

/// A plain number is nanoseconds, as in etcd. Nobody means so few of them that it is under 1 ms.
fn nanoseconds(text: &str) -> Result<String, String> {
    match text.parse::<u64>() {
        Err(_) | Ok(0) => Ok(text.into()),
        Ok(1..1_000_000) => Err(format!(
            "a plain number means nanoseconds, as in etcd, and {text} of them are under 1 ms: \
             write {text}s or {text}ms"
        )),
        Ok(number) => Ok(format!("{number}ns")),
    }
}

fn remedy(path: &str) -> String {
    // A flag's name in the wrong section, or in none, is the likeliest mistake.
    let last = path.rsplit('.').next().unwrap_or(path);
    let near = options::by_name(last).map(|option| option.key).or_else(|| {
        let sections = options::all().filter_map(|option| Some(option.key.rsplit_once('.')?.0));
        let known = options::all().map(|option| option.key).chain(sections);
        suggest::nearest(path, known).or_else(|| {
            let name = suggest::nearest(last, options::all().map(|option| option.name))?;
            options::by_name(name).map(|option| option.key)
        })
    });
    match near {
        Some(key) => format!("did you mean {key}?"),
        None => "kvd --help lists the options, whose names are the keys".into(),
    }
}

/// A section or list that was begun and not ended.
enum Open {
    /// The key whose value comes next, with its place.
    Mapping(Option<(String, Marker)>),
    /// Items so far, and the place of the key.
    Sequence(Vec<String>, Marker),
}

struct Flattener<'a> {
    name: &'a str,
    open: Vec<Open>,
    entries: Vec<Entry>,
    /// Line of each path.
    seen: HashMap<String, usize>,
}

fn flatten(name: &str, text: &str) -> Result<Vec<Entry>, Error> {
    let mut flattener =
        Flattener { name, open: Vec::new(), entries: Vec::new(), seen: HashMap::new() };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            error_at(name, error.marker(), error.info(), "correct the YAML there")
        })?;
        let at = span.start;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let why = "the file holds more than one YAML document";
                    return Err(error_at(name, &at, why, "keep only the first"));
                }
            }
            Event::MappingStart(..) => flattener.begin_mapping(at)?,
            Event::MappingEnd | Event::SequenceEnd => flattener.end()?,
            Event::SequenceStart(..) => flattener.begin_sequence(at)?,
            Event::Scalar(text, style, ..) => {
                flattener.scalar(&text, style == ScalarStyle::Plain, at)?;
            }
            Event::Alias(_) => {
                return Err(error_at(name, &at, "aliases are not understood", "write it out"));
            }
            _ => {}
        }
    }
    Ok(flattener.entries)
}

fn error_at(name: &str, at: &Marker, why: &str, remedy: &str) -> Error {
    Error::new(format!("{name}:{}:{}", at.line(), at.col() + 1), why, remedy)
}

impl Flattener<'_> {
    fn begin_mapping(&mut self, at: Marker) -> Result<(), Error> {
        match self.open.last() {
            None => {}
            Some(Open::Mapping(Some((_, key)))) => {
                let section = self.path();
                let prefix = format!("{section}.");
                if !options::all().any(|option| option.key.starts_with(&prefix)) {
                    let why = match options::by_key(&section) {
                        Some(_) => "this key has a value of its own, not keys below it",
                        None => "there is no such section",
                    };
                    return Err(error_at(
                        self.name,
                        key,
                        &format!("{section}: {why}"),
                        &remedy(&section),
                    ));
                }
            }
            Some(_) => {
                let remedy = "write key: value lines";
                return Err(error_at(self.name, &at, "keys and values do not belong here", remedy));
            }
        }
        self.open.push(Open::Mapping(None));
        Ok(())
    }

    fn begin_sequence(&mut self, at: Marker) -> Result<(), Error> {
        let Some(Open::Mapping(Some((_, key)))) = self.open.last() else {
            return Err(error_at(self.name, &at, "a list does not belong here", "give it a key"));
        };
        let key = *key;
        self.open.push(Open::Sequence(Vec::new(), key));
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        if let Some(Open::Sequence(items, key)) = self.open.pop() {
            let path = self.path();
            let listed = options::by_key(&path).is_none_or(Opt::takes_list);
            if !listed {
                let why = format!("{path}: must be one value, not a list");
                return Err(error_at(self.name, &key, &why, "write key: value"));
            }
            self.push(path, items.join(","), false, key)?;
        }
        self.value_done();
        Ok(())
    }

    fn scalar(&mut self, text: &str, plain: bool, at: Marker) -> Result<(), Error> {
        match self.open.last_mut() {
            None if plain && text.is_empty() => Ok(()),
            None => Err(error_at(
                self.name,
                &at,
                "the file must hold keys and values",
                "write key: value lines",
            )),
            Some(Open::Sequence(items, _)) => {
                items.push(text.to_string());
                Ok(())
            }
            Some(Open::Mapping(key @ None)) => {
                *key = Some((text.to_string(), at));
                Ok(())
            }
            Some(Open::Mapping(Some((_, key)))) => {
                let key = *key;
                // A key without a value is as good as none: etcd's sample file is full of them.
                let absent = plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
                if !absent {
                    self.push(self.path(), text.to_string(), plain, key)?;
                } else if options::by_key(&self.path()).is_none() && !self.is_section() {
                    let path = self.path();
                    let why = format!("{path}: there is no such key");
                    return Err(error_at(self.name, &key, &why, &remedy(&path)));
                }
                self.value_done();
                Ok(())
            }
        }
    }

    fn is_section(&self) -> bool {
        let prefix = format!("{}.", self.path());
        options::all().any(|option| option.key.starts_with(&prefix))
    }

    fn push(&mut self, path: String, text: String, plain: bool, at: Marker) -> Result<(), Error> {
        if let Some(line) = self.seen.insert(path.clone(), at.line()) {
            let why = format!("{path}: was given in line {line} already");
            return Err(error_at(self.name, &at, &why, "keep one of them"));
        }
        let (line, column) = (at.line(), at.col() + 1);
        self.entries.push(Entry { path, text, plain, line, column });
        Ok(())
    }

    /// The keys of all open mappings, joined by dots.
    fn path(&self) -> String {
        let keys = self.open.iter().filter_map(|open| match open {
            Open::Mapping(Some((key, _))) => Some(key.as_str()),
            _ => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }

    fn value_done(&mut self) {
        if let Some(Open::Mapping(key)) = self.open.last_mut() {
            *key = None;
        }
    }
}

impl Opt {
    fn takes_list(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::Urls | Kind::Cluster | Kind::Gates)
    }
}
