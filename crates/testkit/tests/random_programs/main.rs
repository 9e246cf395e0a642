//! Random programs give the same bits however they are run: lazily or one operation at a time, fused or
//! not, compiled or not, one example at a time or as a batch. Those that can be differentiated have the
//! same gradient each way, and it is the one that finite differences give.
//!
//! `LAZUL_PROGRAMS` sets how many are tried, `LAZUL_SEED` which is the first. What fails is made smaller by
//! dropping steps, and printed with its seed. One test: whether to fuse is a setting of the process.

mod program;
mod table;

use lazul_core::{
    Array, DType, Error, compile, eval, grad, jvp, set_fusion, stack, vmap_axes, zeros,
};
use lazul_testkit::{Report, Rule, compare};
use program::{Program, Purpose};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn text(e: Error) -> String {
    format!("error: {e}")
}

/// Whether all arrays agree, bit for bit or within a bound relative to the largest.
fn alike(how: &str, ours: &[Array], theirs: &[Array], bound: Option<f64>) -> Result<(), String> {
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let rule = match bound {
            None => Rule::EXACT,
            Some(bound) => {
                let largest = b.astype(DType::F64).abs().sum(..).item::<f64>().map_err(text)?;
                Rule { rtol: bound, atol: bound * largest.max(1.0), signed_zero: false }
            }
        };
        compare(a, b, rule).map_err(|why| format!("{how}, result {i}: {why}"))?;
    }
    (ours.len() == theirs.len()).then_some(()).ok_or_else(|| format!("{how}: number of results"))
}

/// Everything that holds with fusion on; gives the results.
fn fused(program: &Program) -> Result<Vec<Array>, String> {
    let x = program.arguments(0);
    let lazy = program.run(&x, |_| ()).map_err(text)?;
    eval(&lazy).map_err(text)?;
    let eager = program.run(&x, |a| drop(a.eval())).map_err(text)?;
    alike("one operation at a time", &eager, &lazy, None)?;
    let f = compile(|x: &Vec<Array>| program.run(x, |_| ()));
    // Twice: traced, then known.
    alike("compiled", &f(&x).map_err(text)?, &lazy, None)?;
    alike("compiled, again", &f(&x).map_err(text)?, &lazy, None)?;
    match program.purpose {
        Purpose::Any => {}
        Purpose::Batch => batched(program, |x| program.run(x, |_| ()), None)?,
        Purpose::Gradient => {
            batched(program, |x| program.run(x, |_| ()), Some(1e-11))?;
            gradients(program, &x)?;
        }
    }
    Ok(lazy)
}

/// A batch against a loop over its examples; every second argument is shared.
fn batched(
    program: &Program,
    f: impl Fn(&[Array]) -> lazul_core::Result<Vec<Array>>,
    bound: Option<f64>,
) -> Result<(), String> {
    let mut examples: Vec<Vec<Array>> = (1..3).map(|k| program.arguments(k)).collect();
    let shared = program.seed as usize;
    let axes: Vec<Option<i64>> =
        (0..examples[0].len()).map(|i| (!(shared + i).is_multiple_of(3)).then_some(0)).collect();
    if axes.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut stacked = examples[0].clone();
    for (i, axis) in axes.iter().enumerate() {
        match axis {
            Some(_) => {
                stacked[i] = stack(&examples.iter().map(|e| e[i].clone()).collect::<Vec<_>>(), 0);
            }
            None => {
                let one = examples[0][i].clone();
                examples.iter_mut().for_each(|e| e[i] = one.clone());
            }
        }
    }
    let ours = vmap_axes(|x: &Vec<Array>| f(x), &axes, &[Some(0)])(&stacked).map_err(text)?;
    let each =
        examples.iter().map(|e| f(e)).collect::<lazul_core::Result<Vec<_>>>().map_err(text)?;
    let column = |i: usize| stack(&each.iter().map(|r| r[i].clone()).collect::<Vec<_>>(), 0);
    let theirs: Vec<Array> = (0..each[0].len()).map(column).collect();
    alike("a batch", &ours, &theirs, bound)
}

