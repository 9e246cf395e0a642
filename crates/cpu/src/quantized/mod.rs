//! Affine quantized matrices: quantize, dequantize, and products that never unpack a matrix as a
//! whole.
//!
//! A row of codes is one little-endian stream of bits cut into u32 words; 32 codes take exactly
//! `bits` words, so streams are read in chunks of 32 codes ([`codes`]). [`matmul`] is the product of
//! [`crate::matmul`] with a right operand that is dequantized while it is packed ([`pack`]): a weight
//! is `scale * code + bias` in f32, whatever the dtypes.

mod codes;
#[cfg(target_arch = "x86_64")]
mod decode;
mod pack;
#[cfg(test)]
mod tests;

use crate::matmul::driver::{Pack, Product, Shared};
use crate::matmul::pack::Dense;
use crate::matmul::{Output, Rows};
use crate::strided::offset_of;
use crate::{convert, pool};
use lazul_ir::{Job, Operand, Quantization};
use pack::Weights;

/// Codes that a task of [`quantize`] or [`dequantize`] handles, at least.
const GRAIN: usize = 1 << 13;

/// `w (…, k)` → `codes (…, k*bits/32), scales (…, k/group), biases`.
pub(crate) fn quantize(q: Quantization, job: &Job<'_>) {
    let w = &job.inputs[0];
    let [codes, scales, biases] = &job.outputs[..3] else { unreachable!("three outputs") };
    let rank = w.shape.len();
    let (k, group) = (w.shape[rank - 1], q.group_size as usize);
    if k == 0 || w.size() == 0 {
        return;
    }
    let (rows, groups) = (w.size() / k, k / group);
    let words = k * q.bits as usize / 32;
    let (lead, step) = (&w.strides[..rank - 1], w.strides[rank - 1]);
    let size = w.dtype.size();
    let out = (Shared(codes.ptr.cast::<u32>()), Shared(scales.ptr), Shared(biases.ptr));
    pool::parallel_ranges(rows, GRAIN / k, |start, end| {
        let out = &out;
        let (mut x, mut bits) = ([0f32; 128], [0u8; 128]);
        let x = &mut x[..group];
        for row in start..end {
            let base = offset_of(row, &w.shape[..rank - 1], lead);
            for g in 0..groups {
                let first = base + (g * group) as isize * step;
                // SAFETY: elements of this row; outputs are row-major and each group has its place.
                unsafe {
                    let src = w.ptr.offset(first * size as isize);
                    if step == 1 {
                        convert::load_f32(src, w.dtype, x);
                    } else {
                        for (i, v) in x.iter_mut().enumerate() {
                            let src = src.offset(i as isize * step * size as isize);
                            *v = convert::load_f32_one(src, w.dtype);
                        }
                    }
                    let (scale, bias) = codes::quantize_group(q.bits, x, &mut bits[..group]);
                    let at = (row * groups + g) * size;
                    convert::store_f32(&[scale], w.dtype, out.1.0.add(at));
                    convert::store_f32(&[bias], w.dtype, out.2.0.add(at));
                    let n = group * q.bits as usize / 32;
                    let dst = std::slice::from_raw_parts_mut(out.0.0.add(row * words + g * n), n);
                    codes::pack(q.bits, &bits[..group], dst);
                }
            }
        }
    });
}

