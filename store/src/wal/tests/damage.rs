//! Damaged, missing and foreign files: all of the log comes back, or none of it and a message
//! that names the file, the place and the way out.

use crate::disk::Call;

use super::model::{Driver, Model, SEGMENT, contents, expect_one_of};
use super::*;

/// A disk on which the script has run to its end, acknowledged, the process killed; and all
/// states it went through.
fn disk_and_states() -> (SimulatedDisk, Vec<Model>) {
    let disk = SimulatedDisk::new();
    let driver = Driver::open(&disk, options(SEGMENT, 1 << 20)).unwrap();
    driver.run_script();
    assert!(driver.settle());
    driver.wal.wait_reserve();
    let states = driver.states.lock().unwrap().clone();
    (disk.copy(), states)
}

fn disk_after_script() -> (SimulatedDisk, Model) {
    let (disk, mut states) = disk_and_states();
    (disk, states.pop().unwrap())
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let mut names = disk.list(dir()).unwrap();
    names.retain(|name| segment::parse_name(name).is_some());
    names.sort();
    names.iter().map(|name| dir().join(name)).collect()
}

/// Opening fails, and says so: file, offset, remedy. Nothing on the disk has changed.
fn refused(disk: &SimulatedDisk, context: &str) -> (PathBuf, u64, String) {
    let copy = disk.copy();
    let Err(error) = contents(&copy) else { panic!("{context}: opened") };
    for name in disk.list(dir()).unwrap() {
        let path = dir().join(name);
        assert!(copy.file(&path) == disk.file(&path), "{context}: {} changed", path.display());
    }
    assert_eq!(copy.count(Call::Write), 0, "{context}");
    complete(error, context)
}

/// The message says which file, which offset, and what to do.
fn complete(error: Fatal, context: &str) -> (PathBuf, u64, String) {
    let message = error.to_string();
    let Fatal::Damaged { path, offset, what, remedy } = error else {
        panic!("{context}: {message}")
    };
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains(&format!("offset {offset}")), "{message}");
    assert!(message.contains("remove this member") && message.contains("restore it"), "{message}");
    assert!(!remedy.is_empty());
    (path, offset, what)
}

