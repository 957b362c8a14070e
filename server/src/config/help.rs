//! The text of `--help`, from the table.

use super::options::{self, GROUPS, Kind, Opt, State};

const WIDTH: usize = 96;

const INTRO: &str = "\
kvd: a key-value store that speaks etcd's v3 API

Usage: kvd [options]

Options start with - or --, and take their value after = or a blank; booleans take it after = only.
Each is also a variable, KVD_<OPTION> or ETCD_<OPTION>, and a key of the --config-file.
Flags win over variables, variables over the file. Durations are written as 100ms, 5s or 1h30m,
sizes as 67108864 or 64MiB.
";

const EXAMPLES: &str = "\
Examples:
  kvd
      One member on 127.0.0.1, clients at port 2379, data in ./default.kvd.
  kvd --name n1 --data-dir /var/lib/kvd \\
      --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379
      The same for clients on other machines.
  kvd --config-file /etc/kvd/kvd.yaml --log-format json
      Settings from a file; what flags say wins.
  kvd config check --config-file /etc/kvd/kvd.yaml
      Would that start? kvd config show tells what it is made of; kvd config --help has more.
  KVD_QUOTA_BACKEND_BYTES=8GiB kvd
      An option as a variable.
";

pub(super) fn text() -> String {
    let mut out = INTRO.to_string();
    for group in GROUPS {
        let used: Vec<&Opt> = in_state(group.options, |state| matches!(state, State::Used));
        if used.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{}:\n", group.title));
        for option in used {
            describe(option, &mut out);
        }
    }
    out.push_str("\nHelp:\n  --help\n      Print this and exit.\n  --version\n");
    out.push_str("      Print the version and exit.\n");
    for (title, wanted) in [
        ("etcd's options that are accepted without effect", State::Accepted("")),
        ("etcd's options that are not supported, and an error", State::Refused("")),
    ] {
        let names: Vec<String> = options::all()
            .filter(|option| {
                std::mem::discriminant(&option.state) == std::mem::discriminant(&wanted)
            })
            .map(|option| option.name.to_string())
            .collect();
        out.push_str(&format!("\n{title}:\n"));
        wrap(&names.join(", "), 2, &mut out);
    }
    out.push('\n');
    out.push_str(EXAMPLES);
    out
}

fn in_state(options: &'static [Opt], wanted: fn(&State) -> bool) -> Vec<&'static Opt> {
    options.iter().filter(|option| wanted(&option.state)).collect()
}

fn describe(option: &Opt, out: &mut String) {
    let placeholder = match option.kind {
        Kind::Bool => "[=true|false]".to_string(),
        kind => format!(" <{}>", placeholder(kind)),
    };
    out.push_str(&format!("  --{}{placeholder}\n", option.name));
    let default = match option.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let text = format!("{}{default} [env: KVD_{}]", option.help, option.variable());
    wrap(&text, 6, out);
}

fn placeholder(kind: Kind) -> String {
    match kind {
        Kind::Bool => "bool".into(),
        Kind::Text => "text".into(),
        Kind::Integer(..) => "number".into(),
        Kind::Duration => "duration".into(),
        Kind::Milliseconds => "milliseconds".into(),
        Kind::Bytes => "bytes".into(),
        Kind::Urls => "url,...".into(),
        Kind::Cluster => "name=url,...".into(),
        Kind::List => "list".into(),
        Kind::Gates => "gate=bool,...".into(),
        Kind::Choice(words) => {
            words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join("|")
        }
    }
}

/// Appends the text in indented lines of at most `WIDTH`. What is in brackets stays together.
fn wrap(text: &str, indent: usize, out: &mut String) {
    let mut column = 0;
    for piece in pieces(text) {
        let width = piece.chars().count();
        if column > 0 && column + 1 + width <= WIDTH {
            out.push(' ');
            column += 1 + width;
        } else {
            if column > 0 {
                out.push('\n');
            }
            out.push_str(&" ".repeat(indent));
            column = indent + width;
        }
        out.push_str(&piece);
    }
    out.push('\n');
}

/// The words, those of `[default: a b]` as one.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut inside = false;
    for word in text.split(' ') {
        match pieces.last_mut() {
            Some(last) if inside => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_string()),
        }
        inside = (inside || word.starts_with('[')) && !word.ends_with(']');
    }
    pieces
}
