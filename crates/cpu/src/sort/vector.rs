//! Sorting of unsigned numbers in AVX-512 registers: a quicksort that partitions in place.
//!
//! Up to sixteen registers are sorted as the columns of a matrix: a network of minima and maxima
//! sorts every column, bitonic merges join neighbouring columns, and a transposition puts the numbers
//! in order. Longer slices are divided about a pivot, the median of a sample: of each vector, the
//! lanes that belong to the left are packed to one end of the slice and the others to the other end,
//! in room that was made by reading both ends first. Equal numbers are the same bits, so neither the
//! pivots nor the order of steps can be seen in the result.

use super::words::Number;
use std::arch::x86_64::*;

/// Registers that are sorted at once.
const ROWS: usize = 16;
/// Vectors that are read from one end in each step of a partition.
const BATCH: usize = 8;
/// Batches that are fetched ahead: which end is next the processor does not guess.
const AHEAD: usize = 8;

/// Whether the processor has what [`sort`] is compiled for.
pub(super) fn available() -> bool {
    crate::isa::isa() == crate::isa::Isa::Avx512
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi2")
}

/// Numbers that lie in the lanes of a register.
///
/// # Safety
/// Its functions need AVX-512 F and BW, and pointers valid for the lanes that they touch.
pub(super) unsafe trait Lanes: Number {
    const LANES: usize;
    unsafe fn load(p: *const Self) -> __m512i;
    unsafe fn store(p: *mut Self, v: __m512i);
    /// The first `n` lanes, the others being the greatest number.
    unsafe fn load_first(p: *const Self, n: usize) -> __m512i;
    unsafe fn store_first(p: *mut Self, v: __m512i, n: usize);
    unsafe fn splat(x: Self) -> __m512i;
    unsafe fn least(a: __m512i, b: __m512i) -> __m512i;
    unsafe fn most(a: __m512i, b: __m512i) -> __m512i;
    /// The lesser of lanes whose index has no bit of `BIT`, the greater of others.
    unsafe fn lesser<const BIT: usize>(a: __m512i, b: __m512i) -> __m512i;
    /// The greater of lanes whose index has no bit of `BIT`, the lesser of others.
    unsafe fn greater<const BIT: usize>(a: __m512i, b: __m512i) -> __m512i;
    /// Lane `i` gets lane `i ^ X`.
    unsafe fn turn<const X: usize>(v: __m512i) -> __m512i;
    /// The lower (or upper) halves of both, lane by lane in turn.
    unsafe fn zip_low(a: __m512i, b: __m512i) -> __m512i;
    unsafe fn zip_high(a: __m512i, b: __m512i) -> __m512i;
    /// Which lanes of `a` are less than those of `b`, or equal to them if `EQUAL`.
    unsafe fn before<const EQUAL: bool>(a: __m512i, b: __m512i) -> u32;
    /// The lanes of the mask, moved to the lowest ones.
    unsafe fn pack(mask: u32, v: __m512i) -> __m512i;
}

/// A mask of `lanes` lanes: those whose index has the bit.
const fn with_bit(bit: usize, lanes: usize) -> u16 {
    let (mut mask, mut i) = (0, 0);
    while i < lanes {
        if i & bit != 0 {
            mask |= 1 << i;
        }
        i += 1;
    }
    mask
}

