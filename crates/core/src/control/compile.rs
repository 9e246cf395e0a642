//! Compiled functions: traced once for each structure, shapes and dtypes of their arguments, cleaned up,
//! and run as one step from then on.

use super::call::call;
use super::graph::{Graph, Spec, spec};
use super::shapeless::{Families, member_or_trace};
use crate::error::Result;
use crate::node::Array;
use crate::program::Sample;
use crate::scope::call_site;
use crate::tree::{IntoResult, Tree};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Structure, shapes and dtypes of arguments.
pub(super) type Key = Vec<u64>;

/// What tracing gave.
pub(super) struct Traced<S, T, O> {
    pub(super) graph: Arc<Graph>,
    /// State and result, with placeholders for leaves.
    pub(super) template: (S, O),
    /// The arguments, without their leaves: a key names the arrays in [`Fixed`](crate::Fixed) parts by
    /// address, which must not become another array's while the key is known.
    pub(super) _named: (S, T),
}

/// The key of arguments, with their lengths or without.
pub(super) fn key_of<S: Tree, T: Tree>(state: &S, argument: &T, lengths: bool) -> Key {
    fn add<T: Tree>(tree: &T, lengths: bool, key: &mut Key) {
        tree.structure(key);
        tree.visit(&mut |a| {
            key.push((a.0.dtype as u64) << 32 | a.0.shape.len() as u64);
            if lengths {
                key.extend(a.0.shape.iter().map(|&d| d as u64));
            }
        });
    }
    let mut key = Key::new();
    add(state, lengths, &mut key);
    add(argument, lengths, &mut key);
    key
}

/// How many traced forms a compiled function keeps: the one that was used longest ago makes room.
pub(super) const CAPACITY: usize = 128;

/// Traced forms by key, with the time of their last use in calls.
struct Known<V> {
    forms: HashMap<Key, (Arc<V>, u64)>,
    calls: u64,
}

impl<V> Default for Known<V> {
    fn default() -> Known<V> {
        Known { forms: HashMap::new(), calls: 0 }
    }
}

impl<V> Known<V> {
    fn get(&mut self, key: &Key) -> Option<Arc<V>> {
        self.calls += 1;
        let (form, used) = self.forms.get_mut(key)?;
        *used = self.calls;
        Some(form.clone())
    }

    /// Keeps a form; gives back what made room for it, to be dropped where no lock is held.
    fn insert(&mut self, key: Key, form: Arc<V>) -> Option<Arc<V>> {
        let full = self.forms.len() >= CAPACITY && !self.forms.contains_key(&key);
        let oldest =
            || self.forms.iter().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone());
        let dropped = full.then(oldest).flatten().and_then(|k| self.forms.remove(&k));
        self.calls += 1;
        self.forms.insert(key, (form, self.calls));
        dropped.map(|(form, _)| form)
    }
}

static COMPILING: AtomicBool = AtomicBool::new(true);

/// Whether compiled functions are run as one step, which [`set_compiling`] says.
///
/// ```
/// assert!(lazul_core::compiling());
/// ```
pub fn compiling() -> bool {
    COMPILING.load(Relaxed)
}

/// Says whether functions that [`compile`] made are run as one step; if not, each call calls the function
/// itself, so that a value can be read or printed within it. For the whole process; returns what held before.
///
/// ```standalone_crate
/// use lazul_core::{prelude::*, set_compiling};
/// let shown = compile(|x: &Array| Ok::<_, lazul_core::Error>(x * x.item::<f32>()?));
/// let x = Array::scalar(3.0f32);
/// assert!(shown(&x).is_err());
/// let before = set_compiling(false);
/// assert_eq!(shown(&x)?.item::<f32>()?, 9.0);
/// set_compiling(before);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn set_compiling(on: bool) -> bool {
    COMPILING.swap(on, Relaxed)
}

/// Whether a transform that is running looks at an array.
fn watched(a: &Array) -> bool {
    a.0.trace.as_ref().is_some_and(|t| t.is_live())
}

/// A function that runs as one step: `f` is called once for each structure, shapes and dtypes of its
/// argument, and what it builds is kept: equal steps of one result computed once, what is not needed dropped,
/// element-wise work fused, memory planned. Calls after that neither call `f` nor build its graph.
///
/// Arrays that `f` captures are constants of the compiled function; what changes from call to call is passed
/// as an argument, or as the state of [`compile_with_state`], random keys too: a random draw without a key
/// would give the same numbers in every call, and is an error. The 128 forms (structure, shapes, dtypes) that
/// were used last are kept. Under `grad` and the other transforms `f` itself is called.
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
/// Of the returned function: those of `f`; if `f` reads the value of its argument, or draws random numbers
/// without a key.
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
    compiled(f, false)
}

