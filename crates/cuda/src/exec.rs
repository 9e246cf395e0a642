//! What families use to enqueue work: launches, scratch memory, copies into plain layouts.

use crate::device::Device;
use crate::driver::{cu, sys};
use crate::error::{Result, Unsupported};
use crate::kernel::{Args, Grid};
use crate::layout::{Rows, View};
use crate::memory::Scratch;
use crate::source::Key;
use crate::stream::{FALLIBLE, Stream};
use lazul_ir::{DType, Operand};

/// A job being enqueued: on which stream, and under which name.
pub(crate) struct Exec<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) op: &'static str,
    /// By which the job is known in a fault; 24 bits.
    pub(crate) tag: u32,
}

impl<'a> Exec<'a> {
    /// The number by which kernels name the operation in a fault, above it the job's tag.
    pub(crate) fn number(&self) -> u32 {
        let name = FALLIBLE.iter().position(|n| *n == self.op).unwrap_or(FALLIBLE.len()) as u32;
        name | self.tag << 8
    }

    pub(crate) fn device(&self) -> &'static Device {
        self.stream.device()
    }

    /// Enqueues a kernel.
    pub(crate) fn launch(&self, key: Key, grid: Grid, args: &Args) -> Result<()> {
        let kernel = self.device().kernel(key)?;
        Ok(self.stream.launch(kernel, grid, args)?)
    }

    /// Memory until the job is enqueued.
    pub(crate) fn scratch(&self, bytes: usize) -> Result<Scratch<'a>> {
        Ok(Scratch::new(self.stream, bytes)?)
    }

    /// A job that has no kernel.
    pub(crate) fn unsupported<T>(&self, why: &'static str) -> Result<T> {
        Err(Unsupported { op: self.op, why }.into())
    }

    /// Copies bytes on the device.
    pub(crate) fn copy_bytes(&self, dst: u64, src: u64, bytes: usize) -> Result<()> {
        if bytes == 0 || dst == src || self.device().is_compile_only() {
            return Ok(());
        }
        Ok(cu!(cuMemcpyDtoDAsync_v2(dst, src, bytes, self.stream.raw()?))?)
    }

    /// Fills bytes on the device.
    pub(crate) fn fill_bytes(&self, dst: u64, value: u8, bytes: usize) -> Result<()> {
        if bytes == 0 || self.device().is_compile_only() {
            return Ok(());
        }
        Ok(cu!(cuMemsetD8Async(dst, value, bytes, self.stream.raw()?))?)
    }

    /// A description of `(batch, head, row, feature)` memory of a half type for the tensor copy engine,
    /// which brings boxes of `[features, rows]`, swizzled in lines of 128 bytes.
    pub(crate) fn tensor_map(&self, view: &View, tile: [u32; 2]) -> Result<[u64; 16]> {
        use sys::CUtensorMapDataType_enum as D;
        if self.device().is_compile_only() {
            return Ok([0; 16]);
        }
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let kind = match view.dtype {
            DType::F16 => D::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            _ => D::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        let sizes = [3, 2, 1, 0].map(|a| view.shape[a] as u64);
        // An axis of length one may have any stride; it is never stepped along.
        let step = |a: usize| if view.shape[a] == 1 { 16 } else { view.strides[a] as u64 * 2 };
        let steps = [2, 1, 0].map(step);
        let tile = [tile[0], tile[1], 1, 1];
        let ones = [1u32; 4];
        cu!(cuTensorMapEncodeTiled(
            &mut map,
            kind,
            4,
            view.ptr as *mut _,
            sizes.as_ptr(),
            steps.as_ptr(),
            tile.as_ptr(),
            ones.as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        ))?;
        Ok(map.opaque)
    }

    /// The operand itself if `fits`, or else a row-major copy, which lives as long as the answer.
    pub(crate) fn plain(&self, view: View, fits: bool) -> Result<Plain<'a>> {
        if fits || view.size() == 0 {
            return Ok(Plain { view, _copy: None });
        }
        let copy = self.scratch(view.bytes())?;
        let to = View::dense(copy.ptr, view.dtype, &view.shape);
        crate::copy::strided(self, &view, &to)?;
        Ok(Plain { view: to, _copy: Some(copy) })
    }

    /// The operand as evenly spaced rows of contiguous elements, copied where it is not.
    pub(crate) fn rows(&self, operand: &Operand<'_>) -> Result<(Rows, Plain<'a>)> {
        let view = View::of(operand);
        let fits = view.rows().is_some();
        let plain = self.plain(view, fits)?;
        let size = plain.view.size();
        let none = Rows { ptr: plain.view.ptr, count: 0, len: 0, stride: 0 };
        Ok((if size == 0 { none } else { plain.view.rows().unwrap_or(none) }, plain))
    }

    /// The operand row-major without gaps, copied where it is not.
    pub(crate) fn dense(&self, operand: &Operand<'_>) -> Result<Plain<'a>> {
        let view = View::of(operand);
        let fits = view.is_dense();
        self.plain(view, fits)
    }
}

/// An operand in a layout that a kernel wants.
pub(crate) struct Plain<'a> {
    pub(crate) view: View,
    _copy: Option<Scratch<'a>>,
}

impl Plain<'_> {
    pub(crate) fn ptr(&self) -> u64 {
        self.view.ptr
    }

    pub(crate) fn dtype(&self) -> DType {
        self.view.dtype
    }
}
