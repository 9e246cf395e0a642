//! Where the tiles of a convolution's products go.

use super::axis::Axis;
use crate::convert::store_f32;
use crate::matmul::driver::Store;
use lazul_ir::DType;
use smallvec::SmallVec;

/// The output `(n, windows…, c_out)` as `(group, window, channel)`, windows being those of a phase.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) ptr: *mut u8,
    pub(super) dtype: DType,
    /// Channels of all groups.
    pub(super) channels: usize,
    /// Channels of one group.
    pub(super) group: usize,
    /// Number of windows, first one and distance between them along each axis, and the distance
    /// between neighbouring outputs in pixels. The first axis is the batch.
    axes: SmallVec<[(usize, usize, usize, usize); 4]>,
    /// Whether the windows are all there are, in order.
    dense: bool,
    /// Whether products have a row a window, rather than a row a channel.
    pub(super) windows_are_rows: bool,
}

// SAFETY: tiles are disjoint, and the target has no other user while its job runs.
unsafe impl Sync for Target {}

impl Target {
    pub(super) fn new(out: &lazul_ir::Target<'_>, phase: &[Axis], groups: usize) -> Target {
        let rank = phase.len();
        let mut axes: SmallVec<[_; 4]> = SmallVec::from_elem((out.shape[0], 0, 1, 0), 1);
        axes.extend(phase.iter().map(|a| (a.windows, a.out.0, a.out.1, 0)));
        let mut step = 1;
        for i in (0..=rank).rev() {
            axes[i].3 = step;
            step *= out.shape[i];
        }
        let channels = out.shape[rank + 1];
        Target {
            ptr: out.ptr,
            dtype: out.dtype,
            channels,
            group: channels / groups,
            dense: (0..=rank).all(|i| axes[i].0 == out.shape[i]),
            axes,
            windows_are_rows: false,
        }
    }

    /// Windows `first` of the first axis of one image, and the channels of one group.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn part(&self, image: usize, group: usize, first: std::ops::Range<usize>) -> Target {
        let ptr = self.ptr.wrapping_add(group * self.group * self.dtype.size());
        let mut part = Target { ptr, dense: false, ..self.clone() };
        (part.axes[0].0, part.axes[0].1) = (1, image);
        let (windows, start, period, _) = &mut part.axes[1];
        (*windows, *start) = (first.len(), *start + first.start * *period);
        part
    }

    /// Complex channels as pairs of real ones.
    pub(super) fn pairs(&self) -> Target {
        let (channels, group) = (2 * self.channels, 2 * self.group);
        Target { dtype: DType::F32, channels, group, ..self.clone() }
    }

    /// The pixel of a window.
    pub(super) fn pixel(&self, window: usize) -> usize {
        if self.dense {
            return window;
        }
        let (mut rest, mut pixel) = (window, 0);
        for &(windows, first, period, step) in self.axes.iter().rev() {
            pixel += (first + rest % windows * period) * step;
            rest /= windows;
        }
        pixel
    }

    /// Distance between the pixels of neighbouring windows of a row.
    pub(super) fn row_step(&self) -> usize {
        self.axes[self.axes.len() - 1].2
    }

    /// Address of a channel of a window.
    pub(super) fn at(&self, group: usize, window: usize, channel: usize) -> *mut u8 {
        let element = self.pixel(window) * self.channels + group * self.group + channel;
        // SAFETY: the element lies inside the target.
        unsafe { self.ptr.add(element * self.dtype.size()) }
    }

    /// Writes a tile through `convert`.
    ///
    /// # Safety
    /// `S` must be the type of the dtype, and the tile must lie inside the product.
    #[inline(always)]
    unsafe fn write<T: Copy, S>(
        &self,
        (group, row, col): (usize, usize, usize),
        (rows, cols): (usize, usize),
        tile: &[T],
        ld: usize,
        convert: impl Fn(T) -> S,
    ) {
        let (windows, channels) = if self.windows_are_rows { (rows, cols) } else { (cols, rows) };
        let (window, channel) = if self.windows_are_rows { (row, col) } else { (col, row) };
        let (along, across) = if self.windows_are_rows { (ld, 1) } else { (1, ld) };
        for i in 0..windows {
            let dst = self.at(group, window + i, channel).cast::<S>();
            for j in 0..channels {
                // SAFETY: the caller vouches for the tile.
                unsafe { dst.add(j).write(convert(tile[i * along + j * across])) };
            }
        }
    }
}

