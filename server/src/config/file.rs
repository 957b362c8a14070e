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

/// Reads the file into the settings: what is understood, what is wrong, what is passed over.
pub(super) fn apply(name: &str, text: &str, settings: &mut Settings) {
    let mut flattener = Flattener::new(name);
    if let Err(error) = flattener.read(text) {
        flattener.problems.push(error);
    }
    settings.problems.append(&mut flattener.problems);
    for entry in flattener.entries {
        let origin = Origin::File {
            path: name.into(),
            line: entry.line,
            column: entry.column,
            key: entry.path.clone(),
        };
        match understand(&entry, &origin) {
            Ok(Some((option, text))) => settings.set(option, text, origin),
            Ok(None) => {
                let remedy = remedy(&entry.path);
                settings.warnings.push(format!("{origin}: there is no such key; {remedy}"));
            }
            Err(error) => settings.problems.push(error),
        }
    }
}

/// The option and its value; None if no option has such a key.
fn understand(entry: &Entry, origin: &Origin) -> Result<Option<(&'static Opt, String)>, Error> {
    let Some(option) = options::by_key(&entry.path) else { return Ok(None) };
    if option.name == "config-file" {
        let why = "a config file cannot name another one";
        return Err(Error::of_value(origin, why, "remove the key"));
    }
    let text = match entry.plain && option.kind == Kind::Duration {
        true => nanoseconds(&entry.text)
            .map_err(|why| Error::of_value(origin, why, "correct the value"))?,
        false => entry.text.clone(),
    };
    Ok(Some((option, text)))
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
    problems: Vec<Error>,
    /// Sections and lists that are open below a key that nothing has: they are passed over.
    passing: usize,
}

fn error_at(name: &str, at: &Marker, why: &str, remedy: &str) -> Error {
    Error::new(format!("{name}:{}:{}", at.line(), at.col() + 1), why, remedy)
}

impl<'a> Flattener<'a> {
    fn new(name: &'a str) -> Self {
        Flattener {
            name,
            open: Vec::new(),
            entries: Vec::new(),
            seen: HashMap::new(),
            problems: Vec::new(),
            passing: 0,
        }
    }

    /// Up to the end, or to where nothing after it can be understood.
    fn read(&mut self, text: &str) -> Result<(), Error> {
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                error_at(self.name, error.marker(), error.info(), "correct the YAML there")
            })?;
            let at = span.start;
            if self.passing > 0 {
                self.pass_over(&event);
                continue;
            }
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let why = "the file holds more than one YAML document";
                        return Err(error_at(self.name, &at, why, "keep only the first"));
                    }
                }
                Event::MappingStart(..) => self.begin_mapping(at)?,
                Event::MappingEnd | Event::SequenceEnd => self.end(),
                Event::SequenceStart(..) => self.begin_sequence(at)?,
                Event::Scalar(text, style, ..) => {
                    self.scalar(&text, style == ScalarStyle::Plain, at)?;
                }
                Event::Alias(_) => {
                    let why = "aliases are not understood";
                    return Err(error_at(self.name, &at, why, "write it out"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, event: &Event<'_>) {
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => self.passing += 1,
            Event::MappingEnd | Event::SequenceEnd => self.passing -= 1,
            _ => {}
        }
        if self.passing == 0 {
            self.value_done();
        }
    }

    fn begin_mapping(&mut self, at: Marker) -> Result<(), Error> {
        match self.open.last() {
            None => {}
            Some(Open::Mapping(Some((_, key)))) if !self.is_section() => {
                let (key, section) = (*key, self.path());
                if options::by_key(&section).is_some() {
                    let why = format!("{section}: must be one value, not keys below it");
                    self.problems.push(error_at(self.name, &key, &why, "write key: value"));
                } else {
                    self.push(section, String::new(), false, key);
                }
                self.passing = 1;
                return Ok(());
            }
            Some(Open::Mapping(Some(_))) => {}
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
        let (key, path) = (*key, self.path());
        match options::by_key(&path) {
            Some(option) if option.takes_list() => {
                self.open.push(Open::Sequence(Vec::new(), key));
                return Ok(());
            }
            None if !self.is_section() => self.push(path, String::new(), false, key),
            Some(_) => {
                let why = format!("{path}: must be one value, not a list");
                self.problems.push(error_at(self.name, &key, &why, "write key: value"));
            }
            None => self.problems.push(self.not_a_section(&key)),
        }
        self.passing = 1;
        Ok(())
    }

    fn not_a_section(&self, key: &Marker) -> Error {
        let why = format!("{}: must hold keys, not a value", self.path());
        error_at(self.name, key, &why, "write its keys below it, indented")
    }

    fn end(&mut self) {
        if let Some(Open::Sequence(items, key)) = self.open.pop() {
            self.push(self.path(), items.join(","), false, key);
        }
        self.value_done();
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
                let section = self.is_section();
                if section && !absent {
                    self.problems.push(self.not_a_section(&key));
                } else if !absent || !section && options::by_key(&self.path()).is_none() {
                    self.push(self.path(), text.to_string(), plain, key);
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

    fn push(&mut self, path: String, text: String, plain: bool, at: Marker) {
        if let Some(line) = self.seen.insert(path.clone(), at.line()) {
            let why = format!("{path}: was given in line {line} already");
            self.problems.push(error_at(self.name, &at, &why, "keep one of them"));
            return;
        }
        let (line, column) = (at.line(), at.col() + 1);
        self.entries.push(Entry { path, text, plain, line, column });
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
