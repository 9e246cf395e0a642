//! Quantized matrices: quantize, dequantize, and products that never unpack a matrix as a whole.
//!
//! A row of codes is one little-endian stream of bits cut into u32 words; 32 codes take exactly
//! `bits` words, so streams are read in chunks of 32 codes ([`codes`]). [`matmul`] is the product of
//! [`crate::matmul`] with a right operand that is dequantized while it is packed ([`pack`]): a weight
//! is `scale * code + bias` in f32 whatever the dtypes, or `scale * code` for codes that are small
//! floats ([`floats`]). Where there is a matrix engine, it multiplies the codes themselves ([`tiles`]).
//! Blocks of GGUF files carry their scales along and have a folder of their own ([`blocks`]).

mod blocks;
mod codes;
#[cfg(target_arch = "x86_64")]
mod decode;
mod floats;
#[cfg(target_arch = "x86_64")]
mod halves;
mod pack;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;

use crate::matmul::driver::{Pack, Product, Shared};
use crate::matmul::grouped::{self, Picks};
use crate::matmul::pack::Dense;
use crate::matmul::{Output, Rows};
use crate::strided::{Collapsed, collapse, offset_of};
use crate::{convert, pool};
use codes::Group;
use lazul_ir::{DType, ErrorKind, Job, NVFP4_RANGE, OpError, Operand, Quantization};
use pack::{Weights, scale_of};

/// Codes that a task of [`quantize`] or [`dequantize`] handles, at least.
const GRAIN: usize = 1 << 13;

/// `w (…, k) [, global]` → `codes (…, words), scales (…, k/group) [, biases]`.
pub(crate) fn quantize(q: Quantization, job: &Job<'_>) -> Result<(), OpError> {
    refuse_blocks(q, job)?;
    let groups = Groups::of(q, job)?;
    let (k, group) = (groups.k, q.group_size());
    let words = q.words(k);
    let out = [0, 1, 2].map(|i| {
        let output = job.outputs.get(i);
        Shared(output.map_or(std::ptr::null_mut(), |o| o.ptr))
    });
    let dtype = job.inputs[0].dtype;
    groups.each(|row, g, w, global, codes| {
        let out = &out;
        let scaled = codes::quantize_group(q, w, global, codes);
        let at = row * (k / group) + g;
        let n = q.words(group);
        // SAFETY: outputs are row-major, and each group has its place in them.
        unsafe {
            match scaled {
                Group::Affine(scale, bias) => {
                    let at = at * dtype.size();
                    convert::store_f32(&[scale], dtype, out[1].0.add(at));
                    convert::store_f32(&[bias], dtype, out[2].0.add(at));
                }
                Group::Float(scale) => *out[1].0.add(at) = scale,
            }
            let dst = out[0].0.cast::<u32>().add(row * words + g * n);
            codes::pack(q.bits(), codes, std::slice::from_raw_parts_mut(dst, n));
        }
    });
    Ok(())
}

/// `x (…, k) [, global]` → what [`quantize`] and [`dequantize`] make of it.
pub(crate) fn fake_quantize(q: Quantization, job: &Job<'_>) -> Result<(), OpError> {
    refuse_blocks(q, job)?;
    let groups = Groups::of(q, job)?;
    let (k, group, out) = (groups.k, q.group_size(), &job.outputs[0]);
    let (x, dtype) = (&job.inputs[0], out.dtype);
    let target = Shared(out.ptr);
    groups.each(|row, g, w, global, codes| {
        let target = &target;
        let mut values = [0f32; 128];
        let values = &mut values[..group];
        let factor = global.map_or(1.0, |g| g / NVFP4_RANGE);
        match codes::quantize_group(q, w, global, codes) {
            Group::Affine(scale, bias) => {
                let mut rounded = [scale, bias];
                round_to(x.dtype, &mut rounded);
                for (v, &c) in values.iter_mut().zip(&*codes) {
                    *v = c as f32 * rounded[0] + rounded[1];
                }
            }
            Group::Float(scale) => {
                let scale = scale_of(q, scale, factor);
                for (v, &c) in values.iter_mut().zip(&*codes) {
                    *v = scale
                        * if q.bits() == 4 {
                            floats::e2m1(c as u32)
                        } else {
                            floats::e4m3(c as u32)
                        };
                }
            }
        }
        let at = (row * k + g * group) * dtype.size();
        // SAFETY: the output is row-major, and each group has its place in it.
        unsafe { convert::store_f32(values, dtype, target.0.add(at)) };
    });
    Ok(())
}

