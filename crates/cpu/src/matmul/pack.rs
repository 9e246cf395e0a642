//! Operands in memory as panels for the micro-kernels, whatever their strides and dtype.

#[cfg(target_arch = "x86_64")]
use super::driver::Fused;
use super::driver::{Pack, with_scratch};
#[cfg(target_arch = "x86_64")]
use super::turn;
use crate::convert::load_f32;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use crate::strided::{Collapsed, offset_of};
use half::{bf16, f16};
use lazul_ir::DType;
use smallvec::SmallVec;
use std::ops::Range;

/// A batch of matrices in memory: lanes by `k`, strides in elements of `dtype`.
#[derive(Clone)]
pub(crate) struct Dense {
    pub(crate) ptr: *const u8,
    pub(crate) dtype: DType,
    pub(crate) batch_shape: SmallVec<[usize; 4]>,
    pub(crate) batch_strides: SmallVec<[isize; 4]>,
    /// Distance between lanes: rows of `a`, columns of `b`.
    pub(crate) lane: isize,
    /// Distance between neighbours along `k`.
    pub(crate) k: isize,
}

// SAFETY: an operand's memory has no writer while its job runs.
unsafe impl Sync for Dense {}

impl Dense {
    /// Operand `which` of a collapsed batch.
    pub(crate) fn new(
        ptr: *const u8,
        dtype: DType,
        batch: &Collapsed,
        which: usize,
        lane: isize,
        k: isize,
    ) -> Dense {
        Dense {
            ptr,
            dtype,
            batch_shape: batch.shape.clone(),
            batch_strides: batch.strides[which].clone(),
            lane,
            k,
        }
    }

    /// Address of an element.
    pub(crate) fn at(&self, batch: usize, lane: usize, k: usize) -> *const u8 {
        let offset = offset_of(batch, &self.batch_shape, &self.batch_strides)
            + lane as isize * self.lane
            + k as isize * self.k;
        self.ptr.wrapping_offset(offset * self.dtype.size() as isize)
    }

    /// Whether rows run along `k`.
    fn along_k(&self) -> bool {
        self.k.unsigned_abs() < self.lane.unsigned_abs()
    }

    /// A block of lanes that run along `k`.
    #[cfg(target_arch = "x86_64")]
    fn block(&self, batch: usize, lanes: Range<usize>, ks: Range<usize>) -> turn::Block {
        turn::Block {
            src: self.at(batch, lanes.start, ks.start),
            dtype: self.dtype,
            stride: self.lane * self.dtype.size() as isize,
            lanes: lanes.len(),
            k: ks.len(),
        }
    }

    /// Packs elements of type `S` through `convert`.
    ///
    /// # Safety
    /// The block must lie inside the operand, whose dtype must be that of `S`.
    #[inline(always)]
    unsafe fn convert<S: Copy, T: Copy + Default>(
        &self,
        (batch, lanes, ks, width): (usize, Range<usize>, Range<usize>, usize),
        dst: &mut [T],
        convert: impl Fn(S) -> T,
    ) {
        if ks.is_empty() {
            return;
        }
        let src = self.at(batch, lanes.start, ks.start).cast::<S>();
        let (lane, k) = (self.lane, self.k);
        for (p, panel) in dst.chunks_exact_mut(width * ks.len()).enumerate() {
            let first = p * width;
            let filled = width.min(lanes.len() - first);
            let src = src.wrapping_offset(first as isize * lane);
            if filled < width {
                panel.fill(T::default());
            }
            // SAFETY: indices stay inside the block, which the caller vouches for.
            unsafe {
                if lane == 1 {
                    for (p, row) in panel.chunks_exact_mut(width).enumerate() {
                        let src = src.wrapping_offset(p as isize * k);
                        for (j, d) in row[..filled].iter_mut().enumerate() {
                            *d = convert(*src.add(j));
                        }
                    }
                } else {
                    for j in 0..filled {
                        let src = src.wrapping_offset(j as isize * lane);
                        for p in 0..ks.len() {
                            panel[p * width + j] = convert(*src.wrapping_offset(p as isize * k));
                        }
                    }
                }
            }
        }
    }
}

