//! Compiled functions: traced once for each structure, shapes and dtypes of their arguments, cleaned up,
//! and run as one step from then on.

use super::call::call;
use super::graph::{Graph, Spec, spec};
use crate::error::Result;
use crate::node::Array;
use crate::scope::call_site;
use crate::tree::{IntoResult, Tree};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, Mutex};

/// Structure, shapes and dtypes of arguments.
type Key = Vec<u64>;

/// What tracing gave.
struct Traced<S, T, O> {
    graph: Arc<Graph>,
    /// State and result, with placeholders for leaves.
    template: (S, O),
    /// The arguments, without their leaves: a key names the arrays in [`Fixed`](crate::Fixed) parts by
    /// address, which must not become another array's while the key is known.
    _named: (S, T),
}

fn key_of<T: Tree>(tree: &T, key: &mut Key) {
    tree.structure(key);
    tree.visit(&mut |a| {
        key.push((a.0.dtype as u64) << 32 | a.0.shape.len() as u64);
        key.extend(a.0.shape.iter().map(|&d| d as u64));
    });
}

/// Whether a transform that is running looks at an array.
fn watched(a: &Array) -> bool {
    a.0.trace.as_ref().is_some_and(|t| t.is_live())
}

/// A function that runs as one step: `f` is called once for each structure, shapes and dtypes of its
/// argument, and what it builds is kept: equal steps of one result computed once, what is not needed dropped,
/// element-wise work fused, memory planned. Calls after that neither call `f` nor build its graph.
///
/// Arrays that `f` captures, and random numbers that it draws without a key, are constants of the compiled
/// function; what changes from call to call is passed as an argument, or as the state of
/// [`compile_with_state`]. Under `grad` and the other transforms `f` itself is called.
///
/// ```
/// use lazul_core::prelude::*;
/// let gelu = compile(|x: &Array| x * 0.5 * ((x / 2f32.sqrt()).erf() + 1.0));
/// let y = gelu(&Array::from_slice(&[0.0f32, 1.0], [2]))?;
/// assert!((y.to_vec::<f32>()?[1] - 0.841_344_7).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: those of `f`, and if `f` reads the value of its argument.
#[track_caller]
pub fn compile<T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
) -> impl Fn(&T) -> Result<O> {
    let with_state = compile_with_state(move |(): &mut (), argument: &T| f(argument));
    move |argument| with_state(&mut (), argument)
}

/// As [`compile`], for a function that changes a state (weights, an optimizer's moments, a cache, a random
/// key): its arrays go in, and their successors replace them. The memory of state that nobody else holds
/// is used for what replaces it.
///
/// ```
/// use lazul_core::prelude::*;
/// let step = compile_with_state(|w: &mut Array, x: &Array| {
///     let loss = |w: &Array| (w - x).square().sum(..);
///     let (value, dw) = value_and_grad(loss)(w)?;
///     *w -= dw * 0.25;
///     Ok::<_, lazul_core::Error>(value)
/// });
/// let (mut w, x) = (zeros(2, DType::F32), ones(2, DType::F32));
/// let losses = [step(&mut w, &x)?, step(&mut w, &x)?, step(&mut w, &x)?];
/// assert_eq!(losses[2].item::<f32>()?, 0.125);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`compile`]; the state is then as it was.
#[track_caller]
pub fn compile_with_state<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&mut S, &T) -> R,
) -> impl Fn(&mut S, &T) -> Result<O> {
    let site = call_site();
    let known: Mutex<HashMap<Key, Arc<Traced<S, T, O>>>> = Mutex::default();
    move |state, argument| {
        let (before, given) = (state.leaves(), argument.leaves());
        before.iter().chain(&given).try_for_each(|a| a.check())?;
        if before.iter().chain(&given).any(|a| watched(a)) {
            let mut next = state.clone();
            let value = f(&mut next, argument).into_result()?;
            *state = next;
            return Ok(value);
        }
        let mut key = Key::new();
        key_of(&*state, &mut key);
        key_of(argument, &mut key);
        let found = known.lock().unwrap_or_else(|e| e.into_inner()).get(&key).cloned();
        let traced = match found {
            Some(traced) => traced,
            None => {
                let traced = Arc::new(trace(&f, state, argument, site)?);
                known.lock().unwrap_or_else(|e| e.into_inner()).insert(key, traced.clone());
                traced
            }
        };
        let mut arguments: Vec<Array> = Vec::with_capacity(before.len() + given.len());
        arguments.extend(before.into_iter().chain(given).cloned());
        let mut made = call("compiled", &traced.graph, arguments, site);
        let (next, value) = &traced.template;
        let rest = made.split_off(next.leaves().len());
        *state = next.with_leaves(made);
        Ok(value.with_leaves(rest))
    }
}

fn trace<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: &impl Fn(&mut S, &T) -> R,
    state: &S,
    argument: &T,
    site: &'static Location<'static>,
) -> Result<Traced<S, T, O>> {
    let (before, given) = (state.leaves(), argument.leaves());
    let specs: Vec<Spec> = before.iter().chain(&given).map(|a| spec(a)).collect();
    let n = before.len();
    let mut template = None;
    let graph = Graph::trace_at(site, &specs, |xs| {
        let mut next = state.with_leaves(xs[..n].iter().cloned());
        let argument = argument.with_leaves(xs[n..].iter().cloned());
        let value = f(&mut next, &argument).into_result()?;
        let made = next.leaves().into_iter().chain(value.leaves()).cloned().collect();
        template = Some((next, value));
        Ok(made)
    })?;
    let Some(template) = template else { unreachable!("the function was traced") };
    let graph = graph.without_repeats();
    // What does not depend on arguments is computed now, once.
    // Arrays of a transform that is running may have no values yet, and are inputs like any other.
    crate::eval::eval(graph.captures.iter().filter(|a| !watched(a)))?;
    let leaves = |from: usize| graph.arguments[from..].iter().cloned();
    let named = (state.with_leaves(leaves(0)), argument.with_leaves(leaves(n)));
    Ok(Traced { graph: Arc::new(graph), template, _named: named })
}