fn flip_all(step: usize, pattern: impl Fn(usize, u8) -> u8) {
    let (disk, state) = disk_after_script();
    let files = segments(&disk);
    let (mut harmless, mut noticed) = (0, 0);
    for path in &files {
        let whole = disk.file(path).unwrap();
        for at in (0..whole.len()).step_by(step) {
            let mut content = whole.clone();
            content[at] = pattern(at, whole[at]);
            if content[at] == whole[at] {
                continue;
            }
            let damaged = disk.copy();
            damaged.set_file(path, content.clone());
            let context = format!("{} at {at}", path.display());
            match contents(&damaged) {
                Ok(found) => {
                    assert!(found == state, "{context}: another log came back");
                    harmless += 1;
                }
                Err(error) => {
                    assert_eq!(damaged.count(Call::Write), 0, "{context}");
                    assert!(damaged.file(path).unwrap() == content, "{context}: changed");
                    let (named, offset, what) = complete(error, &context);
                    assert_eq!(&named, path, "{context}");
                    assert_eq!(offset / 512, at as u64 / 512, "{context}: {what}");
                    noticed += 1;
                }
            }
        }
    }
    assert!(noticed * step > 5000, "{noticed} noticed, {harmless} harmless");
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_harmless() {
    flip_all(1, |at, byte| byte ^ (1 << (at % 8)));
}

#[test]
fn an_overwritten_byte_is_noticed_or_harmless() {
    flip_all(7, |_, byte| !byte);
}

#[test]
fn a_zeroed_byte_is_noticed_or_harmless() {
    flip_all(7, |_, _| 0);
}

/// Lost sectors: only the last group, or a part of it, can go without notice.
#[test]
fn a_lost_sector_is_noticed_unless_it_is_the_last() {
    let (disk, state) = disk_after_script();
    let files = segments(&disk);
    let mut quiet = 0;
    for path in &files {
        let whole = disk.file(path).unwrap();
        for sector in 1..whole.len() / 512 {
            let mut content = whole.clone();
            content[sector * 512..][..512].fill(0);
            let damaged = disk.copy();
            damaged.set_file(path, content);
            match contents(&damaged.copy()) {
                Ok(found) if found == state => {}
                Ok(_) => quiet += 1,
                Err(_) => {
                    let context = format!("{} sector {sector}", path.display());
                    let (named, offset, _) = refused(&damaged, &context);
                    assert_eq!((&named, offset / 512), (path, sector as u64), "{context}");
                }
            }
        }
    }
    // The last group of the script has four entries: at most three sectors.
    assert!(quiet <= 3, "{quiet} lost sectors went without notice");
}

#[test]
fn a_missing_segment_is_noticed() {
    let (disk, state) = disk_after_script();
    let files = segments(&disk);
    assert!(files.len() >= 5, "the script leaves several segments");
    let spare = files.len() - 1;
    for (nth, path) in files.iter().enumerate() {
        let without = disk.copy();
        without.delete_file(path);
        if nth == spare {
            assert_eq!(contents(&without).unwrap(), state);
            continue;
        }
        let (named, _, what) = refused(&without, &path.display().to_string());
        assert!(what.contains("missing"), "{what}");
        // Either the file that is not there, or the one that should follow it.
        assert!(named == *path || named == files[nth + 1], "{}: {what}", named.display());
    }
}

#[test]
fn a_file_cut_off_at_any_byte_is_noticed() {
    let (disk, _) = disk_after_script();
    let files = segments(&disk);
    for path in &files[..files.len() - 1] {
        let whole = disk.file(path).unwrap();
        // Within a file the message is the same: the first and the last are cut at every byte.
        let every = path == &files[0] || path == &files[files.len() - 2];
        let lengths = (0..whole.len()).filter(|length| every || length % 97 == 0);
        for length in lengths.chain([whole.len() - 1, whole.len() + 1]) {
            let mut content = whole.clone();
            content.resize(length, 0);
            let damaged = disk.copy();
            damaged.set_file(path, content);
            let (named, offset, _) = refused(&damaged, &format!("{length} bytes"));
            assert_eq!((&named, offset), (path, if length < 512 { 0 } else { length as u64 }));
        }
    }
}

/// A file that ends in zeroes: noticed in a segment that was closed. In the last one it cannot be
/// told from a write that never came, if everything behind is gone too; then a state comes back
/// that the log went through, never a mixture.
#[test]
fn a_segment_zeroed_from_any_byte_on_is_noticed_or_an_earlier_state() {
    let (disk, states) = disk_and_states();
    let files = segments(&disk);
    // Behind the last stands one that was prepared.
    let last = files.len() - 2;
    for (nth, path) in files[..=last].iter().enumerate() {
        let whole = disk.file(path).unwrap();
        // In the first and the last at every byte.
        let step = if nth == 0 || nth == last { 1 } else { 61 };
        for from in (512..whole.len()).step_by(step) {
            let mut content = whole.clone();
            content[from..].fill(0);
            if content == whole {
                break;
            }
            let damaged = disk.copy();
            damaged.set_file(path, content);
            let context = format!("{} from {from}", path.display());
            match contents(&damaged) {
                Ok(found) if nth == last => expect_one_of(&found, &states, &context),
                // All that is gone is the mark of the last sector, or stood behind the end.
                Ok(found) => assert!(found == states[states.len() - 1], "{context}"),
                Err(error) => {
                    let (named, offset, _) = complete(error, &context);
                    // The mark at the end of a sector says nothing that its checksum does not.
                    let first = (from as u64 + 5) / 512;
                    assert_eq!((&named, offset / 512), (path, first), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_segment_of_another_log_or_another_time_is_noticed() {
    let (disk, _) = disk_after_script();
    let (other, _) = disk_after_script();
    let files = segments(&disk);
    for path in &files[..files.len() - 1] {
        let mixed = disk.copy();
        mixed.set_file(path, other.file(path).unwrap());
        let (named, ..) = refused(&mixed, "another log");
        assert!(files.contains(&named));
    }
    let swapped = disk.copy();
    swapped.set_file(&files[1], disk.file(&files[0]).unwrap());
    let (named, _, what) = refused(&swapped, "renamed");
    assert_eq!(named, files[1]);
    assert!(what.contains("renamed"), "{what}");
}

#[test]
fn a_newer_format_is_refused_with_advice() {
    let (disk, _) = disk_after_script();
    let path = &segments(&disk)[0];
    let mut content = disk.file(path).unwrap();
    content[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = crc32fast::hash(&content[..508]);
    content[508..512].copy_from_slice(&crc.to_le_bytes());
    disk.set_file(path, content);
    let message = contents(&disk).unwrap_err().to_string();
    assert!(message.contains("format 2") && message.contains("newer version"), "{message}");
}

#[test]
fn a_damaged_segment_is_an_error_to_read() {
    let disk = SimulatedDisk::new();
    let log = open_with(Arc::new(disk.clone()), dir(), options(SEGMENT, 0)).unwrap();
    assert!(log.append(entries(1, 1..50)));
    let path = segment_path(1);
    let mut content = disk.file(&path).unwrap();
    content[700] ^= 4;
    disk.set_file(&path, content);
    let error = log.wal.read(1, 40, 1 << 20).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

/// A header alone has no room for a log: what was appended there could not be read again.
#[test]
fn a_segment_of_a_size_that_none_has_is_noticed() {
    for bytes in [512, 1024, 4096 + 512] {
        let disk = SimulatedDisk::new();
        let mut file = segment::Header { salt: 7, sequence: 1, bytes }.encode().to_vec();
        file.resize(bytes as usize, 0);
        disk.set_file(&segment_path(1), file);
        let (path, ..) = refused(&disk, &format!("{bytes} bytes"));
        assert_eq!(path, segment_path(1));
    }
}