/// Blocks are read, not made.
fn refuse_blocks(q: Quantization, job: &Job<'_>) -> Result<(), OpError> {
    let Some(format) = q.blocks() else { return Ok(()) };
    let why = format!("blocks of {} are read from files, not made", format.name());
    Err(OpError::new(ErrorKind::Value, job.name(), why))
}

/// Rounds to a float dtype.
fn round_to(dtype: DType, x: &mut [f32]) {
    match dtype {
        DType::F16 => convert::round_to_f16(x),
        DType::BF16 => convert::round_to_bf16(x),
        _ => {}
    }
}

/// The groups of an operand that is to be quantized, with its global scale.
struct Groups<'a> {
    q: Quantization,
    w: &'a Operand<'a>,
    /// Length of a row.
    k: usize,
    /// Operand 1, and its value for each matrix.
    global: Option<Vec<f32>>,
}

impl<'a> Groups<'a> {
    fn of(q: Quantization, job: &'a Job<'a>) -> Result<Groups<'a>, OpError> {
        let w = &job.inputs[0];
        let k = w.shape[w.shape.len() - 1];
        let read = |g: &Operand<'_>| -> Vec<f32> {
            let value = |i| {
                let at = offset_of(i, g.shape, g.strides) * 4;
                // SAFETY: an element of the operand.
                unsafe { convert::load_f32_one(g.ptr.offset(at), g.dtype) }
            };
            (0..g.size()).map(value).collect()
        };
        let global = job.inputs.get(1).map(read);
        let bad = |g: &&f32| !(g.is_finite() && **g > 0.0);
        if let Some(g) = global.iter().flatten().find(bad) {
            let why = format!("the global scale {g} is not positive and finite");
            return Err(OpError::new(ErrorKind::Value, job.name(), why));
        }
        Ok(Groups { q, w, k, global })
    }

    /// Calls `f(row, group, elements, global, codes)` for each group, in parallel; `codes` is room for
    /// its codes.
    fn each(&self, f: impl Fn(usize, usize, &[f32], Option<f32>, &mut [u8]) + Sync) {
        let (w, k, group) = (self.w, self.k, self.q.group_size());
        if w.size() == 0 {
            return;
        }
        let rank = w.shape.len();
        let rows = w.size() / k;
        let rows_a_matrix = w.shape[rank - 2].max(1);
        let (lead, step) = (&w.strides[..rank - 1], w.strides[rank - 1]);
        let size = w.dtype.size() as isize;
        pool::parallel_ranges(rows, GRAIN / k, |start, end| {
            let (mut x, mut codes) = ([0f32; 128], [0u8; 128]);
            let (x, codes) = (&mut x[..group], &mut codes[..group]);
            for row in start..end {
                let base = offset_of(row, &w.shape[..rank - 1], lead);
                let global = self.global.as_ref().map(|g| g[row / rows_a_matrix]);
                for g in 0..k / group {
                    let first = base + (g * group) as isize * step;
                    // SAFETY: elements of this row.
                    unsafe {
                        let src = w.ptr.offset(first * size);
                        if step == 1 {
                            convert::load_f32(src, w.dtype, x);
                        } else {
                            for (i, v) in x.iter_mut().enumerate() {
                                let src = src.offset(i as isize * step * size);
                                *v = convert::load_f32_one(src, w.dtype);
                            }
                        }
                    }
                    f(row, g, x, global, codes);
                }
            }
        });
    }
}

