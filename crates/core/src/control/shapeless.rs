//! Compiled functions whose arguments come in many sizes: what is learnt from a few traces of one, and the
//! forms that are made of it without calling the function.

use super::compile::{CAPACITY, Key, Traced, compiled, finished, key_of, trace};
use super::graph::{Graph, Spec, spec};
use crate::error::Result;
use crate::node::Array;
use crate::program::{Family, Form, Program, Sample};
use crate::tree::{IntoResult, Tree};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex};

/// As [`compile`](crate::compile), for arguments of many sizes: after a few calls with other lengths, `f` is called for none of
/// them any more.
///
/// Two traces show which lengths vary and which numbers of the graph (shapes, positions, counts that sums
/// are divided by) vary with them; a third confirms it. What cannot be told from that is traced as [`compile`]
/// does: a custom function, numbers that follow lengths in other ways than sums, products and quotients, lengths of 0 and 1,
/// another number of axes. A function that does something else from some length on (`if x.dim(0)? > 100`) is not one
/// for this.
///
/// ```
/// use lazul_core::prelude::*;
/// use std::cell::Cell;
/// let calls = Cell::new(0);
/// let centred = compile_shapeless(|x: &Array| {
///     calls.set(calls.get() + 1);
///     x - x.mean(0)
/// });
/// for n in 2..100 {
///     let y = centred(&arange(n, DType::F32))?;
///     assert_eq!(y.at_index(0, 0).item::<f32>()?, -(n as f32 - 1.0) / 2.0);
/// }
/// assert_eq!(calls.get(), 3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`compile`].
#[track_caller]
pub fn compile_shapeless<T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
) -> impl Fn(&T) -> Result<O> {
    let with_state = compile_shapeless_with_state(move |(): &mut (), argument: &T| f(argument));
    move |argument| with_state(&mut (), argument)
}

/// [`compile_with_state`] and [`compile_shapeless`] in one.
///
/// ```
/// use lazul_core::prelude::*;
/// let step = compile_shapeless_with_state(|sum: &mut Array, x: &Array| *sum += x.sum(..));
/// let mut sum = Array::scalar(0.0f32);
/// for n in 2..20 {
///     step(&mut sum, &ones(n, DType::F32))?;
/// }
/// assert_eq!(sum.item::<f32>()?, 189.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`compile`]; the state is then as it was.
#[track_caller]
pub fn compile_shapeless_with_state<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&mut S, &T) -> R,
) -> impl Fn(&mut S, &T) -> Result<O> {
    compiled(f, true)
}

/// What is known of a function for arguments of one structure whose lengths differ.
pub(super) struct Learnt<V> {
    /// The trace that the results' structure is taken from, and that structure.
    like: Arc<V>,
    structure: Key,
    stage: Stage,
}

enum Stage {
    /// One trace.
    Once(Sample),
    /// Two, of which a family was made.
    Twice(Family, Vec<Array>),
    /// A third was in it.
    Sure(Arc<(Family, Vec<Array>)>),
}

/// By structure, dtypes and numbers of axes.
pub(super) type Families<V> = HashMap<Key, Learnt<V>>;

/// The traced form for these arguments: from the family of those known, or by calling `f`, from which is learnt.
pub(super) fn member_or_trace<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: &impl Fn(&mut S, &T) -> R,
    state: &S,
    argument: &T,
    site: &'static Location<'static>,
    families: &Mutex<Families<Traced<S, T, O>>>,
) -> Result<Arc<Traced<S, T, O>>> {
    let key = key_of(state, argument, false);
    let lock = || families.lock().unwrap_or_else(|e| e.into_inner());
    let sure = lock().get(&key).and_then(|learnt| match &learnt.stage {
        Stage::Sure(family) => Some((family.clone(), learnt.like.clone())),
        Stage::Once(_) | Stage::Twice(..) => None,
    });
    if let Some((family, like)) = sure {
        let leaves = state.leaves().into_iter().chain(argument.leaves());
        let forms = leaves.map(Form::of).collect::<Result<Vec<Form>>>()?;
        if let Some((program, constants)) = family.0.member(&forms, &family.1) {
            return Ok(Arc::new(from_program(&program, &constants, &like, state, argument, site)?));
        }
    }
    let (traced, sample) = trace(f, state, argument, site, true)?;
    let traced = Arc::new(traced);
    let Some(sample) = sample else { return Ok(traced) };
    let mut structure = Key::new();
    traced.template.0.structure(&mut structure);
    traced.template.1.structure(&mut structure);
    let before = lock().remove(&key).filter(|learnt| learnt.structure == structure);
    let (like, stage) = match before.map(|learnt| (learnt.stage, learnt.like)) {
        None => (traced.clone(), Stage::Once(sample)),
        Some((Stage::Once(first), like)) => match Family::of(&first, &sample) {
            Ok((family, constants)) => (like, Stage::Twice(family, constants)),
            Err(_) => (traced.clone(), Stage::Once(sample)),
        },
        Some((Stage::Twice(family, constants), like)) => match family.holds(&constants, &sample) {
            None => (like, Stage::Twice(family, constants)),
            Some(true) => (like, Stage::Sure(Arc::new((family, constants)))),
            Some(false) => (traced.clone(), Stage::Once(sample)),
        },
        // Lengths of no family, such as 0 and 1, are traced and teach nothing.
        Some((stage @ Stage::Sure(_), like)) => (like, stage),
    };
    let mut families = lock();
    let dropped = (families.len() >= CAPACITY).then(|| std::mem::take(&mut *families));
    families.insert(key, Learnt { like, structure, stage });
    drop(families);
    drop(dropped);
    Ok(traced)
}

