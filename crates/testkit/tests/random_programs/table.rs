//! The operations that random programs are made of.

use lazul_core::fast::{Attention, Mask, layer_norm, rms_norm, scaled_dot_product_attention};
use lazul_core::{
    Array, DType, Error, ErrorKind, Pad, Result, Scan, arange, checkpoint, concatenate, cond, scan,
    stack, where_,
};

/// One operation. Its operands are arrays of any shape and dtype; where it is not defined for them it
/// gives a failed array or an error, and is left out of the program.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) arity: usize,
    /// The operation; the number chooses among its variants.
    pub(crate) f: fn(&[&Array], usize) -> Result<Array>,
    /// Whether a batch gives each example's bits: elements are made alone, or moved.
    pub(crate) exact: bool,
    /// Whether it can be differentiated anywhere in f64 and keeps numbers of moderate size moderate.
    pub(crate) smooth: Smooth,
}

/// How an operation may be differentiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Smooth {
    /// Not, or not everywhere.
    No,
    /// Everywhere but at ties.
    WithKinks,
    /// Everywhere.
    Yes,
}

macro_rules! kinds {
    ($($name:literal $arity:literal $exact:ident $smooth:ident |$x:pat_param, $n:pat_param| $f:expr;)*) => {
        pub(crate) const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            arity: $arity,
            f: |$x, $n| Ok($f),
            exact: kinds!(@exact $exact),
            smooth: kinds!(@smooth $smooth),
        }),*];
    };
    (@exact exact) => { true };
    (@exact near) => { false };
    (@smooth rough) => { Smooth::No };
    (@smooth kinks) => { Smooth::WithKinks };
    (@smooth smooth) => { Smooth::Yes };
}

const DTYPES: &[DType] = &DType::ALL;

/// An axis of `x` by number.
fn axis(x: &Array, n: usize) -> i64 {
    (n % x.ndim().unwrap_or(1).max(1)) as i64
}

fn how(n: usize) -> Scan {
    Scan { reverse: n & 1 == 1, inclusive: n & 2 == 0 }
}

/// Indices below `n` made of whatever `x` holds. There are none into nothing.
fn indices(x: &Array, n: usize) -> Result<Array> {
    if n == 0 {
        return Err(Error::new(ErrorKind::Index, "take", "no elements"));
    }
    // Truth values and codes index too; what is not finite becomes some number.
    Ok(x.real().astype(DType::I32) % n as i32)
}