/// The operands that make up a quantized matrix, with contiguous rows.
struct Parts<'a> {
    codes: RowMajor<'a>,
    scales: RowMajor<'a>,
    biases: Option<RowMajor<'a>>,
    global: Option<RowMajor<'a>>,
}

impl<'a> Parts<'a> {
    fn of(q: Quantization, operands: &'a [Operand<'a>]) -> Parts<'a> {
        let part = |i: usize| operands.get(i).map(RowMajor::of);
        let (Some(codes), Some(scales)) = (part(0), part(1)) else { unreachable!("two parts") };
        let third = part(2);
        let (biases, global) = if q.is_affine() { (third, None) } else { (None, third) };
        Parts { codes, scales, biases, global }
    }

    /// All of them; codes come first.
    fn all(&self) -> impl Iterator<Item = &RowMajor<'a>> {
        [Some(&self.codes), Some(&self.scales), self.biases.as_ref(), self.global.as_ref()]
            .into_iter()
            .flatten()
    }

    /// As an operand of products, whose batch axes are `batch`: operand `first + i` for part `i`.
    fn weights(
        &self,
        q: Quantization,
        transpose: bool,
        batch: &Collapsed,
        first: usize,
    ) -> Weights {
        let dense = |p: &RowMajor<'_>, i: usize| {
            let lane = p.strides[p.strides.len() - 2];
            Dense::new(p.ptr, p.dtype, batch, first + i, lane, 1)
        };
        Weights {
            q,
            transpose,
            codes: dense(&self.codes, 0),
            scales: dense(&self.scales, 1),
            biases: self.biases.as_ref().map(|p| dense(p, 2)),
            global: self.global.as_ref().map(|p| dense(p, 2)),
        }
    }
}

/// `codes, scales [, biases] [, global]` → `w` in the output's dtype.
pub(crate) fn dequantize(q: Quantization, job: &Job<'_>) {
    if let Some(format) = q.blocks() {
        return blocks::dequantize(format, job);
    }
    let out = &job.outputs[0];
    if out.size() == 0 {
        return;
    }
    let rank = out.shape.len();
    let (k, group) = (out.shape[rank - 1], q.group_size());
    let parts = Parts::of(q, job.inputs);
    let rows_a_matrix = out.shape[rank - 2];
    let (rows, groups, words) = (out.size() / k, k / group, q.words(k));
    let dtype = out.dtype;
    let target = Shared(out.ptr);
    pool::parallel_ranges(rows, GRAIN / k, |start, end| {
        let target = &target;
        let (mut x, mut s, mut b) = (vec![0f32; k], vec![0f32; groups], vec![0f32; groups]);
        for row in start..end {
            // SAFETY: whole rows of operands and target, and one global scale a matrix.
            unsafe {
                let words = std::slice::from_raw_parts(parts.codes.row(row).cast::<u32>(), words);
                codes::unpack(q, words, 0, &mut x);
                let scales = parts.scales.row(row);
                if let Some(biases) = &parts.biases {
                    convert::load_f32(scales, parts.scales.dtype, &mut s);
                    convert::load_f32(biases.row(row), biases.dtype, &mut b);
                    for ((x, &s), &b) in x.chunks_exact_mut(group).zip(&s).zip(&b) {
                        // Rounded once, by the store: the weights that products see.
                        for v in x {
                            *v = *v * s + b;
                        }
                    }
                } else {
                    let global = parts
                        .global
                        .as_ref()
                        .map(|g| convert::load_f32_one(g.row(row / rows_a_matrix), g.dtype));
                    let factor = global.map_or(1.0, |g| g / NVFP4_RANGE);
                    let scales = std::slice::from_raw_parts(scales, groups);
                    for (x, &scale) in x.chunks_exact_mut(group).zip(scales) {
                        let scale = scale_of(q, scale, factor);
                        for v in x {
                            *v *= scale;
                        }
                    }
                }
                convert::store_f32(&x, dtype, target.0.add(row * k * dtype.size()));
            }
        }
    });
}

