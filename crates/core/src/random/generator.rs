//! Where draws without a key get one: the process' own generator, or one that is a value.
//!
//! A [`Generator`] is a tree, so it can be the state of a compiled function, be saved and be restored.
//! Within its scope the n-th draw has a key made of the generator's and of n, a number that is known
//! while a function is traced: what a checkpointed part draws is drawn again alike, and no key made in an
//! inner trace is used outside of it.

use super::{key, split};
use crate::error::{Error, ErrorKind};
use crate::node::Array;
use crate::scope::call_site;
use crate::tree::Tree;
use std::cell::RefCell;
use std::sync::Mutex;

static STATE: Mutex<Option<Array>> = Mutex::new(None);

/// Sets the process' own generator.
///
/// ```
/// use lazul_core::prelude::*;
/// random::seed(7);
/// let a = random::uniform(0.0, 1.0, [3], DType::F32, None).to_vec::<f32>()?;
/// random::seed(7);
/// assert_eq!(random::uniform(0.0, 1.0, [3], DType::F32, None).to_vec::<f32>()?, a);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn seed(seed: u64) {
    *STATE.lock().unwrap_or_else(|e| e.into_inner()) = Some(key(seed));
}

/// Where draws without a key get one on this thread.
#[derive(Clone)]
enum Source {
    /// From the process' own generator.
    Process,
    /// Nowhere: this operation is tracing a function to run it more than once, and what is drawn without a
    /// key would be a constant of it.
    Nowhere(&'static str),
    /// From the generator whose scope this is: its key, and the number of draws so far.
    Scope(Array, u32),
}

thread_local! {
    static SOURCE: RefCell<Source> = const { RefCell::new(Source::Process) };
}

/// Puts a source in place until it is dropped.
struct Within(Option<Source>);

impl Within {
    fn start(source: Source) -> Within {
        Within(Some(SOURCE.replace(source)))
    }

    /// Ends it, and gives back what became of the source.
    fn finish(mut self) -> Option<Source> {
        self.0.take().map(|before| SOURCE.replace(before))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            SOURCE.set(before);
        }
    }
}

/// While this lives, draws on this thread need keys.
pub(crate) struct Keyed {
    _within: Within,
}

impl Keyed {
    pub(crate) fn start(op: &'static str) -> Keyed {
        Keyed { _within: Within::start(Source::Nowhere(op)) }
    }
}

/// The key given, or a fresh one.
#[track_caller]
pub(super) fn key_or_next(key: Option<&Array>) -> Array {
    if let Some(key) = key {
        return key.clone();
    }
    let scoped = SOURCE.with_borrow_mut(|source| match source {
        Source::Process => None,
        Source::Nowhere(op) => Some(Err(*op)),
        Source::Scope(base, count) => {
            let draw = *count;
            *count += 1;
            Some(Ok((base.clone(), draw)))
        }
    });
    match scoped {
        // Keys that differ in one word are as unlike as any to a cipher.
        Some(Ok((base, draw))) => base ^ Array::from_slice(&[0, draw], [2]),
        Some(Err(op)) => {
            let why =
                format!("a draw without a key would be the same in every run of what {op} traces");
            Array::fail(Error::new(ErrorKind::Value, "random", why), call_site())
        }
        None => next_of_process(),
    }
}

fn next_of_process() -> Array {
    let mut state = STATE.lock().unwrap_or_else(|e| e.into_inner());
    let now = state.take().unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        key(clock.map_or(0, |t| t.as_nanos() as u64))
    });
    let both = split(&now, 2);
    let next = both.at_index(0, 0);
    // The state is computed at once: it must not grow into a graph of all draws so far.
    let _ = next.eval();
    *state = Some(next);
    both.at_index(0, 1)
}

/// A source of random numbers that is a value: the state of a compiled training step, part of a
/// checkpoint.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_core::random::Generator;
/// let noisy = compile_with_state(|generator: &mut Generator, x: &Array| {
///     generator.scope(|| x + random::uniform(0.0, 1.0, [2], DType::F32, None))
/// });
/// let (mut generator, x) = (Generator::new(7), zeros(2, DType::F32));
/// let first = noisy(&mut generator, &x)?.to_vec::<f32>()?;
/// let second = noisy(&mut generator, &x)?.to_vec::<f32>()?;
/// assert_ne!(first, second);
/// assert_eq!(noisy(&mut Generator::new(7), &x)?.to_vec::<f32>()?, first);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generator {
    /// The key that the next draws start from, u32 `(2)`.
    pub key: Array,
}

