//! Ctrl-C: once ends the generation, twice ends the program.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Once};

static PRESSED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Exit code of a program that was interrupted.
pub(crate) const CODE: u8 = 130;

/// Starts to listen; further calls do nothing.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handled = ctrlc::set_handler(|| {
            if PRESSED.swap(true, SeqCst) {
                std::process::exit(CODE.into());
            }
        });
        if let Err(error) = handled {
            eprintln!("warning: Ctrl-C will end the program at once: {error}");
        }
    });
}

/// What becomes true when Ctrl-C is pressed.
pub(crate) fn flag() -> Arc<AtomicBool> {
    PRESSED.clone()
}

/// Whether Ctrl-C was pressed since the last [`clear`].
pub(crate) fn pressed() -> bool {
    PRESSED.load(SeqCst)
}

/// Forgets that it was pressed.
pub(crate) fn clear() {
    PRESSED.store(false, SeqCst);
}
