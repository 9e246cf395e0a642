//! Laws of derivatives: forward and reverse agree with finite differences and with each other, to the
//! second order; in every dtype a gradient has its argument's shape and dtype.

use crate::case::{Case, Derivative};
use crate::numbers::{
    Step, alike, all_flat, coarsest, dot, flat, moved, near, pull, push, unflat, unit,
};
use lazul_core::{Array, DType, ErrorKind, Result, jvp, vjp};
use lazul_testkit::Report;

fn text(e: lazul_core::Error) -> String {
    format!("error: {e}")
}

/// Dtypes in which finite differences tell something.
fn precise(case: &Case) -> Vec<DType> {
    let has = |d: DType| case.dtypes.contains(&d);
    let mut all: Vec<DType> = [DType::F64, DType::C64].into_iter().filter(|&d| has(d)).collect();
    if !has(DType::F64) && has(DType::F32) {
        all.push(DType::F32);
    }
    all
}

/// First derivatives at one point.
pub(crate) fn first_order(case: &Case, report: &mut Report) {
    for dtype in precise(case) {
        let id = |law: &str| format!("{} {dtype}: {law}", case.name);
        let x = case.draw(1, dtype);
        let mut run = || -> Result<()> {
            let y = case.call(&x)?;
            let (u, v) = (case.directions(2, &y)?, case.directions(3, &x)?);
            let worst = coarsest(case, dtype, &[&x[..], &y[..]].concat())?;
            let step = Step::of(worst);
            let differences =
                case.derivative == Derivative::True && unit(worst) <= unit(DType::F32);
            let tangents = push(case, &x, &v)?;
            report.case(id("tangents look like results"), forms(&tangents, &y));
            if differences {
                let theirs = step.slope(|t| all_flat(&case.call(&moved(&x, &v, t)?)?))?;
                let outcome = near(&all_flat(&tangents)?, &theirs, step.bound);
                report.case(id("jvp = finite differences"), outcome);
            }
            if case.derivative == Derivative::Zero {
                let zero = all_flat(&tangents)?.iter().all(|&t| t == 0.0);
                report.expect(id("declared zero, forward"), zero, || format!("{tangents:?}"));
            }
            if !case.reverse {
                return irreversible(case, &x, &u, report);
            }
            let grads = pull(case, &x, &u)?;
            report.case(id("cotangents look like arguments"), forms(&grads, &x));
            if case.derivative == Derivative::Zero {
                let zero = all_flat(&grads)?.iter().all(|&t| t == 0.0);
                report.expect(id("declared zero, reverse"), zero, || format!("{grads:?}"));
            }
            if differences {
                let outcome = each_number(case, &x, &u, &grads, step)?;
                report.case(id("vjp = finite differences"), outcome);
            }
            let (a, b) = (all_flat(&u)?, all_flat(&tangents)?);
            let (c, d) = (all_flat(&grads)?, all_flat(&v)?);
            let scale: f64 = 1.0 + a.iter().zip(&b).map(|(a, b)| (a * b).abs()).sum::<f64>();
            let bound = (64.0 * unit(worst)).max(1e-10);
            let apart = (dot(&a, &b) - dot(&c, &d)).abs() / scale;
            report.expect(id("<u, Jv> = <J'u, v>"), apart <= bound, || {
                format!("{} and {}, apart by {apart:e} of {bound:e}", dot(&a, &b), dot(&c, &d))
            });
            singles(case, &x, (&u, &grads), (&v, &tangents), 64.0 * unit(worst), report)
        };
        if let Err(e) = run() {
            report.case(id("first order"), Err(text(e)));
        }
    }
}

/// Shapes and dtypes agree; what belongs to integers is zero.
fn forms(ours: &[Array], like: &[Array]) -> Result<(), String> {
    if ours.len() != like.len() {
        return Err(format!("{} arrays for {}", ours.len(), like.len()));
    }
    for (a, b) in ours.iter().zip(like) {
        crate::numbers::same_form(a, b)?;
        if !b.dtype().map_err(text)?.is_inexact() {
            alike(std::slice::from_ref(a), &[a.zeros_like()], None)?;
        }
    }
    Ok(())
}

