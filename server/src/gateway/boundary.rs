//! Where a JSON object in a stream of bytes ends, found out while they come.
//!
//! Each byte is looked at once, however small the pieces are: to parse all again with each piece would
//! let a client that sends byte by byte keep a processor busy for as long as it likes.

/// A walk over the bytes of a stream, up to the end of the value it is in.
#[derive(Debug, Default)]
pub struct Boundary {
    /// Bytes of this value that were looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    /// The byte before was a backslash, within a string.
    escaped: bool,
}

impl Boundary {
    /// Whether `bytes`, which begin with those of the call before, hold a whole value; what is none
    /// counts as whole as soon as that is seen, for the parser to say what is wrong. No value may
    /// be in them before the one that is looked for.
    pub fn is_whole(&mut self, bytes: &[u8]) -> bool {
        for byte in &bytes[self.seen.min(bytes.len())..] {
            self.seen += 1;
            if self.ends_with(*byte) {
                *self = Boundary::default();
                return true;
            }
        }
        false
    }

    /// Whether nothing but blanks was seen of this value.
    pub fn is_before_value(&self) -> bool {
        self.depth == 0
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ if byte.is_ascii_whitespace() => {}
            // Messages are objects.
            _ if self.depth == 0 => return true,
            b'"' => self.in_string = true,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_with_its_last_byte_in_pieces_of_any_size() {
        let json = br#" {"a":"}\"{\\","b":[{},{"c":1}]} "#;
        let end = json.len() - 2;
        for step in 1..json.len() {
            let mut boundary = Boundary::default();
            let whole = (0..json.len()).step_by(step).find(|&at| boundary.is_whole(&json[..at]));
            assert!(whole.is_none_or(|at| at > end && at - step <= end), "{step}: {whole:?}");
        }
        assert!(Boundary::default().is_whole(json));
    }

    #[test]
    fn a_value_begins_with_its_first_byte() {
        for (bytes, before) in
            [("", true), (" \n", true), ("{", false), (" [", false), ("{}", true)]
        {
            let mut boundary = Boundary::default();
            boundary.is_whole(bytes.as_bytes());
            assert_eq!(boundary.is_before_value(), before, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_object_is_left_to_the_parser_at_once() {
        for wrong in ["}", "x", "\"", " 1", "]"] {
            assert!(Boundary::default().is_whole(wrong.as_bytes()), "{wrong}");
        }
        for open in ["", " ", "{", "[{}", "{\"", "{\"}", "{\"\\\""] {
            assert!(!Boundary::default().is_whole(open.as_bytes()), "{open}");
        }
    }
}
