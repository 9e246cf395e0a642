//! Steps that compute nothing: views, copies where strides cannot express one, and reading files.

use super::backend;
use crate::device::accelerator::accelerator;
use crate::device::launch::{launch, record_fallback};
use crate::device::replica::alloc;
use crate::device::session::enter;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Data, Load, Storage};
use crate::scope::call_site;
use lazul_ir::{
    Buffer, DType, HOST, Job, Layout, Operand, Place, Prim, Shape, Target, ViewOp, Work,
};
use std::sync::Arc;

/// Bytes of a file that are read before they go to a device.
const PIECE: usize = 8 << 20;

/// Reads an array from its file.
pub(super) fn read(load: &Arc<Load>, shape: &Shape, dtype: DType, place: Place) -> Result<Data> {
    let bytes = shape.size() * dtype.size();
    let buffer = alloc(place, bytes)?;
    if place == HOST {
        fill(load, 0, &buffer, bytes, dtype)?;
        return Ok(Data::contiguous(buffer, shape));
    }
    let device = accelerator(place)?;
    let piece = backend().alloc(bytes.min(PIECE))?;
    for at in (0..bytes).step_by(PIECE) {
        let n = (bytes - at).min(PIECE);
        fill(load, at as u64, &piece, n, dtype)?;
        // SAFETY: the piece was filled; the buffer is fresh and as large as the array.
        unsafe {
            let piece = std::slice::from_raw_parts(piece.ptr(), n);
            device.upload(buffer.ptr().wrapping_add(at), piece)?;
        }
    }
    Ok(Data::contiguous(buffer, shape))
}

/// Reads `bytes` bytes of an array, from its byte `at` on, to the beginning of fresh host memory.
fn fill(load: &Load, at: u64, buffer: &Buffer, bytes: usize, dtype: DType) -> Result<()> {
    // SAFETY: the buffer is fresh, so nobody else reads or writes it. Its bytes need not be
    // initialised for `read_exact_at`, which only writes, but a slice of them must be: fill first.
    let into = unsafe {
        std::ptr::write_bytes(buffer.ptr(), 0, bytes);
        std::slice::from_raw_parts_mut(buffer.ptr(), bytes)
    };
    let offset = load.offset.saturating_add(at);
    load.source.read_exact_at(into, offset).map_err(|e| {
        let message = format!("{}: {bytes} bytes at offset {offset}: {e}", load.source.describe());
        Error::new(ErrorKind::Io, "load", message)
    })?;
    if dtype == DType::Bool {
        into.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    Ok(())
}

/// The layout of a view; a copy in `place` where strides cannot express it.
pub(super) fn view_of(
    view: &ViewOp,
    data: &Data,
    (from, from_dtype): (&Shape, DType),
    (shape, dtype): (&Shape, DType),
    place: Place,
) -> Result<Data> {
    let layout =
        || Layout { shape: from.clone(), strides: data.strides.clone(), offset: data.offset };
    let with = |l: Layout| Data { strides: l.strides, offset: l.offset, ..data.clone() };
    match view {
        ViewOp::Transpose(perm) => Ok(with(layout().transpose(perm))),
        ViewOp::Broadcast => Ok(with(layout().broadcast(shape))),
        ViewOp::Slice { starts, steps } => Ok(with(layout().slice(starts, steps, shape))),
        ViewOp::Reshape => match layout().reshape(shape) {
            Some(l) => Ok(with(l)),
            None => {
                let copied = copied(place, data, from, from_dtype)?;
                Ok(Data { strides: shape.strides(), ..copied })
            }
        },
        ViewOp::Strided { strides, offset } => match (&data.storage, shape.size()) {
            // Every element is the one that is there.
            (Storage::Inline(value), 1..) => Ok(Data::constant(*value, shape.len())),
            _ => match layout().strided(strides, *offset, shape) {
                Some(l) => Ok(with(l)),
                None => {
                    let copied = copied(place, data, from, from_dtype)?;
                    let (strides, offset) =
                        (strides.iter().map(|&s| s as isize).collect(), *offset);
                    Ok(Data { strides, offset, ..copied })
                }
            },
        },
        ViewOp::Bitcast => {
            let (a, b) = (from_dtype.size(), dtype.size());
            let buffered = matches!(data.storage, Storage::Buffer(_));
            if a == b && buffered {
                return Ok(data.clone());
            }
            let aligned =
                buffered && layout().is_contiguous() && (data.offset * a).is_multiple_of(b);
            if aligned {
                let offset = data.offset * a / b;
                return Ok(Data { strides: shape.strides(), offset, ..data.clone() });
            }
            let copied = copied(place, data, from, from_dtype)?;
            Ok(Data { strides: shape.strides(), ..copied })
        }
    }
}

/// The elements in row-major order in a buffer of their own.
pub(crate) fn copied(place: Place, data: &Data, shape: &Shape, dtype: DType) -> Result<Data> {
    let buffer = alloc(place, shape.size() * dtype.size())?;
    copy_to(place, data, shape, dtype, buffer.ptr())?;
    Ok(Data::contiguous(buffer, shape))
}

/// Writes the elements in row-major order to `ptr`, fresh memory in `place`.
pub(crate) fn copy_to(
    place: Place,
    data: &Data,
    shape: &Shape,
    dtype: DType,
    ptr: *mut u8,
) -> Result<()> {
    if shape.size() == 0 {
        return Ok(());
    }
    let run = |place: Place, ptr: *mut u8| {
        if place != HOST {
            enter(place, None)?;
        }
        let held = data.at(place, dtype)?;
        let operand = Operand { ptr: held.ptr, dtype, shape, strides: &data.strides };
        let target = Target { ptr, dtype, shape };
        let work = Work::Prim(&Prim::Copy);
        launch(place, &Job { work, inputs: &[operand], outputs: &[target] }, call_site())
    };
    let Some(why) = run(place, ptr)? else { return Ok(()) };
    record_fallback("copy", why);
    let bytes = shape.size() * dtype.size();
    let here = backend().alloc(bytes)?;
    run(HOST, here.ptr())?;
    // SAFETY: the copy was just written; the target has its size.
    unsafe { accelerator(place)?.upload(ptr, std::slice::from_raw_parts(here.ptr(), bytes)) }
}
