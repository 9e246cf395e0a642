//! Functions of whole arrays against NumPy and MLX: `functions.json`.

use lazul_core::ints::{IntoAxes, Ints};
use lazul_core::ops::search::Side;
use lazul_core::{
    Array, DType, Error, Interpolation, bartlett, blackman, broadcast_arrays, einsum, full,
    hamming, hanning, identity, linspace_open, meshgrid, meshgrid_sparse, ones, zeros,
};
use lazul_testkit::{Case, Golden, Report, Rule, array_of, compare};
use serde_json::Value;

fn tensor(value: &Value) -> Array {
    let shape: Vec<i64> =
        value["shape"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    let dtype = value["dtype"].as_str().and_then(DType::from_name).expect("a dtype");
    array_of(&value["values"], &shape, dtype)
}

fn tensors(value: &Value) -> Vec<Array> {
    value.as_array().into_iter().flatten().map(tensor).collect()
}

/// Axes as the file has them: null for all, one, or several.
struct Axes(Option<Vec<i64>>);

impl IntoAxes for Axes {
    fn into_axes(self) -> Option<Ints> {
        self.0.map(Ints::from_vec)
    }
}

fn axes(a: &Case) -> Axes {
    Axes((!a.get("axis").is_null()).then(|| a.ints("axis")))
}

fn method(a: &Case) -> Interpolation {
    match a.str("method") {
        "linear" => Interpolation::Linear,
        "lower" => Interpolation::Lower,
        "higher" => Interpolation::Higher,
        "midpoint" => Interpolation::Midpoint,
        "nearest" => Interpolation::Nearest,
        other => panic!("no method {other}"),
    }
}

fn int(a: &Case, key: &str) -> i64 {
    a.get(key).as_i64().unwrap_or_else(|| panic!("no integer {key}"))
}

/// The function of a case.
fn call(name: &str, x: &[Array], a: &Case) -> Result<Vec<Array>, Error> {
    let size = |key: &str| int(a, key) as usize;
    let pair = |(a, b): (Array, Array)| vec![a, b];
    Ok(vec![match name {
        "quantile" => match (x.get(1), a.flag("keepdims")) {
            (Some(q), false) => x[0].quantile(q, axes(a), method(a)),
            (Some(q), true) => x[0].quantile_keepdims(q, axes(a), method(a)),
            (None, false) => x[0].quantile(a.float("q"), axes(a), method(a)),
            (None, true) => x[0].quantile_keepdims(a.float("q"), axes(a), method(a)),
        },
        "percentile" => x[0].percentile(a.float("q"), axes(a), method(a)),
        "histogram" => x[0].histogram(&x[1], x.get(2)),
        "histogram_bins" => {
            let range = a.get("range");
            let range = range.as_array().map(|r| (r[0].as_f64(), r[1].as_f64()));
            let range = range.map(|(a, b)| (a.expect("a bound"), b.expect("a bound")));
            return Ok(pair(x[0].histogram_bins(size("bins"), range)));
        }
        "bincount" => x[0].bincount(x.get(1), size("min_length")),
        "interp" => x[0].interp(&x[1], &x[2]),
        "cov" => x[0].cov(size("ddof")),
        "searchsorted" => {
            let right = a.str("side") == "right";
            x[0].searchsorted(&x[1], if right { Side::Right } else { Side::Left })
        }
        "unique" => {
            let u = x[0].unique()?;
            return Ok(vec![u.values, u.index, u.inverse, u.counts]);
        }
        "unique_sized" => {
            let fill = a.get("fill").as_f64().map(Array::scalar);
            let u = x[0].unique_sized(size("size"), fill.as_ref());
            return Ok(vec![u.values, u.index, u.inverse, u.counts]);
        }
        "isin" => x[0].isin(&x[1]),
        "topk" => x[0].topk(size("k"), int(a, "axis")),
        "nonzero" => return x[0].nonzero(),
        "argwhere" => x[0].argwhere(),
        "masked_select" => x[0].masked_select(&x[1]),
        "compress" => x[0].compress(&x[1], int(a, "axis")),
        "as_strided" => {
            let x = if a.flag("transposed") { x[0].t() } else { x[0].clone() };
            x.as_strided(a.ints("shape"), a.ints("strides"), size("offset"))
        }
        "rot90" => x[0].rot90(int(a, "k"), [a.ints("axes")[0], a.ints("axes")[1]]),
        "roll" => x[0].roll(a.ints("shift"), axes(a)),
        "atleast" => match int(a, "n") {
            1 => x[0].atleast_1d(),
            2 => x[0].atleast_2d(),
            _ => x[0].atleast_3d(),
        },
        "unstack" => return x[0].unstack(int(a, "axis")),
        "diff" => x[0].diff(size("n"), int(a, "axis")),
        "meshgrid" if a.flag("sparse") => return meshgrid_sparse(x, a.str("indexing") == "ij"),
        "meshgrid" => return meshgrid(x, a.str("indexing") == "ij"),
        "linspace_open" => {
            linspace_open(a.float("start"), a.float("stop"), size("num"), DType::F32)
        }
        "bartlett" => bartlett(size("m")),
        "hanning" => hanning(size("m")),
        "hamming" => hamming(size("m")),
        "blackman" => blackman(size("m")),
        "slice_update" => x[0].dynamic_slice_update(&x[1], &x[2], &a.ints("axes")),
        "slice" => {
            let sizes: Vec<usize> = a.ints("size").iter().map(|&d| d as usize).collect();
            x[0].dynamic_slice(&x[1], &a.ints("axes"), &sizes)
        }
        "kron" => x[0].kron(&x[1]),
        "vecdot" => x[0].vecdot(&x[1], int(a, "axis")),
        "tensordot" => x[0].tensordot_count(&x[1], size("count")),
        "trace" => match a.ints("axes")[..] {
            [one, two] => x[0].trace_of(int(a, "offset"), one, two),
            _ => x[0].trace(int(a, "offset")),
        },
        "diagonal" => x[0].diagonal_of(int(a, "offset"), a.ints("axes")[0], a.ints("axes")[1]),
        "einsum" => einsum(a.str("subscripts"), x),
        "reshape" => x[0].reshape(a.ints("shape")),
        "flatten" => x[0].flatten(int(a, "start"), int(a, "end")),
        "unflatten" => x[0].unflatten(int(a, "axis"), a.ints("shape")),
        "squeeze" => x[0].squeeze(a.ints("axes")),
        "expand_dims" => x[0].expand_dims(a.ints("axes")),
        "transpose" if a.get("axes").is_null() => x[0].t(),
        "transpose" => x[0].transpose(a.ints("axes")),
        "matrix_transpose" => x[0].mt(),
        "moveaxis" => x[0].moveaxis(a.ints("axes")[0], a.ints("axes")[1]),
        "swapaxes" => x[0].swapaxes(a.ints("axes")[0], a.ints("axes")[1]),
        "broadcast_to" => x[0].broadcast_to(a.ints("shape")),
        "broadcast_arrays" => return broadcast_arrays(x),
        "contiguous" => x[0].t().t().contiguous(),
        "zeros" => zeros(x[0].shape()?, x[0].dtype()?),
        "ones" => ones(x[0].shape()?, x[0].dtype()?),
        "zeros_like" => x[0].zeros_like(),
        "ones_like" => x[0].ones_like(),
        "full" => full(a.ints("shape"), &x[0]),
        "full_like" => x[0].full_like(&x[1]),
        "identity" => identity(size("n"), DType::F32),
        "positive" => x[0].positive(),
        other => panic!("no function {other}"),
    }])
}

#[test]
fn functions() {
    let golden = Golden::load("functions");
    let mut report = Report::new();
    for case in &golden.cases {
        let args = case.inner("args");
        let ours = call(case.str("fn"), &tensors(case.get("inputs")), &args).and_then(|all| {
            all.iter().try_for_each(Array::eval)?;
            Ok(all)
        });
        let rule = Rule { rtol: case.float("rtol"), atol: case.float("atol"), signed_zero: false };
        let outcome = match (ours, case.get("outputs")) {
            (Err(_), Value::Null) => Ok(()),
            (Ok(_), Value::Null) => Err("was not refused".to_string()),
            (Err(e), _) => Err(e.to_string()),
            (Ok(ours), wanted) => {
                let wanted = tensors(wanted);
                match ours.len() == wanted.len() {
                    true => ours.iter().zip(&wanted).try_for_each(|(o, w)| compare(o, w, rule)),
                    false => Err(format!("{} outputs, expected {}", ours.len(), wanted.len())),
                }
            }
        };
        report.case(format!("{} {:?}", case.id(), case.get("args").to_string()), outcome);
    }
    report.finish();
}
