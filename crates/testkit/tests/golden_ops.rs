//! Every operation against the golden files: `ops.json` (values) and `dtypes.json` (which dtype comes
//! out of which operands).
//!
//! One table, [`call`], says which function of `lazul-core` an operation of the file is. What is not
//! there yet stands in [`NOT_YET`], where we differ on purpose in [`DELIBERATE`]; both are checked, so
//! nothing is left out in silence. Each case runs with its operands in several layouts.

use lazul_core::fast::{self, Attention, Mask, Rope};
use lazul_core::ints::{IntoAxes, Ints};
use lazul_core::ops::join::Pad;
use lazul_core::{
    Array, Complex32, ConvolveMode, DType, Index, Scan, Side, Slice, Tolerance, arange_step,
    bartlett, blackman, concatenate, convolve, einsum, eye, hamming, hanning, linspace,
    linspace_open, meshgrid, stack, tri, where_, zeros,
};
use lazul_testkit::{Case, Golden, Report, Rule, compare, convolution};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Operations, or single cases of one, that the core does not have yet.
const NOT_YET: &[&str] = &["cross_entropy"];

/// Where we differ on purpose.
struct Deliberate {
    id: &'static str,
    why: &'static str,
    instead: Instead,
}

enum Instead {
    /// The operation is refused.
    Refused,
    /// The answer, from the inputs and the file's answer.
    Answer(fn(&[Array], &Array) -> Array),
}

const NO_ARITHMETIC: &str = "as NumPy: bool is not a number to subtract, divide or square";
const ORDER: &str = "complex numbers have no order";

/// `x % 0` of integers is 0, as NumPy's.
fn zero_for_zero(x: &[Array], theirs: &Array) -> Array {
    where_(x[1].equal(0), 0, theirs)
}
const REMAINDER: &str = "as NumPy: the remainder by the integer 0 is 0 (MLX returns the dividend)";

/// `1^-n` and `(-1)^-n` are integers.
fn units_to_negative_powers(x: &[Array], theirs: &Array) -> Array {
    let negative = x[1].less(0);
    let odd = x[1].bitwise_and(1).equal(1);
    let sign = where_(odd, &x[0], 1);
    where_(x[0].abs().equal(1).logical_and(negative), sign, theirs)
}
const POWER: &str = "1 and -1 to a negative power are exact (MLX says 0)";

macro_rules! deliberate {
    ($($id:literal: $instead:expr, $why:expr;)*) => {
        &[$(Deliberate { id: $id, why: $why, instead: $instead }),*]
    };
}
const DELIBERATE: &[Deliberate] = deliberate! {
    "sign.f32.nan": Instead::Answer(|x, theirs| where_(x[0].isnan(), &x[0], theirs)),
        "as NumPy: what is not a number has no sign, so NaN stays NaN (MLX says 0)";
    "square.bool": Instead::Refused, NO_ARITHMETIC;
    "subtract.bool": Instead::Refused, NO_ARITHMETIC;
    "floor_divide.bool": Instead::Refused, NO_ARITHMETIC;
    "remainder.bool": Instead::Refused, NO_ARITHMETIC;
    "maximum.c64": Instead::Refused, ORDER;
    "minimum.c64": Instead::Refused, ORDER;
    "remainder.int8": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.int16": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.int32": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.int64": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.uint8": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.uint16": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.uint32": Instead::Answer(zero_for_zero), REMAINDER;
    "remainder.uint64": Instead::Answer(zero_for_zero), REMAINDER;
    "power.int8": Instead::Answer(units_to_negative_powers), POWER;
    "power.int16": Instead::Answer(units_to_negative_powers), POWER;
    "power.int32": Instead::Answer(units_to_negative_powers), POWER;
    "power.int64": Instead::Answer(units_to_negative_powers), POWER;
    "cumprod.bool": Instead::Answer(|_, theirs| theirs.astype(DType::I32)),
        "int32, as the running sum gives (MLX stays bool, NumPy gives int64)";
};

/// Axes of a reduction as the file has them: null for all, one, or several.
#[derive(Clone)]
struct Axes(Option<Vec<i64>>);