/// `x (…, m, k)` times a quantized matrix.
pub(crate) fn matmul(q: Quantization, transpose: bool, job: &Job<'_>) {
    if let Some(format) = q.blocks() {
        return blocks::matmul(format, transpose, job);
    }
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return;
    }
    let rank = x.shape.len();
    let (m, k, n) = (x.shape[rank - 2], x.shape[rank - 1], out.shape[rank - 1]);
    let parts = Parts::of(q, &job.inputs[1..]);
    let leads: Vec<Vec<isize>> =
        parts.all().map(|p| [&p.strides[..rank - 2], &[0]].concat()).collect();
    let strides: Vec<&[isize]> =
        [&x.strides[..rank - 1]].into_iter().chain(leads.iter().map(Vec::as_slice)).collect();
    let rows = Rows::merge(&x.shape[..rank - 1], &strides, m);
    let left = Dense::new(x.ptr, x.dtype, &rows.batch, 0, rows.stride, x.strides[rank - 1]);
    let weights = parts.weights(q, transpose, &rows.batch, 1);
    let batch = rows.batch.shape.iter().product();
    let c = Output { ptr: out.ptr, dtype: out.dtype, m: rows.count, n, transposed: false };
    #[cfg(target_arch = "x86_64")]
    if k > 0 && tiles::supports(&weights) {
        for i in 0..batch {
            let pair = std::iter::once((i, i));
            tiles::products((rows.count, n, k), &left, (&weights, i), &c, pair);
        }
        return;
    }
    let b: &dyn Pack<f32> = &weights;
    Product { batch, m: rows.count, n, k, a: &left, b, c: &c }.run();
}

/// `x (…, m, k)` times quantized matrices, both picked by indices.
pub(crate) fn gather(q: Quantization, transpose: bool, job: &Job<'_>) -> Result<(), OpError> {
    if let Some(format) = q.blocks() {
        return blocks::gather(format, transpose, job);
    }
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    let [x_rank, rank] = [x.shape.len(), job.inputs[1].shape.len()];
    let (m, k) = (x.shape[x_rank - 2], x.shape[x_rank - 1]);
    let [operands @ .., lhs, rhs] = &job.inputs[1..] else { unreachable!("two indices") };
    let matrices = |x: &Operand<'_>| x.shape[..x.shape.len() - 2].iter().product();
    let picks = Picks::new(job.name(), lhs, rhs, matrices(x), matrices(&operands[0]))?;
    if out.size() == 0 {
        return Ok(());
    }
    let parts = Parts::of(q, operands);
    let strides: Vec<&[isize]> = parts.all().map(|p| &p.strides[..rank - 2]).collect();
    let batch = collapse(&operands[0].shape[..rank - 2], &strides);
    let weights = parts.weights(q, transpose, &batch, 0);
    let left = grouped::matrices(x);
    let n = out.shape[out.shape.len() - 1];
    let c = Output { ptr: out.ptr, dtype: out.dtype, m, n, transposed: false };
    #[cfg(target_arch = "x86_64")]
    if k > 0 && tiles::supports(&weights) {
        for (matrix, pairs) in picks.groups() {
            tiles::products((m, n, k), &left, (&weights, matrix), &c, pairs);
        }
        return Ok(());
    }
    grouped::products::<f32>((m, n, k), &left, &weights, &picks, &c);
    Ok(())
}

/// An operand whose rows are contiguous: itself, or a copy of it.
struct RowMajor<'a> {
    ptr: *const u8,
    dtype: DType,
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
            let (ptr, dtype, shape) = (x.ptr, x.dtype, x.shape);
            return RowMajor { ptr, dtype, shape, strides, size, _copy: Vec::new() };
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
        let (ptr, dtype, shape) = (copy.as_ptr().cast(), x.dtype, x.shape);
        RowMajor { ptr, dtype, shape, strides, size, _copy: copy }
    }

    /// Address of row `i`, counted over all leading axes.
    fn row(&self, i: usize) -> *const u8 {
        let last = self.shape.len() - 1;
        let at = offset_of(i, &self.shape[..last], &self.strides[..last]);
        self.ptr.wrapping_offset(at * self.size as isize)
    }
}
