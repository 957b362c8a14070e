//! Configuration as operators and installers hand it over: etcd's flags, kubeadm's list, k3s's file,
//! and `kvd config`, which tells beforehand.

mod check;
mod flags;
mod installers;

use std::process::{Command, Output};

use harness::{Target, workspace_binary};

/// Runs kvd to its end, without what its caller has set for etcd or kvd.
fn kvd(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(Target::Kvd.binary().unwrap());
    command.args(args);
    forget_variables(&mut command);
    command.envs(variables.iter().copied()).output().unwrap()
}

fn forget_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ETCD_") || text.starts_with("KVD_") {
            command.env_remove(&name);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `kvd config show` has, by option: value, origin, effect.
fn shown(args: &[&str], variables: &[(&str, &str)]) -> Vec<[String; 3]> {
    let args = [&["config", "show", "--output=json"], args].concat();
    let output = kvd(&args, variables);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}\n{}", text(&output.stderr)));
    let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = json["options"].as_array().unwrap().iter();
    rows.map(|row| ["name", "value", "effect"].map(|name| field(row, name))).collect()
}

fn kvctl() -> std::path::PathBuf {
    workspace_binary("kvctl").unwrap()
}
