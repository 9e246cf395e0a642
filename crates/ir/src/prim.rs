//! Primitives: everything a backend must be able to compute, as one closed enum in families.
//!
//! Each variant documents its operands and what its output holds. Shapes and dtypes were checked and
//! promoted before a primitive is made: a backend may rely on what is said here. Where a variant
//! does not say otherwise, operands may have any strides and the output is row-major.

use crate::{BinaryOp, ConvOp, LinalgOp, QuantizedOp, Scalar, UnaryOp};
use smallvec::SmallVec;

/// An `f32` attribute that compares and hashes by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct F32Bits(u32);

impl F32Bits {
    /// Wraps a value.
    pub const fn new(value: f32) -> F32Bits {
        F32Bits(value.to_bits())
    }
    /// The value.
    pub const fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl std::fmt::Debug for F32Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// An `f64` attribute that compares and hashes by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct F64Bits(u64);

impl F64Bits {
    /// Wraps a value.
    pub const fn new(value: f64) -> F64Bits {
        F64Bits(value.to_bits())
    }
    /// The value.
    pub const fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl std::fmt::Debug for F64Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A number among the attributes of a primitive that may follow the sizes of its operands.
#[derive(Debug)]
pub enum Number<'a> {
    /// A position, a distance or a length.
    Int(&'a mut i64),
    /// A factor.
    Float(&'a mut F32Bits),
    /// A value.
    Scalar(&'a mut Scalar),
}

/// A few axes, each below the operand's rank.
pub type Axes = SmallVec<[u8; 8]>;

/// Layout changes; the output's shape is the target shape. Evaluators compute these without moving
/// an element, except a reshape whose strides do not allow it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ViewOp {
    /// Same elements in row-major order under the output's shape.
    Reshape,
    /// Axis `i` of the output is axis `perm[i]` of the operand.
    Transpose(Axes),
    /// Repeats along axes of length one, and new leading axes, to the output's shape.
    Broadcast,
    /// `starts[i] + k * steps[i]` along axis `i`; starts are in bounds, steps not zero.
    Slice {
        /// First index along each axis.
        starts: Box<[i64]>,
        /// Distance between indices along each axis.
        steps: Box<[i64]>,
    },
    /// The elements at `offset + index · strides` of the operand's elements in row-major order; all lie
    /// inside, unless the output is empty.
    Strided {
        /// Distance between neighbours along each axis of the output.
        strides: Box<[i64]>,
        /// Place of the output's first element.
        offset: usize,
    },
    /// The same bytes as another dtype; the last axis is rescaled by the ratio of sizes.
    Bitcast,
}

/// Reductions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReduceOp {
    /// Sum; the empty sum is 0.
    Sum,
    /// Product; the empty product is 1.
    Prod,
    /// Smallest; NaN if any element is.
    Min,
    /// Largest; NaN if any element is.
    Max,
    /// Whether every element is true (output bool).
    All,
    /// Whether any element is true (output bool).
    Any,
}

impl ReduceOp {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Min => "min",
            ReduceOp::Max => "max",
            ReduceOp::All => "all",
            ReduceOp::Any => "any",
        }
    }
}

/// Reductions to a position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ArgReduceOp {
    /// Index of the smallest; the first NaN if there is one, else the first smallest.
    ArgMin,
    /// Index of the largest; the first NaN if there is one, else the first largest.
    ArgMax,
}

/// Running reductions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ScanOp {
    /// Running sum.
    Sum,
    /// Running product.
    Prod,
    /// Running minimum (NaN stays).
    Min,
    /// Running maximum (NaN stays).
    Max,
    /// Running `log(sum(exp))`.
    LogAddExp,
}

impl ScanOp {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            ScanOp::Sum => "cumsum",
            ScanOp::Prod => "cumprod",
            ScanOp::Min => "cummin",
            ScanOp::Max => "cummax",
            ScanOp::LogAddExp => "logcumsumexp",
        }
    }
}

/// How an update meets what is already there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ScatterOp {
    /// Replaces it; of several updates to one place the last in row-major order stays.
    Assign,
    /// Adds to it.
    Add,
    /// Multiplies it.
    Multiply,
    /// Keeps the smaller.
    Min,
    /// Keeps the larger.
    Max,
}

