//! Ctrl-C: once ends the generation, twice ends the program.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Exit code of a program that was interrupted.
pub(crate) const CODE: u8 = 130;

/// Starts to listen; further calls do nothing.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handled = ctrlc::set_handler(|| {
            if COUNT.fetch_add(1, SeqCst) >= 1 {
                std::process::exit(CODE.into());
            }
        });
        if let Err(error) = handled {
            eprintln!("warning: Ctrl-C will end the program at once: {error}");
        }
    });
}

/// Whether Ctrl-C was pressed since the last [`clear`].
pub(crate) fn pressed() -> bool {
    COUNT.load(SeqCst) > 0
}

/// Forgets that it was pressed.
pub(crate) fn clear() {
    COUNT.store(0, SeqCst);
}