/// [`compile_with_state`], and [`compile_shapeless_with_state`](super::compile_shapeless_with_state).
#[track_caller]
pub(super) fn compiled<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&mut S, &T) -> R,
    shapeless: bool,
) -> impl Fn(&mut S, &T) -> Result<O> {
    let site = call_site();
    let known: Mutex<Known<Traced<S, T, O>>> = Mutex::default();
    let families: Mutex<Families<Traced<S, T, O>>> = Mutex::default();
    move |state, argument| {
        let (before, given) = (state.leaves(), argument.leaves());
        before.iter().chain(&given).try_for_each(|a| a.check())?;
        if !compiling() || before.iter().chain(&given).any(|a| watched(a)) {
            let mut next = state.clone();
            let value = f(&mut next, argument).into_result()?;
            *state = next;
            return Ok(value);
        }
        let key = key_of(state, argument, true);
        let found = known.lock().unwrap_or_else(|e| e.into_inner()).get(&key);
        let traced = match found {
            Some(traced) => traced,
            None => {
                let traced = match shapeless {
                    true => member_or_trace(&f, state, argument, site, &families)?,
                    false => Arc::new(trace(&f, state, argument, site, false)?.0),
                };
                let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
                let dropped = known.insert(key, traced.clone());
                drop(known);
                drop(dropped);
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

/// Calls `f` on placeholders; if `shapeless`, with the graph as it was traced, before anything of it was
/// computed.
pub(super) fn trace<S: Tree, T: Tree, O: Tree, R: IntoResult<O>>(
    f: &impl Fn(&mut S, &T) -> R,
    state: &S,
    argument: &T,
    site: &'static Location<'static>,
    shapeless: bool,
) -> Result<(Traced<S, T, O>, Option<Sample>)> {
    let (before, given) = (state.leaves(), argument.leaves());
    let specs: Vec<Spec> = before.iter().chain(&given).map(|a| spec(a)).collect();
    let n = before.len();
    let mut template = None;
    let _keyed = crate::random::Keyed::start("compile");
    let graph = Graph::trace_at(site, &specs, |xs| {
        let mut next = state.with_leaves(xs[..n].iter().cloned());
        let argument = argument.with_leaves(xs[n..].iter().cloned());
        let value = f(&mut next, &argument).into_result()?;
        let made = next.leaves().into_iter().chain(value.leaves()).cloned().collect();
        template = Some((next, value));
        Ok(made)
    })?;
    let Some(template) = template else { unreachable!("the function was traced") };
    let sample = if shapeless { Sample::of(&graph) } else { None };
    let (first, rest) = graph.arguments.split_at(n);
    let named =
        (state.with_leaves(first.iter().cloned()), argument.with_leaves(rest.iter().cloned()));
    Ok((Traced { graph: finished(graph)?, template, _named: named }, sample))
}

/// A graph cleaned up for running.
pub(super) fn finished(graph: Graph) -> Result<Arc<Graph>> {
    let graph = graph.without_repeats();
    // What does not depend on arguments is computed now, once.
    // Arrays of a transform that is running may have no values yet, and are inputs like any other.
    crate::eval::eval(graph.captures.iter().filter(|a| !watched(a)))?;
    Ok(Arc::new(graph))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn the_form_used_longest_ago_makes_room() {
        let traced = AtomicUsize::new(0);
        let f = compile(|x: &Array| {
            traced.fetch_add(1, Relaxed);
            x + 1.0
        });
        let call = |n: usize| f(&zeros(n, DType::F32)).unwrap();
        (0..CAPACITY).for_each(|n| drop(call(n)));
        drop(call(0)); // now 1 is the oldest
        assert_eq!(traced.load(Relaxed), CAPACITY);
        drop(call(CAPACITY));
        assert_eq!(traced.load(Relaxed), CAPACITY + 1);
        drop(call(0));
        assert_eq!(traced.load(Relaxed), CAPACITY + 1);
        drop(call(1));
        assert_eq!(traced.load(Relaxed), CAPACITY + 2);
    }

    #[test]
    fn what_is_traced_once_draws_with_keys_only() {
        let drawn = |key: Option<&Array>| random::uniform(0.0, 1.0, [2], DType::F32, key);
        let f = compile(move |x: &Array| x + drawn(None));
        let error = f(&ones(2, DType::F32)).unwrap_err();
        assert_eq!((error.kind(), error.op()), (crate::ErrorKind::Value, "random"));
        assert!(error.message().contains("compile"), "{error}");
        assert!(error.site().is_some_and(|at| at.file() == file!()), "{error}");
        let step = |c: &Array, x: &Array| (c + drawn(None), x.clone());
        let error = scan(step, &ones(2, DType::F32), &ones(3, DType::F32)).unwrap_err();
        assert!(error.message().contains("scan"), "{error}");
        // Outside again, and under a transform that calls the function each time, it may.
        drawn(None).eval().unwrap();
        let _ = grad(|x: &Array| (x * drawn(None)).sum(..))(&ones(2, DType::F32)).unwrap();
        // A key that is state gives other numbers with every call.
        let keyed = compile_with_state(|key: &mut Array, x: &Array| {
            let both = random::split(key, 2);
            *key = both.at_index(0, 0);
            x + random::uniform(0.0, 1.0, [2], DType::F32, Some(&both.at_index(0, 1)))
        });
        let (mut key, x) = (random::key(0), ones(2, DType::F32));
        let [a, b] = [(); 2].map(|()| keyed(&mut key, &x).unwrap().to_vec::<f32>().unwrap());
        assert_ne!(a, b);
    }
}
