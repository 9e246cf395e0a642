//! Convolutions, channels last, over any number of spatial axes.
//!
//! Everything is one primitive: inputs are `(n, spatial…, c_in)`, weights `(c_out, kernel…, c_in /
//! groups)`, outputs `(n, windows…, c_out)`. As everywhere in machine learning a kernel is not flipped,
//! except by [`convolve`] and where asked. A transposed convolution is one whose input is dilated
//! instead of its stride being taken.

pub(crate) mod rules;
#[cfg(test)]
mod tests;

use super::{attempt, cast_unchecked, error, prim};
use crate::array::check_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::{IntoInts, Ints};
use crate::node::Array;
use crate::scope::call_site;
use lazul_ir::{ConvAxis, ConvOp, DType, Prim, Shape};

/// One number for all spatial axes, or one for each of them: made from an integer, an array, a slice
/// or a vector by `into()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerAxis(Ints);

impl<T: IntoInts> From<T> for PerAxis {
    fn from(numbers: T) -> PerAxis {
        PerAxis(numbers.into_ints())
    }
}

impl PerAxis {
    /// The numbers of `rank` axes, none below `least`.
    fn expand(&self, call: &Call<'_>, what: &str, rank: usize, least: i64) -> Result<Ints> {
        let all = match self.0[..] {
            [one] => Ints::from_elem(one, rank),
            _ if self.0.len() == rank => self.0.clone(),
            _ => {
                let why = format!("{} values of {what} for {rank} spatial axes", self.0.len());
                return Err(call.error(ErrorKind::Value, why));
            }
        };
        match all.iter().find(|&&v| v < least) {
            Some(v) => {
                Err(call.error(ErrorKind::Value, format!("{what} is {v}, but at least {least}")))
            }
            None => Ok(all),
        }
    }
}

/// How [`conv1d`], [`conv2d`] and [`conv3d`] lay windows over their input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Distance between windows; 1.
    pub stride: PerAxis,
    /// Zeros before and after the input; 0. Negative padding takes elements away.
    pub padding: PerAxis,
    /// Distance between the taps of a window; 1.
    pub dilation: PerAxis,
    /// Groups of channels that do not see one another; 1.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Conv {
        Conv { stride: 1.into(), padding: 0.into(), dilation: 1.into(), groups: 1 }
    }
}

/// How [`conv_transpose1d`], [`conv_transpose2d`] and [`conv_transpose3d`] spread their input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Distance between the places that neighbouring inputs spread to; 1.
    pub stride: PerAxis,
    /// Outputs taken away on both sides; 0.
    pub padding: PerAxis,
    /// Distance between the taps of a kernel; 1.
    pub dilation: PerAxis,
    /// Outputs added at the end; 0.
    pub output_padding: PerAxis,
    /// Groups of channels that do not see one another; 1.
    pub groups: usize,
}

impl Default for ConvTranspose {
    fn default() -> ConvTranspose {
        ConvTranspose {
            stride: 1.into(),
            padding: 0.into(),
            dilation: 1.into(),
            output_padding: 0.into(),
            groups: 1,
        }
    }
}

/// How [`conv_general`] lays windows over its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeneral {
    /// Distance between windows; 1.
    pub stride: PerAxis,
    /// Zeros before the dilated input, and after it; 0. Negative padding takes elements away.
    pub padding: (PerAxis, PerAxis),
    /// Distance between the taps of a window; 1.
    pub kernel_dilation: PerAxis,
    /// Distance between the elements of the input, with zeros between them; 1.
    pub input_dilation: PerAxis,
    /// Groups of channels that do not see one another; 1.
    pub groups: usize,
    /// Whether kernels are reversed along every spatial axis.
    pub flip: bool,
}

impl Default for ConvGeneral {
    fn default() -> ConvGeneral {
        ConvGeneral {
            stride: 1.into(),
            padding: (0.into(), 0.into()),
            kernel_dilation: 1.into(),
            input_dilation: 1.into(),
            groups: 1,
            flip: false,
        }
    }
}

