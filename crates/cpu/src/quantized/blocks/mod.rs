//! Matrices in the block formats of GGUF files, as their bytes lie there.
//!
//! A row is a run of blocks, each of which turns into numbers by itself ([`formats`]). What a product does
//! with them hangs on the number of rows that the weights are shared by:
//!
//! * up to [`FEW`] rows ([`few`]): a block becomes numbers in registers, or in a small array in the first
//!   cache, and is multiplied with its stretch of every row at once; weights are f32;
//! * more bf16 rows, where there is a matrix engine: weights are rounded to bf16 while they are packed into
//!   its tiles;
//! * more rows otherwise: weights are packed as f32 panels for the micro-kernels of [`crate::matmul`].
//!
//! Sums are f32 in each case, but their order differs between the first case and the others: a row's
//! last bits depend on whether it has more than [`FEW`] − 1 companions, and on nothing else.

mod few;
mod formats;
#[cfg(test)]
mod tests;

use super::RowMajor;
use super::pack::across;
use crate::convert;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa, tiles};
use crate::matmul::driver::{Pack, Product, Shared, with_scratch};
use crate::matmul::grouped::{self, Picks};
use crate::matmul::pack::{Dense, pack_lines};
use crate::matmul::{Output, Rows};
#[cfg(target_arch = "x86_64")]
use crate::matmul::{
    pack::Side,
    tile::{
        Scheme, TileProduct,
        pack::{Extent, Tiled, through_f32},
    },
};
use crate::pool;
use crate::strided::collapse;
use formats::Format;
use lazul_ir::{BlockFormat, DType, Job, OpError, Operand};
use std::ops::Range;

/// Most rows that are multiplied with blocks as they come from memory.
const FEW: usize = 8;
/// Weights of a task of [`few`] or of [`dequantize`], at least.
const GRAIN: usize = 1 << 15;

/// Calls `$f::<F>` for the format `$format`.
macro_rules! by_format {
    ($format:expr, $f:ident::<_ $(, $more:tt)*>($($arg:expr),*)) => {
        match $format {
            BlockFormat::Q4_0 => $f::<formats::Q4_0 $(, $more)*>($($arg),*),
            BlockFormat::Q4_1 => $f::<formats::Q4_1 $(, $more)*>($($arg),*),
            BlockFormat::Q5_0 => $f::<formats::Q5_0 $(, $more)*>($($arg),*),
            BlockFormat::Q5_1 => $f::<formats::Q5_1 $(, $more)*>($($arg),*),
            BlockFormat::Q8_0 => $f::<formats::Q8_0 $(, $more)*>($($arg),*),
            BlockFormat::Q2K => $f::<formats::Q2K $(, $more)*>($($arg),*),
            BlockFormat::Q3K => $f::<formats::Q3K $(, $more)*>($($arg),*),
            BlockFormat::Q4K => $f::<formats::Q4K $(, $more)*>($($arg),*),
            BlockFormat::Q5K => $f::<formats::Q5K $(, $more)*>($($arg),*),
            BlockFormat::Q6K => $f::<formats::Q6K $(, $more)*>($($arg),*),
        }
    };
}

/// Whole blocks as numbers.
fn unpack(format: BlockFormat, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(blocks.len() / format.bytes() * format.elements(), out.len());
    by_format!(format, unpack_format::<_>(blocks, out))
}

/// [`unpack_any`] compiled for the level in use.
fn unpack_format<F: Format>(blocks: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<F: Format>(blocks: &[u8], out: &mut [f32]) {
            unpack_any::<F>(blocks, out);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512<F: Format>(blocks: &[u8], out: &mut [f32]) {
            unpack_any::<F>(blocks, out);
        }
        match isa() {
            // SAFETY: the level has these instructions.
            Isa::Avx512 => return unsafe { avx512::<F>(blocks, out) },
            // SAFETY: the level has these instructions.
            Isa::Avx2 => return unsafe { avx2::<F>(blocks, out) },
            Isa::Scalar => {}
        }
    }
    unpack_any::<F>(blocks, out);
}

