//! Where in a model the code now building arrays stands, so that an error can say
//! `model.layers.3.self_attn` beside the line.

use std::cell::RefCell;

thread_local! {
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
