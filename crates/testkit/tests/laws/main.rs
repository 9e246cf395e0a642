//! The laws that make the framework right, over every operation, dtype and layout.
//!
//! All cases come from [`list`], which does not compile unless it has every operation. Each law is one
//! function that takes a case; each test below runs some laws over all cases and reports every
//! failure, and how many checks passed.

mod batches;
mod case;
mod control;
mod derivatives;
mod elementwise;
mod fast;
mod fft;
mod index;
mod linalg;
mod list;
mod numbers;
mod product;
mod quantized;
mod random;
mod reduce;
mod running;
mod shape;

use case::Case;
use lazul_testkit::Report;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::RwLock;

/// Held by tests that rely on the process' setting of fusion; for writing by the one that changes it.
static FUSION: RwLock<()> = RwLock::new(());

/// Runs a law over all cases whose name contains what `LAZUL_LAW` says, if it says something. With
/// `LAZUL_LAW_TIMES=1` it names each case before it runs and tells how long it took.
fn over_all(laws: &[fn(&Case, &mut Report)], changes_fusion: bool) {
    let wanted = std::env::var("LAZUL_LAW").unwrap_or_default();
    let times = std::env::var_os("LAZUL_LAW_TIMES").is_some();
    let mut report = Report::new();
    for case in list::cases().iter().filter(|c| c.name.contains(&wanted)) {
        let _shared = (!changes_fusion).then(|| FUSION.read());
        let _alone = changes_fusion.then(|| FUSION.write());
        let start = std::time::Instant::now();
        if times {
            eprint!("{}: ", case.name);
        }
        for law in laws {
            let outcome = catch_unwind(AssertUnwindSafe(|| law(case, &mut report)));
            report.expect(format!("{}: no panic", case.name), outcome.is_ok(), || {
                "a law panicked".to_string()
            });
        }
        if times {
            eprintln!("{:.3} s", start.elapsed().as_secs_f64());
        }
    }
    report.finish();
}

#[test]
fn derivatives_of_first_order() {
    over_all(&[derivatives::first_order, derivatives::integers], false);
}

#[test]
fn derivatives_of_second_order() {
    over_all(&[derivatives::second_order], false);
}

#[test]
fn derivatives_in_narrow_dtypes() {
    over_all(&[derivatives::narrow], false);
}

#[test]
fn batches_of_functions() {
    over_all(&[batches::functions, batches::nested], false);
}

#[test]
fn batches_of_gradients() {
    over_all(&[batches::gradients], false);
}

#[test]
fn layouts() {
    over_all(&[running::layouts], false);
}

#[test]
fn compiled() {
    over_all(&[running::compiled], false);
}

#[test]
fn written() {
    over_all(&[running::written], false);
}

#[test]
fn fused() {
    over_all(&[running::fusion], true);
}