impl IntoAxes for Axes {
    fn into_axes(self) -> Option<Ints> {
        self.0.map(Ints::from_vec)
    }
}

fn axes(a: &Case) -> Axes {
    let named = !a.get("axis").is_null();
    Axes(named.then(|| a.ints("axis")))
}

/// The array and axis of an operation that flattens where no axis is given.
fn along(x: &Array, a: &Case) -> (Array, i64) {
    match a.get("axis").as_i64() {
        Some(axis) => (x.clone(), axis),
        None => (x.reshape([-1]), 0),
    }
}

fn int(a: &Case, key: &str) -> i64 {
    a.get(key).as_i64().unwrap_or_else(|| panic!("no integer {key}"))
}

fn scan(a: &Case) -> Scan {
    Scan { reverse: a.flag("reverse"), inclusive: a.get("inclusive").as_bool().unwrap_or(true) }
}

fn tolerance(a: &Case) -> Tolerance {
    let default = Tolerance::default();
    Tolerance {
        rtol: a.get("rtol").as_f64().unwrap_or(default.rtol),
        atol: a.get("atol").as_f64().unwrap_or(default.atol),
        equal_nan: a.flag("equal_nan"),
    }
}

/// `[start, stop, step]` for each leading axis; null for what is left out.
fn slices(a: &Case) -> Vec<Index> {
    let list = a.get("slices").as_array().expect("slices");
    let slice = |s: &Value| {
        let step = s[2].as_i64().unwrap_or(1);
        Index::Slice(Slice { start: s[0].as_i64(), stop: s[1].as_i64(), step })
    };
    list.iter().map(slice).collect()
}

