//! Sorting of unsigned keys, alone or above positions: the standard library's sort for short slices,
//! a parallel least-significant-digit radix sort for others.

use crate::pool::parallel;
use crate::rows::Shared;

/// Lines of this length and more are worth several threads of their own.
pub(super) const LONG: usize = 1 << 15;

/// What is sorted, by its order as a number; the digits below the key, which positions take, ascend
/// already.
pub(super) trait Digits: Copy + Ord + Send + Sync {
    /// Digits of eight bits that the key has.
    const DIGITS: usize;
    fn digit(self, digit: usize) -> usize;
}

/// A key above a position.
pub(super) trait Entry: Digits {
    fn new(key: u64, position: u32) -> Self;
    fn position(self) -> u32;
}

/// A key by itself.
pub(super) trait Key: Digits {
    fn new(key: u64) -> Self;
    fn get(self) -> u64;
}

macro_rules! key {
    ($($t:ty, $digits:literal, $name:ident;)*) => {$(
        /// A key of that many digits.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name($t);

        impl Digits for $name {
            const DIGITS: usize = $digits;
            #[inline(always)]
            fn digit(self, digit: usize) -> usize {
                (self.0 >> (8 * digit)) as usize & 255
            }
        }
        impl Key for $name {
            #[inline(always)]
            fn new(key: u64) -> $name {
                $name(key as $t)
            }
            #[inline(always)]
            fn get(self) -> u64 {
                self.0 as u64
            }
        }
    )*};
}
key! {
    u8, 1, Key8;
    u16, 2, Key16;
    u32, 4, Key32;
    u64, 8, Key64;
}

/// A key of 32 bits or fewer.
impl Entry for u64 {
    #[inline(always)]
    fn new(key: u64, position: u32) -> u64 {
        key << 32 | position as u64
    }
    #[inline(always)]
    fn position(self) -> u32 {
        self as u32
    }
}

impl Digits for u64 {
    const DIGITS: usize = 4;
    #[inline(always)]
    fn digit(self, digit: usize) -> usize {
        (self >> (32 + 8 * digit)) as usize & 255
    }
}

impl Entry for (u64, u32) {
    #[inline(always)]
    fn new(key: u64, position: u32) -> (u64, u32) {
        (key, position)
    }
    #[inline(always)]
    fn position(self) -> u32 {
        self.1
    }
}

impl Digits for (u64, u32) {
    const DIGITS: usize = 8;
    #[inline(always)]
    fn digit(self, digit: usize) -> usize {
        (self.0 >> (8 * digit)) as usize & 255
    }
}

/// Sorts keys, or entries whose positions ascend.
pub(super) fn sort<E: Digits>(entries: &mut [E]) {
    if entries.len() < 512 * E::DIGITS {
        entries.sort_unstable();
    } else {
        radix(entries);
    }
}

fn radix<E: Digits>(entries: &mut [E]) {
    let len = entries.len();
    let mut scratch: Vec<E> = Vec::with_capacity(len);
    let chunk = (len / 32).clamp(1 << 13, 1 << 18);
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