/// Products of matrices that are picked from batches, and of parts of matrices.
///
/// Indices are of any integer dtype and count the matrices of an operand, whatever its batch axes;
/// negative ones count from the end. One out of bounds is an error. Floats accumulate as in
/// [`Prim::Matmul`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum GroupedOp {
    /// `a (…, m, k), b (…, k, n)` of one dtype, `lhs (I), rhs (I)` → `(I…, m, n)`: product `i` is
    /// `a[lhs[i]] · b[rhs[i]]`.
    Gather,
    /// `a (…, m, k), b (…, m, n)` of one dtype, `lhs (I), rhs (I), to (I)` → `(e, k, n)`: matrix `j` is
    /// the sum of `a[lhs[i]]ᵀ · b[rhs[i]]` over those `i` with `to[i] = j`.
    Outer,
    /// `a (m, k), b (k, n)` of one dtype, `segments (S…, 2)` → `(S…, m, n)`: for each pair of a first
    /// and a last position (exclusive) along `k`, the product of that part of `a` and of `b`. A pair
    /// that does not ascend, or leaves `0..=k`, is an error.
    Segments,
}

impl GroupedOp {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            GroupedOp::Gather => "gather_mm",
            GroupedOp::Outer => "gather_outer",
            GroupedOp::Segments => "segmented_mm",
        }
    }
}

/// Operations with a composition fallback that exist because a kernel of their own pays.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FastOp {
    /// `x` → softmax over the last axis, accumulated in f32 (f64 for f64). A row of only -inf
    /// gives NaN, as the definition does.
    Softmax,
    /// `x (…, n)` → `(…, 1)`: `log(sum(exp(x)))` over the last axis; -inf for a row of -inf.
    LogSumExp,
    /// `x (…, d) [, weight (d)]` → `x * rsqrt(mean(x²) + eps) * weight`, in f32 inside; output in
    /// `x`'s dtype.
    RmsNorm {
        /// Added to the mean square.
        eps: F32Bits,
    },
    /// `x (…, d) [, weight (d)] [, bias (d)]` → normalised to mean 0 and variance 1, then scaled and
    /// shifted, in f32 inside; output in `x`'s dtype.
    LayerNorm {
        /// Added to the variance.
        eps: F32Bits,
        /// Whether a weight operand follows `x`.
        weight: bool,
        /// Whether a bias operand comes last.
        bias: bool,
    },
    /// Rotary position embedding. `x (b, …, t, d), offset int32 (1 or b elements) [, freqs f32
    /// (dims/2)]` → `x`, of three axes or more, with its first `dims` features rotated: position
    /// `p = offset + i` of row `i` along `t`, angle `p * scale * base^(-2j/dims)` (or
    /// `p * scale / freqs[j]`) for pair `j`. Pairs are `(2j, 2j+1)` if `traditional`, else
    /// `(j, j + dims/2)`. Angles in f32.
    Rope {
        /// Features rotated, even, at most `d`.
        dims: u32,
        /// Interleaved pairs.
        traditional: bool,
        /// Base of the geometric frequencies; unused when `freqs` is given.
        base: F32Bits,
        /// Multiplies positions.
        scale: F32Bits,
        /// Whether a `freqs` operand is given.
        freqs: bool,
    },
    /// Scaled dot-product attention. `q (b, h, tq, d), k (b, hk, tk, d), v (b, hk, tk, dv) [, mask]
    /// [, sinks (h)] [, length int32 (1)]` → `(b, h, tq, dv)` in `q`'s dtype; `h` is a multiple of `hk`, head `i` of `q`
    /// uses head `i / (h/hk)` of `k` and `v`. Scores and softmax in f32 (f64 for f64).
    /// The mask operand is broadcast to `(b, h, tq, tk)`: bool keeps where true, a float is added to
    /// the scores. A row with nothing kept gives zeros. A length operand says how many of the `tk` keys
    /// are in use: those after it are not seen, and it stands for `tk` below; beyond `0..=tk` it is an
    /// error.
    Attention {
        /// Multiplies `q·k`.
        scale: F32Bits,
        /// Query `i` sees keys `j <= i + tk - tq`.
        causal: bool,
        /// With `causal`: only the last `window` of those keys; 0 means all of them.
        window: u32,
        /// Whether a mask operand follows `v`.
        mask: bool,
        /// Whether a sinks operand follows: one extra logit a head that takes part in the softmax's
        /// normalisation only.
        sinks: bool,
        /// Whether a length operand comes last.
        length: bool,
    },
}

