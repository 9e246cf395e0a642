//! Transforms of 16 columns at once, with AVX-512: each lane of a vector belongs to a sequence of its own,
//! so nothing is shuffled and twiddles are scalars.
//!
//! A length is a product of radices 8, 4 and 2, one pass each, in Stockham's order: a pass reads
//! rows `q + s (p + m j)` for `j` below its radix and writes rows `q + s (r p + j)`, and the last pass
//! leaves elements in their natural order. Passes between the first and the last go from one buffer to another,
//! which stay in the second cache; the first reads from wherever its [`Rows`] lie, the last writes there.

use std::arch::x86_64::*;
use std::f64::consts::TAU;

/// Columns of a group: lanes of a vector.
pub(super) const LANES: usize = 16;
/// Numbers of a row of a group in split form: real parts, then imaginary ones.
pub(super) const ROW: usize = 2 * LANES;

/// One element of each of 16 sequences.
#[derive(Clone, Copy)]
pub(super) struct Vector {
    pub(super) re: __m512,
    pub(super) im: __m512,
}

// All functions of `Vector` and all implementations of `Rows` are inlined into kernels whose level has
// AVX-512.
impl Vector {
    #[inline(always)]
    pub(super) fn add(self, b: Vector) -> Vector {
        // SAFETY: the level has AVX-512.
        unsafe { Vector { re: _mm512_add_ps(self.re, b.re), im: _mm512_add_ps(self.im, b.im) } }
    }

    #[inline(always)]
    pub(super) fn sub(self, b: Vector) -> Vector {
        // SAFETY: as above.
        unsafe { Vector { re: _mm512_sub_ps(self.re, b.re), im: _mm512_sub_ps(self.im, b.im) } }
    }

    /// `self - i b`.
    #[inline(always)]
    fn sub_i(self, b: Vector) -> Vector {
        // SAFETY: as above.
        unsafe { Vector { re: _mm512_add_ps(self.re, b.im), im: _mm512_sub_ps(self.im, b.re) } }
    }

    /// `self + i b`.
    #[inline(always)]
    fn add_i(self, b: Vector) -> Vector {
        // SAFETY: as above.
        unsafe { Vector { re: _mm512_sub_ps(self.re, b.im), im: _mm512_add_ps(self.im, b.re) } }
    }

    #[inline(always)]
    pub(super) fn times(self, w: Vector) -> Vector {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (_mm512_mul_ps(self.im, w.im), _mm512_mul_ps(self.im, w.re));
            Vector {
                re: _mm512_fmsub_ps(self.re, w.re, re),
                im: _mm512_fmadd_ps(self.re, w.im, im),
            }
        }
    }

    /// Both parts times `x`.
    #[inline(always)]
    pub(super) fn scaled(self, x: __m512) -> Vector {
        // SAFETY: as above.
        unsafe { Vector { re: _mm512_mul_ps(self.re, x), im: _mm512_mul_ps(self.im, x) } }
    }

    /// Times a number.
    #[inline(always)]
    fn turned(self, [re, im]: [f32; 2]) -> Vector {
        // SAFETY: as above.
        unsafe { self.times(Vector { re: _mm512_set1_ps(re), im: _mm512_set1_ps(im) }) }
    }
}

/// Rows of 16 columns somewhere in memory.
pub(super) trait Rows: Copy {
    /// # Safety
    /// The row must be readable, and the level have AVX-512.
    unsafe fn load(&self, row: usize) -> Vector;

    /// # Safety
    /// The row must be writable, and the level have AVX-512.
    unsafe fn store(&self, row: usize, x: Vector);

    /// Asks the memory for a row.
    fn ask(&self, row: usize);
}

/// Bytes between rows from which on the processor does not see which comes next.
const FAR: usize = 1 << 10;
/// By how many rows reading is ahead then.
const AHEAD: usize = 2;

/// Asks the memory for a row, if it would not come by itself.
#[inline(always)]
fn ask(at: *const f32, step: usize, row: usize) {
    if step >= FAR / 4 {
        // SAFETY: a prefetch may have any address.
        unsafe {
            let at = at.wrapping_add(row * step);
            _mm_prefetch::<_MM_HINT_T1>(at.cast());
            _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(LANES).cast());
        }
    }
}

/// Real parts of a row, then its imaginary ones; `step` numbers between rows.
#[derive(Clone, Copy)]
pub(super) struct Split {
    pub(super) at: *mut f32,
    pub(super) step: usize,
}

impl Rows for Split {
    #[inline(always)]
    unsafe fn load(&self, row: usize) -> Vector {
        // SAFETY: the caller's contract.
        unsafe {
            let at = self.at.add(row * self.step);
            Vector { re: _mm512_loadu_ps(at), im: _mm512_loadu_ps(at.add(LANES)) }
        }
    }