/// The operation of a case, or `None` if the core does not have it. Several outputs in order.
fn call(op: &str, x: &[Array], a: &Case) -> Option<Result<Vec<Array>, lazul_core::Error>> {
    macro_rules! reduce {
        ($f:ident, $keep:ident $(, $arg:expr)*) => {
            if a.flag("keepdims") { x[0].$keep(axes(a) $(, $arg)*) } else { x[0].$f(axes(a) $(, $arg)*) }
        };
    }
    macro_rules! run_along {
        ($f:ident $(, $arg:expr)*) => {{
            let (x, axis) = along(&x[0], a);
            x.$f($($arg,)* axis)
        }};
    }
    macro_rules! scan {
        ($f:ident) => {{
            let x = match a.get("dtype") {
                Value::Null => x[0].clone(),
                _ => x[0].astype(a.dtype("dtype")),
            };
            let (x, axis) = along(&x, a);
            x.$f(axis, scan(a))
        }};
    }
    macro_rules! at {
        ($f:ident) => {
            x[0].at(&x[1..x.len() - 1]).$f(&x[x.len() - 1])
        };
    }
    Some(Ok(vec![match op {
        // One operand, element by element.
        "abs" => x[0].abs(),
        "arccos" => x[0].arccos(),
        "arccosh" => x[0].arccosh(),
        "arcsin" => x[0].arcsin(),
        "arcsinh" => x[0].arcsinh(),
        "arctan" => x[0].arctan(),
        "arctanh" => x[0].arctanh(),
        "bitwise_invert" => x[0].bitwise_invert(),
        "ceil" => x[0].ceil(),
        "conj" => x[0].conj(),
        "cos" => x[0].cos(),
        "cosh" => x[0].cosh(),
        "degrees" => x[0].degrees(),
        "erf" => x[0].erf(),
        "erfinv" => x[0].erfinv(),
        "exp" => x[0].exp(),
        "expm1" => x[0].expm1(),
        "floor" => x[0].floor(),
        "from_fp8" => x[0].from_fp8(a.dtype("dtype")),
        "imag" => x[0].imag(),
        "isfinite" => x[0].isfinite(),
        "isinf" => x[0].isinf(),
        "isnan" => x[0].isnan(),
        "isneginf" => x[0].isneginf(),
        "isposinf" => x[0].isposinf(),
        "log" => x[0].log(),
        "log10" => x[0].log10(),
        "log1p" => x[0].log1p(),
        "log2" => x[0].log2(),
        "logical_not" => x[0].logical_not(),
        "nan_to_num" => {
            let value = |key| a.get(key).as_f64();
            x[0].nan_to_num(value("nan").unwrap_or(0.0), value("posinf"), value("neginf"))
        }
        "negative" => x[0].negative(),
        "radians" => x[0].radians(),
        "real" => x[0].real(),
        "reciprocal" => x[0].reciprocal(),
        "round" => x[0].round(a.get("decimals").as_i64().unwrap_or(0) as i32),
        "rsqrt" => x[0].rsqrt(),
        "sigmoid" => x[0].sigmoid(),
        "sign" => x[0].sign(),
        "sin" => x[0].sin(),
        "sinh" => x[0].sinh(),
        "sqrt" => x[0].sqrt(),
        "square" => x[0].square(),
        "tan" => x[0].tan(),
        "tanh" => x[0].tanh(),
        "to_fp8" => x[0].to_fp8(),
        "trunc" => x[0].trunc(),
        "astype" => x[0].astype(a.dtype("dtype")),
        "view" => x[0].view(a.dtype("dtype")),

        // Several operands, element by element.
        "add" => x[0].add(&x[1]),
        "arctan2" => x[0].arctan2(&x[1]),
        "bitwise_and" => x[0].bitwise_and(&x[1]),
        "bitwise_or" => x[0].bitwise_or(&x[1]),
        "bitwise_xor" => x[0].bitwise_xor(&x[1]),
        "divide" => x[0].divide(&x[1]),
        "equal" => x[0].equal(&x[1]),
        "floor_divide" => x[0].floor_divide(&x[1]),
        "greater" => x[0].greater(&x[1]),
        "greater_equal" => x[0].greater_equal(&x[1]),
        "left_shift" => x[0].left_shift(&x[1]),
        "less" => x[0].less(&x[1]),
        "less_equal" => x[0].less_equal(&x[1]),
        "logaddexp" => x[0].logaddexp(&x[1]),
        "logical_and" => x[0].logical_and(&x[1]),
        "logical_or" => x[0].logical_or(&x[1]),
        "logical_xor" => x[0].logical_xor(&x[1]),
        "maximum" => x[0].maximum(&x[1]),
        "minimum" => x[0].minimum(&x[1]),
        "multiply" => x[0].multiply(&x[1]),
        "not_equal" => x[0].not_equal(&x[1]),
        "power" => x[0].power(&x[1]),
        "remainder" => x[0].remainder(&x[1]),
        "right_shift" => x[0].right_shift(&x[1]),
        "subtract" => x[0].subtract(&x[1]),
        "divmod" => {
            let (quotient, rest) = x[0].divmod(&x[1]);
            return Some(Ok(vec![quotient, rest]));
        }
        "where" => where_(&x[0], &x[1], &x[2]),
        "clip" if x.len() == 3 => x[0].clip(Some(&x[1]), Some(&x[2])),
        "clip" if a.get("a_min").is_i64() => {
            x[0].clip(a.get("a_min").as_i64(), a.get("a_max").as_i64())
        }
        "clip" => x[0].clip(a.get("a_min").as_f64(), a.get("a_max").as_f64()),
        "isclose" => x[0].isclose(&x[1], tolerance(a)),
        "allclose" => x[0].allclose(&x[1], tolerance(a)),
        "array_equal" => x[0].array_equal(&x[1], a.flag("equal_nan")),

        // Reductions, scans, order.
        "sum" => reduce!(sum, sum_keepdims),
        "prod" => reduce!(prod, prod_keepdims),
        "min" => reduce!(min, min_keepdims),
        "max" => reduce!(max, max_keepdims),
        "all" => reduce!(all, all_keepdims),
        "any" => reduce!(any, any_keepdims),
        "mean" => reduce!(mean, mean_keepdims),
        "var" => reduce!(var, var_keepdims, a.get("ddof").as_i64().unwrap_or(0) as usize),
        "std" => reduce!(std, std_keepdims, a.get("ddof").as_i64().unwrap_or(0) as usize),
        "logsumexp" => reduce!(logsumexp, logsumexp_keepdims),
        "median" => reduce!(median, median_keepdims),
        "count_nonzero" => reduce!(count_nonzero, count_nonzero_keepdims),
        "minmax" => {
            let (low, high) = reduce!(minmax, minmax_keepdims);
            return Some(Ok(vec![low, high]));
        }
        "argmax" if a.flag("keepdims") => run_along!(argmax_keepdims),
        "argmax" => run_along!(argmax),
        "argmin" if a.flag("keepdims") => run_along!(argmin_keepdims),
        "argmin" => run_along!(argmin),
        "softmax" => x[0].softmax(axes(a)),
        "cumsum" => scan!(cumsum),
        "cumprod" => scan!(cumprod),
        "cummax" => scan!(cummax),
        "cummin" => scan!(cummin),
        "logcumsumexp" => scan!(logcumsumexp),
        "sort" => run_along!(sort),
        "argsort" => run_along!(argsort),
        "searchsorted" => {
            let right = a.str("side") == "right";
            x[0].searchsorted(&x[1], if right { Side::Right } else { Side::Left })
        }
        "topk" => run_along!(topk, int(a, "k") as usize),
        "partition" => run_along!(partition, int(a, "kth")),
        "argpartition" => run_along!(argpartition, int(a, "kth")),

        // Indices.
        "take" => match a.get("axis").as_i64() {
            Some(axis) => x[0].take(&x[1], axis),
            None => x[0].take_flat(&x[1]),
        },
        "take_along_axis" => {
            let (y, axis) = along(&x[0], a);
            y.take_along_axis(&x[1], axis)
        }
        "put_along_axis" => x[0].put_along_axis(&x[1], &x[2], int(a, "axis")),
        "slice" => x[0].index(&slices(a)[..]),
        "slice_update" => x[0].at(&slices(a)[..]).set(&x[1]),
        "gather" => {
            let mut words = vec![Index::Slice(Slice::ALL); 3];
            for (axis, index) in a.ints("axes").iter().zip(&x[1..]) {
                words[*axis as usize] = Index::Array(index.clone());
            }
            x[0].index(words)
        }
        "at_add" => at!(add),
        "at_subtract" => at!(subtract),
        "at_multiply" => at!(multiply),
        "at_divide" => at!(divide),
        "at_maximum" => at!(maximum),
        "at_minimum" => at!(minimum),

        // Shape.
        "concatenate" => concatenate(x, int(a, "axis")),
        "stack" => stack(x, int(a, "axis")),
        "split" => {
            let cuts = a.ints("indices_or_sections");
            return Some(match a.get("indices_or_sections").as_i64() {
                Some(n) => x[0].split(n as usize, int(a, "axis")),
                None => {
                    let cuts: Vec<usize> = cuts.iter().map(|&c| c as usize).collect();
                    x[0].split_at(&cuts, int(a, "axis"))
                }
            });
        }
        "pad" => {
            let mode = match a.str("mode") {
                "constant" => Pad::Constant(a.float("constant_values")),
                "edge" => Pad::Edge,
                "reflect" => Pad::Reflect,
                "symmetric" => Pad::Symmetric,
                _ => return None,
            };
            let widths: Vec<(usize, usize)> = match a.get("pad_width").as_u64() {
                Some(n) => vec![(n as usize, n as usize); x[0].ndim().ok()?],
                None => {
                    a.ints("pad_width").chunks(2).map(|w| (w[0] as usize, w[1] as usize)).collect()
                }
            };
            x[0].pad(&widths, mode)
        }
        "roll" => x[0].roll(a.ints("shift"), axes(a)),
        "flip" => x[0].flip(a.ints("axis")),
        "repeat" => run_along!(repeat, int(a, "repeats") as usize),
        "tile" => x[0].tile(a.ints("reps")),
        "tril" => x[0].tril(int(a, "k")),
        "triu" => x[0].triu(int(a, "k")),
        "diagonal" => x[0].diagonal_of(int(a, "offset"), int(a, "axis1"), int(a, "axis2")),
        "trace" => x[0].trace_of(int(a, "offset"), int(a, "axis1"), int(a, "axis2")),
        "diag" => x[0].diag(int(a, "k")),
        "diff" => x[0].diff(int(a, "n") as usize, int(a, "axis")),

        // New arrays.
        "eye" => eye(int(a, "n") as usize, int(a, "m") as usize, int(a, "k"), DType::F32),
        "tri" => tri(int(a, "n") as usize, int(a, "m") as usize, int(a, "k"), DType::F32),
        "meshgrid" => return Some(meshgrid(x, a.str("indexing") == "ij")),
        "arange" if a.get("start").is_i64() => {
            arange_step(int(a, "start"), int(a, "stop"), int(a, "step"), a.dtype("dtype"))
        }
        "arange" => {
            arange_step(a.float("start"), a.float("stop"), a.float("step"), a.dtype("dtype"))
        }
        "linspace" if a.flag("endpoint") => {
            linspace(a.float("start"), a.float("stop"), int(a, "num") as usize, DType::F32)
        }
        "linspace" => {
            linspace_open(a.float("start"), a.float("stop"), int(a, "num") as usize, DType::F32)
        }
        "bartlett" => bartlett(int(a, "M") as usize),
        "blackman" => blackman(int(a, "M") as usize),
        "hamming" => hamming(int(a, "M") as usize),
        "hanning" => hanning(int(a, "M") as usize),

        // Products.
        "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d"
        | "conv_transpose3d" => convolution(op, &x[0], &x[1], a)?,
        "convolve" => {
            let mode = match a.str("mode") {
                "full" => ConvolveMode::Full,
                "same" => ConvolveMode::Same,
                _ => ConvolveMode::Valid,
            };
            convolve(&x[0], &x[1], mode)
        }
        "matmul" => x[0].matmul(&x[1]),
        "addmm" => x[0].addmm(&x[1], &x[2], a.float("alpha"), a.float("beta")),
        "outer" => x[0].outer(&x[1]),
        "inner" => x[0].inner(&x[1]),
        "kron" => x[0].kron(&x[1]),
        "vecdot" => x[0].vecdot(&x[1], int(a, "axis")),
        "einsum" => einsum(a.str("subscripts"), x),
        "tensordot" => match a.get("axes").as_i64() {
            Some(n) => x[0].tensordot_count(&x[1], n as usize),
            None => {
                let axes = a.ints("axes");
                let (left, right) = axes.split_at(axes.len() / 2);
                x[0].tensordot(&x[1], left, right)
            }
        },

        // Fast operations.
        "fast_cross_entropy" => fast::cross_entropy(&x[0], &x[1]),
        "gated_delta_update" => {
            let how = fast::GatedDelta { state: x.get(5), mask: x.get(6) };
            let made = fast::gated_delta_update(&x[0], &x[1], &x[2], &x[3], &x[4], how);
            match (made, int(a, "output")) {
                (Ok((y, _)), 0) => match x.get(6) {
                    Some(mask) => y * mask.expand_dims(-1).expand_dims(-1),
                    None => y,
                },
                (Ok((_, state)), _) => state,
                (Err(e), _) => panic!("{e}"),
            }
        }
        "rms_norm" => fast::rms_norm(&x[0], x.get(1), a.float("eps") as f32),
        "layer_norm" => fast::layer_norm(&x[0], x.get(1), x.get(2), a.float("eps") as f32),
        "rope" => {
            let offsets: Vec<i32> = a.ints("offset").iter().map(|&o| o as i32).collect();
            let rope = Rope {
                dims: int(a, "dims") as usize,
                traditional: a.flag("traditional"),
                base: a.float("base") as f32,
                scale: a.float("scale") as f32,
                freqs: x.get(1).cloned(),
            };
            fast::rope(&x[0], &rope, &Array::from_slice(&offsets, [offsets.len()]))
        }
        "scaled_dot_product_attention" => {
            let mask = match a.get("mask").as_str() {
                Some("causal") => Mask::Causal,
                Some("array") => Mask::Array(x[3].clone()),
                _ => Mask::None,
            };
            let sinks = a.flag("sinks").then(|| &x[x.len() - 1]);
            let how =
                Attention { scale: a.float("scale") as f32, mask, sinks, ..Default::default() };
            fast::scaled_dot_product_attention(&x[0], &x[1], &x[2], &how)
        }
        _ => return None,
    }]))
}

