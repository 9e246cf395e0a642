//! Reading and updating by index against NumPy: `index.json`.

use lazul_core::{Array, DType, Index, Result, Slice, Step, arange};
use lazul_testkit::{Case, Golden, Report, array_of};
use serde_json::Value;

fn ints(value: &Value) -> Vec<i64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

fn i32s(value: &Value, shape: &Value) -> Array {
    array_of(value, &ints(shape), DType::I32)
}

/// A word as the file writes it.
fn word(value: &Value) -> Index {
    match value {
        Value::String(s) if s == "new" => Index::NewAxis,
        Value::String(_) => Index::Ellipsis,
        Value::Object(o) => {
            let shape = || ints(&o["shape"]);
            if let Some(s) = o.get("slice") {
                let step = s[2].as_i64().unwrap_or(1);
                Index::Slice(Slice { start: s[0].as_i64(), stop: s[1].as_i64(), step })
            } else if let Some(mask) = o.get("mask") {
                Index::Array(array_of(mask, &shape(), DType::Bool))
            } else {
                Index::Array(array_of(&o["ints"], &shape(), DType::I64))
            }
        }
        at => Index::At(at.as_i64().expect("an integer")),
    }
}

fn values(x: &Array) -> Result<Vec<i64>> {
    x.astype(DType::I64).to_vec::<i64>()
}

/// The array of a case: in row-major order, or the same elements in another.
fn array(case: &Case, transposed: bool) -> Array {
    let shape = case.ints("shape");
    let x = arange(shape.iter().product::<i64>(), DType::I32).reshape(shape);
    if transposed { x.t().contiguous().t() } else { x }
}

#[test]
fn reads() {
    let golden = Golden::load("index");
    let mut report = Report::new();
    for case in &golden.cases {
        let words: Vec<Index> =
            case.get("index").as_array().expect("words").iter().map(word).collect();
        for transposed in [false, true] {
            let got = array(case, transposed).index(&words[..]);
            let found = values(&got).and_then(|v| Ok((v, got.shape()?.to_vec())));
            let outcome = match (found, case.get("read")) {
                (Err(_), Value::Null) => Ok(()),
                (Ok(_), Value::Null) => Err("was not refused".to_string()),
                (Err(e), _) => Err(e.to_string()),
                (Ok((found, shape)), read) => {
                    let wanted: Vec<usize> =
                        case.ints("read_shape").iter().map(|&d| d as usize).collect();
                    match found == ints(read) && shape == wanted {
                        true => Ok(()),
                        false => Err(format!("{words:?}: got {shape:?} {found:?}, not {wanted:?}")),
                    }
                }
            };
            report.case(case.id(), outcome);
        }
    }
    report.finish();
}

#[test]
fn updates() {
    let golden = Golden::load("index");
    let mut report = Report::new();
    for case in &golden.cases {
        let words: Vec<Index> =
            case.get("index").as_array().expect("words").iter().map(word).collect();
        let Value::Object(writes) = case.get("writes") else { continue };
        for (name, write) in writes {
            let v = i32s(&write["values"], &write["shape"]);
            for transposed in [false, true] {
                let at = array(case, transposed).at(&words[..]);
                let out = match name.as_str() {
                    "set" => at.set(&v),
                    "add" => at.add(&v),
                    "subtract" => at.subtract(&v),
                    "multiply" => at.multiply(&v),
                    "maximum" => at.maximum(&v),
                    "minimum" => at.minimum(&v),
                    other => panic!("no update {other}"),
                };
                let outcome = match values(&out) {
                    Err(e) => Err(e.to_string()),
                    Ok(out) if out == ints(&write["out"]) => Ok(()),
                    Ok(out) => Err(format!("{words:?} {v}: got {out:?}, not {}", write["out"])),
                };
                report.case(format!("{} {name}", case.id()), outcome);
            }
        }
    }
    report.finish();
}

/// A quotient is rounded once, and every divisor counts.
#[test]
fn quotients() -> Result<()> {
    let x = Array::from_slice(&[1.0f32, 1e-5, 8.0], [3]);
    let y = x.at([0, 1, 2, 2]).divide(Array::from_slice(&[3.0f32, 1e-40, 2.0, 2.0], [4]));
    assert_eq!(y.to_vec::<f32>()?, [1.0 / 3.0, 1e-5 / 1e-40, 2.0]);
    let y = x.at(..2).divide(3.0);
    assert_eq!(y.to_vec::<f32>()?, [1.0 / 3.0, 1e-5 / 3.0, 8.0]);
    assert!(x.astype(DType::I32).at(0).divide(2).check().is_err());
    Ok(())
}

