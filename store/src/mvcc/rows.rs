//! Rows: a `KeyValue` encoded once for RAM, and the form it takes in the engine.
//!
//! ```text
//! 0x01                          meta row
//! 0x02 number(4)                the list of dropped rows, see `backlog`
//! 0x03 id(8)                    a lease: time to live, what is left of it; empty: it is gone
//! 0x04 number(4)                users and roles: a piece of a message
//! 0xE0 main(8) sub(8)           key row:   flags, created, version, value length, lease?, key, crc
//! 0xF0 main(8) sub(8) chunk(2)  value row: up to 960 bytes of the value, crc
//! ```
//! Integers of a row's key are big endian, so rows are in order of revision; those of its body
//! are varints. Keys and values lie apart so that the index is rebuilt without reading values.
//! The CRC-32 covers the row's key and body: a row that is damaged or misplaced is noticed.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};
use proto::EncodedKeyValue;

use super::generations::{Lineage, Record};
use crate::engine::{ROW_BYTES_MAX, Reader, WriteBatch};
use crate::{Fatal, Revision};

pub(super) const META_ROW: &[u8] = &[0x01];
pub(super) const LIST_ROWS: u8 = 0x02;
pub(super) const LEASE_ROWS: u8 = 0x03;
pub(super) const AUTH_ROWS: u8 = 0x04;
pub(super) const KEY_ROWS: u8 = 0xE0;
pub(super) const VALUE_ROWS: u8 = 0xF0;
pub(super) const VALUE_ROW_BYTES: usize = 960;
const _: () = assert!(1 + 8 + 8 + 2 + VALUE_ROW_BYTES + 4 <= ROW_BYTES_MAX, "key, value, crc");

const TOMBSTONE: u8 = 1;
const LEASED: u8 = 2;
/// The row's bytes are empty, not even a key: a mark that etcd's tools leave to raise the revision.
const MARK: u8 = 4;

/// Encodes a version of a key into one allocation.
pub(super) fn encode(
    key: &[u8],
    lineage: Lineage,
    main: i64,
    value: &[u8],
    lease: i64,
) -> EncodedKeyValue {
    let number = |n: i64| if n == 0 { 0 } else { 1 + encoded_len_varint(n as u64) };
    let bytes = |b: &[u8]| match b.len() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    };
    let length = bytes(key)
        + number(lineage.created)
        + number(main)
        + number(lineage.version)
        + bytes(value)
        + number(lease);
    let mut buffer = Vec::with_capacity(length);
    put_bytes(&mut buffer, 1, key);
    put_number(&mut buffer, 2, lineage.created);
    put_number(&mut buffer, 3, main);
    put_number(&mut buffer, 4, lineage.version);
    put_bytes(&mut buffer, 5, value);
    put_number(&mut buffer, 6, lease);
    debug_assert_eq!(buffer.len(), length);
    EncodedKeyValue::from_bytes(buffer.into())
}

/// The `kv` of a delete event: key and revision, nothing else.
pub(super) fn encode_deleted(key: &[u8], main: i64) -> EncodedKeyValue {
    encode(key, Lineage::default(), main, b"", 0)
}

fn put_bytes(buffer: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buffer.push(tag << 3 | 2);
        encode_varint(bytes.len() as u64, buffer);
        buffer.put_slice(bytes);
    }
}

fn put_number(buffer: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        buffer.push(tag << 3);
        encode_varint(number as u64, buffer);
    }
}

/// Where the fields of an encoded `KeyValue` are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) key: Range<usize>,
    /// End of the key's field.
    pub(super) key_end: usize,
    pub(super) lineage: Lineage,
    pub(super) main: i64,
    pub(super) value: Range<usize>,
    /// The value's field with its tag.
    pub(super) value_field: Range<usize>,
    pub(super) lease: i64,
}

/// Reads the fields; `None` when the bytes are not a `KeyValue` with ascending fields.
pub(super) fn fields(bytes: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    let (mut rest, mut last) = (bytes, 0);
    while let Some((&tag, after)) = rest.split_first() {
        if tag <= last {
            return None;
        }
        last = tag;
        let start = bytes.len() - rest.len();
        rest = after;
        let number = decode_varint(&mut rest).ok()?;
        let here = bytes.len() - rest.len();
        match tag {
            0x0a | 0x2a => {
                let length = usize::try_from(number).ok().filter(|n| *n <= rest.len())?;
                rest = &rest[length..];
                if tag == 0x0a {
                    (fields.key, fields.key_end) = (here..here + length, here + length);
                } else {
                    (fields.value, fields.value_field) =
                        (here..here + length, start..here + length);
                }
            }
            0x10 => fields.lineage.created = number as i64,
            0x18 => fields.main = number as i64,
            0x20 => fields.lineage.version = number as i64,
            0x30 => fields.lease = number as i64,
            _ => return None,
        }
    }
    Some(fields)
}

