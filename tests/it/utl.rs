//! kvutl on real files: what etcdutl prints for the same file, and plain words for what is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::{Node, Target, etcd_is_required, go_binary, workspace_binary};

fn run(program: &Path, args: &[&str], dir: &Path) -> Output {
    Command::new(program).args(args).current_dir(dir).output().unwrap()
}

fn kvutl(args: &[&str], dir: &Path) -> Output {
    run(&workspace_binary("kvutl").unwrap(), args, dir)
}

/// What kvutl says when it fails, which is one line.
fn refusal(args: &[&str], dir: &Path) -> String {
    let output = kvutl(args, dir);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_ne!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    stderr
}

/// The Go programs `etcdctl` and `etcdutl`, if they are here or have to be.
fn go_tools() -> Option<(PathBuf, PathBuf)> {
    match (go_binary("etcdctl"), go_binary("etcdutl"), Target::Etcd.binary()) {
        (Ok(ctl), Ok(utl), Ok(_)) => Some((ctl, utl)),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) if etcd_is_required() => {
            panic!("{error:#}")
        }
        _ => None,
    }
}

/// Has a real etcd save a snapshot with a compaction, deleted keys and more than a page of rows.
fn save_snapshot(etcdctl: &Path, dir: &Path) {
    let node = Node::start_one(Target::Etcd).unwrap();
    let script = r#"
        for i in $(seq 12); do "$0" put "k$i" "$(head -c $((i * 300)) /dev/zero | tr '\0' x)"; done
        "$0" put k1 2 && "$0" del k2 && "$0" compaction 9 --physical && "$0" put k1 3
        "$0" snapshot save saved.db
    "#;
    let output = Command::new("sh")
        .args(["-ec", script])
        .arg(etcdctl)
        .env("ETCDCTL_ENDPOINTS", node.endpoint())
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn snapshots_of_etcd_read_as_in_etcdutl() {
    let Some((etcdctl, etcdutl)) = go_tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    save_snapshot(&etcdctl, dir.path());
    let commands: [&[&str]; 8] = [
        &["snapshot", "status", "saved.db"],
        &["hashkv", "saved.db"],
        &["hashkv", "saved.db", "--rev", "9"],
        &["hashkv", "saved.db", "--rev", "11"],
        &["hashkv", "saved.db", "--rev", "2"],
        &["hashkv", "saved.db", "--rev", "99"],
        &["snapshot", "status", "none.db"],
        &["snapshot", "status"],
    ];
    let original = fs::read(dir.path().join("saved.db")).unwrap();
    for command in commands {
        for format in ["simple", "table", "json", "fields"] {
            let args = [command, &["-w", format]].concat();
            let ours = kvutl(&args, dir.path());
            assert!(fs::read(dir.path().join("saved.db")).unwrap() == original, "{args:?}");
            let theirs = run(&etcdutl, &args, dir.path());
            // etcdutl writes to the file of which it prints the hash.
            fs::write(dir.path().join("saved.db"), &original).unwrap();
            let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(text(&ours), text(&theirs), "{args:?}");
            assert_eq!(ours.status.code(), theirs.status.code(), "{args:?}");
        }
    }
    let image = &original[..original.len() - 32];
    fs::write(dir.path().join("image.db"), image).unwrap();
    let of_image = kvutl(&["snapshot", "status", "image.db"], dir.path()).stdout;
    assert_eq!(of_image, kvutl(&["snapshot", "status", "saved.db"], dir.path()).stdout);
    damage(&original, dir.path());
}

/// Cut anywhere and flipped anywhere, a snapshot is refused and named.
fn damage(original: &[u8], dir: &Path) {
    for part in 0..10 {
        let at = original.len() * part / 10;
        fs::write(dir.join("cut.db"), &original[..at]).unwrap();
        let mut flipped = original.to_vec();
        flipped[at] ^= 0x10;
        fs::write(dir.join("flipped.db"), flipped).unwrap();
        for file in ["cut.db", "flipped.db"] {
            for args in [&["snapshot", "status", file][..], &["hashkv", file]] {
                let said = refusal(args, dir);
                assert!(said.starts_with(&format!("kvutl: {file} is damaged at ")), "{at}: {said}");
            }
        }
    }
}

#[test]
fn what_is_no_snapshot_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("empty"), "").unwrap();
    fs::write(path.join("text"), "hello\n".repeat(5000)).unwrap();
    let cases = [
        (vec!["snapshot", "status", "none"], "kvutl: cannot open none: no such file or directory;"),
        (vec!["hashkv", "none"], "kvutl: cannot open none: no such file or directory; check"),
        (
            vec!["snapshot", "status", "."],
            "kvutl: cannot open .: is a directory; name a file in it",
        ),
        (vec!["snapshot", "status", "empty"], "kvutl: empty is damaged at offset 0: it is no snap"),
        (vec!["hashkv", "text"], "kvutl: text is damaged at offset 0: it is no snapshot, or"),
        (vec!["snapshot", "stats"], "kvutl: unrecognized subcommand 'stats'; a similar"),
        (vec!["snapshto"], "kvutl: unrecognized subcommand 'snapshto'; a similar subcommand"),
        (vec!["hashkv", "text", "-w", "protobuf"], "kvutl: protobuf not supported as output form"),
        (vec!["wal", "verify", "none"], "kvutl: none is no data directory of kvd: cannot open"),
        (vec!["wal", "verify", "."], "kvutl: . is no data directory of kvd: cannot open ./VERSION"),
    ];
    for (args, expected) in cases {
        let said = refusal(&args, path);
        assert!(said.starts_with(expected), "{args:?}: {said}");
    }
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["empty", "text"]);
}

