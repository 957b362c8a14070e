//! An input of several parts: `kind | length u16 | bytes`, again and again. The last may be cut off.

/// A walk over the parts of an input.
pub struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    pub fn new(input: &'a [u8]) -> Pieces<'a> {
        Pieces(input)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let ([kind, low, high], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        self.0 = rest;
        Some((*kind, bytes))
    }
}

/// Adds a part to an input that is being made.
pub fn add(input: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a seed is small");
    input.push(kind);
    input.extend_from_slice(&length.to_le_bytes());
    input.extend_from_slice(bytes);
}