/// The fields of a row this process encoded.
pub(super) fn own_fields(kv: &EncodedKeyValue) -> Fields {
    fields(kv.as_bytes()).expect("rows are encoded here or checked when they are read")
}

/// The same version without its value; shares the bytes where it can.
pub(super) fn without_value(kv: &EncodedKeyValue) -> EncodedKeyValue {
    let field = own_fields(kv).value_field;
    let bytes = kv.as_bytes();
    let without = if field.is_empty() {
        bytes.clone()
    } else if field.end == bytes.len() {
        bytes.slice(..field.start)
    } else {
        [&bytes[..field.start], &bytes[field.end..]].concat().into()
    };
    EncodedKeyValue::from_bytes(without)
}

/// The row that belongs to a delete event: the key alone.
pub(super) fn tombstone_row(deleted: &EncodedKeyValue) -> EncodedKeyValue {
    let end = own_fields(deleted).key_end;
    EncodedKeyValue::from_bytes(deleted.as_bytes().slice(..end))
}

/// All of a row but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRow {
    pub(super) key: Bytes,
    pub(super) lineage: Lineage,
    pub(super) lease: i64,
    pub(super) value_bytes: usize,
    pub(super) tombstone: bool,
    mark: bool,
}

impl KeyRow {
    pub(super) fn record(&self, at: Revision) -> Record {
        match self.tombstone {
            true => Record::tombstone(at),
            false => Record::put(at, self.value_bytes, self.lease != 0),
        }
    }

    /// The row as it was encoded at apply.
    pub(super) fn encode(&self, main: i64, value: &[u8]) -> EncodedKeyValue {
        if self.mark {
            return EncodedKeyValue::default();
        }
        let main = if self.tombstone { 0 } else { main };
        encode(&self.key, self.lineage, main, value, self.lease)
    }

    fn read(at: Revision, row_key: &[u8], row: &[u8]) -> Result<Self, Fatal> {
        Self::decode(unseal(row_key, row)?)
            .ok_or_else(|| Fatal::Engine(format!("the key row of revision {at} is malformed")))
    }

    fn decode(mut body: &[u8]) -> Option<Self> {
        let (&flags, rest) = body.split_first()?;
        body = rest;
        let mut number = || decode_varint(&mut body).ok();
        let created = number()? as i64;
        let version = number()? as i64;
        let value_bytes = usize::try_from(number()?).ok()?;
        let lease = if flags & LEASED != 0 { number()? as i64 } else { 0 };
        Some(Self {
            key: Bytes::copy_from_slice(body),
            lineage: Lineage { created, version },
            lease,
            value_bytes,
            tombstone: flags & TOMBSTONE != 0,
            mark: flags & MARK != 0,
        })
    }
}

/// Adds the engine rows of one row: its key row and its value rows. `kv` is the stored form.
pub(super) fn put_row(
    batch: &mut WriteBatch,
    at: Revision,
    tombstone: bool,
    kv: &EncodedKeyValue,
) -> usize {
    let fields = own_fields(kv);
    let bytes = kv.as_bytes();
    let (key, value) = (&bytes[fields.key.clone()], &bytes[fields.value.clone()]);
    let mut flags = if tombstone { TOMBSTONE } else { 0 };
    flags |= if fields.lease != 0 { LEASED } else { 0 };
    flags |= if bytes.is_empty() { MARK } else { 0 };
    let mut body = Vec::with_capacity(key.len() + 32);
    body.push(flags);
    encode_varint(fields.lineage.created as u64, &mut body);
    encode_varint(fields.lineage.version as u64, &mut body);
    encode_varint(value.len() as u64, &mut body);
    if fields.lease != 0 {
        encode_varint(fields.lease as u64, &mut body);
    }
    body.extend_from_slice(key);
    let row_key = key_row(at);
    batch.put(row_key.clone(), seal(&row_key, body));
    for (chunk, part) in value.chunks(VALUE_ROW_BYTES).enumerate() {
        let row_key = value_row(at, chunk);
        batch.put(row_key.clone(), seal(&row_key, part.to_vec()));
    }
    bytes.len()
}

/// The keys of the value rows a record has.
pub(super) fn value_rows(record: Record) -> impl Iterator<Item = Bytes> {
    let chunks = record.value_bytes().div_ceil(VALUE_ROW_BYTES);
    (0..chunks).map(move |chunk| value_row(record.revision(), chunk))
}

pub(super) fn key_row(at: Revision) -> Bytes {
    row_key(KEY_ROWS, at).into()
}

fn value_row(at: Revision, chunk: usize) -> Bytes {
    let chunk = u16::try_from(chunk).expect("a value is shorter than 256 MiB");
    let mut key = row_key(VALUE_ROWS, at);
    key.put_u16(chunk);
    key.into()
}