    #[inline(always)]
    unsafe fn store(&self, row: usize, x: Vector) {
        // SAFETY: the caller's contract.
        unsafe {
            let at = self.at.add(row * self.step);
            _mm512_storeu_ps(at, x.re);
            _mm512_storeu_ps(at.add(LANES), x.im);
        }
    }

    #[inline(always)]
    fn ask(&self, row: usize) {
        ask(self.at, self.step, row);
    }
}

/// Complex numbers as users have them, `step` numbers between rows. With `swap` real and imaginary parts
/// change places on their way, which turns a transform into its inverse; what is written is scaled.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pub(super) at: *mut f32,
    pub(super) step: usize,
    pub(super) swap: bool,
    pub(super) scale: f32,
}

// SAFETY: an address; tasks that share one read, or write rows of their own.
unsafe impl Sync for Pairs {}

impl Rows for Pairs {
    #[inline(always)]
    unsafe fn load(&self, row: usize) -> Vector {
        // SAFETY: the caller's contract.
        unsafe { unzip(self.at.add(row * self.step), self.swap) }
    }

    #[inline(always)]
    unsafe fn store(&self, row: usize, x: Vector) {
        // SAFETY: the caller's contract.
        unsafe {
            zip(x.scaled(_mm512_set1_ps(self.scale)), self.at.add(row * self.step), self.swap);
        }
    }

    #[inline(always)]
    fn ask(&self, row: usize) {
        ask(self.at, self.step, row);
    }
}

/// 16 pairs at `at`, apart.
///
/// # Safety
/// They must be readable, and the level have AVX-512.
#[inline(always)]
pub(super) unsafe fn unzip(at: *const f32, swap: bool) -> Vector {
    // SAFETY: the caller's contract.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
        let (low, high) = (_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(LANES)));
        let first = _mm512_permutex2var_ps(low, even, high);
        let second = _mm512_permutex2var_ps(low, odd, high);
        let (re, im) = if swap { (second, first) } else { (first, second) };
        Vector { re, im }
    }
}

/// Writes 16 pairs.
///
/// # Safety
/// They must be writable, and the level have AVX-512.
#[inline(always)]
pub(super) unsafe fn zip(x: Vector, at: *mut f32, swap: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        let (re, im) = if swap { (x.im, x.re) } else { (x.re, x.im) };
        _mm512_storeu_ps(at, _mm512_permutex2var_ps(re, low, im));
        _mm512_storeu_ps(at.add(LANES), _mm512_permutex2var_ps(re, high, im));
    }
}

/// `exp(-2πi k / n)`, rounded once.
pub(super) fn root(k: usize, n: usize) -> [f32; 2] {
    let angle = TAU * (k % n) as f64 / n as f64;
    [angle.cos() as f32, -angle.sin() as f32]
}

/// The transform of a length.
pub(super) struct Columns {
    pub(super) len: usize,
    passes: Vec<Pass>,
}

/// A pass: `s` is the product of the radices before it, `m` of those after.
struct Pass {
    radix: usize,
    s: usize,
    m: usize,
    /// For `p` from 1 on, `exp(-2πi p j / (m r))` of `j` from 1 on.
    turns: Vec<[f32; 2]>,
}

impl Columns {
    /// For a power of two of at least 16.
    pub(super) fn new(len: usize) -> Columns {
        debug_assert!(len.is_power_of_two() && len >= 16);
        let mut left = len.trailing_zeros();
        let (mut passes, mut s) = (Vec::new(), 1);
        while left > 0 {
            let bits = match left {
                1..=3 => left,
                4 => 2,
                _ => 3,
            };
            left -= bits;
            let (radix, m) = (1usize << bits, 1usize << left);
            let turns = (1..m).flat_map(|p| (1..radix).map(move |j| root(p * j, m * radix)));
            passes.push(Pass { radix, s, m, turns: turns.collect() });
            s *= radix;
        }
        Columns { len, passes }
    }

    /// Numbers of the buffer that [`Columns::run`] wants.
    pub(super) fn room(&self) -> usize {
        2 * self.len * ROW
    }

    /// Transforms 16 columns from `from` to `to`.
    ///
    /// # Safety
    /// Rows must be readable and writable, `buffer` hold [`Columns::room`] numbers, and the level
    /// have AVX-512. `to` may lie where `from` does.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn run<S: Rows, D: Rows>(&self, from: S, to: D, buffer: *mut f32) {
        let half = |i: usize| Split { at: buffer.wrapping_add(i % 2 * self.len * ROW), step: ROW };
        let last = self.passes.len() - 1;
        // SAFETY: the caller's contract; each pass reads what the one before has written.
        unsafe {
            self.passes[0].run(from, half(0));
            for i in 1..last {
                self.passes[i].run(half(i - 1), half(i));
            }
            self.passes[last].run(half(last - 1), to);
        }
    }
}

