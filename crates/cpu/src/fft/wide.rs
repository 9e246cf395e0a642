//! Transforms of lines whose length is a power of two, with AVX-512.
//!
//! A line of `n = a · b` points is a matrix of `a` rows and `b` columns. Its columns are transformed, 16 at
//! once ([`super::columns`]), multiplied by roots of unity and turned, 16 × 16 at a time, into a matrix of `b`
//! rows and `a` columns; the transforms of those columns are the result in its natural order. So memory is
//! crossed twice whatever the length, and each half is a loop over groups of columns that threads
//! can share. An inverse transform has real and imaginary parts exchanged on the way in and out, and
//! a real line is one of half as many complex points, whose spectrum is taken apart afterwards.

use super::columns::{Columns, LANES, Pairs, ROW, Rows, Split, Vector, root, unzip, zip};
use crate::matmul::turn::deal;
use std::arch::x86_64::*;

/// Lengths that these transforms are for.
pub(super) const LEAST: usize = 256;
pub(super) const MOST: usize = 1 << 22;
/// Points up to which every root has its place in a table.
const TABLE: usize = 1 << 14;

/// The transform of a length.
pub(super) struct Wide {
    pub(super) n: usize,
    /// Of `a` rows, then of `b`.
    first: Columns,
    second: Columns,
    /// `exp(-2πi k j / n)` for column `k` of the second matrix and lane `j` of a group of the first: for
    /// every group, or for group 0.
    near: Vec<f32>,
    /// `exp(-2πi k / (n / 16))`, if `near` has group 0 alone.
    far: Vec<[f32; 2]>,
}

impl Wide {
    /// For a power of two of [`LEAST`] to [`MOST`] points.
    pub(super) fn new(n: usize) -> Wide {
        debug_assert!(n.is_power_of_two() && (LEAST..=MOST).contains(&n));
        let b = 1 << n.trailing_zeros().div_ceil(2);
        let a = n / b;
        let groups = if n <= TABLE { b / LANES } else { 1 };
        let mut near = Vec::with_capacity(groups * a * ROW);
        for group in 0..groups {
            for k in 0..a {
                let roots = || (0..LANES).map(|j| root(k * (group * LANES + j), n));
                near.extend(roots().map(|w| w[0]));
                near.extend(roots().map(|w| w[1]));
            }
        }
        let far = if groups > 1 || b == LANES {
            Vec::new()
        } else {
            (0..n / LANES).map(|k| root(k, n / LANES)).collect()
        };
        Wide { n, first: Columns::new(a), second: Columns::new(b), near, far }
    }

    /// Numbers that a line needs between its halves.
    pub(super) fn between(&self) -> usize {
        2 * self.n
    }

    /// Numbers of the buffer of a task.
    pub(super) fn room(&self) -> usize {
        // Rows of the first half's end, too.
        self.first.room().max(self.second.room()) + self.first.len * ROW
    }

    /// Groups of columns of the first half, and of the second.
    pub(super) fn groups(&self) -> (usize, usize) {
        (self.second.len / LANES, self.first.len / LANES)
    }

    /// The first half of groups of columns, from `line`, whose step is not looked at.
    ///
    /// # Safety
    /// The line must be readable, `between` and `buffer` hold what is asked for, and the level have AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn first(
        &self,
        group: usize,
        line: &Pairs,
        between: *mut f32,
        buffer: *mut f32,
    ) {
        let (a, b) = (self.first.len, self.second.len);
        // SAFETY: columns of the line, rows of the buffer, blocks of the matrix between.
        unsafe {
            let from = Pairs { at: line.at.add(group * ROW), step: 2 * b, ..*line };
            let own = Split { at: buffer.add(self.first.room()), step: ROW };
            self.first.run(from, own, buffer);
            for k in (0..a).step_by(LANES) {
                let mut re = [_mm512_setzero_si512(); 16];
                let mut im = [_mm512_setzero_si512(); 16];
                for i in 0..LANES {
                    let x = own.load(k + i);
                    let y = if self.far.is_empty() {
                        let near = self.near.as_ptr().add((group * a + k + i) * ROW).cast_mut();
                        x.times(Split { at: near, step: 0 }.load(0))
                    } else {
                        let near = self.near.as_ptr().add((k + i) * ROW).cast_mut();
                        let [c, s] = *self.far.get_unchecked((k + i) * group);
                        let far = Vector { re: _mm512_set1_ps(c), im: _mm512_set1_ps(s) };
                        x.times(Split { at: near, step: 0 }.load(0).times(far))
                    };
                    re[i] = _mm512_castps_si512(y.re);
                    im[i] = _mm512_castps_si512(y.im);
                }
                let to = between.add(group * LANES * 2 * a + 2 * k);
                deal(re, to.cast(), 2 * a / LANES);
                deal(im, to.add(LANES).cast(), 2 * a / LANES);
            }
        }
    }

    /// The second half of a group of columns, to `line`.
    ///
    /// # Safety
    /// As for [`Wide::first`], and the line must be writable.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn second(
        &self,
        group: usize,
        between: *mut f32,
        line: &Pairs,
        buffer: *mut f32,
    ) {
        let a = self.first.len;
        // SAFETY: columns of the matrix between and of the line.
        unsafe {
            let from = Split { at: between.add(group * ROW), step: 2 * a };
            let to = Pairs { at: line.at.add(group * ROW), step: 2 * a, ..*line };
            self.second.run(from, to, buffer);
        }
    }
}