/// What an update refuses, and what it does not evaluate.
#[test]
fn wrong_updates_and_lazy_masks() -> Result<()> {
    let x = arange(6, DType::F32).reshape([2, 3]);
    let mask = x.greater(2.0);
    let wrong = [
        x.at(2).set(0.0),
        x.at((0, 0, 0)).set(0.0),
        x.at(0).set(Array::from_slice(&[1.0f32, 2.0], [2])),
        x.at(&mask).set(Array::from_slice(&[1.0f32, 2.0], [2])),
        x.at([0.5f32.to_bits() as i64]).set(x.reshape([7])),
        x.at(&x).add(1.0),
        x.astype(DType::Bool).at(0).subtract(true),
        x.astype(DType::C64).at(0).maximum(1.0),
        x.at(x.greater(2.0).reshape([3, 2])).set(0.0),
    ];
    for (i, y) in wrong.iter().enumerate() {
        assert!(y.check().is_err(), "{i}");
    }
    // An index that is out of bounds shows when it is computed.
    assert!(x.at([0, 2]).add(1.0).eval().is_err());
    // One value for every true element: where the mask is true need not be known.
    let unknown = mask.logical_not().logical_not();
    let y = x.at(&unknown).multiply(10.0);
    assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 2.0, 30.0, 40.0, 50.0]);
    let rows = x.at([false, true]).set(Array::from_slice(&[7.0f32, 8.0, 9.0], [3]));
    assert_eq!(rows.to_vec::<f32>()?, [0.0, 1.0, 2.0, 7.0, 8.0, 9.0]);
    let nan = x.at(&mask).set(f32::NAN).isnan();
    assert_eq!(nan.to_vec::<bool>()?, mask.to_vec::<bool>()?);
    Ok(())
}

/// Reads and updates have the gradients of their elements, masks included.
#[test]
fn gradients() -> Result<()> {
    use lazul_core::{grad, vmap};
    let x = arange(6, DType::F32).reshape([2, 3]);
    let rows = Array::from_slice(&[1, 1], [2]);
    let read = |x: &Array| x.index((&rows, 1..)).sum(..);
    assert_eq!(grad(read)(&x)?.to_vec::<f32>()?, [0.0, 0.0, 0.0, 0.0, 2.0, 2.0]);
    let masked = |x: &Array| x.index(x.greater(3.0)).square().sum(..);
    assert_eq!(grad(masked)(&x)?.to_vec::<f32>()?, [0.0, 0.0, 0.0, 0.0, 8.0, 10.0]);
    let update = |x: &Array| x.at((0, ..)).multiply(3.0).sum(..);
    assert_eq!(grad(update)(&x)?.to_vec::<f32>()?, [3.0, 3.0, 3.0, 1.0, 1.0, 1.0]);
    let set = |x: &Array| x.at(x.greater(3.0)).set(0.0).sum(..);
    assert_eq!(grad(set)(&x)?.to_vec::<f32>()?, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    // Over a batch, with a mask that no one can look at.
    let each = vmap(|row: &Array| row.at(row.greater(1.0)).set(-1.0));
    assert_eq!(each(&x)?.to_vec::<f32>()?, [0.0, 1.0, -1.0, -1.0, -1.0, -1.0]);
    let picked = vmap(|row: &Array| row.index((..).step(-2)));
    assert_eq!(picked(&x)?.to_vec::<f32>()?, [2.0, 0.0, 5.0, 3.0]);
    // How many elements it selects would depend on the example.
    assert!(vmap(|row: &Array| row.index(row.greater(1.0)))(&x).is_err());
    Ok(())
}

/// Of values written to one place the last stays; of values added every one counts.
#[test]
fn along_an_axis() -> Result<()> {
    let x = arange(6, DType::F32).reshape([2, 3]);
    let at = Array::from_slice(&[0i32, 0, -1, 1], [2, 2]);
    let v = Array::from_slice(&[10.0f32, 20.0, 30.0, 40.0], [2, 2]);
    let added = x.add_along_axis(&at, &v, 1);
    assert_eq!(added.to_vec::<f32>()?, [30.0, 1.0, 2.0, 3.0, 44.0, 35.0]);
    assert_eq!(x.put_along_axis(&at, &v, 1).to_vec::<f32>()?, [20.0, 1.0, 2.0, 3.0, 40.0, 30.0]);
    assert_eq!(x.take_along_axis(&at, 1).to_vec::<f32>()?, [0.0, 0.0, 5.0, 4.0]);
    let outside = Array::from_slice(&[3i32, 0], [2, 1]);
    assert!(x.add_along_axis(&outside, 1.0, 1).eval().is_err());
    Ok(())
}
