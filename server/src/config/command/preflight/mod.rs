//! What a start opens, looked at without starting: nothing is made, changed or left behind.

mod disk;
mod network;
mod tls;

use std::time::SystemTime;

use super::check::Findings;
use crate::bootstrap;
use crate::config::settings::Settings;
use crate::config::{Config, Error};

pub(super) fn look(settings: &Settings, config: &Config) -> Findings {
    let mut site = Site { settings, config, found: Findings::default() };
    tls::look(&mut site, SystemTime::now());
    let begun = disk::look(&mut site);
    network::look(&mut site);
    cluster(&mut site, begun);
    site.found
}

/// What is looked at, and what was found so far.
struct Site<'a> {
    settings: &'a Settings,
    config: &'a Config,
    found: Findings,
}

impl<'a> Site<'a> {
    /// Something about an option that keeps a start from working.
    fn problem(&mut self, option: &str, why: impl Into<String>, remedy: impl Into<String>) {
        let error = self.settings.error(option, why, remedy);
        self.found.problems.push(error);
    }

    fn warning(&mut self, option: &str, what: impl std::fmt::Display) {
        let place = match self.settings.given(option) {
            Some(given) => given.origin.to_string(),
            None => format!("--{option}"),
        };
        self.found.warnings.push(format!("{place}: {what}"));
    }

    /// The path that an option names, if it does.
    fn path(&self, option: &str) -> Option<&'a str> {
        Some(self.settings.text(option)).filter(|path| !path.is_empty())
    }
}

/// A member without data begins as the list says; later it is of no consequence.
fn cluster(site: &mut Site<'_>, begun: bool) {
    let config = site.config;
    let members = config.initial_cluster.len();
    if begun {
        return;
    }
    if let Err(error) = bootstrap::check_list(config) {
        site.found.problems.push(Error::of_text(&format!("{error:#}")));
    } else if members > 0 && members.is_multiple_of(2) {
        let why = format!(
            "{members} members survive the loss of {}, no more than {} would; an odd number is \
             better",
            members / 2 - 1,
            members - 1
        );
        site.warning("initial-cluster", why);
    }
}