/// The same values in other layouts: what a kernel reads must not depend on where they lie.
const LAYOUTS: [(&str, fn(&Array) -> Array); 4] = [
    ("", Array::clone),
    // Computed by the same program, so its memory may be reused.
    (" (fresh)", Array::contiguous),
    (" (transposed)", |x| x.t().contiguous().t()),
    // Every second element, from the end to the start.
    (" (strided)", |x| match x.ndim() {
        Ok(0) | Err(_) => x.clone(),
        Ok(_) => x.repeat(2, -1).flip(()).contiguous().flip(()).slice_step(-1, 1, None, 2),
    }),
];

/// Dtype and shape, for a report.
fn form(x: &Array) -> String {
    match (x.dtype(), x.shape()) {
        (Ok(dtype), Ok(shape)) => format!("{dtype}{shape:?}"),
        _ => "failed".to_string(),
    }
}

fn judge(case: &Case, inputs: &[Array], ours: &[Array], theirs: &[Array]) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} outputs, expected {}", ours.len(), theirs.len()));
    }
    let rule = Rule {
        rtol: case.float("rtol"),
        atol: case.float("atol"),
        signed_zero: case.flag("exact"),
    };
    let a = case.inner("attrs");
    let text = |e: lazul_core::Error| format!("error: {e}");
    match case.get("compare").as_str() {
        Some("sorted") => compare(&ours[0].sort(along(&ours[0], &a).1), &theirs[0], rule),
        Some("partition") => is_partition(&ours[0], &theirs[0], &a).map_err(text)?,
        Some("argpartition") => {
            let (x, axis) = along(&inputs[0], &a);
            let picked = x.take_along_axis(&ours[0], axis);
            // The file gives an order; what counts are the elements that ours selects.
            let sorted = x.sort(axis);
            is_partition(&picked, &sorted, &a).map_err(text)?
        }
        _ => ours.iter().zip(theirs).try_for_each(|(o, t)| compare(o, t, rule)),
    }
}