/// `codes, scales, biases` → `w` in the scales' dtype.
pub(crate) fn dequantize(q: Quantization, job: &Job<'_>) {
    let out = &job.outputs[0];
    let k = out.shape.last().copied().unwrap_or(0);
    if out.size() == 0 {
        return;
    }
    let group = q.group_size as usize;
    let [codes, scales, biases] = [0, 1, 2].map(|i| RowMajor::of(&job.inputs[i]));
    let (rows, groups, words) = (out.size() / k, k / group, k * q.bits as usize / 32);
    let dtype = out.dtype;
    let target = Shared(out.ptr);
    pool::parallel_ranges(rows, GRAIN / k, |start, end| {
        let target = &target;
        let (mut x, mut s, mut b) = (vec![0f32; k], vec![0f32; groups], vec![0f32; groups]);
        for row in start..end {
            // SAFETY: whole rows of operands and target.
            unsafe {
                let words = std::slice::from_raw_parts(codes.row(row).cast::<u32>(), words);
                convert::load_f32(scales.row(row), dtype, &mut s);
                convert::load_f32(biases.row(row), dtype, &mut b);
                codes::unpack(q.bits, words, 0, &mut x);
                for ((x, &s), &b) in x.chunks_exact_mut(group).zip(&s).zip(&b) {
                    // Rounded once, by the store: the weights that products see.
                    for v in x {
                        *v = *v * s + b;
                    }
                }
                convert::store_f32(&x, dtype, target.0.add(row * k * dtype.size()));
            }
        }
    });
}

/// `x (…, m, k)` times a quantized matrix.
pub(crate) fn matmul(q: Quantization, transpose: bool, job: &Job<'_>) {
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return;
    }
    let rank = x.shape.len();
    let (m, k, n) = (x.shape[rank - 2], x.shape[rank - 1], out.shape[rank - 1]);
    let parts = [1, 2, 3].map(|i| RowMajor::of(&job.inputs[i]));
    let leads = [0, 1, 2].map(|i| [&parts[i].strides[..rank - 2], &[0]].concat());
    let rows = Rows::merge(
        &x.shape[..rank - 1],
        &[&x.strides[..rank - 1], &leads[0], &leads[1], &leads[2]],
        m,
    );
    let [codes, scales, biases] = [0, 1, 2].map(|i| {
        let p = &parts[i];
        let dtype = job.inputs[i + 1].dtype;
        Dense::new(p.ptr, dtype, &rows.batch, i + 1, p.strides[rank - 2], 1)
    });
    let left = Dense::new(x.ptr, x.dtype, &rows.batch, 0, rows.stride, x.strides[rank - 1]);
    let weights = Weights { q, transpose, codes, scales, biases };
    let batch = rows.batch.shape.iter().product();
    let c = Output { ptr: out.ptr, dtype: out.dtype, m: rows.count, n, transposed: false };
    let b: &dyn Pack<f32> = &weights;
    Product { batch, m: rows.count, n, k, a: &left, b, c: &c }.run();
}

/// An operand whose rows are contiguous: itself, or a copy of it.
struct RowMajor<'a> {
    ptr: *const u8,
    shape: &'a [usize],
    strides: Vec<isize>,
    size: usize,
    _copy: Vec<u64>,
}

// SAFETY: read-only memory.
unsafe impl Sync for RowMajor<'_> {}

impl<'a> RowMajor<'a> {
    fn of(x: &Operand<'a>) -> RowMajor<'a> {
        let size = x.dtype.size();
        let last = x.shape.len() - 1;
        if x.shape[last] == 1 || x.strides[last] == 1 {
            let strides = x.strides.to_vec();
            return RowMajor { ptr: x.ptr, shape: x.shape, strides, size, _copy: Vec::new() };
        }
        let mut copy = vec![0u64; (x.size() * size).div_ceil(8)];
        let dst = copy.as_mut_ptr().cast::<u8>();
        for i in 0..x.size() {
            let at = offset_of(i, x.shape, x.strides);
            // SAFETY: element `i` of the operand and of its copy.
            unsafe {
                let src = x.ptr.offset(at * size as isize);
                std::ptr::copy_nonoverlapping(src, dst.add(i * size), size);
            }
        }
        let mut strides = vec![1isize; x.shape.len()];
        for i in (0..last).rev() {
            strides[i] = strides[i + 1] * x.shape[i + 1] as isize;
        }
        RowMajor { ptr: copy.as_ptr().cast(), shape: x.shape, strides, size, _copy: copy }
    }

    /// Address of row `i`, counted over all leading axes.
    fn row(&self, i: usize) -> *const u8 {
        let last = self.shape.len() - 1;
        let at = offset_of(i, &self.shape[..last], &self.strides[..last]);
        self.ptr.wrapping_offset(at * self.size as isize)
    }
}