macro_rules! lanes {
    ($t:ty, $lanes:literal, $mask:ty, $load:ident, $store:ident, $masked_load:ident,
     $masked_store:ident, $splat:ident, $int:ty, $min:ident, $three:ident,
     $permute:ident, $two:ident, $lt:ident, $le:ident, $pack:ident, $index:expr) => {
        // SAFETY: each function is one or two intrinsics of AVX-512 F, which the trait asks for;
        // loads and stores touch the lanes that the caller vouches for. 0x96 is the exclusive or of three.
        #[allow(clippy::undocumented_unsafe_blocks)]
        unsafe impl Lanes for $t {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn load(p: *const $t) -> __m512i {
                unsafe { $load(p.cast()) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut $t, v: __m512i) {
                unsafe { $store(p.cast(), v) }
            }
            #[inline(always)]
            unsafe fn load_first(p: *const $t, n: usize) -> __m512i {
                unsafe { $masked_load(_mm512_set1_epi32(-1), first(n) as $mask, p.cast()) }
            }
            #[inline(always)]
            unsafe fn store_first(p: *mut $t, v: __m512i, n: usize) {
                unsafe { $masked_store(p.cast(), first(n) as $mask, v) }
            }
            #[inline(always)]
            unsafe fn splat(x: $t) -> __m512i {
                unsafe { $splat(x as $int) }
            }
            #[inline(always)]
            unsafe fn least(a: __m512i, b: __m512i) -> __m512i {
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            unsafe fn most(a: __m512i, b: __m512i) -> __m512i {
                unsafe { _mm512_ternarylogic_epi64::<0x96>(a, b, $min(a, b)) }
            }
            #[inline(always)]
            unsafe fn lesser<const BIT: usize>(a: __m512i, b: __m512i) -> __m512i {
                unsafe { $three($min(a, b), with_bit(BIT, $lanes) as $mask, a, b) }
            }
            #[inline(always)]
            unsafe fn greater<const BIT: usize>(a: __m512i, b: __m512i) -> __m512i {
                unsafe { $three($min(a, b), !with_bit(BIT, $lanes) as $mask, a, b) }
            }
            #[inline(always)]
            unsafe fn turn<const X: usize>(v: __m512i) -> __m512i {
                unsafe { $permute($index(|i| i ^ X), v) }
            }
            #[inline(always)]
            unsafe fn zip_low(a: __m512i, b: __m512i) -> __m512i {
                unsafe { $two(a, $index(|i| i / 2 + i % 2 * $lanes), b) }
            }
            #[inline(always)]
            unsafe fn zip_high(a: __m512i, b: __m512i) -> __m512i {
                unsafe { $two(a, $index(|i| i / 2 + $lanes / 2 + i % 2 * $lanes), b) }
            }
            #[inline(always)]
            unsafe fn before<const EQUAL: bool>(a: __m512i, b: __m512i) -> u32 {
                (if EQUAL { unsafe { $le(a, b) } } else { unsafe { $lt(a, b) } }) as u32
            }
            #[inline(always)]
            unsafe fn pack(mask: u32, v: __m512i) -> __m512i {
                unsafe { $pack(mask as $mask, v) }
            }
        }
    };
}
lanes! {
    u32, 16, __mmask16, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_mask_loadu_epi32,
    _mm512_mask_storeu_epi32, _mm512_set1_epi32, i32, _mm512_min_epu32, third32, _mm512_permutexvar_epi32,
    _mm512_permutex2var_epi32, _mm512_cmplt_epu32_mask, _mm512_cmple_epu32_mask,
    _mm512_maskz_compress_epi32, index32
}
lanes! {
    u64, 8, __mmask8, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_mask_loadu_epi64,
    _mm512_mask_storeu_epi64, _mm512_set1_epi64, i64, _mm512_min_epu64, third64, _mm512_permutexvar_epi64,
    _mm512_permutex2var_epi64, _mm512_cmplt_epu64_mask, _mm512_cmple_epu64_mask,
    _mm512_maskz_compress_epi64, index64
}

/// In lanes of the mask that one of `a` and `b` which `one` is not; `one` in the others. Maxima are found
/// so, after minima: there are two units for bits, and one for comparisons.
///
/// # Safety
/// Needs AVX-512 F.
#[inline(always)]
unsafe fn third32(one: __m512i, mask: __mmask16, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the caller has the feature.
    unsafe { _mm512_mask_ternarylogic_epi32::<0x96>(one, mask, a, b) }
}

/// See [`third32`].
///
/// # Safety
/// Needs AVX-512 F.
#[inline(always)]
unsafe fn third64(one: __m512i, mask: __mmask8, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: as above.
    unsafe { _mm512_mask_ternarylogic_epi64::<0x96>(one, mask, a, b) }
}

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> u32 {
    (1u32 << n) - 1
}

/// The lane indices that `f` gives; the compiler makes a constant of it.
#[inline(always)]
fn index32(f: impl Fn(usize) -> usize) -> __m512i {
    let lanes: [u32; 16] = std::array::from_fn(|i| f(i) as u32);
    // SAFETY: both are sixty-four bytes without padding.
    unsafe { std::mem::transmute(lanes) }
}

#[inline(always)]
fn index64(f: impl Fn(usize) -> usize) -> __m512i {
    let lanes: [u64; 8] = std::array::from_fn(|i| f(i) as u64);
    // SAFETY: as above.
    unsafe { std::mem::transmute(lanes) }
}

/// Compiles functions for the features that the module is written for.
macro_rules! featured {
    ($($item:item)*) => {$(
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi2")]
        $item
    )*};
}

/// Puts the lesser of registers `a` and `b` at `a`, for each pair.
macro_rules! network {
    ($r:ident: $($a:literal $b:literal),*) => {{
        $(($r[$a], $r[$b]) = (W::least($r[$a], $r[$b]), W::most($r[$a], $r[$b]));)*
    }};
}

/// Sorts each column of `R` rows: Batcher's odd-even merge sort.
#[inline(always)]
unsafe fn sort_columns<W: Lanes, const R: usize>(r: &mut [__m512i; R]) {
    // SAFETY: the caller has the features.
    unsafe {
        match R {
            1 => {}
            2 => network!(r: 0 1),
            4 => network!(r: 0 1, 2 3, 0 2, 1 3, 1 2),
            8 => {
                network!(r: 0 1, 2 3, 4 5, 6 7, 0 2, 1 3, 4 6, 5 7, 1 2, 5 6, 0 4, 1 5, 2 6, 3 7, 2 4,
            3 5, 1 2, 3 4, 5 6)
            }
            _ => {
                network!(r: 0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15, 0 2, 1 3, 4 6, 5 7, 8 10,
            9 11, 12 14, 13 15, 1 2, 5 6, 9 10, 13 14, 0 4, 1 5, 2 6, 3 7, 8 12, 9 13, 10 14,
            11 15, 2 4, 3 5, 10 12, 11 13, 1 2, 3 4, 5 6, 9 10, 11 12, 13 14, 0 8, 1 9, 2 10,
            3 11, 4 12, 5 13, 6 14, 7 15, 4 8, 5 9, 6 10, 7 11, 2 4, 3 5, 6 8, 7 9, 10 12, 11 13,
            1 2, 3 4, 5 6, 7 8, 9 10, 11 12, 13 14)
            }
        }
    }
}

/// Joins sorted runs of `X / 2 + 1` columns, two by two: their numbers ascend along columns, then
/// from column to column. `TOP` is the bit of the column that tells the two runs apart, `X` all bits
/// up to it.
#[inline(always)]
unsafe fn merge<W: Lanes, const R: usize, const TOP: usize, const X: usize>(r: &mut [__m512i; R]) {
    // SAFETY: the caller has the features.
    unsafe {
        // Each number with that of the mirrored place in the other run.
        if R == 1 {
            r[0] = W::lesser::<TOP>(r[0], W::turn::<X>(r[0]));
        }
        for i in 0..R / 2 {
            let (a, b) = (r[i], W::turn::<X>(r[R - 1 - i]));
            r[i] = W::lesser::<TOP>(a, b);
            r[R - 1 - i] = W::turn::<X>(W::greater::<TOP>(a, b));
        }
        // Both halves are bitonic; so are the halves of them that each step makes.
        for i in 0..R {
            if TOP > 4 {
                r[i] = W::lesser::<4>(r[i], W::turn::<4>(r[i]));
            }
            if TOP > 2 {
                r[i] = W::lesser::<2>(r[i], W::turn::<2>(r[i]));
            }
            if TOP > 1 {
                r[i] = W::lesser::<1>(r[i], W::turn::<1>(r[i]));
            }
        }
        match R {
            1 => {}
            2 => network!(r: 0 1),
            4 => network!(r: 0 2, 1 3, 0 1, 2 3),
            8 => network!(r: 0 4, 1 5, 2 6, 3 7, 0 2, 1 3, 4 6, 5 7, 0 1, 2 3, 4 5, 6 7),
            _ => network!(r: 0 8, 1 9, 2 10, 3 11, 4 12, 5 13, 6 14, 7 15, 0 4, 1 5, 2 6, 3 7,
                8 12, 9 13, 10 14, 11 15, 0 2, 1 3, 4 6, 5 7, 8 10, 9 11, 12 14, 13 15, 0 1, 2 3,
                4 5, 6 7, 8 9, 10 11, 12 13, 14 15),
        }
    }
}

/// Exchanges rows whose number differs in `BIT` so that its lanes take that bit.
macro_rules! zip {
    ($r:ident, $bit:literal) => {
        if R > $bit {
            for i in 0..R {
                if i & $bit == 0 {
                    let (a, b) = ($r[i], $r[i | $bit]);
                    ($r[i], $r[i | $bit]) = (W::zip_low(a, b), W::zip_high(a, b));
                }
            }
        }
    };
}

featured! {
    /// Sorts `n` numbers, of which `R` registers have room for.
    fn sort_rows<W: Lanes, const R: usize>(p: *mut W, n: usize) {
        // SAFETY: the caller has the features, and the slice that `p` begins is `n` long; no lane
        // past it is read or written.
        unsafe {
            let width = |i: usize| n.saturating_sub(i * W::LANES).min(W::LANES);
            let mut r = [_mm512_setzero_si512(); R];
            for i in 0..R {
                r[i] = W::load_first(p.wrapping_add(i * W::LANES), width(i));
            }
            sort_columns::<W, R>(&mut r);
            merge::<W, R, 1, 1>(&mut r);
            merge::<W, R, 2, 3>(&mut r);
            merge::<W, R, 4, 7>(&mut r);
            if W::LANES == 16 {
                merge::<W, R, 8, 15>(&mut r);
            }
            // Numbers are in order from column to column; from lane to lane they shall be.
            zip!(r, 8);
            zip!(r, 4);
            zip!(r, 2);
            zip!(r, 1);
            for i in 0..R {
                W::store_first(p.wrapping_add(i * W::LANES), r[i], width(i));
            }
        }
    }

    fn sort_small<W: Lanes>(p: *mut W, n: usize) {
        match n.div_ceil(W::LANES) {
            0 | 1 => sort_rows::<W, 1>(p, n),
            2 => sort_rows::<W, 2>(p, n),
            3 | 4 => sort_rows::<W, 4>(p, n),
            5..=8 => sort_rows::<W, 8>(p, n),
            _ => sort_rows::<W, 16>(p, n),
        }
    }

    /// The median of a sample.
    fn pivot<W: Lanes>(p: *const W, n: usize) -> W {
        let size = W::LANES * match n {
            0..1024 => 1,
            1024..8192 => 2,
            8192..65536 => 4,
            _ => ROWS,
        };
        let mut sample = [W::default(); 16 * ROWS];
        let step = (n / size).min(u32::MAX as usize);
        for (i, x) in sample[..size].iter_mut().enumerate() {
            // Not every `step`-th: data may have that period.
            let noise = (i as u32).wrapping_mul(0x9e37_79b9) as u64;
            let shift = ((noise * step as u64) >> 32) as usize;
            // SAFETY: below `size * step`, which is at most `n`.
            *x = unsafe { *p.add(i * step + shift) };
        }
        sort_small(sample.as_mut_ptr(), size);
        sample[size / 2]
    }

    /// Moves the numbers that are less than `pivot` (or equal, if `EQUAL`) before the others, and
    /// returns how many they are. There must be more than a matrix of numbers.
    fn partition<W: Lanes, const EQUAL: bool>(p: *mut W, n: usize, pivot: W) -> usize {
        let step = BATCH * W::LANES;
        debug_assert!(n >= 2 * step);
        // Both ends are set aside, so that the middle is a number of batches.
        let head = step + n % step;
        let mut aside = [const { std::mem::MaybeUninit::<W>::uninit() }; 16 * BATCH * 3];
        let aside = aside.as_mut_ptr().cast::<W>();
        // SAFETY: `head` and `step` numbers at the ends, which `n` has room for. What is read next lies
        // between `read_left` and `read_right`; the gaps beside them together are `head + step` long.
        // The smaller gap is read from, so that both are at least a batch long when one is written, and
        // within a batch each vector uses no more of them than it has lanes. A prefetch may have any
        // address.
        unsafe {
            std::ptr::copy_nonoverlapping(p, aside, head);
            std::ptr::copy_nonoverlapping(p.add(n - step), aside.add(head), step);
            let (mut left, mut right) = (p, p.add(n));
            let (mut read_left, mut read_right) = (p.add(head), p.add(n - step));
            let middle = W::splat(pivot);
            while read_left < read_right {
                let gap_left = read_left as usize - left as usize;
                let gap_right = right as usize - read_right as usize;
                // Without a branch, which nothing would predict.
                let from_left = gap_left <= gap_right;
                let from = if from_left { read_left } else { read_right.sub(step) };
                read_left = if from_left { read_left.add(step) } else { read_left };
                read_right = if from_left { read_right } else { from };
                let next = if from_left {
                    read_left.wrapping_add(AHEAD * step)
                } else {
                    from.wrapping_sub(AHEAD * step)
                };
                for i in 0..BATCH {
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(i * W::LANES).cast());
                }
                let mut v = [_mm512_setzero_si512(); BATCH];
                for i in 0..BATCH {
                    v[i] = W::load(from.add(i * W::LANES));
                }
                for i in 0..BATCH {
                    let before = W::before::<EQUAL>(v[i], middle);
                    let after = before ^ first(W::LANES);
                    let count = before.count_ones() as usize;
                    let others = W::LANES - count;
                    W::store(left, W::pack(before, v[i]));
                    left = left.add(count);
                    right = right.sub(others);
                    W::store_first(right, W::pack(after, v[i]), others);
                }
            }
            let kept = head + step;
            for i in (0..kept).step_by(W::LANES) {
                let n = (kept - i).min(W::LANES);
                let v = W::load_first(aside.add(i), n);
                let before = W::before::<EQUAL>(v, middle) & first(n);
                let after = before ^ first(n);
                let count = before.count_ones() as usize;
                W::store_first(left, W::pack(before, v), count);
                left = left.add(count);
                right = right.sub(n - count);
                W::store_first(right, W::pack(after, v), n - count);
            }
            left.offset_from(p) as usize
        }
    }

    /// Sorts numbers none of which is less than `floor`, and hands `done` each part once it is in order.
    fn quick<W: Lanes>(
        mut p: *mut W,
        mut n: usize,
        mut floor: W,
        mut depth: u32,
        done: &mut dyn FnMut(*mut W, usize),
    ) {
        while n > ROWS * W::LANES {
            if depth == 0 {
                // Samples that were no samples.
                // SAFETY: the rest of the slice.
                unsafe { std::slice::from_raw_parts_mut(p, n) }.sort_unstable();
                return done(p, n);
            }
            depth -= 1;
            let pivot = pivot(p, n);
            if pivot == floor {
                // What equals the least number is in place.
                let equal = partition::<W, true>(p, n, pivot);
                done(p, equal);
                (p, n) = (p.wrapping_add(equal), n - equal);
                continue;
            }
            let less = partition::<W, false>(p, n, pivot);
            quick(p, less, floor, depth, done);
            (p, n, floor) = (p.wrapping_add(less), n - less, pivot);
        }
        if n > 1 {
            sort_small(p, n);
        }
        if n > 0 {
            done(p, n);
        }
    }

    /// Sorts, and calls `done(start, part)` for each part once it is in order.
    pub(super) fn sort<W: Lanes>(words: &mut [W], done: &mut dyn FnMut(usize, &mut [W])) {
        let depth = 2 * (usize::BITS - words.len().leading_zeros());
        let (first, len) = (words.as_mut_ptr(), words.len());
        quick(first, len, W::LEAST, depth, &mut |p, n| {
            // SAFETY: a part of the slice, which nobody else has at this time.
            unsafe { done(p.offset_from(first) as usize, std::slice::from_raw_parts_mut(p, n)) }
        });
    }

    /// Writes words that are less than the bound from place `ends.0` of `room` on, others before place
    /// `ends.1`, and moves the places.
    ///
    /// # Safety
    /// There must be room for the words between the places.
    pub(super) unsafe fn halve<W: Lanes>(
        words: &[W],
        bound: W,
        room: *mut W,
        ends: &mut (usize, usize),
    ) {
        for words in words.chunks(W::LANES) {
            // SAFETY: the processor has the features; lanes of the chunk, and as many words at each
            // place as go there.
            unsafe {
                let v = W::load_first(words.as_ptr(), words.len());
                let before = W::before::<false>(v, W::splat(bound)) & first(words.len());
                let after = before ^ first(words.len());
                let count = before.count_ones() as usize;
                W::store_first(room.add(ends.0), W::pack(before, v), count);
                ends.0 += count;
                ends.1 -= words.len() - count;
                W::store_first(room.add(ends.1), W::pack(after, v), words.len() - count);
            }
        }
    }

    /// Adds to each bucket's count: words belong to the bucket after the last bound that is not greater.
    pub(super) fn count<W: Lanes>(words: &[W], bounds: &[W], counts: &mut [usize]) {
        let mut above = words.len();
        for (j, &bound) in bounds.iter().enumerate() {
            let mut less = 0;
            for words in words.chunks(W::LANES) {
                // SAFETY: the processor has the features; lanes of the chunk.
                let before = unsafe {
                    let v = W::load_first(words.as_ptr(), words.len());
                    W::before::<false>(v, W::splat(bound)) & first(words.len())
                };
                less += before.count_ones() as usize;
            }
            // So many are not less than the bound.
            let rest = words.len() - less;
            counts[j] += above - rest;
            above = rest;
        }
        counts[bounds.len()] += above;
    }

    /// Writes each word to its bucket's place in `room`, and moves the place on.
    ///
    /// # Safety
    /// Buckets must have room for their words.
    pub(super) unsafe fn deal<W: Lanes>(words: &[W], bounds: &[W], places: &mut [usize], room: *mut W) {
        for words in words.chunks(W::LANES) {
            // SAFETY: the processor has the features; lanes of the chunk, and as many words at each
            // place as go there.
            unsafe {
                let v = W::load_first(words.as_ptr(), words.len());
                let put = |mask: u32, place: &mut usize| {
                    let count = mask.count_ones() as usize;
                    W::store_first(room.add(*place), W::pack(mask, v), count);
                    *place += count;
                };
                let mut left = first(words.len());
                for (&bound, place) in bounds.iter().zip(places.iter_mut()) {
                    let before = W::before::<false>(v, W::splat(bound)) & left;
                    put(before, place);
                    left ^= before;
                }
                put(left, &mut places[bounds.len()]);
            }
        }
    }
}