/// Packs by [`Dense::convert`], from each dtype that is computed in `$t`.
macro_rules! convert_from {
    ($self:ident, $t:ty, $block:expr, $dst:expr, $($dtype:ident: $s:ty => $convert:expr),+ $(,)?) => {
        match $self.dtype {
            // SAFETY: the driver asks for blocks inside the operand.
            $(DType::$dtype => unsafe { $self.convert::<$s, $t>($block, $dst, $convert) },)+
            other => unreachable!("{other} is not computed in {}", stringify!($t)),
        }
    };
}

macro_rules! pack_for {
    ($t:ty, $($from:tt)+) => {
        impl Pack<$t> for Dense {
            fn pack(
                &self,
                batch: usize,
                lanes: Range<usize>,
                ks: Range<usize>,
                width: usize,
                dst: &mut [$t],
            ) {
                convert_from!(self, $t, (batch, lanes, ks, width), dst, $($from)+)
            }

            fn runs_along_k(&self) -> bool {
                self.along_k()
            }
        }
    };
}

pack_for!(f64, F64: f64 => |x| x);
pack_for!(
    i32,
    Bool: u8 => |x| x as i32,
    U8: u8 => |x| x as i32,
    U16: u16 => |x| x as i32,
    U32: u32 => |x| x as i32,
    I8: i8 => |x| x as i32,
    I16: i16 => |x| x as i32,
    I32: i32 => |x| x,
);
pack_for!(i64, U64: u64 => |x| x as i64, I64: i64 => |x| x);

impl Pack<f32> for Dense {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Avx512 && self.k == 1 {
            // SAFETY: the block lies inside the operand; the level has AVX-512.
            return unsafe { turn::pack(&self.block(batch, lanes, ks), width, dst) };
        }
        if self.lane == 1 {
            // Whole rows, converted once, then dealt to the panels.
            let filled = lanes.len();
            return with_scratch::<f32, _>(filled.next_multiple_of(width), |line| {
                line[filled..].fill(0.0);
                for (p, k) in ks.clone().enumerate() {
                    let src = self.at(batch, lanes.start, k);
                    // SAFETY: the block lies inside the operand, and `lane` says it is contiguous.
                    unsafe { load_f32(src, self.dtype, &mut line[..filled]) };
                    for (j, part) in line.chunks_exact(width).enumerate() {
                        dst[(j * ks.len() + p) * width..][..width].copy_from_slice(part);
                    }
                }
            });
        }
        if self.k == 1 {
            return pack_lines(lanes.len(), ks.len(), width, dst, |lane, line| {
                let src = self.at(batch, lanes.start + lane, ks.start);
                // SAFETY: the block lies inside the operand, and `k` says it is contiguous.
                unsafe { load_f32(src, self.dtype, line) };
            });
        }
        convert_from!(
            self, f32, (batch, lanes, ks, width), dst,
            F32: f32 => |x| x,
            F16: f16 => |x| x.to_f32(),
            BF16: bf16 => |x| x.to_f32(),
        )
    }

    fn runs_along_k(&self) -> bool {
        self.along_k()
    }

    #[cfg(target_arch = "x86_64")]
    fn fused(&self, rows: usize) -> Fused {
        match (self.k, self.lane) {
            _ if isa() != Isa::Avx512 || rows > 12 => Fused::No,
            (1, _) => Fused::Panel,
            (_, 1) => Fused::Strip,
            _ => Fused::No,
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn multiply(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        rows: usize,
        a: *const f32,
        c: *mut f32,
        ldc: usize,
        add: bool,
    ) {
        let mut block = self.block(batch, lanes, ks);
        // SAFETY: the block lies inside the operand; the level has AVX-512, or else `fused` says no;
        // the rest is the caller's contract.
        unsafe {
            if self.k == 1 {
                turn::multiply(&block, width, rows, a, c, ldc, add);
            } else {
                block.stride = self.k * self.dtype.size() as isize;
                turn::multiply_columns(&block, rows, a, c, ldc, add);
            }
        }
    }
}

/// Packs lanes that come as lines along `k`: `fill(lane, line)` writes one.
pub(crate) fn pack_lines(
    lanes: usize,
    k: usize,
    width: usize,
    dst: &mut [f32],
    fill: impl Fn(usize, &mut [f32]),
) {
    if k == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    let vectors = isa() >= Isa::Avx2;
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = false;
    with_scratch::<f32, _>(8 * k, |lines| {
        for first in (0..lanes.next_multiple_of(width)).step_by(width) {
            let panel = &mut dst[first * k..][..width * k];
            for column in (0..width).step_by(8) {
                let count = (width - column).min(8);
                for (i, line) in lines.chunks_exact_mut(k).take(count).enumerate() {
                    let lane = first + column + i;
                    if lane < lanes { fill(lane, line) } else { line.fill(0.0) }
                }
                let done = if vectors && count == 8 { k / 8 * 8 } else { 0 };
                #[cfg(target_arch = "x86_64")]
                if done > 0 {
                    // SAFETY: the level has AVX2.
                    unsafe { transpose_8(lines, k, done, width, &mut panel[column..]) };
                }
                for p in done..k {
                    for i in 0..count {
                        panel[p * width + column + i] = lines[i * k + p];
                    }
                }
            }
        }
    });
}

/// Writes column `p` of 8 lines of length `k` to row `p` of `dst`, for `p < count`, a multiple of 8.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_8(lines: &[f32], k: usize, count: usize, width: usize, dst: &mut [f32]) {
    use std::arch::x86_64::*;
    assert!(lines.len() >= 8 * k && count <= k && count.is_multiple_of(8));
    assert!(count == 0 || dst.len() >= (count - 1) * width + 8);
    for p in (0..count).step_by(8) {
        let mut r = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            // SAFETY: `p + 8 <= k` elements of line `i`.
            r[i] = unsafe { _mm256_loadu_ps(lines.as_ptr().add(i * k + p)) };
        }
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            r[4 * i] = _mm256_shuffle_ps::<0x44>(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm256_shuffle_ps::<0xee>(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm256_shuffle_ps::<0x44>(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm256_shuffle_ps::<0xee>(t[4 * i + 1], t[4 * i + 3]);
        }
        for i in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(r[i], r[4 + i]);
            let high = _mm256_permute2f128_ps::<0x31>(r[i], r[4 + i]);
            // SAFETY: rows `p + i` and `p + 4 + i` of `dst` have 8 elements.
            unsafe {
                _mm256_storeu_ps(dst.as_mut_ptr().add((p + i) * width), low);
                _mm256_storeu_ps(dst.as_mut_ptr().add((p + 4 + i) * width), high);
            }
        }
    }
}

