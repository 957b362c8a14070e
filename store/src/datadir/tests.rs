//! Every way in which a data directory can be unfit, and that nothing is touched then.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Names and contents of all files, directories included.
fn everything(path: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for name in names(path) {
        let path = path.join(name);
        if path.is_dir() {
            found.extend(everything(&path));
            found.push((path, None));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, Some(bytes)));
        }
    }
    found
}

/// Opening fails with all these words in the message, and leaves the directory as it was.
fn refused(path: &Path, words: &[&str]) -> DataDirError {
    let before = everything(path);
    let error = DataDir::open(path).unwrap_err();
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(!message.contains('\n'), "one line: {message}");
    assert_eq!(everything(path), before, "nothing is touched");
    error
}

#[test]
fn a_new_directory_is_private_and_remembers_its_identity() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let dir = DataDir::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(names(&path), ["LOCK", "VERSION", "db", "snap", "wal"]);
    assert_eq!(dir.identity(), None);
    dir.check_identity(0xc1, 0x3e).unwrap();
    dir.check_identity(0xc1, 0x3e).unwrap();
    drop(dir);

    let dir = DataDir::open(&path).unwrap();
    assert_eq!(dir.identity(), Some(Identity { cluster: 0xc1, member: 0x3e }));
    dir.check_identity(0xc1, 0x3e).unwrap();
    let version = fs::read_to_string(path.join("VERSION")).unwrap();
    assert_eq!(
        version,
        "kvd data directory\nformat 1\ncluster 00000000000000c1\nmember 000000000000003e\n"
    );
}

#[test]
fn another_identity_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(parent.path()).unwrap();
    dir.check_identity(0xc1, 0x3e).unwrap();
    for (cluster, member) in [(0xc2, 0x3e), (0xc1, 0x3f)] {
        let error = dir.check_identity(cluster, member).unwrap_err().to_string();
        assert!(error.contains("member 3e of cluster c1"), "{error}");
        assert!(error.contains(&format!("member {member:x} of cluster {cluster:x}")), "{error}");
    }
    assert_eq!(dir.identity(), Some(Identity { cluster: 0xc1, member: 0x3e }));
}

#[test]
fn a_second_user_is_told_the_pid_of_the_first() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(parent.path()).unwrap();
    let pid = std::process::id();
    let error = refused(parent.path(), &["in use", &format!("(pid {pid})"), "--data-dir"]);
    assert!(matches!(error, DataDirError::Locked { .. }));
    drop(dir);
    DataDir::open(parent.path()).unwrap();
}

/// As a child process has it between its start and its own program.
#[test]
fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(parent.path()).unwrap();
    let copy = dir._lock.0.try_clone().unwrap();
    drop(dir);
    drop(DataDir::open(parent.path()).unwrap());
    drop(copy);
}

#[test]
fn a_newer_format_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    drop(DataDir::open(parent.path()).unwrap());
    fs::write(parent.path().join("VERSION"), "kvd data directory\nformat 7\nmore\n").unwrap();
    let error = refused(parent.path(), &["format 7", "up to 1", "newer version"]);
    assert!(matches!(error, DataDirError::NewerFormat { found: 7, .. }));
}

#[test]
fn every_cut_of_the_version_file_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(parent.path()).unwrap();
    dir.check_identity(0xc1, 0x3e).unwrap();
    drop(dir);
    let path = parent.path().join("VERSION");
    let whole = fs::read(&path).unwrap();
    // The cut after the format line is the file of a member that never ran.
    let fresh = b"kvd data directory\nformat 1\n".len();
    for length in (0..whole.len()).filter(|length| *length != fresh) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refused(parent.path(), &["VERSION is damaged", "restore"]);
        assert!(matches!(error, DataDirError::DamagedVersion { .. }), "cut at {length}");
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    refused(parent.path(), &["not text"]);
}

#[test]
fn a_file_is_not_a_directory() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, DataDirError::NotADirectory(_)), "{error}");
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn data_of_others_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir_all(parent.path().join("member/wal")).unwrap();
    let error = refused(parent.path(), &["written by etcd", "snapshot save"]);
    assert!(matches!(error, DataDirError::Etcd { .. }));

    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("photo.jpg"), "x").unwrap();
    let error = refused(parent.path(), &["photo.jpg", "not empty"]);
    assert!(matches!(error, DataDirError::Foreign { .. }));
}

#[test]
fn an_unwritable_directory_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(path.join("probe"), "x").is_ok() {
        // The superuser may write anywhere; a file system that is read-only by nature stops it.
        fs::remove_file(path.join("probe")).unwrap();
        let error = DataDir::open("/proc/kvd").unwrap_err();
        assert!(error.to_string().contains("/proc/kvd"), "{error}");
        let denied = failed("write", &path, io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(denied.to_string().contains("chown"), "{denied}");
        return;
    }
    let error = refused(&path, &["chown", "chmod 700"]);
    assert!(matches!(error, DataDirError::NotAccessible { .. }));
}

#[test]
fn a_crash_while_it_was_made_is_no_obstacle() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("LOCK"), "1\n").unwrap();
    fs::write(parent.path().join("VERSION.tmp"), "kvd da").unwrap();
    fs::create_dir(parent.path().join("lost+found")).unwrap();
    let dir = DataDir::open(parent.path()).unwrap();
    assert_eq!(dir.identity(), None);
}
