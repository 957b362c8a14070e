//! Variables: `KVD_<OPTION>` and `ETCD_<OPTION>`, the first of which wins.

use super::options::{self, Opt};
use super::settings::{Origin, Settings};
use super::suggest;

/// Read by etcd or by tools around it, without a meaning here.
const FOREIGN: &[&str] =
    &["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY", "ETCD_VERIFY_FATAL", "KVD_ETCD"];

/// The value and name of an option's variable. An empty value counts as unset, as in etcd.
pub(super) fn lookup<'a>(
    variables: &'a [(String, String)],
    option: &Opt,
) -> Option<(&'a str, &'a str)> {
    ["KVD_", "ETCD_"].iter().find_map(|prefix| {
        variables.iter().find_map(|(name, value)| {
            let found = !value.is_empty() && option_of(name, prefix)?.name == option.name;
            found.then_some((value.as_str(), name.as_str()))
        })
    })
}

/// Takes over all variables that name an option, and warns about those that name none.
pub(super) fn apply(variables: &[(String, String)], settings: &mut Settings) {
    // The one that wins comes last.
    for prefix in ["ETCD_", "KVD_"] {
        for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
            if let Some(option) = option_of(name, prefix) {
                settings.set(option, value.into(), Origin::Variable(name.into()));
            }
        }
    }
    for (name, _) in variables {
        let Some(rest) = name.strip_prefix("KVD_").or_else(|| name.strip_prefix("ETCD_")) else {
            continue;
        };
        let known = option_of(name, "KVD_").or_else(|| option_of(name, "ETCD_"));
        if known.is_some() || FOREIGN.contains(&name.as_str()) || is_service_link(rest) {
            continue;
        }
        settings.warnings.push(unknown(name, rest));
    }
}

/// The option a variable stands for, if it has this prefix.
fn option_of(variable: &str, prefix: &str) -> Option<&'static Opt> {
    let rest = variable.strip_prefix(prefix)?;
    let name = rest.to_ascii_lowercase().replace('_', "-");
    let same_case = rest.bytes().all(|byte| !byte.is_ascii_lowercase());
    options::by_name(&name).filter(|_| same_case)
}

/// What Kubernetes and Docker set in every container when a service is called `etcd` or `kvd`.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest.starts_with("PORT_")
}

fn unknown(name: &str, rest: &str) -> String {
    let prefix = &name[..name.len() - rest.len()];
    let names: Vec<String> = options::all().map(Opt::variable).collect();
    match suggest::nearest(rest, names.iter().map(String::as_str)) {
        Some(near) => {
            format!("the variable {name} names no option, did you mean {prefix}{near}?")
        }
        None => format!("the variable {name} names no option"),
    }
}