/// Whether `ours` is a rearrangement of `sorted` with the element at `kth` in its place.
fn is_partition(ours: &Array, sorted: &Array, a: &Case) -> lazul_core::Result<Result<(), String>> {
    let (x, axis) = along(ours, a);
    if let Err(why) = compare(&x.sort(axis), sorted, Rule::EXACT) {
        return Ok(Err(format!("not a rearrangement: {why}")));
    }
    let (n, kth) = (x.dim(axis)? as i64, int(a, "kth"));
    let kth = if kth < 0 { kth + n } else { kth };
    let pivot = sorted.slice_axis(axis, kth, kth + 1);
    let low = x.slice_axis(axis, 0, kth + 1).less_equal(&pivot).all(..);
    let high = x.slice_axis(axis, kth, None).greater_equal(&pivot).all(..);
    let placed = compare(&x.slice_axis(axis, kth, kth + 1), &pivot, Rule::EXACT);
    let ok = low.item::<bool>()? && high.item::<bool>()?;
    Ok(if ok { placed } else { Err("elements are on the wrong side".to_string()) })
}

#[test]
fn operations() {
    let golden = Golden::load("ops");
    let mut report = Report::new();
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &golden.cases {
        let (op, attrs) = (case.str("op"), case.inner("attrs"));
        *sizes.entry(op).or_default() += 1;
        let originals = golden.tensors_of(case, "inputs");
        let mut theirs = golden.tensors_of(case, "outputs");
        let deliberate = DELIBERATE.iter().find(|d| d.id == case.id());
        if let Some(Deliberate { instead: Instead::Answer(f), .. }) = deliberate {
            theirs = theirs.iter().map(|t| f(&originals, t)).collect();
        }
        for (layout, lay) in &LAYOUTS {
            let inputs: Vec<Array> = originals.iter().map(lay).collect();
            let Some(ours) = call(op, &inputs, &attrs) else {
                missing.entry(op).or_default().push(case.id());
                break;
            };
            let ours = ours.and_then(|all| {
                all.iter().try_for_each(Array::eval)?;
                Ok(all)
            });
            let outcome = match (ours, deliberate.map(|d| &d.instead)) {
                (Err(_), Some(Instead::Refused)) => Ok(()),
                (Ok(_), Some(Instead::Refused)) => Err("was not refused".to_string()),
                (Err(e), _) => Err(format!("error: {e}")),
                (Ok(ours), _) => judge(case, &originals, &ours, &theirs),
            };
            let why = deliberate.map_or(String::new(), |d| format!(" (ours: {})", d.why));
            let operands: Vec<String> = originals.iter().map(form).collect();
            let id = format!("{}{layout} of {}{why}", case.id(), operands.join(", "));
            report.case(id, outcome);
        }
    }
    let found: BTreeSet<&str> = missing
        .iter()
        .flat_map(|(op, ids)| if ids.len() == sizes[op] { vec![*op] } else { ids.clone() })
        .collect();
    let listed: BTreeSet<&str> = NOT_YET.iter().copied().collect();
    report.expect("NOT_YET", found == listed, || {
        let (new, old): (Vec<_>, Vec<_>) =
            (found.difference(&listed).collect(), listed.difference(&found).collect());
        format!("not in the list but missing: {new:?}; in the list but there: {old:?}")
    });
    for d in DELIBERATE {
        let known = golden.cases.iter().any(|c| c.id() == d.id);
        report.expect(d.id, known, || "no such case to differ from".to_string());
    }
    report.finish();
}