impl Store<f32> for Target {
    fn direct(&self, batch: usize) -> Option<(*mut f32, usize)> {
        let here = self.dtype == DType::F32 && self.windows_are_rows && self.dense;
        here.then(|| (self.at(batch, 0, 0).cast(), self.channels))
    }

    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[f32],
        ld: usize,
    ) {
        if self.windows_are_rows {
            for i in 0..rows {
                let line = &tile[i * ld..][..cols];
                let dst = self.at(batch, row + i, col);
                // SAFETY: the driver stores tiles inside the product.
                unsafe {
                    if self.dtype == DType::F32 {
                        std::ptr::copy_nonoverlapping(line.as_ptr(), dst.cast(), cols);
                    } else {
                        store_f32(line, self.dtype, dst);
                    }
                }
            }
            return;
        }
        for j in (0..cols).step_by(16) {
            let windows = (cols - j).min(16);
            let mut dst = [std::ptr::null_mut::<u8>(); 16];
            for (i, dst) in dst[..windows].iter_mut().enumerate() {
                *dst = self.at(batch, col + j + i, row);
            }
            for i in (0..rows).step_by(16) {
                let channels = (rows - i).min(16);
                let mut turned = [[0.0; 16]; 16];
                turn(&tile[i * ld + j..], ld, channels, windows, &mut turned);
                for (line, dst) in turned.iter().zip(&dst[..windows]) {
                    // SAFETY: as above.
                    unsafe {
                        let dst = dst.add(i * self.dtype.size());
                        if self.dtype != DType::F32 {
                            store_f32(&line[..channels], self.dtype, dst);
                        } else if channels == 16 {
                            dst.cast::<[f32; 16]>().write_unaligned(*line);
                        } else {
                            let dst = dst.cast::<f32>();
                            std::ptr::copy_nonoverlapping(line.as_ptr(), dst, channels);
                        }
                    }
                }
            }
        }
    }
}

/// The transpose of up to 16 rows, at distance `ld`, of up to 16 elements.
fn turn(tile: &[f32], ld: usize, rows: usize, cols: usize, turned: &mut [[f32; 16]; 16]) {
    #[cfg(target_arch = "x86_64")]
    if crate::isa::isa() == crate::isa::Isa::Avx512 {
        assert!(rows > 0 && tile.len() >= (rows - 1) * ld + cols);
        let (src, stride) = (tile.as_ptr().cast(), (ld * 4) as isize);
        // SAFETY: the rows lie inside the tile; the level has AVX-512.
        return unsafe {
            crate::matmul::turn::turn(src, stride, rows, cols * 4, turned.as_mut_ptr().cast(), 1);
        };
    }
    for i in 0..rows {
        for (j, &x) in tile[i * ld..][..cols].iter().enumerate() {
            turned[j][i] = x;
        }
    }
}

/// A [`Store`] of tiles of `$t`, of targets of dtypes with types `$s` through conversions.
macro_rules! store_for {
    ($t:ty, $direct:expr, $($dtypes:pat => $s:ty, $convert:expr;)+) => {
        impl Store<$t> for Target {
            fn direct(&self, batch: usize) -> Option<(*mut $t, usize)> {
                let here = $direct(self.dtype) && self.windows_are_rows && self.dense;
                here.then(|| (self.at(batch, 0, 0).cast(), self.channels))
            }

            fn store(
                &self,
                batch: usize,
                row: usize,
                col: usize,
                rows: usize,
                cols: usize,
                tile: &[$t],
                ld: usize,
            ) {
                let (place, size) = ((batch, row, col), (rows, cols));
                match self.dtype {
                    // SAFETY: the driver stores tiles inside the product; types have the dtype's size.
                    $($dtypes => unsafe {
                        self.write::<$t, $s>(place, size, tile, ld, $convert);
                    },)+
                    other => unreachable!("{other} is not computed in {}", stringify!($t)),
                }
            }
        }
    };
}

store_for!(f64, |d| d == DType::F64, DType::F64 => f64, |x| x;);
store_for!(
    i64, |d: DType| d.size() == 8,
    DType::U64 | DType::I64 => i64, |x| x;
);
store_for!(
    i32, |d: DType| d.size() == 4,
    // The sum of zeros and ones is the number of products that are true.
    DType::Bool => u8, |x| (x != 0) as u8;
    DType::U8 | DType::I8 => u8, |x| x as u8;
    DType::U16 | DType::I16 => u16, |x| x as u16;
    DType::U32 | DType::I32 => i32, |x| x;
);
