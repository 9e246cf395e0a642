//! Convolutions with channels last.
//!
//! Dilation of the input goes first: [`axis::phases`] cuts it away, leaving a few convolutions whose
//! windows see the input as it lies. Each of them is a matrix product, weights `(c_out, k)` by windows
//! `(k, n · windows)` with `k` running over taps and channels, whose right operand is never made:
//! [`patches`] packs windows straight from the input into the panels of the product's driver, and
//! [`target`] writes tiles where they belong. With the matrix engine, windows of enough channels are
//! read by it as they lie ([`engine`]). Convolutions with one channel a group have too little
//! to multiply for that, and a kernel of their own in [`depthwise`].
//!
//! An element is the sum over taps and channels in the order of the stored weights, whatever the
//! batch and the number of threads.

mod axis;
mod depthwise;
#[cfg(target_arch = "x86_64")]
mod engine;
mod patches;
mod target;
#[cfg(test)]
mod tests;
mod vector;

use crate::matmul::driver::{Pack, Product, Store};
use crate::matmul::kernel::Compute;
use crate::matmul::pack::{Complex, Dense, Side};
#[cfg(target_arch = "x86_64")]
use crate::matmul::tile::{Scheme, TileProduct};
use crate::{alloc, copy, matmul, pool};
use axis::Axis;
use lazul_ir::{Buffer, ConvAxis, ConvOp, DType, Job, OpError, Operand, Prim, Shape, Work};
use patches::{Patches, Spatial};
use smallvec::{SmallVec, smallvec};
use target::Target;

