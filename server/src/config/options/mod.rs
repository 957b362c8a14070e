//! The table of every option: flags, variables, file keys and `--help` all come from it.
//!
//! It knows etcd's whole surface, also what kvd does not do, because an option that is silently
//! ignored is the worst answer. So each one has a state:
//!
//! | state    | meaning |
//! |----------|---------|
//! | used     | changes what kvd does |
//! | accepted | checked, then without effect, and the table says why that is harmless |
//! | refused  | an error that says what to do instead, unless the value is the default |
//!
//! `experimental-` names that manifests still pass are aliases of the graduated option.

mod clustering;
mod legacy;
mod member;
mod operations;
mod resources;
mod security;

/// One option. Its default is text like any other source's value.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    /// Path of the key in a config file, sections joined by dots.
    pub(super) key: &'static str,
    pub(super) state: State,
    /// What to do where the option is refused; empty: leave it out.
    pub(super) instead: &'static str,
    /// Also known as `experimental-<name>`.
    pub(super) experimental: bool,
    /// Whoever sees the configuration must not see the value.
    pub(super) secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Bool,
    Text,
    /// Bounds are inclusive.
    Integer(i64, i64),
    /// `5s`; in a file also integer nanoseconds.
    Duration,
    /// A number of milliseconds, or a duration.
    Milliseconds,
    /// A number of bytes, or `64MiB`.
    Bytes,
    /// Comma-separated URLs.
    Urls,
    /// Comma-separated `name=url`.
    Cluster,
    /// Comma-separated words.
    List,
    Choice(&'static [&'static str]),
    /// Comma-separated `Gate=true`.
    Gates,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Used,
    /// Why it needs no effect.
    Accepted(&'static str),
    /// What is not supported yet.
    Refused(&'static str),
}

pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) options: &'static [Opt],
}

/// In the order of `--help`.
pub(super) static GROUPS: &[Group] = &[
    Group { title: "Member", options: member::OPTIONS },
    Group { title: "Clustering", options: clustering::OPTIONS },
    Group { title: "Limits and connections", options: member::LIMITS },
    Group { title: "Disk and memory", options: resources::OPTIONS },
    Group { title: "Logging", options: operations::LOGGING },
    Group { title: "Operation", options: operations::OPTIONS },
    Group { title: "Security", options: security::OPTIONS },
    Group { title: "Discovery", options: clustering::DISCOVERY },
    Group { title: "Left over from older etcd", options: legacy::OPTIONS },
];

pub(super) fn all() -> impl Iterator<Item = &'static Opt> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// The option of a flag's name, aliases included.
pub(super) fn by_name(name: &str) -> Option<&'static Opt> {
    let graduated = name.strip_prefix("experimental-");
    all().find(|option| {
        option.name == name || (option.experimental && graduated == Some(option.name))
    })
}

/// The option of a file key, sections joined by dots.
pub(super) fn by_key(path: &str) -> Option<&'static Opt> {
    // etcd's file has this one word differently from its flag.
    let path = match path {
        "experimental-snapshot-catch-up-entries" => "experimental-snapshot-catchup-entries",
        path => path,
    };
    // A flag's old name is a key of the top level, also where the new one went into a section.
    all()
        .find(|option| option.key == path)
        .or_else(|| by_name(path).filter(|option| option.key == option.name || option.name != path))
}

impl Opt {
    /// The part of the variable's name after `ETCD_` or `KVD_`.
    pub(super) fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }
}

const fn option(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Opt {
    Opt {
        name,
        kind,
        default,
        help,
        key: name,
        state: State::Used,
        instead: "",
        experimental: false,
        secret: false,
    }
}

impl Opt {
    const fn key(mut self, path: &'static str) -> Opt {
        self.key = path;
        self
    }

    const fn accepted(mut self, why: &'static str) -> Opt {
        self.state = State::Accepted(why);
        self
    }

    const fn refused(mut self, what: &'static str) -> Opt {
        self.state = State::Refused(what);
        self
    }

    /// What to do instead of giving an option that is refused.
    const fn instead(mut self, remedy: &'static str) -> Opt {
        self.instead = remedy;
        self
    }

    const fn secret(mut self) -> Opt {
        self.secret = true;
        self
    }

    const fn experimental(mut self) -> Opt {
        self.experimental = true;
        self
    }
}