impl FastOp {
    /// The public function's name.
    pub const fn name(&self) -> &'static str {
        match self {
            FastOp::Softmax => "softmax",
            FastOp::LogSumExp => "logsumexp",
            FastOp::RmsNorm { .. } => "rms_norm",
            FastOp::LayerNorm { .. } => "layer_norm",
            FastOp::Rope { .. } => "rope",
            FastOp::Attention { .. } => "scaled_dot_product_attention",
        }
    }
}

/// Discrete Fourier transforms of `n` points along one axis, `X[k] = Σ x[j] exp(∓2πi·jk/n)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FftKind {
    /// complex64 → complex64, negative exponent.
    Forward,
    /// complex64 → complex64, positive exponent.
    Inverse,
    /// f32 of length `n` → complex64 of length `n/2 + 1`: the forward transform's first half, of which
    /// the rest is the conjugate.
    RealToHalf,
    /// complex64 of length `n/2 + 1` → f32 of length `n` (the output's): the inverse transform of the
    /// conjugate-symmetric sequence that the operand is the first half of. The imaginary parts of
    /// entry 0, and of entry `n/2` for even `n`, do not count.
    HalfToReal,
}

impl FftKind {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            FftKind::Forward => "fft",
            FftKind::Inverse => "ifft",
            FftKind::RealToHalf => "rfft",
            FftKind::HalfToReal => "irfft",
        }
    }
}