/// `x (n, spatial…, c_in), w (c_out, kernel…, c_in / groups)` → `(n, windows…, c_out)`.
pub(crate) fn conv(op: &ConvOp, job: &Job<'_>) -> Result<(), OpError> {
    let (x, w, out) = (&job.inputs[0], &job.inputs[1], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    if x.size() == 0 || w.size() == 0 {
        zero(out);
        return Ok(());
    }
    if is_pointwise(op, w) {
        pointwise(job);
        return Ok(());
    }
    let rank = op.axes.len();
    let axes: SmallVec<[Vec<Axis>; 3]> = (0..rank)
        .map(|i| {
            let (len, taps, windows) = (x.shape[1 + i], w.shape[1 + i], out.shape[1 + i]);
            axis::phases(&op.axes[i], op.flip, len, taps, windows)
        })
        .collect();
    let covered = |phases: &Vec<Axis>| phases.iter().map(|a| a.windows).sum::<usize>();
    if (0..rank).any(|i| covered(&axes[i]) < out.shape[1 + i]) {
        zero(out);
    }
    if axes.iter().any(|phases| phases.is_empty()) {
        return Ok(());
    }
    let input = Input::new(x, op.groups)?;
    let mut which: SmallVec<[usize; 3]> = smallvec![0; rank];
    loop {
        let phase: SmallVec<[Axis; 3]> = (0..rank).map(|i| axes[i][which[i]]).collect();
        self::phase(op, &input, &phase, job)?;
        // The next combination, the last axis fastest.
        let Some(at) = (0..rank).rev().find(|&i| which[i] + 1 < axes[i].len()) else {
            return Ok(());
        };
        which[at] += 1;
        which[at + 1..].fill(0);
    }
}

/// Writes zeros, which have the same bytes in every dtype.
fn zero(out: &lazul_ir::Target<'_>) {
    let ptr = copy::Shared(out.ptr);
    pool::parallel_ranges(out.size() * out.dtype.size(), 1 << 20, |start, end| {
        // SAFETY: the range lies inside the target.
        unsafe { ptr.get().add(start).write_bytes(0, end - start) };
    });
}

/// Whether every window is one element of the input.
fn is_pointwise(op: &ConvOp, w: &Operand<'_>) -> bool {
    let plain = |a: &ConvAxis| a.stride == 1 && a.padding == (0, 0) && a.input_dilation == 1;
    let taps = &w.shape[1..=op.axes.len()];
    op.groups == 1 && taps.iter().all(|&k| k == 1) && op.axes.iter().all(plain)
}

/// A product of the pixels, as rows, with the weights.
fn pointwise(job: &Job<'_>) {
    let (x, w) = (&job.inputs[0], &job.inputs[1]);
    let last = x.shape.len() - 1;
    let mut shape: SmallVec<[usize; 6]> = SmallVec::from_slice(&x.shape[..last - 1]);
    shape.extend([x.shape[last], w.shape[0]]);
    let mut strides: SmallVec<[isize; 6]> = smallvec![0; last - 1];
    strides.extend([w.strides[last], w.strides[0]]);
    let matrix = Operand { ptr: w.ptr, dtype: w.dtype, shape: &shape, strides: &strides };
    let inputs = [*x, matrix];
    matmul::matmul(&Job { work: Work::Prim(&Prim::Matmul), inputs: &inputs, outputs: job.outputs });
}

/// The operand as it lies if its channels are neighbours, or a row-major copy.
struct Input {
    ptr: *const u8,
    strides: SmallVec<[isize; 5]>,
    _copy: Option<Buffer>,
}

impl Input {
    fn new(x: &Operand<'_>, groups: usize) -> Result<Input, OpError> {
        let rank = x.shape.len();
        let (channels, width) = (x.shape[rank - 1], x.shape[rank - 2]);
        // Short runs of channels are read together with those of their neighbours along the row.
        let rows = groups > 1 && channels >= 16
            || channels / groups >= 16
            || width == 1
            || x.strides[rank - 2] == channels as isize;
        if (channels == 1 || x.strides[rank - 1] == 1) && rows {
            return Ok(Input { ptr: x.ptr, strides: x.strides.into(), _copy: None });
        }
        let copy = row_major(x)?;
        let strides = Shape::new(x.shape).strides().to_vec().into();
        Ok(Input { ptr: copy.ptr(), strides, _copy: Some(copy) })
    }
}

/// A row-major copy.
fn row_major(x: &Operand<'_>) -> Result<Buffer, OpError> {
    let size = x.dtype.size();
    let buffer = alloc::alloc(x.size() * size)?;
    let strides = Shape::new(x.shape).strides();
    // SAFETY: the operand is valid for its layout, and the buffer is new and of that size.
    unsafe { copy::copy_strided(x.shape, size, x.ptr, x.strides, buffer.ptr(), &strides) };
    Ok(buffer)
}

/// A convolution without dilation of the input.
fn phase(op: &ConvOp, input: &Input, axes: &[Axis], job: &Job<'_>) -> Result<(), OpError> {
    let (x, w, out) = (&job.inputs[0], &job.inputs[1], &job.outputs[0]);
    let rank = axes.len();
    let channels = w.shape[rank + 1];

    // The weights of the phase's taps, (c_out, taps…, channels), row-major.
    let mut taps: SmallVec<[usize; 5]> = SmallVec::from_slice(w.shape);
    let mut strides: SmallVec<[isize; 5]> = SmallVec::from_slice(w.strides);
    let mut first = 0;
    for (i, axis) in axes.iter().enumerate() {
        taps[1 + i] = axis.taps;
        first += axis.weight.0 as isize * strides[1 + i];
        strides[1 + i] *= axis.weight.1 as isize;
    }
    let ptr = w.ptr.wrapping_offset(first * w.dtype.size() as isize);
    let part = Operand { ptr, dtype: w.dtype, shape: &taps, strides: &strides };
    let held = if part.is_contiguous() { None } else { Some(row_major(&part)?) };
    let weights = held.as_ref().map_or(part.ptr, |copy| copy.ptr().cast_const());

    let spatial =
        axes.iter().enumerate().map(|(i, &axis)| Spatial { axis, step: input.strides[1 + i] });
    let mut shape: SmallVec<[usize; 4]> = smallvec![x.shape[0]];
    shape.extend(axes.iter().map(|a| a.windows));
    let patches = Patches {
        ptr: input.ptr,
        dtype: x.dtype,
        channels,
        batch_step: input.strides[0],
        spatial: spatial.collect(),
        shape,
    };
    let target = Target::new(out, axes, op.groups);
    if depthwise::pays(op.groups, x, out) {
        depthwise::run(&patches, weights, &target);
        return Ok(());
    }
    let k = taps[1..].iter().product::<usize>();
    let rows = out.shape[rank + 1] / op.groups;
    let dense = Dense {
        ptr: weights,
        dtype: w.dtype,
        batch_shape: smallvec![op.groups],
        batch_strides: smallvec![(rows * k) as isize],
        lane: k as isize,
        k: 1,
    };
    let size = (op.groups, rows, patches.windows(), k);
    #[cfg(target_arch = "x86_64")]
    if on_tiles(size, &dense, &patches, &target) {
        return Ok(());
    }
    match x.dtype {
        DType::F16 | DType::BF16 | DType::F32 => run::<f32>(size, &dense, &patches, target),
        DType::F64 => run::<f64>(size, &dense, &patches, target),
        DType::U64 | DType::I64 => run::<i64>(size, &dense, &patches, target),
        DType::C64 => {
            // Complex channels are pairs of real ones, and so are the complex rows of the product.
            let weights = Complex { dense, side: Side::Left };
            Product::<f32> {
                batch: op.groups,
                m: 2 * rows,
                n: patches.windows(),
                k: 2 * k,
                a: &weights,
                b: &patches.pairs(),
                c: &target.pairs(),
            }
            .run();
        }
        _ => run::<i32>(size, &dense, &patches, target),
    }
    Ok(())
}

/// Runs the products of the groups on the tile unit, if that pays.
#[cfg(target_arch = "x86_64")]
fn on_tiles(
    (groups, rows, windows, k): (usize, usize, usize, usize),
    weights: &Dense,
    patches: &Patches,
    target: &Target,
) -> bool {
    if let Some(engine) = engine::Engine::new(patches, weights, groups, rows) {
        engine.run(target, &|image, group, first| {
            let patches = patches.part(image, group, first.clone());
            let ptr = weights.at(group, 0, 0);
            let weights = Dense { ptr, batch_shape: smallvec![1], ..weights.clone() };
            let target = target.part(image, group, first);
            run::<f32>((1, rows, patches.windows(), k), &weights, &patches, target);
        });
        return true;
    }
    let pays = patches.dtype == DType::BF16 && crate::isa::tiles() && rows >= 16 && k >= 16;
    if pays {
        let (scheme, batch, m, n) = (Scheme::Bf16, groups, rows, windows);
        TileProduct::<f32> { scheme, batch, m, n, k, a: weights, b: patches, c: target }.run();
    }
    pays
}

/// Runs the products of the groups, with windows or with output channels along the vectors of the
/// kernels.
fn run<T: Compute>(
    (groups, rows, windows, k): (usize, usize, usize, usize),
    weights: &Dense,
    patches: &Patches,
    mut target: Target,
) where
    Dense: Pack<T>,
    Patches: Pack<T>,
    Target: Store<T>,
{
    // Products with a row a window write where they should at once, but pack windows less well: that
    // pays if there is little to add up for each output, or few windows to pack.
    if windows < rows || k < 64 && rows >= 64 {
        target.windows_are_rows = true;
        let (a, b, c) = (patches, weights, &target);
        Product { batch: groups, m: windows, n: rows, k, a, b, c }.run();
    } else {
        let (a, b, c) = (weights, patches, &target);
        Product { batch: groups, m: rows, n: windows, k, a, b, c }.run();
    }
}
