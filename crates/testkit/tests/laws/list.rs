//! The one list from which all cases come.
//!
//! The matches below are over the enums that say what exists: a new primitive, view, reduction, fast
//! operation or loop does not compile until it is listed, and what is listed does not compile
//! without cases. Element-wise operations come from their table's own list.

use crate::case::Case;
use crate::{
    control, elementwise, fast, fft, index, linalg, product, quantized, random, reduce, shape,
};
use lazul_ir::{
    ArgReduceOp, BinaryOp, FastOp, FftKind, GroupedOp, LinalgOp, Prim, QuantizedOp, ReduceOp,
    ScanOp, ScatterOp, UnaryOp, ViewOp,
};

/// An enum's variants as a plain list, which must name all of them.
macro_rules! every {
    ($(#[$doc:meta])* $list:ident of $of:ident as $kind:ident: $($variant:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $kind { $($variant),* }
        pub(crate) const $list: &[$kind] = &[$($kind::$variant),*];
        impl From<&$of> for $kind {
            fn from(of: &$of) -> $kind {
                match of { $($of::$variant { .. } => $kind::$variant),* }
            }
        }
    };
    // For enums without fields, the variants themselves.
    ($(#[$doc:meta])* $list:ident of $of:ident: $($variant:ident)*) => {
        $(#[$doc])*
        pub(crate) const $list: &[$of] = {
            // Does not compile if a variant is missing from the list.
            const fn _complete(of: $of) {
                match of { $($of::$variant => ()),* }
            }
            &[$($of::$variant),*]
        };
    };
}

every! {
    /// Primitives.
    PRIMS of Prim as PrimKind:
    Arange Unary Binary Select Cast View Copy Reduce ArgReduce Scan Sort ArgSort Matmul Gather
    GatherAxis Scatter ScatterAxis SliceUpdate DynamicSlice DynamicSliceUpdate Concatenate RandomBits
    Quantized Fast SearchSorted Conv Fft Linalg Grouped
}
every! {
    /// Views.
    VIEWS of ViewOp as ViewKind: Reshape Transpose Broadcast Slice Strided Bitcast
}
every! {
    /// Operations with a kernel of their own.
    FASTS of FastOp as FastKind: Softmax LogSumExp RmsNorm LayerNorm Rope Attention
}
every! {
    /// Operations on quantized matrices.
    QUANTIZED of QuantizedOp as QuantizedKind: Quantize Dequantize FakeQuantize Matmul GatherMatmul
}
every! {
    /// Reductions.
    REDUCES of ReduceOp: Sum Prod Min Max All Any
}
every! {
    /// Reductions to a position.
    ARG_REDUCES of ArgReduceOp: ArgMin ArgMax
}
every! {
    /// Running reductions.
    SCANS of ScanOp: Sum Prod Min Max LogAddExp
}
every! {
    /// Ways in which updates meet what is there.
    SCATTERS of ScatterOp: Assign Add Multiply Min Max
}

every! {
    /// Fourier transforms.
    FFTS of FftKind: Forward Inverse RealToHalf HalfToReal
}
every! {
    /// Decompositions and solvers.
    LINALGS of LinalgOp as LinalgKind:
    Lu Det Qr Svd Eigh Eig Cholesky SolveTriangular Solve Inverse PseudoInverse
}
every! {
    /// Products of picked matrices, and of parts of matrices.
    GROUPED of GroupedOp: Gather Outer Segments
}

/// Operations that hold functions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ControlKind {
    Checkpoint,
    Compile,
    Cond,
    CustomFunction,
    Scan,
    WhileLoop,
}

const CONTROLS: &[ControlKind] = &{
    use ControlKind::*;
    [Checkpoint, Compile, Cond, CustomFunction, Scan, WhileLoop]
};

/// Every case there is.
pub(crate) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = PRIMS.iter().flat_map(|&p| of_prim(p)).collect();
    all.extend(CONTROLS.iter().flat_map(|&c| control::cases(c)));
    all
}

fn of_prim(prim: PrimKind) -> Vec<Case> {
    match prim {
        PrimKind::Arange => shape::arange(),
        PrimKind::Unary => UnaryOp::ALL.iter().flat_map(|&op| elementwise::unary(op)).collect(),
        PrimKind::Binary => BinaryOp::ALL.iter().flat_map(|&op| elementwise::binary(op)).collect(),
        PrimKind::Select => elementwise::select(),
        PrimKind::Cast => elementwise::cast(),
        PrimKind::View => VIEWS.iter().flat_map(|&v| shape::view(v)).collect(),
        PrimKind::Copy => shape::copy(),
        PrimKind::Reduce => REDUCES.iter().flat_map(|&op| reduce::reduce(op)).collect(),
        PrimKind::ArgReduce => ARG_REDUCES.iter().flat_map(|&op| reduce::arg_reduce(op)).collect(),
        PrimKind::Scan => SCANS.iter().flat_map(|&op| reduce::scan(op)).collect(),
        PrimKind::Sort => reduce::sort(),
        PrimKind::ArgSort => reduce::argsort(),
        PrimKind::Matmul => product::matmul(),
        PrimKind::Gather => index::gather(),
        PrimKind::GatherAxis => index::gather_axis(),
        PrimKind::Scatter => SCATTERS.iter().flat_map(|&op| index::scatter(op)).collect(),
        PrimKind::ScatterAxis => index::scatter_axis(),
        PrimKind::SliceUpdate => index::slice_update(),
        PrimKind::DynamicSlice => index::dynamic_slice(),
        PrimKind::DynamicSliceUpdate => index::dynamic_slice_update(),
        PrimKind::Concatenate => shape::concatenate(),
        PrimKind::RandomBits => random::bits(),
        PrimKind::Quantized => QUANTIZED.iter().flat_map(|&q| quantized::cases(q)).collect(),
        PrimKind::SearchSorted => reduce::searchsorted(),
        PrimKind::Conv => product::conv(),
        PrimKind::Fft => FFTS.iter().flat_map(|&kind| fft::cases(kind)).collect(),
        PrimKind::Linalg => LINALGS.iter().flat_map(|&kind| linalg::cases(kind)).collect(),
        PrimKind::Grouped => GROUPED.iter().flat_map(|&op| product::grouped(op)).collect(),
        PrimKind::Fast => FASTS.iter().flat_map(|&f| fast::cases(f)).collect(),
    }
}