/// The gradient of a number made of all results, each way.
fn gradients(program: &Program, x: &[Array]) -> Result<(), String> {
    let x = x.to_vec();
    let loss_with = |x: &[Array], see: &dyn Fn(&Array)| -> lazul_core::Result<Array> {
        let results = program.run(x, see)?;
        let mut sum = zeros((), DType::F64);
        for (i, y) in results.iter().enumerate() {
            sum += y.mean(..) * (1.0 + 0.1 * i as f64);
        }
        Ok(sum)
    };
    let loss = |x: &Vec<Array>| loss_with(x, &|_| ());
    let lazy = grad(loss)(&x).map_err(text)?;
    let watched = grad(|x: &Vec<Array>| loss_with(x, &|a| drop(a.eval())))(&x).map_err(text)?;
    alike("gradient, one operation at a time", &watched, &lazy, None)?;
    let compiled = compile(grad(loss));
    alike("compiled gradient", &compiled(&x).map_err(text)?, &lazy, None)?;
    for (i, (g, x)) in lazy.iter().zip(&x).enumerate() {
        let finite = g.isfinite().all(..).item::<bool>().map_err(text)?;
        let form = (g.shape().map_err(text)?, g.dtype().map_err(text)?);
        let form = form == (x.shape().map_err(text)?, x.dtype().map_err(text)?);
        (finite && form).then_some(()).ok_or_else(|| format!("gradient {i} of {x:?}: {g:?}"))?;
    }
    batched(program, |x| grad(loss)(&x.to_vec()), Some(1e-9))?;
    // Along one direction: forward, reverse, and by differences.
    let v = program.arguments(7);
    let product = |(a, b): (&Array, &Array)| (a * b).sum(..).item::<f64>();
    let back: f64 =
        lazy.iter().zip(&v).map(product).sum::<lazul_core::Result<f64>>().map_err(text)?;
    let (_, ahead) = jvp(loss, &x, &v).map_err(text)?;
    let ahead = ahead.item::<f64>().map_err(text)?;
    let near = |a: f64, b: f64, bound: f64| (a - b).abs() <= bound * b.abs().max(1.0);
    let wrong = |how: &str, value: f64| format!("{how} is {value:e}, the gradient says {back:e}");
    near(ahead, back, 1e-9).then_some(()).ok_or_else(|| wrong("the tangent", ahead))?;
    if program.smooth() {
        let at = |t: f64| -> Result<f64, String> {
            let moved: Vec<Array> = x.iter().zip(&v).map(|(x, v)| x + v * t).collect();
            loss(&moved).and_then(|l| l.item::<f64>()).map_err(text)
        };
        let h = 1e-4;
        let slope = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / (12.0 * h);
        near(slope, back, 1e-4).then_some(()).ok_or_else(|| wrong("the difference", slope))?;
    }
    Ok(())
}

/// What must hold with fusion off, given the results that it has with fusion on.
fn unfused(program: &Program, results: &[Array]) -> Result<(), String> {
    let x = program.arguments(0);
    let ours = program.run(&x, |_| ()).map_err(text)?;
    alike("unfused", &ours, results, None)?;
    let f = compile(|x: &Vec<Array>| program.run(x, |_| ()));
    alike("compiled unfused", &f(&x).map_err(text)?, results, None)
}

fn guarded<R>(f: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err("a panic".to_string()))
}

/// All that must hold, on this thread.
fn right(program: &Program) -> Result<(), String> {
    set_fusion(true);
    let results = guarded(|| fused(program));
    set_fusion(false);
    let outcome = results.and_then(|r| guarded(|| unfused(program, &r)));
    set_fusion(true);
    outcome
}

/// Does `f` for each seed, on all cores.
fn each<R: Send>(seeds: std::ops::Range<u64>, f: impl Fn(u64) -> R + Sync) -> Vec<(u64, R)> {
    let (next, done) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let one = f(seed);
                    done.lock().expect("no panic").push((seed, one));
                }
            });
        }
    });
    done.into_inner().expect("no panic")
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

#[test]
fn programs_mean_the_same_however_they_run() {
    let first = setting("LAZUL_SEED", 0);
    let last = first + setting("LAZUL_PROGRAMS", 10_000);
    let mut report = Report::new();
    let mut wrong: Vec<u64> = Vec::new();
    let mut from = first;
    while from < last {
        let part = from..(from + 500).min(last);
        from = part.end;
        set_fusion(true);
        let results = each(part, |seed| guarded(|| fused(&Program::draw(seed))));
        set_fusion(false);
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, r)| r.is_ok());
        wrong.extend(bad.into_iter().map(|(seed, _)| seed));
        let span = good.iter().map(|(s, _)| *s).min()..good.iter().map(|(s, _)| s + 1).max();
        if let (Some(low), Some(high)) = (span.start, span.end) {
            let known: std::collections::HashMap<u64, &Vec<Array>> =
                good.iter().filter_map(|(s, r)| Some((*s, r.as_ref().ok()?))).collect();
            let outcomes = each(low..high, |seed| match known.get(&seed) {
                Some(r) => guarded(|| unfused(&Program::draw(seed), r)),
                None => Ok(()),
            });
            for (seed, outcome) in outcomes {
                match outcome {
                    Ok(()) if known.contains_key(&seed) => report.case(seed, Ok::<(), String>(())),
                    Ok(()) => {}
                    Err(_) => wrong.push(seed),
                }
            }
        }
    }
    set_fusion(true);
    wrong.sort_unstable();
    for &seed in &wrong {
        report.case(seed, Err::<(), _>(explained(seed)));
        if report.failures() >= 5 {
            break;
        }
    }
    println!("{} programs of {} failed: {wrong:?}", wrong.len(), last - first);
    report.finish();
    long_chain_unfused();
}

/// A long chain needs no more stack where nothing is fused.
fn long_chain_unfused() {
    set_fusion(false);
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let chain = small.spawn(|| {
        let mut x = zeros([3], DType::F32);
        for _ in 0..1_000_000 {
            x += 1.0;
        }
        x.to_vec::<f32>()
    });
    let chain = chain.expect("a thread").join().expect("no overflow of the stack");
    assert_eq!(chain.expect("evaluates"), [1e6; 3]);
    set_fusion(true);
}

/// What is wrong with the program of a seed, in its smallest form.
fn explained(seed: u64) -> String {
    let program = Program::draw(seed);
    let Err(why) = right(&program) else {
        return "it failed beside others, and is right alone".to_string();
    };
    let small = program.shrunk(|p| right(p).is_err());
    let why = right(&small).err().unwrap_or(why);
    format!("{why}\n    {}", small.text())
}