/// Entries of `dtypes.json` where we differ on purpose.
struct OtherDType {
    ops: &'static [&'static str],
    /// For which operands, a weak scalar as the dtype that it has alone.
    when: fn(&[DType]) -> bool,
    /// What we give; `None` for refused.
    gives: fn(&[DType]) -> Option<DType>,
    why: &'static str,
}

fn any_complex(operands: &[DType]) -> bool {
    operands.contains(&DType::C64)
}

const OTHER_DTYPES: &[OtherDType] = &[
    OtherDType {
        ops: &["square", "subtract", "floor_divide", "remainder"],
        when: |d| d.iter().all(|&d| d == DType::Bool),
        gives: |_| None,
        why: NO_ARITHMETIC,
    },
    OtherDType {
        ops: &["left_shift"],
        when: |d| d == [DType::Bool, DType::Bool],
        gives: |_| None,
        why: "as torch: bool has no bits to move (MLX gives uint8)",
    },
    OtherDType {
        ops: &[
            "floor_divide",
            "maximum",
            "minimum",
            "less",
            "min",
            "max",
            "argmin",
            "argmax",
            "cummin",
            "cummax",
        ],
        when: any_complex,
        gives: |_| None,
        why: ORDER,
    },
    OtherDType {
        ops: &["logaddexp", "logsumexp", "logcumsumexp", "softmax", "var", "std"],
        when: any_complex,
        gives: |_| None,
        why: "as SciPy or torch in part: refused rather than defined by convention",
    },
    OtherDType {
        ops: &["matmul"],
        when: |d| !DType::promote(d[0], d[1]).is_inexact(),
        gives: |d| Some(DType::promote(d[0], d[1])),
        why: "as NumPy: integers have products (MLX refuses)",
    },
    OtherDType {
        ops: &["expm1", "sigmoid"],
        when: any_complex,
        gives: |_| Some(DType::C64),
        why: "as NumPy and torch: defined for complex numbers (MLX refuses)",
    },
    OtherDType {
        ops: &["nan_to_num"],
        when: |d| d == [DType::F64],
        gives: |_| Some(DType::F64),
        why: "as NumPy: defined for float64 (MLX refuses)",
    },
    OtherDType {
        ops: &["cumprod"],
        when: |d| d == [DType::Bool],
        gives: |_| Some(DType::I32),
        why: "int32, as the running sum gives (MLX stays bool, NumPy gives int64)",
    },
];

