//! `mvccpb.KeyValue` in two forms: the struct, and the bytes it was encoded to once.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

/// One version of a key: `mvccpb.KeyValue` of etcd's API.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Revision that created the key's current generation.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// Revision of this version.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// 1 on creation, one more with every put.
    #[prost(int64, tag = "4")]
    pub version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// Attached lease; 0 is none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// A [`KeyValue`] as its protobuf bytes: fields ascending, zeros omitted, as etcd stores them.
///
/// Cloning shares the bytes. On the wire it is indistinguishable from the message it encodes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct EncodedKeyValue(Bytes);

impl EncodedKeyValue {
    /// Encodes `kv` into an allocation of exactly its length.
    pub fn new(kv: &KeyValue) -> Self {
        Self(Bytes::from(kv.encode_to_vec()))
    }

    /// Takes bytes that already are an encoded `KeyValue`.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The message; key and value share these bytes.
    ///
    /// # Errors
    /// When the bytes are not a `KeyValue`: they came from a damaged file.
    pub fn parse(&self) -> Result<KeyValue, prost::DecodeError> {
        KeyValue::decode(self.0.clone())
    }
}

impl From<&KeyValue> for EncodedKeyValue {
    fn from(kv: &KeyValue) -> Self {
        Self::new(kv)
    }
}

impl std::fmt::Debug for EncodedKeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parse() {
            Ok(kv) => kv.fmt(f),
            Err(_) => write!(f, "EncodedKeyValue({:?})", self.0),
        }
    }
}

impl Message for EncodedKeyValue {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    // Receiving rebuilds the bytes field by field. Only clients receive these messages.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        let mut bytes = Vec::from(std::mem::take(&mut self.0));
        match wire_type {
            WireType::Varint => {
                let value = encoding::decode_varint(buf)?;
                encoding::encode_key(tag, wire_type, &mut bytes);
                encoding::encode_varint(value, &mut bytes);
            }
            WireType::LengthDelimited => {
                let mut value = Vec::new();
                encoding::bytes::merge(wire_type, &mut value, buf, ctx)?;
                encoding::bytes::encode(tag, &value, &mut bytes);
            }
            other => encoding::skip_field(other, tag, buf, ctx)?,
        }
        self.0 = Bytes::from(bytes);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_and_struct_agree_on_the_wire() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: Bytes::from_static(&[0, 255, 7]),
            lease: -1,
        };
        let encoded = EncodedKeyValue::new(&kv);
        assert_eq!(encoded.encode_to_vec(), kv.encode_to_vec());
        assert_eq!(encoded.parse().unwrap(), kv);
        let received = EncodedKeyValue::decode(kv.encode_to_vec().as_slice()).unwrap();
        assert_eq!(received, encoded);
    }
}