impl Pass {
    /// # Safety
    /// As for [`Columns::run`], with `from` and `to` apart.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn run<S: Rows, D: Rows>(&self, from: S, to: D) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.radix {
                8 => self.radix8(from, to),
                4 => self.radix4(from, to),
                _ => self.radix2(from, to),
            }
        }
    }

    /// # Safety
    /// As for [`Pass::run`].
    #[inline(always)]
    unsafe fn radix2<S: Rows, D: Rows>(&self, from: S, to: D) {
        let (s, m) = (self.s, self.m);
        for p in 0..m {
            for q in 0..s {
                // SAFETY: rows of the transform.
                unsafe {
                    let at = |j: usize| from.load(q + s * (p + m * j));
                    let (a, b) = (at(0), at(1));
                    let to = |j: usize, x| to.store(q + s * (2 * p + j), x);
                    to(0, a.add(b));
                    let y = a.sub(b);
                    to(1, if p == 0 { y } else { y.turned(self.turns[p - 1]) });
                }
            }
        }
    }

    /// # Safety
    /// As for [`Pass::run`].
    #[inline(always)]
    unsafe fn radix4<S: Rows, D: Rows>(&self, from: S, to: D) {
        let (s, m) = (self.s, self.m);
        for p in 0..m {
            let w = self.turns.as_ptr().wrapping_add(p.wrapping_sub(1).wrapping_mul(3));
            for q in 0..s {
                // SAFETY: rows of the transform, and turns of a `p` that is not 0.
                unsafe {
                    let at = |j: usize| from.load(q + s * (p + m * j));
                    let [a, b, c, d] = four([at(0), at(1), at(2), at(3)]);
                    let to = |j: usize, x| to.store(q + s * (4 * p + j), x);
                    to(0, a);
                    if p == 0 {
                        to(1, b);
                        to(2, c);
                        to(3, d);
                    } else {
                        to(1, b.turned(*w));
                        to(2, c.turned(*w.add(1)));
                        to(3, d.turned(*w.add(2)));
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for [`Pass::run`].
    #[inline(always)]
    unsafe fn radix8<S: Rows, D: Rows>(&self, from: S, to: D) {
        let (s, m) = (self.s, self.m);
        for p in 0..m {
            let w = self.turns.as_ptr().wrapping_add(p.wrapping_sub(1).wrapping_mul(7));
            for q in 0..s {
                // SAFETY: rows of the transform, and turns of a `p` that is not 0.
                unsafe {
                    let at = |j: usize| from.load(q + s * (p + m * j));
                    if s == 1 {
                        for j in 0..8 {
                            from.ask(p + AHEAD + m * j);
                        }
                    }
                    let [e0, e1, e2, e3] = four([at(0), at(2), at(4), at(6)]);
                    let [o0, o1, o2, o3] = four([at(1), at(3), at(5), at(7)]);
                    let root = _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2);
                    // Times (1 - i)/√2, and times (-1 - i)/√2.
                    let o1 = o1.sub_i(o1).scaled(root);
                    let o3 = o3.add_i(o3).scaled(root);
                    let to = |j: usize, x| to.store(q + s * (8 * p + j), x);
                    if p == 0 {
                        to(0, e0.add(o0));
                        to(4, e0.sub(o0));
                        to(1, e1.add(o1));
                        to(5, e1.sub(o1));
                        to(2, e2.sub_i(o2));
                        to(6, e2.add_i(o2));
                        to(3, e3.sub(o3));
                        to(7, e3.add(o3));
                    } else {
                        let w = |j: usize| *w.add(j - 1);
                        to(0, e0.add(o0));
                        to(4, e0.sub(o0).turned(w(4)));
                        to(1, e1.add(o1).turned(w(1)));
                        to(5, e1.sub(o1).turned(w(5)));
                        to(2, e2.sub_i(o2).turned(w(2)));
                        to(6, e2.add_i(o2).turned(w(6)));
                        to(3, e3.sub(o3).turned(w(3)));
                        to(7, e3.add(o3).turned(w(7)));
                    }
                }
            }
        }
    }
}

/// The transform of four.
#[inline(always)]
fn four([a, b, c, d]: [Vector; 4]) -> [Vector; 4] {
    let (ac, ca, bd, db) = (a.add(c), a.sub(c), b.add(d), b.sub(d));
    [ac.add(bd), ca.sub_i(db), ac.sub(bd), ca.add_i(db)]
}
