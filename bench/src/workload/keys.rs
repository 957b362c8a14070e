//! Keys and values: cheap to make, and values that no compression shrinks unless asked for.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// Digits after the prefix: room for a hundred million keys.
const DIGITS: usize = 8;

/// Values of a fixed seed: both servers of a comparison store the same bytes.
const SEED: u64 = 20_261_121;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    Random,
    Sequential,
}

/// `<prefix>00000000` up to `size` keys, the next one in `order`.
#[derive(Clone)]
pub(crate) struct KeySpace {
    size: u32,
    order: Order,
    next: u32,
    rng: SmallRng,
    key: Vec<u8>,
    prefix_bytes: usize,
}

impl KeySpace {
    pub(crate) fn new(prefix: &str, size: u32, order: Order) -> Self {
        assert!(size > 0, "a key space has keys");
        let mut key = prefix.as_bytes().to_vec();
        key.extend_from_slice(&[b'0'; DIGITS]);
        let rng = SmallRng::seed_from_u64(SEED);
        Self { size, order, next: 0, rng, key, prefix_bytes: prefix.len() }
    }

    /// The number of the next key.
    pub(crate) fn draw(&mut self) -> u32 {
        match self.order {
            Order::Random => self.rng.random_range(0..self.size),
            Order::Sequential => {
                let number = self.next;
                self.next = (number + 1) % self.size;
                number
            }
        }
    }

    /// Writes key `number` over what is in `out`.
    pub(crate) fn write(&mut self, number: u32, out: &mut Vec<u8>) {
        let mut rest = number;
        for digit in self.key[self.prefix_bytes..].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
        }
        out.clear();
        out.extend_from_slice(&self.key);
    }
}

/// Values of one size.
#[derive(Clone)]
pub(crate) struct Values {
    bytes: usize,
    compressible: bool,
    rng: SmallRng,
}

impl Values {
    pub(crate) fn new(bytes: usize, compressible: bool) -> Self {
        Self { bytes, compressible, rng: SmallRng::seed_from_u64(SEED) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the next value over what is in `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        if self.compressible {
            out.clear();
        }
        out.resize(self.bytes, b'v');
        if !self.compressible {
            self.rng.fill_bytes(out);
        }
    }
}

/// The end of the range of all keys that start with `prefix`.
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_keys_go_round() {
        let mut keys = KeySpace::new("/a/", 3, Order::Sequential);
        let mut key = Vec::new();
        let seen: Vec<_> = (0..4)
            .map(|_| {
                let number = keys.draw();
                keys.write(number, &mut key);
                String::from_utf8(key.clone()).unwrap()
            })
            .collect();
        assert_eq!(seen, ["/a/00000000", "/a/00000001", "/a/00000002", "/a/00000000"]);
    }

    #[test]
    fn random_keys_stay_inside_and_large_numbers_keep_their_digits() {
        let mut keys = KeySpace::new("k", 7, Order::Random);
        assert!((0..1000).all(|_| keys.draw() < 7));
        let mut key = Vec::new();
        keys.write(12_345_678, &mut key);
        assert_eq!(key, b"k12345678");
    }

    #[test]
    fn values_differ_unless_they_may_repeat() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut values = Values::new(256, false);
        values.write(&mut first);
        values.write(&mut second);
        assert_eq!((first.len(), second.len()), (256, 256));
        assert_ne!(first, second);
        Values::new(4, true).write(&mut first);
        assert_eq!(first, b"vvvv");
    }

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"/a"), b"/b");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), [0]);
    }
}