/// Which part of a convolution [`convolve`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ConvolveMode {
    /// Wherever the two overlap: `n + m - 1` elements.
    #[default]
    Full,
    /// The middle, as long as the longer of the two.
    Same,
    /// Where the two overlap completely.
    Valid,
}

/// A call under inspection: its name and operands, for errors.
struct Call<'a> {
    name: &'static str,
    x: &'a Array,
    w: &'a Array,
}

impl Call<'_> {
    fn error(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        error(kind, self.name, why, &[self.x, self.w])
    }

    /// Checks the operands against one another; the number of spatial axes.
    fn rank(&self, wanted: Option<usize>, groups: usize) -> Result<usize> {
        self.x.check()?;
        self.w.check()?;
        let (x, w) = (&self.x.0.shape, &self.w.0.shape);
        let rank = wanted.unwrap_or(x.len().saturating_sub(2));
        if rank == 0 || x.len() != rank + 2 || w.len() != rank + 2 {
            let axes = wanted.map_or("one or more spatial axes".to_string(), |n| match n {
                1 => "1 spatial axis".to_string(),
                n => format!("{n} spatial axes"),
            });
            let why = format!(
                "needs an input (n, spatial…, channels) and weights (channels, kernel…, channels) \
                 with {axes}"
            );
            return Err(self.error(ErrorKind::Shape, why));
        }
        if groups == 0 {
            return Err(self.error(ErrorKind::Value, "needs at least one group"));
        }
        let (c_in, per_group, c_out) = (x[rank + 1], w[rank + 1], w[0]);
        if per_group.checked_mul(groups) != Some(c_in) {
            let why = format!(
                "{c_in} input channels are not {groups} group{} of the weights' {per_group}",
                if groups == 1 { "" } else { "s" }
            );
            return Err(self.error(ErrorKind::Shape, why));
        }
        if c_out % groups != 0 {
            let why = format!("{c_out} output channels do not divide into {groups} groups");
            return Err(self.error(ErrorKind::Shape, why));
        }
        if let Some(axis) = (0..rank).find(|i| w[1 + i] == 0) {
            let why = format!("the kernel is empty along spatial axis {axis}");
            return Err(self.error(ErrorKind::Shape, why));
        }
        Ok(rank)
    }

    /// The convolution of operands that passed [`Call::rank`].
    #[track_caller]
    fn make(&self, op: ConvOp) -> Result<Array> {
        for (i, axis) in op.axes.iter().enumerate() {
            let (len, kernel) = (self.x.0.shape[1 + i], self.w.0.shape[1 + i]);
            match axis.output(len, kernel) {
                None => {
                    let why = format!("positions along spatial axis {i} are too many to count");
                    return Err(self.error(ErrorKind::Value, why));
                }
                Some(0) => {
                    let (low, high) = axis.padding;
                    let span = axis.kernel_extent(kernel).unwrap_or(0);
                    let room = axis.input_extent(len).unwrap_or(0);
                    let why = format!(
                        "no window fits along spatial axis {i}: the kernel spans {span} positions, \
                         the input {room} with padding of {low} and {high}"
                    );
                    return Err(self.error(ErrorKind::Shape, why));
                }
                Some(_) => {}
            }
        }
        let site = call_site();
        let dtype = DType::promote(self.x.0.dtype, self.w.0.dtype);
        let (x, w) = (cast_unchecked(self.x, dtype, site), cast_unchecked(self.w, dtype, site));
        node(self.name, op, &x, &w)
    }
}

