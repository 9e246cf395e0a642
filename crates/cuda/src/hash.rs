//! A quick hash for keys that nobody chooses to our harm.

use std::hash::{BuildHasherDefault, Hasher};

/// A map by such keys.
pub(crate) type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Quick>>;

/// Multiplies and rotates, a word at a time.
#[derive(Default)]
pub(crate) struct Quick(u64);

impl Quick {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        // Maps look at the highest bits and the lowest.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, v: u8) {
        self.word(v as u64);
    }

    fn write_u32(&mut self, v: u32) {
        self.word(v as u64);
    }

    fn write_u64(&mut self, v: u64) {
        self.word(v);
    }

    fn write_i64(&mut self, v: i64) {
        self.word(v as u64);
    }

    fn write_isize(&mut self, v: isize) {
        self.word(v as u64);
    }

    fn write_usize(&mut self, v: usize) {
        self.word(v as u64);
    }
}