/// The form of a program: the function is not called.
fn from_program<S: Tree, T: Tree, O: Tree>(
    program: &Program,
    constants: &[Array],
    like: &Traced<S, T, O>,
    state: &S,
    argument: &T,
    site: &'static Location<'static>,
) -> Result<Traced<S, T, O>> {
    let specs: Vec<Spec> = state.leaves().into_iter().chain(argument.leaves()).map(spec).collect();
    let graph = Graph::trace_at(site, &specs, |xs| program.call(xs, constants))?;
    let n = state.leaves().len();
    let (first, rest) = graph.arguments.split_at(n);
    let named =
        (state.with_leaves(first.iter().cloned()), argument.with_leaves(rest.iter().cloned()));
    let (next, value) = &like.template;
    let (of_state, of_value) = graph.outputs.split_at(next.leaves().len());
    let template =
        (next.with_leaves(of_state.iter().cloned()), value.with_leaves(of_value.iter().cloned()));
    Ok(Traced { graph: finished(graph)?, template, _named: named })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use std::cell::Cell;

    /// Calls the function for these sizes and compares with what it gives uncompiled; how often it was called.
    fn calls(f: impl Fn(&Array) -> Result<Array>, sizes: &[[usize; 2]]) -> usize {
        let count = Cell::new(0);
        let compiled = compile_shapeless(|x: &Array| {
            count.set(count.get() + 1);
            f(x)
        });
        for &[n, m] in sizes {
            let x = (arange(n * m, DType::F32) * 0.7).sin().reshape([n, m]);
            let (got, expected) = (compiled(&x).unwrap(), f(&x).unwrap());
            assert_eq!(got.shape().unwrap(), expected.shape().unwrap());
            assert_eq!(got.to_bytes().unwrap(), expected.to_bytes().unwrap(), "{n} x {m}");
        }
        count.get()
    }

    const SIZES: [[usize; 2]; 8] =
        [[4, 6], [6, 10], [7, 8], [30, 5], [2, 2], [64, 64], [9, 3], [5, 6]];

    #[test]
    fn three_calls_teach_what_follows_the_sizes() {
        let all: [(&str, &dyn Fn(&Array) -> Result<Array>); 9] = [
            ("mean", &|x| Ok(x.mean(0) + x.mean(..))),
            ("variance", &|x| Ok(x.var(1, 0).sqrt())),
            ("flatten", &|x| Ok(x.reshape([-1]).cumsum(0, Scan::default()))),
            ("reshape", &|x| Ok(x.reshape([x.dim(1)?, x.dim(0)?]).exp())),
            ("positions", &|x| Ok(x + arange(x.dim(0)? as i64, DType::F32).expand_dims(1))),
            ("ones", &|x| Ok(x.matmul(&ones([x.dim(1)?, 3], DType::F32)))),
            ("joined", &|x| Ok(concatenate(&[x.clone(), x.square(), x.clone()], 0))),
            ("shifted", &|x| Ok(x.slice_axis(0, 1, None) - x.slice_axis(0, None, -1))),
            ("scanned", &|x| {
                let start = x.at_index(0, 0).zeros_like();
                Ok(scan(|c: &Array, x: &Array| (c * 0.5 + x, c.exp()), &start, x)?.1)
            }),
        ];
        for (name, f) in all {
            assert_eq!(calls(f, &SIZES), 3, "{name}");
        }
    }

    #[test]
    fn what_does_not_follow_is_traced() {
        // A number that no rule gives, other steps from some length on, lengths of one.
        assert_eq!(calls(|x| Ok(x * (x.dim(0)? as f64).sqrt()), &SIZES), SIZES.len());
        let every = |x: &Array| Ok(if x.dim(0)? % 2 == 0 { x.exp() } else { x.sin() });
        assert_eq!(calls(every, &[[4, 3], [5, 3], [6, 3], [7, 3]]), 4);
        let ones = [[4, 6], [6, 10], [7, 8], [1, 8], [8, 1], [0, 3], [9, 9], [10, 10]];
        assert_eq!(calls(|x| Ok(x - x.mean(0)), &ones), 3 + 3);
    }

    #[test]
    fn a_rule_that_two_examples_only_suggest_is_dropped() {
        // 2 -> 4 and 4 -> 16: a square, and not three times less four, nor a power of two.
        let power = |x: &Array| Ok(x * (1u32 << x.dim(0)?) as f32);
        assert_eq!(calls(power, &[[2, 3], [4, 3], [5, 3], [6, 3]]), 4);
        // Lengths that the rule was made from do not confirm it, also where another axis is new.
        assert_eq!(calls(power, &[[2, 3], [4, 5], [2, 7], [4, 9], [5, 3]]), 5);
    }

    #[test]
    fn weights_are_shared_and_state_moves_on() {
        let count = Cell::new(0);
        let w = random::normal([6, 4], DType::F32, Some(&random::key(0)));
        let step = compile_shapeless_with_state(|sum: &mut Array, x: &Array| {
            count.set(count.get() + 1);
            let y = x.matmul(&w).maximum(0.0);
            *sum += y.sum(..);
            y
        });
        let mut sum = Array::scalar(0.0f32);
        let mut expected = 0.0;
        for n in 2..20usize {
            let x = (arange(n * 6, DType::F32) * 0.3).cos().reshape([n, 6]);
            let y = step(&mut sum, &x).unwrap();
            let direct = x.matmul(&w).maximum(0.0);
            assert_eq!(y.to_bytes().unwrap(), direct.to_bytes().unwrap());
            expected += direct.sum(..).item::<f32>().unwrap();
        }
        assert!((sum.item::<f32>().unwrap() / expected - 1.0).abs() < 1e-5);
        // The weights had no values when the function was traced first.
        assert!(count.get() <= 4, "{}", count.get());
    }
}
