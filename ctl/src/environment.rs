//! Options from the environment: `KVCTL_*`, and `ETCDCTL_*` with etcdctl's rules.

use std::collections::BTreeMap;

use crate::failure::{Exit, Failure};

/// Variables that are no global flag: read elsewhere, or set by habit (`ETCDCTL_API=3`).
const OTHERS: [&str; 3] = ["API", "WATCH_KEY", "WATCH_RANGE_END"];

/// The variables of both prefixes, as they were when kvctl started.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    asked: Vec<String>,
}

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self::new(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    fn new(variables: impl Iterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| name.starts_with("KVCTL_") || name.starts_with("ETCDCTL_");
        Self { variables: variables.filter(|(name, _)| ours(name)).collect(), asked: Vec::new() }
    }

    /// `KVCTL_<name>`, else `ETCDCTL_<name>`, with the variable's name. An empty one counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<(String, &str)> {
        let variable = |prefix: &str| {
            let variable = format!("{prefix}_{name}");
            let value = self.variables.get(&variable)?;
            (!value.is_empty()).then_some((variable, value.as_str()))
        };
        variable("KVCTL").or_else(|| variable("ETCDCTL"))
    }

    /// The value of the global `--<flag>`: from the command line, else from the environment.
    ///
    /// As in etcdctl, a flag next to its `ETCDCTL_*` variable is an error. A flag next to `KVCTL_*` wins.
    pub(crate) fn option<T>(
        &mut self,
        flag: &str,
        given: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let name = flag.to_ascii_uppercase().replace('-', "_");
        self.asked.push(name.clone());
        if given.is_some() {
            let conflict = format!("ETCDCTL_{name}");
            if self.variables.contains_key(&conflict) {
                let message = format!(
                    "--{flag} and the variable {conflict} are both set; drop the flag or unset {conflict}"
                );
                return Err(Failure::new(Exit::Error, message));
            }
            return Ok(given);
        }
        let Some((variable, value)) = self.get(&name) else { return Ok(None) };
        parse(value).map(Some).map_err(|why| {
            Failure::new(Exit::Error, format!("cannot use {variable} as --{flag}: {why}"))
        })
    }

    /// Variables that look like options but are none, to be told once all options were asked for.
    pub(crate) fn unknown(&self) -> Vec<&str> {
        let known = |variable: &str| {
            let name = variable.split_once('_').map_or("", |(_, name)| name);
            OTHERS.contains(&name) || self.asked.iter().any(|asked| asked == name)
        };
        self.variables.keys().map(String::as_str).filter(|variable| !known(variable)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    fn text(value: &str) -> Result<String, String> {
        Ok(value.to_owned())
    }

    #[test]
    fn kvctl_wins_over_etcdctl_and_empty_is_unset() {
        let mut both =
            environment(&[("ETCDCTL_USER", "a"), ("KVCTL_USER", "b"), ("KVCTL_KEY", "")]);
        assert_eq!(both.option("user", None, text).unwrap().as_deref(), Some("b"));
        assert_eq!(both.option("key", None, text).unwrap(), None);
    }

    #[test]
    fn a_flag_conflicts_with_etcdctls_variable_only() {
        let mut ours = environment(&[("KVCTL_DIAL_TIMEOUT", "1s")]);
        let flag = || Some("2s".to_owned());
        assert_eq!(ours.option("dial-timeout", flag(), text).unwrap(), flag());
        let mut theirs = environment(&[("ETCDCTL_DIAL_TIMEOUT", "1s")]);
        let failure = theirs.option("dial-timeout", flag(), text).unwrap_err();
        assert_eq!(failure.exit, Exit::Error);
        assert!(failure.line.contains("ETCDCTL_DIAL_TIMEOUT are both set"), "{}", failure.line);
    }

    #[test]
    fn unknown_variables_are_found() {
        let mut environment =
            environment(&[("ETCDCTL_API", "3"), ("KVCTL_ENDPOINT", "x"), ("ETCDCTL_HEX", "true")]);
        environment.option("hex", None, text).unwrap();
        assert_eq!(environment.unknown(), ["KVCTL_ENDPOINT"]);
    }
}
