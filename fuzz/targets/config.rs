//! The configuration: flags, environment and file, each a text, with a zero byte between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::config;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let mut texts = text.splitn(3, '\0');
    let mut next = || texts.next().unwrap_or_default();
    let (flags, variables, file) = (next(), next(), next());
    let mut flags: Vec<String> = flags.lines().map(str::to_owned).collect();
    // Commands look at the files that are named, whatever they are.
    if flags.first().is_some_and(|first| first == "config") {
        return;
    }
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.into(), value.into()));
    let variables: Vec<(String, String)> = variables.lines().filter_map(pair).collect();
    if !file.is_empty() {
        flags.push("--config-file=kvd.yaml".to_owned());
    }
    match config::load_with(&flags, &variables, |_| Ok(file.to_owned())) {
        Ok(config::Startup::Run(config)) => {
            assert!(config.disk_reserve_bytes(1 << 40) > 0);
        }
        Ok(config::Startup::Print(text)) => assert!(!text.is_empty()),
        Ok(config::Startup::Report(_)) => panic!("no command was given"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
