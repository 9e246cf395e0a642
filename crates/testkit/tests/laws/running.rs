//! Laws of running: however a program is run (fused or not, compiled or not) and however its arguments
//! lie in memory, the bits are the same.

use crate::case::{Case, evaluated};
use crate::numbers::{alike, pull, push};
use lazul_core::program::Program;
use lazul_core::{Array, DType, Result, compile, concatenate, full, set_fusion, stack};
use lazul_testkit::Report;

/// Results, cotangents and tangents at one point.
fn everything(case: &Case, x: &[Array]) -> Result<Vec<Array>> {
    let mut all = case.call(x)?;
    let (u, v) = (case.directions(2, &all)?, case.directions(3, x)?);
    if case.reverse {
        all.extend(pull(case, x, &u)?);
    }
    all.extend(push(case, x, &v)?);
    lazul_core::eval(&all)?;
    Ok(all)
}

/// Fused and unfused. Whether to fuse is a setting of the whole process.
pub(crate) fn fusion(case: &Case, report: &mut Report) {
    for &dtype in &case.dtypes {
        let x = case.draw(1, dtype);
        let run = || -> Result<[Vec<Array>; 2]> {
            set_fusion(true);
            let fused = everything(case, &x)?;
            set_fusion(false);
            Ok([fused, everything(case, &x)?])
        };
        let outcome = run();
        set_fusion(true);
        let outcome = outcome.map_err(|e| format!("error: {e}"));
        let outcome = outcome.and_then(|[a, b]| alike(&a, &b, None));
        report.case(format!("{} {dtype}: fused = unfused", case.name), outcome);
    }
}

/// Compiled and eager, the first time and again.
pub(crate) fn compiled(case: &Case, report: &mut Report) {
    for &dtype in &case.dtypes {
        let f = compile(|x: &Vec<Array>| case.call(x));
        let all = compile(|x: &Vec<Array>| everything_lazily(case, x));
        for seed in [1, 8] {
            let x = case.draw(seed, dtype);
            let run = || -> Result<Result<(), String>> {
                let values = alike(&f(&x)?, &case.call(&x)?, None);
                Ok(values.and(alike(&all(&x)?, &everything_lazily(case, &x)?, None)))
            };
            let outcome = run().unwrap_or_else(|e| Err(format!("error: {e}")));
            report.case(format!("{} {dtype}: compiled = eager, seed {seed}", case.name), outcome);
        }
    }
}

/// Written down, read again and called, or differentiated before or after that, and eager. A program with
/// any of its steps' results declared otherwise is refused.
pub(crate) fn written(case: &Case, report: &mut Report) {
    for &dtype in &case.dtypes {
        let x = case.draw(1, dtype);
        let name = format!("{} {dtype}: written = eager", case.name);
        let before = Program::trace(|x: &Vec<Array>| everything_lazily(case, x), &x);
        let (before, constants) = match before {
            Ok(traced) => traced,
            // Functions with rules of their own are code.
            Err(e) if e.message().contains("custom function") => continue,
            Err(e) => {
                report.case(name, Err(format!("error: {e}")));
                continue;
            }
        };
        let run = || -> Result<Result<(), String>> {
            let (text, before) = copy(&before);
            before.check()?;
            let made = before.call(&x, &constants)?;
            let values = alike(&made, &everything_lazily(case, &x)?, None);
            if values.is_err() {
                return Ok(values);
            }
            let (after, constants) = Program::trace(|x: &Vec<Array>| case.call(x), &x)?;
            let after = copy(&after).1;
            after.check()?;
            let imported = case.with(move |x| after.call(x, &constants));
            let made = everything_lazily(&imported, &x)?;
            let values = alike(&made, &everything_lazily(case, &x)?, None);
            Ok(values.and_then(|()| refused(&text)))
        };
        report.case(name, run().unwrap_or_else(|e| Err(format!("error: {e}"))));
    }
}

/// A program as text, and what is read from that.
fn copy(program: &Program) -> (serde_json::Value, Program) {
    let text = serde_json::to_string(program).expect("programs are data");
    let read: Program = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(read, *program);
    (serde_json::from_str(&text).expect("JSON"), read)
}