/// What a case of `dtypes.json` gives for operands of zeros, or `None` if the core does not have the
/// operation.
fn result_of(kind: &str, id: &str, left: DType, right: DType) -> Option<Array> {
    let zeros_of = |dtype| zeros([2, 2], dtype);
    let no_attrs = |axis: bool| {
        let text = if axis { r#"{"axis": 0}"# } else { "{}" };
        Case::from_json(text)
    };
    match kind {
        "pair" if id == "promotion" => Some(concatenate(&[zeros_of(left), zeros_of(right)], 0)),
        "pair" => first(call(id, &[zeros_of(left), zeros_of(right)], &no_attrs(false))?),
        "unary" if id == "positive" => Some(zeros_of(left)),
        "unary" => first(call(id, &[zeros_of(left)], &no_attrs(false))?),
        "reduction" => first(call(id, &[zeros_of(left)], &no_attrs(true))?),
        "weak_scalar" => {
            let (op, scalar) = id.split_once('.')?;
            let x = zeros_of(left);
            macro_rules! with {
                ($v:expr) => {
                    match op {
                        "add" => x.add($v),
                        "multiply" => x.multiply($v),
                        "divide" => x.divide($v),
                        "floor_divide" => x.floor_divide($v),
                        "power" => x.power($v),
                        "maximum" => x.maximum($v),
                        "equal" => x.equal($v),
                        "where" => where_(true, &x, $v),
                        _ => return None,
                    }
                };
            }
            Some(match scalar {
                "bool" => with!(true),
                "int" => with!(1),
                "float" => with!(1.0),
                "complex" => with!(Complex32::new(0.0, 1.0)),
                _ => return None,
            })
        }
        _ => None,
    }
}

/// The only output; a failed array for an error.
fn first(result: Result<Vec<Array>, lazul_core::Error>) -> Option<Array> {
    match result {
        Ok(all) => all.into_iter().next(),
        Err(_) => None,
    }
}

#[test]
fn result_dtypes() {
    let golden = Golden::load("dtypes");
    let names = golden.head["dtypes"].as_array().expect("dtypes");
    let dtypes: Vec<DType> = names
        .iter()
        .map(|n| DType::from_name(n.as_str().unwrap_or("")).expect("a dtype"))
        .collect();
    let mut report = Report::new();
    let mut used = vec![false; OTHER_DTYPES.len()];
    for case in &golden.cases {
        let (id, kind) = (case.id(), case.str("kind"));
        let table = match case.get("same_as").as_str() {
            Some(other) => {
                golden.cases.iter().find(|c| c.id() == other).expect("a table").get("table")
            }
            None if kind == "pair" => case.get("table"),
            None => case.get("row"),
        };
        for (i, &left) in dtypes.iter().enumerate() {
            for (j, &right) in dtypes.iter().enumerate() {
                let op = id.split('.').next().unwrap_or(id);
                let (expected, operands) = match kind {
                    "pair" => (&table[i][j], vec![left, right]),
                    _ if j > 0 => continue,
                    "weak_scalar" => (&table[i], vec![left, scalar_dtype(id)]),
                    _ => (&table[i], vec![left]),
                };
                let mut expected = expected.as_str().and_then(DType::from_name);
                for (rule, used) in OTHER_DTYPES.iter().zip(&mut used) {
                    if rule.ops.contains(&op) && (rule.when)(&operands) {
                        let ours = (rule.gives)(&operands);
                        *used |= ours != expected;
                        expected = ours;
                    }
                }
                let Some(ours) = result_of(kind, id, left, right) else {
                    report.case(id, Err("is not in the table"));
                    continue;
                };
                let ours = ours.dtype();
                report.expect(
                    format!("{id} {operands:?}"),
                    ours.as_ref().ok() == expected.as_ref(),
                    || match ours {
                        Ok(dtype) => format!("gives {dtype}, expected {expected:?}"),
                        Err(e) => format!("expected {expected:?}, refused: {e}"),
                    },
                );
            }
        }
    }
    for (rule, used) in OTHER_DTYPES.iter().zip(used) {
        report.expect(format!("{:?}", rule.ops), used, || {
            format!("nothing to differ from: {}", rule.why)
        });
    }
    report.finish();
}

/// The dtype that the scalar of `op.kind` has alone.
fn scalar_dtype(id: &str) -> DType {
    match id.split('.').next_back() {
        Some("bool") => DType::Bool,
        Some("int") => DType::I32,
        Some("float") => DType::F32,
        _ => DType::C64,
    }
}