#[inline(always)]
fn unpack_any<F: Format>(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in blocks.chunks_exact(F::BYTES).zip(out.chunks_exact_mut(F::ELEMENTS)) {
        F::unpack(block, out);
    }
}

/// `bytes (…, b)` → `w (…, k)` in the output's dtype.
pub(super) fn dequantize(format: BlockFormat, job: &Job<'_>) {
    let out = &job.outputs[0];
    if out.size() == 0 {
        return;
    }
    let k = out.shape[out.shape.len() - 1];
    let bytes = k / format.elements() * format.bytes();
    let rows = RowMajor::of(&job.inputs[0]);
    let (dtype, target) = (out.dtype, Shared(out.ptr));
    pool::parallel_ranges(out.size() / k, GRAIN / k, |start, end| {
        let target = &target;
        with_scratch::<f32, _>(k, |x| {
            for row in start..end {
                // SAFETY: whole rows of operand and target.
                unsafe {
                    unpack(format, std::slice::from_raw_parts(rows.row(row), bytes), x);
                    convert::store_f32(x, dtype, target.0.add(row * k * dtype.size()));
                }
            }
        });
    });
}

/// `x (…, m, k)` times a matrix of blocks.
pub(super) fn matmul(format: BlockFormat, transpose: bool, job: &Job<'_>) {
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return;
    }
    let rank = x.shape.len();
    let (m, k, n) = (x.shape[rank - 2], x.shape[rank - 1], out.shape[rank - 1]);
    let bytes = RowMajor::of(&job.inputs[1]);
    let lead = [&bytes.strides[..rank - 2], &[0]].concat();
    let rows = Rows::merge(&x.shape[..rank - 1], &[&x.strides[..rank - 1], &lead], m);
    let left = Dense::new(x.ptr, x.dtype, &rows.batch, 0, rows.stride, x.strides[rank - 1]);
    let lane = bytes.strides[rank - 2];
    let bytes = Dense::new(bytes.ptr, DType::U8, &rows.batch, 1, lane, 1);
    let weights = Weights { format, transpose, bytes };
    let batch = rows.batch.shape.iter().product();
    let m = rows.count;
    let c = Output { ptr: out.ptr, dtype: out.dtype, m, n, transposed: false };
    if transpose && m <= FEW && k > 0 {
        return few::products(&weights, (batch, m, n, k), &left, &c);
    }
    #[cfg(target_arch = "x86_64")]
    if transpose && x.dtype == DType::BF16 && tiles() {
        let scheme = Scheme::Bf16;
        return TileProduct::<f32> { scheme, batch, m, n, k, a: &left, b: &weights, c: &c }.run();
    }
    Product::<f32> { batch, m, n, k, a: &left, b: &weights, c: &c }.run();
}

/// `x (…, m, k)` times matrices of blocks, both picked by indices.
pub(super) fn gather(format: BlockFormat, transpose: bool, job: &Job<'_>) -> Result<(), OpError> {
    let [x, operand, lhs, rhs] = job.inputs else { unreachable!("one matrix, two indices") };
    let out = &job.outputs[0];
    let [x_rank, rank] = [x.shape.len(), operand.shape.len()];
    let (m, k) = (x.shape[x_rank - 2], x.shape[x_rank - 1]);
    let matrices = |x: &Operand<'_>| x.shape[..x.shape.len() - 2].iter().product();
    let picks = Picks::new(job.name(), lhs, rhs, matrices(x), matrices(operand))?;
    if out.size() == 0 {
        return Ok(());
    }
    let bytes = RowMajor::of(operand);
    let batch = collapse(&operand.shape[..rank - 2], &[&bytes.strides[..rank - 2]]);
    let bytes = Dense::new(bytes.ptr, DType::U8, &batch, 0, bytes.strides[rank - 2], 1);
    let weights = Weights { format, transpose, bytes };
    let left = grouped::matrices(x);
    let n = out.shape[out.shape.len() - 1];
    let c = Output { ptr: out.ptr, dtype: out.dtype, m, n, transposed: false };
    grouped::products::<f32>((m, n, k), &left, &weights, &picks, &c);
    Ok(())
}