/// Makes each declared result of the outermost steps one longer along its first axis, in turn.
fn refused(program: &serde_json::Value) -> Result<(), String> {
    let steps = program["steps"].as_array().map_or(0, Vec::len);
    for i in 0..steps {
        let mut other = program.clone();
        let form = &mut other["steps"][i]["outputs"][0]["shape"];
        let Some(first) = form.get(0).and_then(|d| d.as_u64()) else { continue };
        form[0] = (first + 1).into();
        let other: Program = serde_json::from_value(other).map_err(|e| e.to_string())?;
        // What gives any length, or any that fits, has no other rule; an empty array has many shapes.
        let free = [
            "Arange",
            "Broadcast",
            "RandomBits",
            "\"DynamicSlice\"",
            "\"Slice\"",
            "Strided",
            "Outer",
            "HalfToReal",
            "Reshape",
        ];
        let work = program["steps"][i]["work"].to_string();
        if other.check().is_ok() && !free.iter().any(|f| work.contains(f)) {
            return Err(format!("step {i} may be too long: {work}"));
        }
    }
    Ok(())
}

fn everything_lazily(case: &Case, x: &[Array]) -> Result<Vec<Array>> {
    let mut all = case.call(x)?;
    let (u, v) = (case.directions(2, &all)?, case.directions(3, x)?);
    if case.reverse {
        all.extend(pull(case, x, &u)?);
    }
    all.extend(push(case, x, &v)?);
    Ok(all)
}

/// How an argument lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    Transposed,
    EverySecond,
    Inside,
    Backwards,
    Repeated,
    Constant,
}

const LAYOUTS: [Layout; 6] = {
    use Layout::*;
    [Transposed, EverySecond, Inside, Backwards, Repeated, Constant]
};

impl Layout {
    /// An array that lies so: with the values of `x` where the layout allows it, else with some of them.
    fn lay(self, x: &Array) -> Option<Array> {
        let shape = x.shape().ok()?.to_vec();
        let (rank, last) = (shape.len(), shape.last().copied().unwrap_or(1));
        let own = |x: Array| evaluated(x.contiguous());
        match self {
            Layout::Transposed => (rank > 1).then(|| own(x.t()).t()),
            Layout::EverySecond => (rank > 0).then(|| {
                let pairs = stack(&[x.clone(), x.clone()], -1).flatten(-2, -1);
                own(pairs).slice_step(-1, 0, (2 * last) as i64, 2)
            }),
            Layout::Inside => (rank > 0).then(|| {
                let n = shape[0] as i64;
                let all = concatenate(&[x.clone(), x.clone(), x.clone()], 0);
                own(all).slice_axis(0, n, 2 * n)
            }),
            Layout::Backwards => (rank > 0).then(|| own(x.flip(())).flip(())),
            Layout::Repeated => {
                (rank > 0 && shape[0] > 0).then(|| own(x.slice_axis(0, 0, 1)).broadcast_to(&shape))
            }
            Layout::Constant => {
                let one = (!shape.contains(&0)).then(|| x.reshape([-1]).at_index(0, 0))?;
                Some(full(&shape, evaluated(one.contiguous())))
            }
        }
    }
}

/// Arguments with strides and the same arguments in row-major order.
pub(crate) fn layouts(case: &Case, report: &mut Report) {
    for &dtype in &case.dtypes {
        let x = case.draw(1, dtype);
        for layout in LAYOUTS {
            // Each argument alone, then all.
            for which in 0..=x.len() {
                let chosen = |i: usize| which == x.len() || which == i;
                if which == x.len() && x.len() == 1 {
                    continue;
                }
                let laid: Vec<Option<Array>> = x
                    .iter()
                    .enumerate()
                    .map(|(i, a)| layout.lay(a).filter(|_| chosen(i)))
                    .collect();
                if laid.iter().all(Option::is_none) {
                    continue;
                }
                let pick =
                    |(l, x): (&Option<Array>, &Array)| l.clone().unwrap_or_else(|| x.clone());
                let strided: Vec<Array> = laid.iter().zip(&x).map(pick).collect();
                let plain: Vec<Array> = strided.iter().map(|a| evaluated(a.contiguous())).collect();
                let derivatives = matches!(dtype, DType::F32 | DType::C64);
                let run = |x: &[Array]| match derivatives {
                    true => everything(case, x),
                    false => case.call(x),
                };
                let outcome = match (run(&strided), run(&plain)) {
                    (Ok(a), Ok(b)) => alike(&a, &b, None),
                    (Err(e), _) | (_, Err(e)) => Err(format!("error: {e}")),
                };
                let id = format!("{} {dtype}: {layout:?} argument {which} = contiguous", case.name);
                report.case(id, outcome);
            }
        }
    }
}