kinds! {
    "abs" 1 exact kinks |x, _| x[0].abs();
    "negative" 1 exact smooth |x, _| x[0].negative();
    "square" 1 exact rough |x, _| x[0].square();
    "sqrt" 1 exact rough |x, _| x[0].sqrt();
    "rsqrt" 1 exact rough |x, _| x[0].rsqrt();
    "reciprocal" 1 exact rough |x, _| x[0].reciprocal();
    "exp" 1 exact rough |x, _| x[0].exp();
    "expm1" 1 exact rough |x, _| x[0].expm1();
    "log" 1 exact rough |x, _| x[0].log();
    "log1p" 1 exact rough |x, _| x[0].log1p();
    "sin" 1 exact smooth |x, _| x[0].sin();
    "cos" 1 exact smooth |x, _| x[0].cos();
    "tanh" 1 exact smooth |x, _| x[0].tanh();
    "arctan" 1 exact smooth |x, _| x[0].arctan();
    "arcsinh" 1 exact smooth |x, _| x[0].arcsinh();
    "erf" 1 exact smooth |x, _| x[0].erf();
    "sigmoid" 1 exact smooth |x, _| x[0].sigmoid();
    "exp of sine" 1 exact smooth |x, _| x[0].sin().exp();
    "log of 2 + sine" 1 exact smooth |x, _| (x[0].sin() + 2).log();
    "floor" 1 exact rough |x, _| x[0].floor();
    "round" 1 exact rough |x, _| x[0].round(0);
    "sign" 1 exact rough |x, _| x[0].sign();
    "isnan" 1 exact rough |x, _| x[0].isnan();
    "logical_not" 1 exact rough |x, _| x[0].logical_not();
    "bitwise_invert" 1 exact rough |x, _| x[0].bitwise_invert();
    "real" 1 exact smooth |x, _| x[0].real();
    "imag" 1 exact rough |x, _| x[0].imag();
    "conj" 1 exact smooth |x, _| x[0].conj();
    "+ 1" 1 exact smooth |x, _| x[0] + 1;
    "* 0.5" 1 exact smooth |x, _| x[0] * 0.5;
    "clip" 1 exact kinks |x, _| x[0].clip(Some(-1), Some(2));
    "nan to num" 1 exact rough |x, _| x[0].nan_to_num(0.5, None, None);
    "to" 1 exact rough |x, n| x[0].astype(DTYPES[n % DTYPES.len()]);
    "view as" 1 exact rough |x, n| x[0].view(DTYPES[n % DTYPES.len()]);
    "stop_gradient" 1 exact rough |x, _| x[0].stop_gradient();

    "add" 2 exact smooth |x, _| x[0] + x[1];
    "subtract" 2 exact smooth |x, _| x[0] - x[1];
    "multiply" 2 exact rough |x, _| x[0] * x[1];
    "multiply sines" 2 exact smooth |x, _| x[0].sin() * x[1].cos();
    "divide" 2 exact rough |x, _| x[0] / x[1];
    "divide by 2 + sine" 2 exact smooth |x, _| x[0] / (x[1].sin() + 2);
    "maximum" 2 exact kinks |x, _| x[0].maximum(x[1]);
    "minimum" 2 exact kinks |x, _| x[0].minimum(x[1]);
    "remainder" 2 exact rough |x, _| x[0] % x[1];
    "floor_divide" 2 exact rough |x, _| x[0].floor_divide(x[1]);
    "power" 2 exact rough |x, _| x[0].power(x[1]);
    "power of 2 + sine" 2 exact smooth |x, _| (x[0].sin() + 2).power(x[1].sin());
    "logaddexp" 2 exact smooth |x, _| x[0].logaddexp(x[1]);
    "arctan2" 2 exact rough |x, _| x[0].arctan2(x[1]);
    "less" 2 exact rough |x, _| x[0].less(x[1]);
    "equal" 2 exact rough |x, _| x[0].equal(x[1]);
    "logical_and" 2 exact rough |x, _| x[0].logical_and(x[1]);
    "bitwise_xor" 2 exact rough |x, _| x[0].bitwise_xor(x[1]);
    "left_shift" 2 exact rough |x, _| x[0].left_shift(x[1]);
    "where" 3 exact rough |x, _| where_(x[0], x[1], x[2]);
    "where less" 2 exact kinks |x, _| where_(x[0].less(0), x[0], x[1]);

    "t" 1 exact smooth |x, _| x[0].t();
    "flip" 1 exact smooth |x, _| x[0].flip(());
    "every second" 1 exact smooth |x, _| x[0].slice_step(-1, None, None, 2);
    "backwards by 2" 1 exact smooth |x, n| x[0].slice_step(axis(x[0], n), None, None, -2);
    "tail" 1 exact smooth |x, n| x[0].slice_axis(axis(x[0], n), 1, None);
    "first" 1 exact smooth |x, _| x[0].slice_axis(-1, 0, 1);
    "last" 1 exact smooth |x, n| x[0].at_index(axis(x[0], n), -1);
    "flat" 1 exact smooth |x, _| x[0].reshape([-1]);
    "lift" 1 exact smooth |x, _| x[0].expand_dims(0);
    "lower" 1 exact smooth |x, _| x[0].squeeze(());
    "twice" 1 exact smooth |x, _| x[0].expand_dims(0).broadcast_to([&[2], x[0].shape()?].concat());
    "contiguous" 1 exact smooth |x, _| x[0].contiguous();
    "roll" 1 exact smooth |x, n| x[0].roll(n as i64 % 5, -1);
    "pad" 1 exact smooth |x, n| {
        let widths = vec![(n % 2, 1); x[0].ndim()?];
        x[0].pad(&widths, if n & 4 == 0 { Pad::Edge } else { Pad::Constant(0.5) })
    };
    "diagonal" 1 exact smooth |x, _| x[0].diagonal(0);
    "lower triangle" 1 exact smooth |x, _| x[0].tril(0);
    "join" 2 exact smooth |x, n| concatenate(&[x[0].clone(), x[1].clone()], axis(x[0], n));
    "join with itself" 1 exact smooth |x, n| concatenate(&[x[0].clone(), x[0].clone()], axis(x[0], n));
    "stack" 2 exact smooth |x, _| stack(&[x[0].clone(), x[1].clone()], 0);
    "slice_update" 2 exact smooth |x, _| {
        let starts = vec![0i64; x[0].ndim()?];
        x[0].slice_update(x[1], &starts)
    };
    "dynamic_slice" 2 exact smooth |x, n| {
        let (at, mut sizes) = (axis(x[0], n), x[0].shape()?.to_vec());
        let most = x[0].dim(at)? / 2;
        sizes[at as usize] -= most;
        let start = indices(&x[1].reshape([-1]).slice_axis(0, 0, 1), most + 1)?.abs();
        x[0].dynamic_slice(&start, &[at], &sizes)
    };

    "sum" 1 near rough |x, n| x[0].sum_keepdims(axis(x[0], n));
    "mean" 1 near smooth |x, n| x[0].mean_keepdims(axis(x[0], n));
    "mean of all" 1 near smooth |x, _| x[0].mean(..);
    "max" 1 exact kinks |x, n| x[0].max_keepdims(axis(x[0], n));
    "min of all" 1 exact kinks |x, _| x[0].min(..);
    "prod" 1 near rough |x, n| x[0].prod(axis(x[0], n));
    "prod of sines" 1 near smooth |x, n| (x[0].sin() + 0.2).prod(axis(x[0], n));
    "any" 1 exact rough |x, n| x[0].any(axis(x[0], n));
    "var" 1 near rough |x, n| x[0].var(axis(x[0], n), 0);
    "argmax" 1 exact rough |x, n| x[0].argmax(axis(x[0], n));
    "cumsum" 1 near rough |x, n| x[0].cumsum(axis(x[0], n), how(n));
    "cumsum of sines" 1 near smooth |x, n| x[0].sin().cumsum(axis(x[0], n), how(n)) * 0.2;
    "cumprod" 1 near rough |x, n| x[0].cumprod(axis(x[0], n), how(n));
    "cummax" 1 exact rough |x, n| x[0].cummax(axis(x[0], n), how(n));
    "logcumsumexp" 1 near smooth |x, n| {
        x[0].logcumsumexp(axis(x[0], n), Scan { inclusive: true, ..how(n) })
    };
    "sort" 1 exact kinks |x, n| x[0].sort(axis(x[0], n));
    "argsort" 1 exact rough |x, n| x[0].argsort(axis(x[0], n));
    "topk" 1 exact kinks |x, _| x[0].topk(2, -1);
    "softmax" 1 near smooth |x, n| x[0].softmax(axis(x[0], n));
    "logsumexp" 1 near smooth |x, n| x[0].logsumexp(axis(x[0], n));
    "layer_norm" 1 near smooth |x, _| layer_norm(x[0], None, None, 0.5);
    "rms_norm" 1 near smooth |x, _| rms_norm(x[0], None, 0.5);
    "attention" 3 near smooth |x, n| {
        let fit = |x: &Array| x.reshape([1, 1, -1, x.dim(-1).unwrap_or(0) as i64]);
        let mask = if n & 1 == 0 { Mask::Causal } else { Mask::None };
        let how = Attention { scale: 0.5, mask, ..Default::default() };
        scaled_dot_product_attention(&fit(x[0]), &fit(x[1]), &fit(x[2]), &how)
    };
    "matmul" 2 near rough |x, _| x[0].matmul(x[1]);
    "matmul of sines" 2 near smooth |x, _| x[0].sin().matmul(&x[1].mt()).tanh();

    "take" 1 exact smooth |x, n| {
        let at = axis(x[0], n);
        x[0].take(&indices(&(arange(5, DType::I32) * n as i32), x[0].dim(at)?)?, at)
    };
    "take by values" 2 exact rough |x, n| {
        let at = axis(x[0], n);
        x[0].take(&indices(x[1], x[0].dim(at)?)?, at)
    };
    "take_along_axis" 2 exact kinks |x, n| {
        let at = axis(x[0], n);
        x[0].take_along_axis(&indices(x[1], x[0].dim(at)?)?, at)
    };
    "put_along_axis" 2 exact kinks |x, n| {
        let at = axis(x[0], n);
        x[0].put_along_axis(&indices(x[1], x[0].dim(at)?)?, x[1], at)
    };
    "add at" 2 near smooth |x, _| {
        x[0].at(&[indices(&arange(3, DType::I32), x[0].dim(0)?)?]).add(x[1])
    };
    "multiply at" 2 near rough |x, _| x[0].at(&[indices(&arange(3, DType::I32), x[0].dim(0)?)?]).multiply(x[1]);

    "checkpoint" 2 exact smooth |x, _| {
        let b = x[1].clone();
        checkpoint(move |a: &Array| a.sin() + &b)(x[0])?
    };
    "cond" 2 near rough |x, _| {
        let b = x[1].clone();
        cond(&x[1].any(..), |a: &Array| a.sin() + &b, |a: &Array| a.cos() - &b, x[0])?
    };
    "scan" 2 exact smooth |x, _| {
        let first = x[0].at_index(0, 0);
        let step = |c: &Array, x: &Array| ((c * 0.5 + x).sin(), c * 2.0 - x);
        scan(step, &first, x[0])?.1 + x[1]
    };
}
