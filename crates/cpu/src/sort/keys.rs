//! Keys: unsigned numbers in the order of elements.
//!
//! The sign bit of floats is flipped (all bits, of negative ones), NaN has the greatest key, -0 the key of
//! +0; complex numbers are lexicographic.

use super::words::{Number, Word};
use crate::dispatch;
use lazul_ir::{Complex32, bf16, f16};
use std::marker::PhantomData;

/// An element that has a key.
pub(super) trait Sortable: Copy + Send + Sync + 'static {
    type Word: Word;
    /// Number of keys, where one can count the elements of each; else 0.
    const TABLE: usize;
    /// The key of both zeros, where elements that share a key are those and NaN, if they are anything.
    const ZERO: Option<u64>;
    /// The key of NaN.
    const NAN: u64;
    fn key(self) -> Self::Word;
    /// The element that has a key; one of them, where [`Sortable::shares`] holds.
    fn from_key(key: Self::Word) -> Self;
    /// Whether the key is also that of an element with other bits: NaN, and zeros.
    fn shares(self) -> bool;
}

macro_rules! integers {
    ($($t:ty, $unsigned:ty, $word:ty, $flip:expr, $table:expr;)*) => {$(
        impl Sortable for $t {
            type Word = $word;
            const TABLE: usize = $table;
            const ZERO: Option<u64> = None;
            const NAN: u64 = 0;
            #[inline(always)]
            fn key(self) -> $word {
                (self as $unsigned ^ $flip) as $word
            }
            #[inline(always)]
            fn from_key(key: $word) -> $t {
                (key as $unsigned ^ $flip) as $t
            }
            #[inline(always)]
            fn shares(self) -> bool {
                false
            }
        }
    )*};
}
integers! {
    u8, u8, u32, 0, 1 << 8;
    u16, u16, u32, 0, 1 << 16;
    u32, u32, u32, 0, 0;
    u64, u64, u64, 0, 0;
    i8, u8, u32, 0x80, 1 << 8;
    i16, u16, u32, 0x8000, 1 << 16;
    i32, u32, u32, 0x8000_0000, 0;
    i64, u64, u64, 1 << 63, 0;
}

macro_rules! floats {
    ($($t:ty, $bits:ty, $word:ty, $sign:expr, $infinity:expr, $table:expr;)*) => {$(
        impl Sortable for $t {
            type Word = $word;
            const TABLE: usize = $table;
            const ZERO: Option<u64> = Some($sign as u64);
            const NAN: u64 = <$bits>::MAX as u64;
            #[inline(always)]
            fn key(self) -> $word {
                let bits = self.to_bits();
                let bits = if bits == $sign { 0 } else { bits }; // -0 is 0
                let key = if bits & $sign != 0 { !bits } else { bits | $sign };
                (if bits & !$sign > $infinity { <$bits>::MAX } else { key }) as $word
            }
            #[inline(always)]
            fn from_key(key: $word) -> $t {
                let key = key as $bits;
                <$t>::from_bits(if key & $sign != 0 { key ^ $sign } else { !key })
            }
            #[inline(always)]
            fn shares(self) -> bool {
                let bits = self.to_bits();
                (bits & !$sign > $infinity) | (bits == $sign)
            }
        }
    )*};
}
floats! {
    f16, u16, u32, 0x8000u16, 0x7c00, 1 << 16;
    bf16, u16, u32, 0x8000u16, 0x7f80, 1 << 16;
    f32, u32, u32, 0x8000_0000u32, 0x7f80_0000, 0;
    f64, u64, u64, 1u64 << 63, 0x7ff0_0000_0000_0000, 0;
}

impl Sortable for Complex32 {
    type Word = u64;
    const TABLE: usize = 0;
    const ZERO: Option<u64> = None;
    const NAN: u64 = u64::MAX;
    #[inline(always)]
    fn key(self) -> u64 {
        let key = (self.re.key() as u64) << 32 | self.im.key() as u64;
        if self.re.is_nan() | self.im.is_nan() { u64::MAX } else { key }
    }
    #[inline(always)]
    fn from_key(key: u64) -> Complex32 {
        Complex32::new(f32::from_key((key >> 32) as u32), f32::from_key(key as u32))
    }
    #[inline(always)]
    fn shares(self) -> bool {
        self.re.shares() | self.im.shares()
    }
}

dispatch! {
    /// Keys of elements; whether any of them has a key that others have too.
    pub(super) fn to_keys<T: Sortable>(elements: &[T], keys: &mut [T::Word]) -> bool {
        let mut shared = false;
        for (key, element) in keys.iter_mut().zip(elements) {
            *key = element.key();
            shared |= element.shares();
        }
        shared
    }
}

dispatch! {
    /// Keys become elements of the same size.
    pub(super) fn from_keys<T: Sortable>(keys: &mut [T::Word], _of: PhantomData<T>) {
        assert_eq!(size_of::<T>(), size_of::<T::Word>());
        for key in keys {
            let element = T::from_key(*key);
            // SAFETY: as large as a word, and any bits make a word.
            *key = unsafe { std::mem::transmute_copy(&element) };
        }
    }
}

dispatch! {
    /// Keys, less their lowest `shift` bits, above the elements' positions in `bits` bits.
    pub(super) fn to_entries<T: Sortable>(elements: &[T], first: usize, shift: u32, bits: u32, entries: &mut [u64]) {
        for (i, (entry, element)) in entries.iter_mut().zip(elements).enumerate() {
            *entry = element.key().widen() >> shift << bits | (first + i) as u64;
        }
    }
}

dispatch! {
    /// The bits that all keys have, and those that any has.
    pub(super) fn common<T: Sortable>(elements: &[T]) -> (u64, u64) {
        elements.iter().fold((u64::MAX, 0), |(all, any), element| {
            let key = element.key().widen();
            (all & key, any | key)
        })
    }
}

dispatch! {
    /// How many elements come before zeros, are zeros, are NaN.
    pub(super) fn tally<T: Sortable>(elements: &[T]) -> [usize; 3] {
        let zero = T::ZERO.unwrap_or(0);
        let mut tally = [0; 3];
        for element in elements {
            let key = element.key().widen();
            tally[0] += (key < zero) as usize;
            tally[1] += (key == zero) as usize;
            tally[2] += (key == T::NAN) as usize;
        }
        tally
    }
}