/// Which operand of a complex product a [`Complex`] is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    /// Rows.
    Left,
    /// Columns.
    Right,
}

/// A complex operand as real panels: `c = a · b` is one real product of twice the rows and twice
/// the `k`,
///
/// ```text
/// | re c |   | re a  -im a |   | re b |
/// | im c | = | im a   re a | · | im b |
/// ```
///
/// with real and imaginary lines alternating.
pub(crate) struct Complex {
    pub(crate) dense: Dense,
    pub(crate) side: Side,
}

impl Pack<f32> for Complex {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [f32],
    ) {
        let filled = lanes.len();
        for first in (0..filled.next_multiple_of(width)).step_by(width) {
            let panel = &mut dst[first * ks.len()..][..width * ks.len()];
            for j in 0..width {
                if first + j >= filled {
                    panel.chunks_exact_mut(width).for_each(|row| row[j] = 0.0);
                    continue;
                }
                let lane = lanes.start + first + j;
                let (lane, imaginary) = match self.side {
                    Side::Left => (lane / 2, lane % 2 == 1),
                    Side::Right => (lane, false),
                };
                let line = self.dense.at(batch, lane, 0);
                let step = self.dense.k * self.dense.dtype.size() as isize;
                for (p, row) in panel.chunks_exact_mut(width).enumerate() {
                    let k = ks.start + p;
                    let part = line.wrapping_offset((k / 2) as isize * step).cast::<f32>();
                    // SAFETY: the driver asks for lines inside the operand, whose elements are pairs.
                    let (re, im) = unsafe { (*part, *part.add(1)) };
                    row[j] = match (self.side, imaginary, k % 2) {
                        (Side::Left, false, 0) | (Side::Left, true, 1) | (Side::Right, _, 0) => re,
                        (Side::Left, false, _) => -im,
                        _ => im,
                    };
                }
            }
        }
    }

    fn runs_along_k(&self) -> bool {
        self.dense.k.unsigned_abs() < self.dense.lane.unsigned_abs()
    }
}