/// The log's files with what is in them.
fn log_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_log_is_verified_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start_one(Target::Kvd).unwrap();
    let data = node.data_dir();
    let name = data.to_str().unwrap().to_owned();
    let said = refusal(&["wal", "verify", &name], dir.path());
    assert!(said.contains(" is in use by another process (pid "), "{said}");
    let kvctl = workspace_binary("kvctl").unwrap();
    for value in ["1", "2", "3"] {
        let endpoint = node.endpoint();
        let args = ["--endpoints", &endpoint, "put", "needle", value];
        assert!(run(&kvctl, &args, dir.path()).status.success());
    }
    node.kill().unwrap();

    let before = log_files(&data);
    let output = kvutl(&["wal", "verify", &name, "-w", "fields"], dir.path());
    assert!(output.status.success(), "{output:?}");
    let fields = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| -> u64 {
        let line = fields.lines().find_map(|line| line.strip_prefix(&format!("\"{name}\" : ")));
        line.unwrap_or_else(|| panic!("no {name} in {fields}")).parse().unwrap()
    };
    assert_eq!(field("FirstIndex"), 1);
    assert_eq!(field("LastIndex"), field("Entries"));
    assert!(field("Entries") > 3, "{fields}");
    assert!(log_files(&data) == before, "nothing is written");

    let (path, bytes) = before.first().unwrap();
    let mut damaged = bytes.clone();
    let at = damaged.windows(6).position(|bytes| bytes == b"needle").unwrap();
    damaged[at] ^= 1;
    fs::write(path, damaged).unwrap();
    let said = refusal(&["wal", "verify", &name], dir.path());
    let file = path.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(file) && said.contains("damaged at offset "), "{said}");
}

#[test]
fn the_rest_of_kvutl_answers() {
    let dir = tempfile::tempdir().unwrap();
    let text = |args: &[&str]| {
        let output = kvutl(args, dir.path());
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["version"]).ends_with("\nAPI version: 3.6\n"));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(text(&["completion", shell]).contains("hashkv"), "{shell}");
    }
    for args in [&["--help"][..], &[], &["snapshot"], &["wal", "verify", "--help"]] {
        let help = text(args);
        assert!(help.contains("Usage: kvutl") && help.ends_with('\n'), "{args:?}: {help}");
    }
}