/// The node of a convolution whose operands have one dtype and belong together.
#[track_caller]
fn node(name: &'static str, op: ConvOp, x: &Array, w: &Array) -> Result<Array> {
    let rank = op.axes.len();
    let mut shape = Shape::new(&x.0.shape[..1]);
    for (i, axis) in op.axes.iter().enumerate() {
        let Some(windows) = axis.output(x.0.shape[1 + i], w.0.shape[1 + i]) else {
            let why = format!("positions along spatial axis {i} are too many to count");
            return Err(error(ErrorKind::Value, name, why, &[x, w]));
        };
        shape.push(windows);
    }
    shape.push(w.0.shape[0]);
    check_shape(name, &shape)?;
    debug_assert!(x.0.shape[rank + 1] == w.0.shape[rank + 1] * op.groups);
    let dtype = x.0.dtype;
    Ok(prim(Prim::Conv(Box::new(op)), [x.clone(), w.clone()], shape, dtype))
}

/// The axes of a convolution from checked numbers.
fn axes(n: usize, axis: impl Fn(usize) -> ConvAxis) -> ConvOp {
    ConvOp { axes: (0..n).map(axis).collect(), groups: 1, flip: false }
}

#[track_caller]
fn conv(name: &'static str, rank: usize, x: &Array, w: &Array, how: &Conv) -> Array {
    attempt(|| {
        let call = Call { name, x, w };
        let rank = call.rank(Some(rank), how.groups)?;
        let stride = how.stride.expand(&call, "stride", rank, 1)?;
        let padding = how.padding.expand(&call, "padding", rank, i64::MIN)?;
        let dilation = how.dilation.expand(&call, "dilation", rank, 1)?;
        let op = axes(rank, |i| ConvAxis {
            stride: stride[i] as usize,
            padding: (padding[i] as isize, padding[i] as isize),
            kernel_dilation: dilation[i] as usize,
            input_dilation: 1,
        });
        call.make(ConvOp { groups: how.groups, ..op })
    })
}

#[track_caller]
fn transpose(name: &'static str, rank: usize, x: &Array, w: &Array, how: &ConvTranspose) -> Array {
    attempt(|| {
        let call = Call { name, x, w };
        let rank = call.rank(Some(rank), how.groups)?;
        let stride = how.stride.expand(&call, "stride", rank, 1)?;
        let padding = how.padding.expand(&call, "padding", rank, i64::MIN)?;
        let dilation = how.dilation.expand(&call, "dilation", rank, 1)?;
        let more = how.output_padding.expand(&call, "output_padding", rank, 0)?;
        let op = axes(rank, |i| {
            let dilation = dilation[i] as usize;
            let axis = ConvAxis { kernel_dilation: dilation, ..ConvAxis::default() };
            // What cannot be counted saturates, and is refused with the axis as a whole.
            let span = axis.kernel_extent(w.0.shape[1 + i]).unwrap_or(isize::MAX);
            let low = (span - 1).saturating_sub(padding[i] as isize);
            ConvAxis {
                padding: (low, low.saturating_add(more[i] as isize)),
                input_dilation: stride[i] as usize,
                ..axis
            }
        });
        let empty = |i: &usize| op.axes[*i].output(x.0.shape[1 + i], w.0.shape[1 + i]) == Some(0);
        if let Some(i) = (0..rank).find(empty) {
            let why = format!(
                "no output is left along spatial axis {i}: {} inputs at distance {} under a kernel of \
                 {}, less a padding of {} on both sides",
                x.0.shape[1 + i],
                stride[i],
                w.0.shape[1 + i],
                padding[i],
            );
            return Err(call.error(ErrorKind::Shape, why));
        }
        call.make(ConvOp { groups: how.groups, flip: true, ..op })
    })
}

/// Convolution over one spatial axis: `x (n, length, c_in)`, `w (c_out, kernel, c_in / groups)` →
/// `(n, windows, c_out)`, where a window is the sum over its taps and channels of `x * w`.
///
/// Along an axis of length `l` a kernel of `k` taps makes
/// `(l + 2 * padding - dilation * (k - 1) - 1) / stride + 1` windows.
///
/// Any dtype, the operands' common one; f16 and bf16 accumulate in f32, integers wrap. Fails if
/// shapes, channels and groups do not belong together, if a stride or dilation is below 1, and if no
/// window fits.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange(5, DType::F32).reshape([1, 5, 1]);
/// let w = Array::from_slice(&[1.0f32, 10.0, 100.0], [1, 3, 1]);
/// let y = conv1d(&x, &w, Conv { stride: 2.into(), ..Default::default() });
/// assert_eq!(y.to_vec::<f32>()?, [210.0, 432.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv1d(x: &Array, w: &Array, how: Conv) -> Array {
    conv("conv1d", 1, x, w, &how)
}