impl Generator {
    /// The generator of a seed.
    ///
    /// ```
    /// use lazul_core::random::Generator;
    /// assert_eq!(Generator::new(3).key.to_vec::<u32>()?, [0, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn new(seed: u64) -> Generator {
        Generator { key: key(seed) }
    }

    /// A key that no draw has had.
    ///
    /// ```
    /// use lazul_core::random::Generator;
    /// let mut generator = Generator::new(0);
    /// assert_ne!(generator.next_key().to_vec::<u32>()?, generator.next_key().to_vec::<u32>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn next_key(&mut self) -> Array {
        let both = split(&self.key, 2);
        self.key = both.at_index(0, 0);
        both.at_index(0, 1)
    }

    /// Runs `f`, whose draws without a key have keys of this generator, on this thread.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::random::Generator;
    /// let draw = |g: &mut Generator| g.scope(|| random::normal([3], DType::F32, None).to_vec::<f32>());
    /// let mut generator = Generator::new(1);
    /// let first = draw(&mut generator)?;
    /// assert_ne!(draw(&mut generator)?, first);
    /// assert_eq!(draw(&mut Generator::new(1))?, first);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn scope<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let both = split(&self.key, 2);
        let within = Within::start(Source::Scope(both.at_index(0, 1), 0));
        let result = f();
        // Without a draw there is nothing to go on from.
        if !matches!(within.finish(), Some(Source::Scope(_, 0))) {
            self.key = both.at_index(0, 0);
        }
        result
    }
}

impl Tree for Generator {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        f(&self.key);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        f(&mut self.key);
    }
    fn structure(&self, _: &mut Vec<u64>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn drawn() -> Array {
        random::uniform(0.0, 1.0, [4], DType::F32, None)
    }

    #[test]
    fn scopes_end_with_panics_and_nest() {
        let mut outer = Generator::new(3);
        let mut inner = Generator::new(4);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Generator::new(5).scope(|| panic!("within"))
        }));
        assert!(caught.is_err());
        // The process' generator is back, and makes other numbers each time.
        assert_ne!(drawn().to_vec::<f32>().unwrap(), drawn().to_vec::<f32>().unwrap());
        let alone =
            Generator::new(3).scope(|| [drawn(), drawn()].map(|a| a.to_vec::<f32>().unwrap()));
        let [first, other, second] = outer.scope(|| {
            let first = drawn();
            let other = inner.scope(drawn);
            [first, other, drawn()].map(|a| a.to_vec::<f32>().unwrap())
        });
        assert_eq!([first, second], alone);
        assert_eq!(other, Generator::new(4).scope(drawn).to_vec::<f32>().unwrap());
    }

    #[test]
    fn a_scope_without_draws_leaves_the_key() {
        let mut generator = Generator::new(3);
        let before = generator.key.to_vec::<u32>().unwrap();
        generator.scope(|| ());
        assert_eq!(generator.key.to_vec::<u32>().unwrap(), before);
        generator.scope(drawn).eval().unwrap();
        assert_ne!(generator.key.to_vec::<u32>().unwrap(), before);
    }

    #[test]
    fn checkpoints_draw_the_same_again() -> crate::Result<()> {
        let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [4]);
        let noisy = |x: &Array| x.square() * drawn();
        let plain = Generator::new(8).scope(|| grad(|x: &Array| noisy(x).sum(..))(&x))?;
        let kept = checkpoint(noisy);
        let loss = |x: &Array| Ok::<_, Error>(kept(x)?.sum(..));
        let again = Generator::new(8).scope(|| grad(loss)(&x))?;
        assert_eq!(plain.to_vec::<f32>()?, again.to_vec::<f32>()?);
        Ok(())
    }

    #[test]
    fn bodies_of_loops_need_keys_even_in_a_scope() {
        let step = |c: &Array, x: &Array| (c + drawn(), x.clone());
        let run = || scan(step, &ones(4, DType::F32), &ones([3, 4], DType::F32)).map(|_| ());
        let error = Generator::new(0).scope(run).unwrap_err();
        assert!(error.message().contains("scan"), "{error}");
        let f = compile(|x: &Array| x + drawn());
        let error = Generator::new(0).scope(|| f(&ones(4, DType::F32))).unwrap_err();
        assert!(error.message().contains("compile"), "{error}");
    }
}