/// Every number of the gradient against the difference that it makes.
fn each_number(
    case: &Case,
    x: &[Array],
    u: &[Array],
    grads: &[Array],
    step: Step,
) -> Result<Result<(), String>> {
    let u = all_flat(u)?;
    for (i, grad) in grads.iter().enumerate() {
        let at = flat(&x[i])?;
        let mut theirs = Vec::with_capacity(at.len());
        for j in 0..at.len() {
            let slopes = step.slope(|t| {
                let mut numbers = at.clone();
                numbers[j] += t;
                let mut x = x.to_vec();
                x[i] = unflat(&numbers, &x[i])?;
                all_flat(&case.call(&x)?)
            })?;
            theirs.push(dot(&u, &slopes));
        }
        if let Err(why) = near(&flat(grad)?, &theirs, step.bound) {
            return Ok(Err(format!("argument {i}: {why}")));
        }
    }
    Ok(Ok(()))
}

/// A loop of unknown length says that it has no gradient, and which operation it is.
fn irreversible(case: &Case, x: &[Array], u: &[Array], report: &mut Report) -> Result<()> {
    let outcome = pull(case, x, u);
    let right =
        outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::Value && e.op() == "while_loop");
    let id = format!("{}: no gradient in reverse is an error", case.name);
    report.expect(id, right, || format!("{outcome:?}"));
    Ok(())
}

/// The derivative by one argument alone is that part of the derivative by all.
fn singles(
    case: &Case,
    x: &[Array],
    (u, grads): (&[Array], &[Array]),
    (v, tangents): (&[Array], &[Array]),
    bound: f64,
    report: &mut Report,
) -> Result<()> {
    if x.len() < 2 {
        return Ok(());
    }
    let mut sum: Option<Vec<f64>> = None;
    for i in 0..x.len() {
        let f = |one: &Array| {
            let mut all = x.to_vec();
            all[i] = one.clone();
            case.call(&all)
        };
        let (_, alone) = vjp(f, &x[i], &u.to_vec())?;
        let id = format!("{}: vjp by argument {i} alone", case.name);
        report.case(id, alike(&[alone], &grads[i..i + 1], Some(bound)));
        let part = all_flat(&jvp(f, &x[i], &v[i])?.1)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => sum.iter().zip(&part).map(|(a, b)| a + b).collect(),
        });
    }
    let outcome = near(&sum.unwrap_or_default(), &all_flat(tangents)?, 4.0 * bound);
    report.case(format!("{}: jvp is the sum over arguments", case.name), outcome);
    Ok(())
}

/// Second derivatives: each way over each way.
pub(crate) fn second_order(case: &Case, report: &mut Report) {
    if case.derivative != Derivative::True {
        return;
    }
    for dtype in precise(case) {
        let id = |law: &str| format!("{} {dtype}: {law}", case.name);
        let x = case.draw(1, dtype);
        let mut run = || -> Result<()> {
            let y = case.call(&x)?;
            let worst = coarsest(case, dtype, &[&x[..], &y[..]].concat())?;
            if unit(worst) > unit(DType::F32) {
                return Ok(());
            }
            let (u, v) = (case.directions(2, &y)?, case.directions(3, &x)?);
            let (w, step) = (case.directions(4, &x)?, Step::of(worst));
            let bound = 10.0 * step.bound;
            let ahead = |x: &Vec<Array>| push(case, x, &v);
            let ahead_twice = all_flat(&jvp(ahead, &x, &w)?.1)?;
            let theirs = step.slope(|t| all_flat(&push(case, &moved(&x, &w, t)?, &v)?))?;
            report.case(id("jvp of jvp = finite differences"), near(&ahead_twice, &theirs, bound));
            if !case.reverse {
                return Ok(());
            }
            let back = |x: &Vec<Array>| pull(case, x, &u);
            let over = all_flat(&jvp(back, &x, &v)?.1)?;
            let theirs = step.slope(|t| all_flat(&pull(case, &moved(&x, &v, t)?, &u)?))?;
            report.case(id("jvp of vjp = finite differences"), near(&over, &theirs, bound));
            let under = all_flat(&vjp(ahead, &x, &u)?.1)?;
            report.case(id("vjp of jvp = jvp of vjp"), near(&under, &over, bound));
            let twice = all_flat(&vjp(back, &x, &w)?.1)?;
            let (a, b) = (dot(&twice, &all_flat(&v)?), dot(&over, &all_flat(&w)?));
            report.case(id("vjp of vjp is symmetric with jvp of vjp"), near(&[a], &[b], bound));
            let (a, b) = (dot(&ahead_twice, &all_flat(&u)?), dot(&over, &all_flat(&w)?));
            report.case(id("jvp of jvp = jvp of vjp"), near(&[a], &[b], bound));
            Ok(())
        };
        if let Err(e) = run() {
            report.case(id("second order"), Err(text(e)));
        }
    }
}

