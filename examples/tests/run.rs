//! Every example runs, and what it prints is what must come out.

use std::process::Command;

fn run(program: &str) -> String {
    let out = Command::new(program).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The number after a text.
fn number(out: &str, after: &str) -> f64 {
    let rest = out.split_once(after).unwrap_or_else(|| panic!("no {after:?} in {out}")).1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn basics() {
    let out = run(env!("CARGO_BIN_EXE_basics"));
    for text in [
        "array([[1, 1.73205, 2.23607],",
        "sin'(0.5) = array(0.877583, dtype=float32), sin''(0.5) = array(-0.479426, dtype=float32)",
        "lengths of the rows: array([2.23607, 7.07107], dtype=float32)",
        "equal: array(True, dtype=bool)",
        "array(0.78125, dtype=float32)",
        "[matmul] inner dimensions 3 and 2 differ",
    ] {
        assert!(out.contains(text), "{text} in {out}");
    }
}

#[test]
fn linear_regression() {
    let out = run(env!("CARGO_BIN_EXE_linear_regression"));
    assert!(number(&out, "|w - truth|  =") < 0.01, "{out}");
    assert!(number(&out, "|w - exact|  =") < 1e-4, "{out}");
}

#[test]
fn logistic_regression() {
    let out = run(env!("CARGO_BIN_EXE_logistic_regression"));
    assert!(number(&out, "accuracy") > 0.99, "{out}");
    assert!(number(&out, "points came from") > 0.9, "{out}");
}

#[test]
fn digits() {
    let out = run(env!("CARGO_BIN_EXE_digits"));
    assert!(number(&out, "unseen digits") > 0.95, "{out}");
}