/// Convolution over two spatial axes: `x (n, height, width, c_in)`, `w (c_out, kernel…, c_in / groups)`
/// → `(n, windows…, c_out)`. Otherwise as [`conv1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, w) = (ones([1, 8, 8, 3], DType::F32), ones([16, 3, 3, 3], DType::F32));
/// let y = conv2d(&x, &w, Conv { padding: 1.into(), stride: [2, 1].into(), ..Default::default() });
/// assert_eq!(y.shape()?, &[1, 4, 8, 16]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv2d(x: &Array, w: &Array, how: Conv) -> Array {
    conv("conv2d", 2, x, w, &how)
}

/// Convolution over three spatial axes: `x (n, depth, height, width, c_in)`,
/// `w (c_out, kernel…, c_in / groups)` → `(n, windows…, c_out)`. Otherwise as [`conv1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, w) = (ones([1, 4, 4, 4, 2], DType::F32), ones([6, 2, 3, 3, 1], DType::F32));
/// let y = conv3d(&x, &w, Conv { groups: 2, ..Default::default() });
/// assert_eq!(y.shape()?, &[1, 3, 2, 2, 6]);
/// assert_eq!(y.max(..).item::<f32>()?, 18.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv3d(x: &Array, w: &Array, how: Conv) -> Array {
    conv("conv3d", 3, x, w, &how)
}

/// Transposed convolution over one spatial axis: `x (n, length, c_in)`,
/// `w (c_out, kernel, c_in / groups)` → `(n, outputs, c_out)`. Element `i` of the input adds its
/// multiple of the kernel to the outputs from `i * stride - padding` on.
///
/// Along an axis of length `l` with `k` taps there are
/// `(l - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1` outputs. It is the
/// gradient of [`conv1d`] by its input, for weights with channels swapped. (The layout of the weights is
/// MLX's; PyTorch's is `(c_in, c_out / groups, kernel)`.)
///
/// Dtypes and errors as [`conv1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 2.0], [1, 2, 1]);
/// let w = Array::from_slice(&[1.0f32, 10.0, 100.0], [1, 3, 1]);
/// let y = conv_transpose1d(&x, &w, ConvTranspose { stride: 2.into(), ..Default::default() });
/// assert_eq!(y.to_vec::<f32>()?, [1.0, 10.0, 102.0, 20.0, 200.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv_transpose1d(x: &Array, w: &Array, how: ConvTranspose) -> Array {
    transpose("conv_transpose1d", 1, x, w, &how)
}

/// Transposed convolution over two spatial axes: `x (n, height, width, c_in)`,
/// `w (c_out, kernel…, c_in / groups)` → `(n, outputs…, c_out)`. Otherwise as [`conv_transpose1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, w) = (ones([1, 5, 5, 4], DType::F32), ones([8, 2, 2, 4], DType::F32));
/// let y = conv_transpose2d(&x, &w, ConvTranspose { stride: 2.into(), ..Default::default() });
/// assert_eq!(y.shape()?, &[1, 10, 10, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv_transpose2d(x: &Array, w: &Array, how: ConvTranspose) -> Array {
    transpose("conv_transpose2d", 2, x, w, &how)
}

/// Transposed convolution over three spatial axes: `x (n, depth, height, width, c_in)`,
/// `w (c_out, kernel…, c_in / groups)` → `(n, outputs…, c_out)`. Otherwise as [`conv_transpose1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, w) = (ones([1, 2, 3, 4, 2], DType::F32), ones([2, 3, 3, 3, 2], DType::F32));
/// let y = conv_transpose3d(&x, &w, ConvTranspose { padding: 1.into(), ..Default::default() });
/// assert_eq!(y.shape()?, &[1, 2, 3, 4, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv_transpose3d(x: &Array, w: &Array, how: ConvTranspose) -> Array {
    transpose("conv_transpose3d", 3, x, w, &how)
}