/// Gradients in narrow dtypes: of the right dtype and shape, and those of float64 to their precision.
pub(crate) fn narrow(case: &Case, report: &mut Report) {
    if !case.reverse || case.derivative != Derivative::True {
        return;
    }
    let reference = if case.dtypes.contains(&DType::F64) { DType::F64 } else { DType::F32 };
    for &dtype in &case.dtypes {
        if !dtype.is_float() || dtype == reference || !case.dtypes.contains(&reference) {
            continue;
        }
        let id = |law: &str| format!("{} {dtype}: {law}", case.name);
        let x = case.draw(5, dtype);
        let mut run = || -> Result<()> {
            let y = case.call(&x)?;
            let (u, v) = (case.directions(6, &y)?, case.directions(7, &x)?);
            // Only what has the narrow dtype changes it.
            let widened = |all: &[Array]| -> Result<Vec<Array>> {
                let one = |a: &Array| -> Result<Array> {
                    Ok(if a.dtype()? == dtype { a.astype(reference) } else { a.clone() })
                };
                all.iter().map(one).collect()
            };
            let wide = widened(&x)?;
            let bound = 24.0 * unit(coarsest(case, dtype, &[&x[..], &y[..]].concat())?);
            let (ours, theirs) = (pull(case, &x, &u)?, pull(case, &wide, &widened(&u)?)?);
            report.case(id("narrow cotangents look like arguments"), forms(&ours, &x));
            let outcome = near(&all_flat(&ours)?, &all_flat(&theirs)?, bound);
            report.case(id("narrow vjp = wide vjp"), outcome);
            let (ours, theirs) = (push(case, &x, &v)?, push(case, &wide, &widened(&v)?)?);
            report.case(id("narrow tangents look like results"), forms(&ours, &y));
            let outcome = near(&all_flat(&ours)?, &all_flat(&theirs)?, bound);
            report.case(id("narrow jvp = wide jvp"), outcome);
            Ok(())
        };
        if let Err(e) = run() {
            report.case(id("narrow gradients"), Err(text(e)));
        }
    }
}

/// Integers and truth values: derivatives are zero, and never an error.
pub(crate) fn integers(case: &Case, report: &mut Report) {
    for &dtype in case.dtypes.iter().filter(|d| !d.is_inexact()) {
        let id = |law: &str| format!("{} {dtype}: {law}", case.name);
        let x = case.draw(1, dtype);
        let mut run = || -> Result<()> {
            let y = case.call(&x)?;
            let (u, v) = (case.directions(2, &y)?, case.directions(3, &x)?);
            let (grads, tangents) = (pull(case, &x, &u)?, push(case, &x, &v)?);
            report.case(id("cotangents look like arguments"), forms(&grads, &x));
            report.case(id("tangents look like results"), forms(&tangents, &y));
            // Whatever real argument stands beside, the integers of this dtype move nothing.
            if x.iter().all(|a| a.dtype().is_ok_and(|d| !d.is_inexact())) {
                let zero = all_flat(&tangents)?.iter().all(|&t| t == 0.0);
                report.expect(id("tangents are zero"), zero, || format!("{tangents:?}"));
            }
            Ok(())
        };
        if let Err(e) = run() {
            report.case(id("derivatives of integers"), Err(text(e)));
        }
    }
}