/// Everything a backend computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Prim {
    /// No operand: `start + i * step` along the output's one axis, computed in f64 for float dtypes
    /// and wrapping i64 for integers (`start` and `step` are f64 or i64 scalars accordingly).
    Arange {
        /// Value at index 0.
        start: Scalar,
        /// Distance between neighbours.
        step: Scalar,
    },
    /// One operand in the dtype that the operation's rule asks for.
    Unary(UnaryOp),
    /// Two operands of one dtype and the output's shape (broadcast by strides).
    Binary(BinaryOp),
    /// `condition (bool), a, b`: `a` where true, else `b`; all of the output's shape.
    Select,
    /// The operand in the output's dtype. Float to integer truncates toward zero and saturates, NaN
    /// becomes 0; anything to bool is `x != 0`; complex to real keeps the real part; integer to
    /// integer wraps.
    Cast,
    /// A change of layout.
    View(ViewOp),
    /// The operand in row-major order in memory of its own.
    Copy,
    /// Reduces `axes`, which have length 1 in the output. The output's dtype may be wider than the
    /// operand's: elements are converted first. f16 and bf16 accumulate in f32.
    Reduce {
        /// What is computed.
        op: ReduceOp,
        /// Reduced axes, ascending.
        axes: Axes,
    },
    /// Index (u32) of the extremum along `axis`, which has length 1 in the output.
    ArgReduce {
        /// What is computed.
        op: ArgReduceOp,
        /// Reduced axis.
        axis: u8,
    },
    /// Running reduction along `axis`; f16 and bf16 accumulate in f32. The output's dtype may be
    /// wider than the operand's.
    Scan {
        /// What is computed.
        op: ScanOp,
        /// Axis along which it runs.
        axis: u8,
        /// From the end toward the start.
        reverse: bool,
        /// Whether an element counts in its own position; if not, the first position holds the
        /// operation's neutral element.
        inclusive: bool,
    },
    /// Ascending order along `axis`, stable, NaN last.
    Sort {
        /// Axis sorted along.
        axis: u8,
    },
    /// The u32 indices that sort along `axis`, stable, NaN last.
    ArgSort {
        /// Axis sorted along.
        axis: u8,
    },
    /// `sorted (b, n), values (b, m)` of one dtype → u32 `(b, m)`: how many elements of the row are less
    /// than the value (or equal to it as well, if `right`). Rows ascend as [`Prim::Sort`] leaves them;
    /// `n` is below 2^32.
    SearchSorted {
        /// Whether equal elements count.
        right: bool,
    },
    /// `a (…, m, k), b (…, k, n)` of one dtype and equal batch shape → `(…, m, n)` in that dtype.
    /// f16 and bf16 accumulate in f32; integers wrap.
    Matmul,
    /// `x (n, spatial…, c_in), w (c_out, kernel…, c_in / groups)` of one dtype → `(n, windows…, c_out)`
    /// in that dtype: for every window of [`ConvOp`] the sum over its taps, and the channels of its
    /// group, of `x * w`, where what lies outside of `x` or between its dilated elements counts as
    /// zero. No kernel axis is empty; `groups` divides `c_in` and `c_out`; the numbers of windows are
    /// those of [`ConvAxis::output`](crate::ConvAxis::output). f16 and bf16 accumulate in f32;
    /// integers wrap.
    Conv(Box<ConvOp>),
    /// `src, index…` (any integer dtype, one shape `I`, one index array per entry of `axes`) →
    /// shape `I ++ (src's other dimensions)`. Negative indices count from the end; an index out of
    /// bounds is an error.
    Gather {
        /// Indexed axes of `src`, distinct, in the order of the index operands.
        axes: Axes,
    },
    /// `src, index` → output of the index's shape: `src` at `index` along `axis`, at its own
    /// position elsewhere. Other dimensions agree (broadcast by strides).
    GatherAxis {
        /// Indexed axis.
        axis: u8,
    },
    /// `src, index…, updates (I ++ other dimensions)`: `src` with updates applied. The output
    /// already holds `src` when the job runs.
    Scatter {
        /// How updates are applied.
        op: ScatterOp,
        /// Indexed axes, as in [`Prim::Gather`].
        axes: Axes,
    },
    /// `src, index, updates` (of the index's shape): as [`Prim::GatherAxis`], writing. The output
    /// already holds `src` when the job runs.
    ScatterAxis {
        /// How updates are applied.
        op: ScatterOp,
        /// Indexed axis.
        axis: u8,
    },
    /// `src, update`: `src` with the positions `starts + k * steps` replaced by `update`'s elements.
    /// The output already holds `src` when the job runs.
    SliceUpdate {
        /// First index along each axis.
        starts: Box<[i64]>,
        /// Distance between indices along each axis.
        steps: Box<[i64]>,
    },
    /// `src, start (integer, one element per entry of axes)` → the block of the output's shape that
    /// begins there; it must lie inside.
    DynamicSlice {
        /// Axes that the starts belong to; others start at 0.
        axes: Axes,
    },
    /// `src, update, start`: `src` with the block of `update`'s shape at `start` replaced. The output
    /// already holds `src` when the job runs.
    DynamicSliceUpdate {
        /// Axes that the starts belong to; others start at 0.
        axes: Axes,
    },
    /// Operands of one dtype, one after the other along `axis`.
    Concatenate {
        /// Axis along which they are joined.
        axis: u8,
    },
    /// `keys u32 (B…, 2)` → `(B…, s…)` of u8, u16 or u32: for each key the first bits of its
    /// Threefry-2x32 stream. For `n` output bytes a key, let `w = ceil(n/4)` words, `h = w/2`
    /// (rounded down), `odd = w % 2`: counters `(i, h + odd + i)` for `i < h` give words `i` and
    /// `h + odd + i`; if odd, the counter `(h, 0)` gives word `h`. Bytes are the words' in
    /// little-endian order.
    RandomBits,
    /// A Fourier transform along `axis`, of at least one point, every result multiplied by `scale`.
    Fft {
        /// Direction and symmetry.
        kind: FftKind,
        /// Transformed axis.
        axis: u8,
        /// Factor of the results.
        scale: F32Bits,
    },
    /// Linear algebra.
    Linalg(LinalgOp),
    /// Quantized matrices.
    Quantized(QuantizedOp),
    /// Products of picked matrices.
    Grouped(GroupedOp),
    /// Fused operations with a fallback.
    Fast(FastOp),
}

