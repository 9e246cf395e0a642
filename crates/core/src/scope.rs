//! Where the code now building arrays stands: the line that a user wrote, and the place in a model, so
//! that an error can say `model.layers.3.self_attn` beside the line.

use std::cell::{Cell, RefCell};
use std::panic::Location;

thread_local! {
    /// The line of the outermost operation that is being built, if one is.
    static SITE: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
    static PATH: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `f` with `name` appended to the module path that errors report.
///
/// ```
/// use lazul_core::{scope, Array};
/// let bad = scope("layers.3", || Array::from_slice(&[1.0f32, 2.0], [2]).reshape([3]));
/// assert!(bad.check().unwrap_err().to_string().contains("in layers.3"));
/// ```
pub fn scope<R>(name: &str, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            PATH.with_borrow_mut(|p| p.truncate(self.0));
        }
    }
    let before = PATH.with_borrow_mut(|p| {
        let before = p.len();
        if before > 0 {
            p.push('.');
        }
        p.push_str(name);
        before
    });
    let _restore = Restore(before);
    f()
}

/// The path now, if there is one.
pub(crate) fn current() -> Option<String> {
    PATH.with_borrow(|p| if p.is_empty() { None } else { Some(p.clone()) })
}

/// The line of the user's call: that of the outermost operation now being built, or the caller's.
#[track_caller]
pub(crate) fn call_site() -> &'static Location<'static> {
    match SITE.get() {
        Some(site) => site,
        None => Location::caller(),
    }
}

/// Runs `f`, which builds an operation out of others, so that all of them report `site`; within
/// another such call that one's line stays.
pub(crate) fn with_site<R>(site: &'static Location<'static>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<&'static Location<'static>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SITE.set(self.0);
        }
    }
    let _restore = Restore(SITE.replace(Some(SITE.get().unwrap_or(site))));
    f()
}