/// The right operand of a product: stored rows of blocks.
struct Weights {
    format: BlockFormat,
    /// Whether stored rows are columns of the product's right operand.
    transpose: bool,
    /// A lane is a stored row.
    bytes: Dense,
}

impl Weights {
    /// Bytes of the blocks `range` of a stored row.
    fn blocks(&self, batch: usize, row: usize, range: Range<usize>) -> &[u8] {
        let bytes = self.format.bytes();
        let start = self.bytes.at(batch, row, range.start * bytes);
        // SAFETY: callers ask for blocks of the operand's rows.
        unsafe { std::slice::from_raw_parts(start, range.len() * bytes) }
    }

    /// Elements `range` of a stored row, which need not begin or end with a block.
    fn row(&self, batch: usize, row: usize, range: Range<usize>, out: &mut [f32]) {
        let size = self.format.elements();
        let (first, last) = (range.start.next_multiple_of(size), range.end / size * size);
        let part = |range: Range<usize>, out: &mut [f32]| {
            let block = range.start / size;
            let mut whole = [0f32; 256];
            unpack(self.format, self.blocks(batch, row, block..block + 1), &mut whole[..size]);
            out.copy_from_slice(&whole[range.start - block * size..range.end - block * size]);
        };
        if first > last {
            return part(range, out);
        }
        let (head, rest) = out.split_at_mut(first - range.start);
        let (middle, tail) = rest.split_at_mut(last - first);
        if !head.is_empty() {
            part(range.start..first, head);
        }
        unpack(self.format, self.blocks(batch, row, first / size..last / size), middle);
        if !tail.is_empty() {
            part(last..range.end, tail);
        }
    }
}

impl Pack<f32> for Weights {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [f32],
    ) {
        if ks.is_empty() {
            return;
        }
        if self.transpose {
            pack_lines(lanes.len(), ks.len(), width, dst, |lane, line| {
                self.row(batch, lanes.start + lane, ks.clone(), line);
            });
        } else {
            across(&lanes, &ks, width, dst, |k, line| self.row(batch, k, lanes.clone(), line));
        }
    }

    fn runs_along_k(&self) -> bool {
        self.transpose
    }
}

#[cfg(target_arch = "x86_64")]
impl Tiled for Weights {
    unsafe fn panel(
        &self,
        scheme: Scheme,
        side: Side,
        tiles: usize,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        dst: *mut u8,
    ) -> Extent {
        let whole = ks.len().is_multiple_of(32) && self.transpose;
        if side == Side::Right || scheme != Scheme::Bf16 || !whole {
            // SAFETY: the caller's contract.
            return unsafe { through_f32(self, scheme, side, tiles, batch, lanes, ks, dst) };
        }
        // A row of a tile is 32 neighbours of a stored row, as they come.
        const ROW: usize = 64;
        const TILE: usize = 16 * ROW;
        let steps = ks.len() / 32;
        with_scratch::<f32, _>(ks.len(), |line| {
            with_scratch::<[u8; ROW], _>(steps, |bits| {
                for lane in 0..lanes.len().next_multiple_of(16) {
                    if lane < lanes.len() {
                        self.row(batch, lanes.start + lane, ks.clone(), line);
                        // SAFETY: the bits of the line, two bytes a number.
                        unsafe { convert::store_f32(line, DType::BF16, bits.as_mut_ptr().cast()) };
                    } else {
                        bits.fill([0; ROW]);
                    }
                    for (step, row) in bits.iter().enumerate() {
                        let at = (step * tiles + lane / 16) * TILE + lane % 16 * ROW;
                        // SAFETY: the caller vouches for the tiles.
                        unsafe { dst.add(at).cast::<[u8; ROW]>().write(*row) };
                    }
                }
            });
        });
        Extent::NONE
    }

    fn along(&self) -> bool {
        self.transpose
    }
}
