//! Writes request headers as a long-lived client does: each distinct header is spelled out once
//! per connection and then named by its place in the dynamic table (RFC 7541).

use super::Method;

/// `:method: POST` and `:scheme: http` of the static table, as indexed fields.
const METHOD_POST_SCHEME_HTTP: [u8; 2] = [0x83, 0x86];

/// The first index of the dynamic table; its newest entry stands there.
const DYNAMIC_FIRST: usize = 62;

/// Names of the static table that we complete with values of our own.
const STATIC_AUTHORITY: u8 = 1;
const STATIC_PATH: u8 = 4;
const STATIC_CONTENT_TYPE: u8 = 31;
const STATIC_USER_AGENT: u8 = 58;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Path(Method),
    Authority,
    Te,
    ContentType,
    UserAgent,
}

/// What one connection has already told its peer.
pub(super) struct Encoder {
    authority: String,
    /// Oldest first. At most one entry for each method and four more, so nothing is ever evicted.
    table: Vec<Field>,
}

impl Encoder {
    pub(super) fn new(authority: String) -> Self {
        Self { authority, table: Vec::new() }
    }

    /// Appends the header block of a request for `method`.
    pub(super) fn request(&mut self, method: Method, out: &mut Vec<u8>) {
        out.extend_from_slice(&METHOD_POST_SCHEME_HTTP);
        self.field(Field::Path(method), out);
        self.field(Field::Authority, out);
        self.field(Field::Te, out);
        self.field(Field::ContentType, out);
        self.field(Field::UserAgent, out);
    }

    fn field(&mut self, field: Field, out: &mut Vec<u8>) {
        if let Some(age) = self.table.iter().rev().position(|known| *known == field) {
            let index = u8::try_from(DYNAMIC_FIRST + age).expect("the table stays small");
            out.push(0x80 | index);
            return;
        }
        match field {
            Field::Path(method) => literal(STATIC_PATH, method.path(), out),
            Field::Authority => literal(STATIC_AUTHORITY, &self.authority, out),
            Field::ContentType => literal(STATIC_CONTENT_TYPE, "application/grpc", out),
            Field::UserAgent => literal(STATIC_USER_AGENT, "kvbench", out),
            Field::Te => {
                // The static table has no `te`: index 0 announces a name spelled out.
                out.push(0x40);
                string("te", out);
                string("trailers", out);
            }
        }
        self.table.push(field);
    }
}

/// A literal with incremental indexing whose name is in the static table.
fn literal(name: u8, value: &str, out: &mut Vec<u8>) {
    out.push(0x40 | name);
    string(value, out);
}

fn string(value: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(value.len()).expect("header values are short");
    assert!(length < 127, "longer values need a multi-byte length");
    out.push(length);
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_request_is_seven_bytes() {
        let mut encoder = Encoder::new("127.0.0.1:2379".into());
        let (mut first, mut second, mut other) = (Vec::new(), Vec::new(), Vec::new());
        encoder.request(Method::Put, &mut first);
        assert!(first.windows(8).any(|window| window == b"trailers"));
        encoder.request(Method::Put, &mut second);
        // Path was inserted first, so it is the oldest of five.
        assert_eq!(second, [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        encoder.request(Method::Range, &mut other);
        assert_eq!(other[2], 0x40 | STATIC_PATH);
        assert_eq!(other[other.len() - 4..], [0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]);
    }
}