/// What turns the spectrum of neighbours taken for complex numbers into that of a real line, and back.
pub(super) struct Real {
    /// The transform of half as many complex points.
    pub(super) half: Wide,
    /// `exp(-2πi k / n)` of `k` from 1 on, groups of 16 in split form.
    roots: Vec<f32>,
}

impl Real {
    /// For lines of `2 * points` numbers.
    pub(super) fn new(points: usize) -> Real {
        let mut roots = Vec::with_capacity(points);
        for k in (1..points / 2).step_by(LANES) {
            roots.extend((0..LANES).map(|j| root(k + j, 2 * points)[0]));
            roots.extend((0..LANES).map(|j| root(k + j, 2 * points)[1]));
        }
        Real { half: Wide::new(points), roots }
    }

    /// Makes of the transform of the pairs of a line, in its place, the line's first `n / 2 + 1` numbers.
    ///
    /// # Safety
    /// `line` must hold so many complex numbers, and the level have AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn take_apart(&self, line: *mut f32) {
        let m = self.half.n;
        let half = _mm512_set1_ps(0.5);
        // SAFETY: pairs `k`, `m - k` of the line, of which each group has its own.
        unsafe {
            let (re, im) = (*line, *line.add(1));
            self.each(|k, w| {
                let (a, b) = (line.add(2 * k), line.add(2 * (m - k - (LANES - 1))));
                let (x, y) = (unzip(a, false), conjugate(reverse(unzip(b, false))));
                let (even, odd) = (x.add(y).scaled(half), x.sub(y).scaled(half));
                // Over i.
                let odd = Vector { re: odd.im, im: _mm512_sub_ps(_mm512_setzero_ps(), odd.re) };
                let odd = odd.times(w);
                zip(even.add(odd), a, false);
                zip(reverse(conjugate(even.sub(odd))), b, false);
            });
            line.write(re + im);
            line.add(1).write(0.0);
            line.add(2 * m).write(re - im);
            line.add(2 * m + 1).write(0.0);
        }
    }

    /// The inverse of [`Real::take_apart`] but for a factor of two; imaginary parts that cannot be do not count.
    ///
    /// # Safety
    /// `from` must hold `n / 2 + 1` complex numbers, `to` has room for `n / 2`, and the level have AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn put_together(&self, from: *const f32, to: *mut f32) {
        let m = self.half.n;
        // SAFETY: as in `take_apart`.
        unsafe {
            self.each(|k, w| {
                let (a, b) = (2 * k, 2 * (m - k - (LANES - 1)));
                let x = unzip(from.add(a), false);
                let y = conjugate(reverse(unzip(from.add(b), false)));
                let odd = x.sub(y).times(conjugate(w));
                // Times i.
                let odd = Vector { re: _mm512_sub_ps(_mm512_setzero_ps(), odd.im), im: odd.re };
                let even = x.add(y);
                zip(even.add(odd), to.add(a), false);
                zip(reverse(conjugate(even.sub(odd))), to.add(b), false);
            });
            let (first, last) = (*from, *from.add(2 * m));
            to.write(first + last);
            to.add(1).write(first - last);
        }
    }

    /// Calls `f(k, exp(-2πi k / n))` for groups of 16 neighbours from `k = 1` to half of the points.
    #[inline(always)]
    unsafe fn each(&self, mut f: impl FnMut(usize, Vector)) {
        for (i, w) in self.roots.chunks_exact(ROW).enumerate() {
            // SAFETY: the level has AVX-512; a row is one group.
            unsafe { f(1 + i * LANES, Split { at: w.as_ptr().cast_mut(), step: 0 }.load(0)) };
        }
    }
}

/// Lanes in the opposite order.
#[inline(always)]
fn reverse(x: Vector) -> Vector {
    // SAFETY: callers' level has AVX-512.
    unsafe {
        let order = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        Vector { re: _mm512_permutexvar_ps(order, x.re), im: _mm512_permutexvar_ps(order, x.im) }
    }
}

#[inline(always)]
fn conjugate(x: Vector) -> Vector {
    // SAFETY: as above.
    unsafe { Vector { re: x.re, im: _mm512_sub_ps(_mm512_setzero_ps(), x.im) } }
}
