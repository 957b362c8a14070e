//! Every flag that some etcd has is known here, in each way to write it, and means the same when it
//! is not given. The lists come from the programs themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Target, etcd_is_required};

use super::{kvd, shown, text};

/// What 3.6 has dropped of what 3.4 and 3.5 had, hidden ones included: manifests outlive versions.
const DROPPED: &[(&str, &str)] = &[
    ("debug", "false"),
    ("log-package-levels", ""),
    ("enable-v2", "false"),
    ("experimental-enable-v2v3", ""),
    ("experimental-backend-bbolt-freelist-type", ""),
    ("experimental-max-learners", "1"),
    ("proxy", "off"),
    ("proxy-failure-wait", "5000"),
    ("proxy-refresh-interval", "30000"),
    ("proxy-dial-timeout", "1000"),
    ("proxy-write-timeout", "5000"),
    ("proxy-read-timeout", "0"),
    ("cluster-active-size", "1"),
    ("cluster-remove-delay", "1"),
    ("cluster-sync-interval", "1"),
    ("config", "x"),
    ("force", "false"),
    ("max-result-buffer", "1"),
    ("max-retry-attempts", "1"),
    ("peer-heartbeat-interval", "1"),
    ("peer-election-timeout", "1"),
    ("retry-interval", "1"),
    ("snapshot", "false"),
    ("v", "false"),
    ("vv", "false"),
];

/// Where kvd's default is another, and why.
const OTHER_DEFAULTS: &[(&str, &str)] = &[
    ("data-dir", "what kvd writes is not etcd's, and the name says so"),
    (
        "initial-cluster",
        "follows --name and --initial-advertise-peer-urls, as etcd's does in effect",
    ),
    ("log-format", "lines for people; JSON is for those who ask"),
    ("max-concurrent-streams", "the same number, which etcd's help has by its name"),
    ("log-outputs", "etcd's `default` is stderr, under another name"),
    ("corrupt-check-time", "comparing is cheap here, so it is on"),
];

/// A flag and its default, as `--help` prints it.
struct Flag {
    name: String,
    default: Option<String>,
}

/// The flags of an etcd; none if it is not there, which may be forbidden.
fn flags_of(etcd: &Path) -> Vec<Flag> {
    if !etcd.is_file() {
        return Vec::new();
    }
    let output = Command::new(etcd).arg("--help").output().unwrap();
    let help = [output.stdout, output.stderr].concat();
    text(&help).lines().filter_map(flag).collect()
}

/// The default is quoted, bare, or not there.
fn flag(line: &str) -> Option<Flag> {
    let rest = line.strip_prefix("  --")?;
    let (name, default) = rest.split_once(' ').unwrap_or((rest, ""));
    let default = default.trim();
    let unquoted = default.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let default = unquoted.or(Some(default).filter(|text| !text.is_empty()));
    Some(Flag { name: name.to_owned(), default: default.map(str::to_owned) })
}

fn newest() -> Vec<Flag> {
    let found = Target::Etcd.binary().map(|etcd| flags_of(&etcd)).unwrap_or_default();
    assert!(!found.is_empty() || !etcd_is_required(), "no etcd, and KVD_REQUIRE_ETCD is set");
    assert!(found.is_empty() || found.len() > 130, "only {} flags in etcd's help", found.len());
    found
}

/// Some are not flags in the sense of a value.
fn is_setting(flag: &Flag) -> bool {
    !matches!(flag.name.as_str(), "version" | "help" | "config-file")
}