impl Prim {
    /// The public function's name.
    pub fn name(&self) -> &'static str {
        match self {
            Prim::Arange { .. } => "arange",
            Prim::Unary(op) => op.name(),
            Prim::Binary(op) => op.name(),
            Prim::Select => "where",
            Prim::Cast => "astype",
            Prim::View(ViewOp::Reshape) => "reshape",
            Prim::View(ViewOp::Transpose(_)) => "transpose",
            Prim::View(ViewOp::Broadcast) => "broadcast_to",
            Prim::View(ViewOp::Slice { .. }) => "slice",
            Prim::View(ViewOp::Strided { .. }) => "as_strided",
            Prim::View(ViewOp::Bitcast) => "view",
            Prim::Copy => "contiguous",
            Prim::Reduce { op, .. } => op.name(),
            Prim::ArgReduce { op: ArgReduceOp::ArgMin, .. } => "argmin",
            Prim::ArgReduce { op: ArgReduceOp::ArgMax, .. } => "argmax",
            Prim::Scan { op, .. } => op.name(),
            Prim::Sort { .. } => "sort",
            Prim::ArgSort { .. } => "argsort",
            Prim::SearchSorted { .. } => "searchsorted",
            Prim::Matmul => "matmul",
            Prim::Conv(_) => "conv",
            Prim::Gather { .. } => "take",
            Prim::GatherAxis { .. } => "take_along_axis",
            Prim::Scatter { .. } => "scatter",
            Prim::ScatterAxis { .. } => "put_along_axis",
            Prim::SliceUpdate { .. } => "slice_update",
            Prim::DynamicSlice { .. } => "dynamic_slice",
            Prim::DynamicSliceUpdate { .. } => "dynamic_slice_update",
            Prim::Concatenate { .. } => "concatenate",
            Prim::RandomBits => "random_bits",
            Prim::Fft { kind, .. } => kind.name(),
            Prim::Linalg(op) => op.name(),
            Prim::Quantized(op) => op.name(),
            Prim::Grouped(op) => op.name(),
            Prim::Fast(op) => op.name(),
        }
    }

    /// Shows every attribute that may follow the sizes of operands, in a fixed order, to be read or
    /// replaced. Axes, flags and what else describes the operation rather than its operands are not
    /// among them.
    ///
    /// ```
    /// use lazul_ir::{Number, Prim, ViewOp};
    /// let mut half = Prim::View(ViewOp::Slice { starts: [4].into(), steps: [1].into() });
    /// half.numbers(&mut |number| {
    ///     if let Number::Int(n) = number {
    ///         *n *= 2;
    ///     }
    /// });
    /// assert_eq!(half, Prim::View(ViewOp::Slice { starts: [8].into(), steps: [2].into() }));
    /// ```
    pub fn numbers(&mut self, visit: &mut dyn FnMut(Number<'_>)) {
        match self {
            Prim::Arange { start, step } => {
                visit(Number::Scalar(start));
                visit(Number::Scalar(step));
            }
            Prim::View(ViewOp::Slice { starts, steps }) | Prim::SliceUpdate { starts, steps } => {
                starts.iter_mut().chain(steps).for_each(|n| visit(Number::Int(n)));
            }
            Prim::View(ViewOp::Strided { strides, offset }) => {
                strides.iter_mut().for_each(|n| visit(Number::Int(n)));
                let mut place = *offset as i64;
                visit(Number::Int(&mut place));
                // A negative one lies beyond every operand, which is what it will be told.
                *offset = usize::try_from(place).unwrap_or(usize::MAX);
            }
            Prim::Conv(conv) => {
                let sides = conv.axes.iter_mut().flat_map(|a| [&mut a.padding.0, &mut a.padding.1]);
                for side in sides {
                    let mut padding = *side as i64;
                    visit(Number::Int(&mut padding));
                    *side = padding as isize;
                }
            }
            Prim::Fft { scale, .. } => visit(Number::Float(scale)),
            Prim::Unary(_)
            | Prim::Binary(_)
            | Prim::Select
            | Prim::Cast
            | Prim::View(
                ViewOp::Reshape | ViewOp::Transpose(_) | ViewOp::Broadcast | ViewOp::Bitcast,
            )
            | Prim::Copy
            | Prim::Reduce { .. }
            | Prim::ArgReduce { .. }
            | Prim::Scan { .. }
            | Prim::Sort { .. }
            | Prim::ArgSort { .. }
            | Prim::SearchSorted { .. }
            | Prim::Matmul
            | Prim::Gather { .. }
            | Prim::GatherAxis { .. }
            | Prim::Scatter { .. }
            | Prim::ScatterAxis { .. }
            | Prim::DynamicSlice { .. }
            | Prim::DynamicSliceUpdate { .. }
            | Prim::Concatenate { .. }
            | Prim::RandomBits
            | Prim::Linalg(_)
            | Prim::Quantized(_)
            | Prim::Grouped(_)
            | Prim::Fast(_) => {}
        }
    }

    /// Whether the output starts as a copy of operand 0 (or is operand 0's memory, donated) and the
    /// primitive writes only a part of it.
    pub const fn updates_in_place(&self) -> bool {
        matches!(
            self,
            Prim::Scatter { .. }
                | Prim::ScatterAxis { .. }
                | Prim::SliceUpdate { .. }
                | Prim::DynamicSliceUpdate { .. }
        )
    }

    /// Whether the primitive works element by element, so that it can join a fused tape.
    pub const fn is_elementwise(&self) -> bool {
        matches!(self, Prim::Unary(_) | Prim::Binary(_) | Prim::Select | Prim::Cast)
    }
}