/// Convolution over one or more spatial axes with everything free: `x (n, spatial…, c_in)`,
/// `w (c_out, kernel…, c_in / groups)` → `(n, windows…, c_out)`.
///
/// Zeros are put between neighbours of the input, padding around it, and windows over that. Dtypes and
/// errors as [`conv1d`].
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 2.0], [1, 2, 1]);
/// let w = Array::from_slice(&[1.0f32, 10.0], [1, 2, 1]);
/// let how = ConvGeneral {
///     padding: (0.into(), 1.into()),
///     input_dilation: 2.into(),
///     flip: true,
///     ..Default::default()
/// };
/// // Over 1 0 2 0.
/// assert_eq!(conv_general(&x, &w, how).to_vec::<f32>()?, [10.0, 2.0, 20.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn conv_general(x: &Array, w: &Array, how: ConvGeneral) -> Array {
    attempt(|| {
        let call = Call { name: "conv_general", x, w };
        let rank = call.rank(None, how.groups)?;
        let stride = how.stride.expand(&call, "stride", rank, 1)?;
        let low = how.padding.0.expand(&call, "padding", rank, i64::MIN)?;
        let high = how.padding.1.expand(&call, "padding", rank, i64::MIN)?;
        let kernel_dilation = how.kernel_dilation.expand(&call, "kernel_dilation", rank, 1)?;
        let input_dilation = how.input_dilation.expand(&call, "input_dilation", rank, 1)?;
        let op = axes(rank, |i| ConvAxis {
            stride: stride[i] as usize,
            padding: (low[i] as isize, high[i] as isize),
            kernel_dilation: kernel_dilation[i] as usize,
            input_dilation: input_dilation[i] as usize,
        });
        call.make(ConvOp { groups: how.groups, flip: how.flip, ..op })
    })
}

/// The discrete convolution of two sequences, as in mathematics and as NumPy's: `a (n)`, `v (m)` →
/// sums of `a[i - j] * v[j]`, as many as the mode says.
///
/// Any dtype; integers wrap. Fails unless both have one dimension and an element at least.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, 2.0, 3.0], [3]);
/// let v = Array::from_slice(&[0.0f32, 1.0, 0.5], [3]);
/// let full = convolve(&a, &v, ConvolveMode::Full);
/// assert_eq!(full.to_vec::<f32>()?, [0.0, 1.0, 2.5, 4.0, 1.5]);
/// assert_eq!(convolve(&a, &v, ConvolveMode::Same).to_vec::<f32>()?, [1.0, 2.5, 4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn convolve(a: &Array, v: &Array, mode: ConvolveMode) -> Array {
    attempt(|| {
        a.check()?;
        v.check()?;
        let (&[n], &[m]) = (&a.0.shape[..], &v.0.shape[..]) else {
            let why = "needs two arrays of one dimension";
            return Err(error(ErrorKind::Shape, "convolve", why, &[a, v]));
        };
        if n == 0 || m == 0 {
            return Err(error(ErrorKind::Shape, "convolve", "needs elements", &[a, v]));
        }
        let (x, w) = if n < m { (v, a) } else { (a, v) };
        let (x, w) = (x.reshape([1, n.max(m), 1]), w.reshape([1, n.min(m), 1]));
        let reach = n.min(m) as isize - 1;
        let padding = match mode {
            ConvolveMode::Full => (reach, reach),
            ConvolveMode::Same => (reach - reach / 2, reach / 2),
            ConvolveMode::Valid => (0, 0),
        };
        let op = axes(1, |_| ConvAxis { padding, ..ConvAxis::default() });
        let y = Call { name: "convolve", x: &x, w: &w }.make(ConvOp { flip: true, ..op })?;
        Ok(y.flatten(0, -1))
    })
}
