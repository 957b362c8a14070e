//! Images are read as written, by this reader; other readers are asked in `snapshot::tests`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Bolt, Item, Meta, Writer};
use crate::Fatal;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(path: &Path, buckets: &Buckets) {
    let file = File::create(path).unwrap();
    let mut writer = Writer::new(file).unwrap();
    for (name, rows) in buckets {
        let mut bucket = writer.bucket(name);
        for (key, value) in rows {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    let (_, image) = writer.finish().unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), image.bytes);
    assert_eq!(Bolt::open(path).unwrap().digest().unwrap().1, image.crc);
}

fn read(path: &Path) -> Result<Buckets, Fatal> {
    let bolt = Bolt::open(path)?;
    let mut buckets = Buckets::new();
    let mut root = bolt.root()?;
    while let Some(item) = root.next()? {
        let Item::Bucket { name, root } = item else { panic!("a row in the root bucket") };
        let bucket = buckets.entry(name.to_vec()).or_default();
        let mut rows = bolt.rows(root)?;
        while let Some(item) = rows.next()? {
            // Damage may turn a row into a bucket; writers here make none.
            if let Item::Row { key, value } = item {
                bucket.insert(key.to_vec(), value.to_vec());
            }
        }
    }
    Ok(buckets)
}

fn append_sha(path: &Path) {
    let sha = Bolt::open(path).unwrap().digest().unwrap().0;
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend_from_slice(&sha);
    std::fs::write(path, bytes).unwrap();
}

fn sample(rows: usize, value_bytes: usize) -> Buckets {
    let row = |n: usize| (format!("key {n:08}").into_bytes(), vec![n as u8; value_bytes + n % 50]);
    BTreeMap::from([
        (b"big".to_vec(), BTreeMap::from([(b"x".to_vec(), vec![7; 1_600_000])])),
        (b"empty".to_vec(), BTreeMap::new()),
        (b"key".to_vec(), (0..rows).map(row).collect()),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read(
        buckets in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..40),
            proptest::collection::btree_map(
                prop_oneof![
                    3 => proptest::collection::vec(any::<u8>(), 1..300),
                    // Two of them are more than a page.
                    1 => proptest::collection::vec(any::<u8>(), 1000..10_000),
                ],
                proptest::collection::vec(any::<u8>(), 0..6000),
                0..60,
            ),
            0..12,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        write(&path, &buckets);
        prop_assert_eq!(read(&path).unwrap(), buckets);
    }
}

#[test]
fn trees_of_several_levels_and_big_values_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for rows in [0, 1, 11, 12, 13, 5000, 60_000] {
        let buckets = sample(rows, 250);
        write(&path, &buckets);
        assert_eq!(read(&path).unwrap(), buckets);
    }
}

#[test]
fn metas_are_bbolts() {
    let meta = Meta { page_bytes: 4096, root: 4, pages: 7, transaction: 1 };
    let bytes = meta.encode();
    assert_eq!(Meta::decode(&bytes), Some(meta));
    assert_eq!(bytes[..8], [0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Meta::decode(&flipped), None, "bit {bit}");
    }
}

#[test]
fn the_second_meta_serves_when_the_first_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let buckets = sample(100, 100);
    write(&path, &buckets);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap(), buckets);
    bytes[4096 + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(Fatal::Damaged { .. })));
}

#[test]
fn damage_is_an_error_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut buckets = sample(2000, 20);
    buckets.remove(&b"big"[..]);
    buckets.insert(b"medium".into(), BTreeMap::from([(b"x".to_vec(), vec![7; 9000])]));
    write(&path, &buckets);
    append_sha(&path);
    let intact = std::fs::read(&path).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..3000 {
        let mut bytes = intact.clone();
        match round % 4 {
            0 => bytes.truncate(random.random_range(0..bytes.len())),
            1 => {
                // Whole fields of page headers and elements.
                let page = random.random_range(0..bytes.len() / 4096) * 4096;
                let at = page + random.random_range(0..20) * 4;
                bytes[at..at + 4].copy_from_slice(&random.random::<u32>().to_le_bytes());
            }
            2 => {
                // A page in the place of another.
                let pages = bytes.len() / 4096;
                let (from, to) = (random.random_range(0..pages), random.random_range(0..pages));
                bytes.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
            }
            _ => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let verified = Bolt::open(&path).and_then(|bolt| bolt.verify_sha());
        if verified.is_ok() {
            assert!(bytes == intact, "round {round}: damage passed the checksum");
        }
        // Without the checksum nothing can be promised but an end.
        let _ = read(&path);
    }
}