pub(super) fn row_key(kind: u8, at: Revision) -> Vec<u8> {
    let mut key = Vec::with_capacity(19);
    key.push(kind);
    key.put_i64(at.main);
    key.put_i64(at.sub);
    key
}

/// The revision in the key of a key row or value row.
pub(super) fn revision_of(row_key: &[u8]) -> Result<Revision, Fatal> {
    let mut numbers =
        row_key.get(1..17).ok_or_else(|| Fatal::Engine("a row has a foreign key".into()))?;
    Ok(Revision::new(numbers.get_i64(), numbers.get_i64()))
}

/// Appends the CRC to a row's body.
pub(super) fn seal(row_key: &[u8], mut body: Vec<u8>) -> Bytes {
    let crc = crc_of(row_key, &body);
    body.put_u32_le(crc);
    body.into()
}

/// A row's body, checked.
pub(super) fn unseal<'a>(row_key: &[u8], row: &'a [u8]) -> Result<&'a [u8], Fatal> {
    match row.split_last_chunk::<4>() {
        Some((body, crc)) if u32::from_le_bytes(*crc) == crc_of(row_key, body) => Ok(body),
        _ => Err(Fatal::Engine(format!("a row fails its checksum ({:02x?})", row_key))),
    }
}

fn crc_of(row_key: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(row_key);
    crc.update(body);
    crc.finalize()
}

/// Reads a key row of the engine.
pub(super) fn read_key_row(reader: &dyn Reader, at: Revision) -> Result<Option<KeyRow>, Fatal> {
    let row_key = key_row(at);
    let row = reader.get(&row_key)?;
    row.map(|row| KeyRow::read(at, &row_key, &row)).transpose()
}

/// Decodes a key row met in a scan.
pub(super) fn scanned_key_row(row_key: &[u8], row: &[u8]) -> Result<(Revision, KeyRow), Fatal> {
    let at = revision_of(row_key)?;
    Ok((at, KeyRow::read(at, row_key, row)?))
}

/// Reads a value of the engine whose length is known; `None` when rows of it are missing.
pub(super) fn read_value(
    reader: &dyn Reader,
    at: Revision,
    value_bytes: usize,
) -> Result<Option<Vec<u8>>, Fatal> {
    let mut value = Vec::with_capacity(value_bytes);
    for chunk in 0..value_bytes.div_ceil(VALUE_ROW_BYTES) {
        let row_key = value_row(at, chunk);
        let Some(row) = reader.get(&row_key)? else { return Ok(None) };
        value.extend_from_slice(unseal(&row_key, &row)?);
    }
    if value.len() != value_bytes {
        return Err(Fatal::Engine(format!("the value of revision {at} has the wrong length")));
    }
    Ok(Some(value))
}

/// Reads a whole row of the engine; `None` when it, or a part of it, is not there.
pub(super) fn read_row(
    reader: &dyn Reader,
    at: Revision,
) -> Result<Option<(KeyRow, EncodedKeyValue)>, Fatal> {
    let Some(row) = read_key_row(reader, at)? else { return Ok(None) };
    let Some(value) = read_value(reader, at, row.value_bytes)? else { return Ok(None) };
    let kv = row.encode(at.main, &value);
    Ok(Some((row, kv)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, MemoryEngine};
    use proto::KeyValue;

    #[test]
    fn rows_survive_the_engine() {
        let engine = MemoryEngine::new();
        let at = Revision::new(77, 3);
        for (value, lease) in [(0, 0), (1, -5), (4096, 9), (4097, 0), (70_000, i64::MAX)] {
            let value = vec![7; value];
            let lineage = Lineage { created: 5, version: 300 };
            let kv = encode(b"key", lineage, 77, &value, lease);
            let parsed = KeyValue {
                key: Bytes::from_static(b"key"),
                create_revision: 5,
                mod_revision: 77,
                version: 300,
                value: value.clone().into(),
                lease,
            };
            assert_eq!(kv, EncodedKeyValue::new(&parsed));
            assert_eq!(
                without_value(&kv),
                EncodedKeyValue::new(&KeyValue { value: Bytes::new(), ..parsed })
            );
            let mut batch = WriteBatch::default();
            put_row(&mut batch, at, false, &kv);
            let rows = value_rows(Record::put(at, value.len(), lease != 0));
            assert_eq!(rows.count() + 1, batch.puts.len());
            engine.apply(batch).unwrap();
            let (row, read) = read_row(&*engine.reader(), at).unwrap().unwrap();
            assert_eq!((read, row.lease, row.tombstone), (kv, lease, false));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let row_key = key_row(Revision::new(1, 0));
        let row = seal(&row_key, b"body".to_vec());
        assert_eq!(unseal(&row_key, &row).unwrap(), b"body");
        assert!(unseal(&key_row(Revision::new(1, 1)), &row).is_err());
        for bit in 0..row.len() * 8 {
            let mut damaged = row.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&row_key, &damaged).is_err());
        }
    }
}