/// Given as etcd has it anyway, no flag is a mistake: in any way to write it, or as a variable.
#[test]
fn every_flag_of_etcd_is_known() {
    let debian = PathBuf::from("/usr/bin/etcd");
    let dropped = DROPPED.iter().map(|(name, default)| Flag {
        name: (*name).to_owned(),
        default: Some((*default).to_owned()),
    });
    let mut all: Vec<Flag> =
        newest().into_iter().chain(flags_of(&debian)).chain(dropped).filter(is_setting).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.dedup_by(|one, other| one.name == other.name);
    for Flag { name, default } in &all {
        let value = given(name, default.as_deref());
        // Setting it alone is a mistake in etcd, too.
        let more = ["--advertise-client-urls=http://localhost:2379"];
        let more = if name == "listen-client-urls" { &more[..] } else { &[] };
        for flag in [format!("--{name}={value}"), format!("-{name}={value}")] {
            let output = kvd(&[&["config", "show", "--given", &flag], more].concat(), &[]);
            assert!(output.status.success(), "{flag}: {}", text(&output.stderr));
            assert!(text(&output.stdout).contains("flag --"), "{flag} is not shown");
        }
        if value.is_empty() {
            continue;
        }
        let variable = format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
        let args = [&["config", "show", "--given"], more].concat();
        let output = kvd(&args, &[(&variable, &value)]);
        assert!(output.status.success(), "{variable}={value}: {}", text(&output.stderr));
        let origin = format!("environment {variable}");
        assert!(text(&output.stdout).contains(&origin), "{variable} is not shown");
    }
    assert!(all.len() >= DROPPED.len());
}

/// The default; one that is not printed, or not as a value, is another that etcd takes.
fn given(name: &str, default: Option<&str>) -> String {
    match default {
        Some("") if name.ends_with("-interval") => unprinted(name).to_owned(),
        Some("math.MaxUint32") => u32::MAX.to_string(),
        Some(default) => default.replace("${name}", "default"),
        None => unprinted(name).to_owned(),
    }
}

fn unprinted(name: &str) -> &'static str {
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        () if is(&["-interval", "-time"]) => "10s",
        () if is(&["mlock", "stop-grpc"]) => "false",
        () => "0",
    }
}

/// Another value is obeyed, noted as without effect with the reason, or refused with what to do.
#[test]
fn no_flag_of_etcd_is_ignored_in_silence() {
    let mut counts = [0; 3];
    for flag in newest().iter().filter(|flag| is_setting(flag)) {
        let Some(value) = other_value(flag) else { continue };
        let given = format!("--{}={value}", flag.name);
        let output = kvd(&["config", "show", "--given", "--output=json", &given], &[]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &json["options"][0];
        let remark = row["remark"].as_str().unwrap();
        let (kind, ok) = match row["effect"].as_str().unwrap() {
            "used" => (0, remark.is_empty()),
            "none" => (1, remark.starts_with("no effect: ") && output.status.success()),
            "refused" => (2, !output.status.success() && text(&output.stderr).contains("; ")),
            other => panic!("{given}: {other}"),
        };
        assert!(ok, "{given}: {row}\n{}", text(&output.stderr));
        counts[kind] += 1;
    }
    // Without etcd there is nothing to count; with it, most of its flags do what they do there.
    let [used, without_effect, refused] = counts;
    let some = used >= 25 && without_effect >= 15 && (1..=12).contains(&refused);
    assert!(some || counts == [0; 3], "{counts:?}");
}

/// A value that is not the default, where one can be had from the default alone.
fn other_value(flag: &Flag) -> Option<String> {
    let default = flag.default.as_deref()?;
    match default {
        "true" => Some("false".into()),
        "false" => Some("true".into()),
        _ => match default.parse::<i64>() {
            // etcd's own upper ends are in some defaults.
            Ok(number) if number < i64::from(u32::MAX) => Some((number + 1).to_string()),
            Ok(_) => None,
            Err(_)
                if default.ends_with(['s', 'm', 'h']) && default.starts_with(char::is_numeric) =>
            {
                Some("11m".into())
            }
            Err(_) => None,
        },
    }
}

#[test]
fn defaults_are_those_of_etcd() {
    let ours = shown(&[], &[]);
    let mut compared = 0;
    for Flag { name, default } in newest() {
        let Some(default) = default else { continue };
        let Some([_, value, _]) = ours.iter().find(|[ours, ..]| *ours == name) else { continue };
        let other = OTHER_DEFAULTS.iter().find(|(listed, _)| *listed == name);
        let same =
            *value == default || seconds(value).is_some_and(|it| seconds(&default) == Some(it));
        assert!(same || other.is_some(), "--{name} is {value:?} here and {default:?} in etcd");
        compared += 1;
    }
    assert!(compared == 0 || compared > 60, "only {compared} defaults were compared");
}

/// Durations are written in more than one way.
fn seconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    let scale = match &text[unit..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "m0s" => 60.0,
        "h" | "h0m0s" => 3600.0,
        _ => return None,
    };
    Some(number * scale)
}
