//! Sorting of keys with positions: the standard library's sort for short slices, a parallel
//! least-significant-digit radix sort for long ones.

use crate::pool::parallel;
use crate::rows::Shared;

/// Slices of this length and more are sorted by radix.
pub(super) const LONG: usize = 1 << 15;

/// A key above a position.
pub(super) trait Entry: Copy + Ord + Send + Sync {
    /// Digits of eight bits that the key has.
    const DIGITS: usize;
    fn new(key: u64, position: u32) -> Self;
    fn position(self) -> u32;
    fn digit(self, digit: usize) -> usize;
}

/// A key of 32 bits or fewer.
impl Entry for u64 {
    const DIGITS: usize = 4;
    #[inline(always)]
    fn new(key: u64, position: u32) -> u64 {
        key << 32 | position as u64
    }
    #[inline(always)]
    fn position(self) -> u32 {
        self as u32
    }
    #[inline(always)]
    fn digit(self, digit: usize) -> usize {
        (self >> (32 + 8 * digit)) as usize & 255
    }
}

impl Entry for (u64, u32) {
    const DIGITS: usize = 8;
    #[inline(always)]
    fn new(key: u64, position: u32) -> (u64, u32) {
        (key, position)
    }
    #[inline(always)]
    fn position(self) -> u32 {
        self.1
    }
    #[inline(always)]
    fn digit(self, digit: usize) -> usize {
        (self.0 >> (8 * digit)) as usize & 255
    }
}

/// Sorts entries whose positions ascend.
pub(super) fn sort<E: Entry>(entries: &mut [E]) {
    if entries.len() < LONG {
        entries.sort_unstable();
    } else {
        radix(entries);
    }
}

fn radix<E: Entry>(entries: &mut [E]) {
    let len = entries.len();
    let mut scratch: Vec<E> = Vec::with_capacity(len);
    let chunk = (len / 32).clamp(LONG / 4, 1 << 18);
    let chunks = len.div_ceil(chunk);
    let (mut from, mut to) = (Shared::new(entries.as_mut_ptr()), Shared::new(scratch.as_mut_ptr()));
    let mut moved = false;
    let mut counts = vec![[0usize; 256]; chunks];
    for digit in 0..E::DIGITS {
        // How often each value occurs in each chunk.
        let histogram = Shared::new(counts.as_mut_ptr());
        parallel(chunks, |c| {
            let start = c * chunk;
            // SAFETY: entries of this chunk, only read; its own histogram.
            let (part, count) = unsafe {
                (from.slice(start, chunk.min(len - start)), &mut *histogram.get().add(c))
            };
            count.fill(0);
            part.iter().for_each(|e| count[e.digit(digit)] += 1);
        });
        let total = |value: usize| counts.iter().map(|c| c[value]).sum::<usize>();
        if (0..256).any(|value| total(value) == len) {
            continue; // every entry has the same digit
        }
        // Where each chunk's entries of each value begin.
        let mut next = 0;
        for value in 0..256 {
            for count in counts.iter_mut() {
                (count[value], next) = (next, next + count[value]);
            }
        }
        let starts = Shared::new(counts.as_mut_ptr());
        parallel(chunks, |c| {
            let start = c * chunk;
            // SAFETY: as above; the places that a chunk's entries go to are its own.
            unsafe {
                let places = &mut *starts.get().add(c);
                for &e in from.slice(start, chunk.min(len - start)).iter() {
                    let place = &mut places[e.digit(digit)];
                    to.get().add(*place).write(e);
                    *place += 1;
                }
            }
        });
        (from, to) = (to, from);
        moved = !moved;
    }
    if moved {
        // SAFETY: the scratch holds all entries.
        unsafe { std::ptr::copy_nonoverlapping(from.get(), to.get(), len) };
    }
}
