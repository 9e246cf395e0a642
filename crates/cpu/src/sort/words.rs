//! Unsigned numbers, which every dtype is turned into to be sorted, and the sorts of one slice of them:
//! by vectors where the processor has them, else the standard library's for short slices and a
//! least-significant-digit radix sort for others.

use crate::alloc;
use lazul_ir::{Buffer, OpError};
use std::marker::PhantomData;

/// A number to sort by: a key, or a key above a position.
#[cfg(target_arch = "x86_64")]
pub(super) trait Word: Number + super::vector::Lanes {}
/// A number to sort by: a key, or a key above a position.
#[cfg(not(target_arch = "x86_64"))]
pub(super) trait Word: Number {}

impl Word for u32 {}
impl Word for u64 {}

/// What sorting needs of a number.
pub(super) trait Number: Copy + Ord + Default + Send + Sync + 'static {
    const BYTES: usize;
    const LEAST: Self;
    const GREATEST: Self;
    fn byte(self, byte: usize) -> usize;
    fn widen(self) -> u64;
    /// The lowest bits of a number.
    fn narrow(x: u64) -> Self;
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const BYTES: usize = size_of::<$t>();
            const LEAST: $t = <$t>::MIN;
            const GREATEST: $t = <$t>::MAX;
            #[inline(always)]
            fn byte(self, byte: usize) -> usize {
                (self >> (8 * byte)) as usize & 255
            }
            #[inline(always)]
            fn widen(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn narrow(x: u64) -> $t {
                x as $t
            }
        }
    )*};
}
numbers!(u32, u64);

/// Memory for numbers, of the allocator that keeps it in large pages for the next time.
pub(super) struct Room<W> {
    memory: Buffer,
    of: PhantomData<W>,
}

impl<W: Copy> Room<W> {
    /// Memory that is not initialised.
    pub(super) fn new(len: usize) -> Result<Room<W>, OpError> {
        let memory = alloc::alloc(len * size_of::<W>())?;
        Ok(Room { memory, of: PhantomData })
    }

    pub(super) fn ptr(&self) -> *mut W {
        self.memory.ptr().cast()
    }
}

/// Whether vectors sort.
pub(super) fn vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::vector::available();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Sorts numbers whose lowest `ascending` bytes ascend already.
pub(super) fn sort<W: Word>(words: &mut [W], ascending: usize) -> Result<(), OpError> {
    sort_parts(words, ascending, &mut |_, _| {})
}

/// Sorts, and calls `done(start, part)` for each part once it is in order, while it is in cache.
pub(super) fn sort_parts<W: Word>(
    words: &mut [W],
    ascending: usize,
    done: &mut dyn FnMut(usize, &mut [W]),
) -> Result<(), OpError> {
    #[cfg(target_arch = "x86_64")]
    if vectors() {
        // SAFETY: the processor has the features.
        unsafe { super::vector::sort(words, done) };
        return Ok(());
    }
    if words.len() < 256 * (W::BYTES - ascending) {
        words.sort_unstable();
    } else {
        radix(words, ascending)?;
    }
    done(0, words);
    Ok(())
}

fn radix<W: Word>(words: &mut [W], ascending: usize) -> Result<(), OpError> {
    let len = words.len();
    let scratch: Room<W> = Room::new(len)?;
    // How often each digit has each value.
    let mut counts = [[0usize; 256]; 8];
    for &word in words.iter() {
        for byte in ascending..W::BYTES {
            counts[byte][word.byte(byte)] += 1;
        }
    }
    let (mut from, mut to) = (words.as_mut_ptr(), scratch.ptr());
    for byte in ascending..W::BYTES {
        let places = &mut counts[byte];
        // SAFETY: both hold `len` words, those of `from` are initialised, and a digit's places are as
        // many as the words that have it.
        unsafe {
            if places[(*from).byte(byte)] == len {
                continue; // every word has the same digit
            }
            let mut next = 0;
            for place in places.iter_mut() {
                (*place, next) = (next, next + *place);
            }
            for i in 0..len {
                let word = *from.add(i);
                let place = &mut places[word.byte(byte)];
                to.add(*place).write(word);
                *place += 1;
            }
        }
        (from, to) = (to, from);
    }
    if from == scratch.ptr() {
        // SAFETY: the scratch holds all words.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    }
    Ok(())
}
