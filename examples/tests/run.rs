//! Every example runs, and what it prints is what must come out; pictures are pictures.

use std::path::Path;
use std::process::Command;

fn run(program: &str) -> String {
    run_with(program, &[])
}

fn run_with(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
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

/// Runs an example that writes pictures, and looks whether they are more than one colour.
fn draw(program: &str, arguments: &[&str], pictures: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let out = run_with(program, &[arguments, &["--out", at]].concat());
    for name in pictures {
        let picture = image::open(folder.path().join(name)).unwrap().into_rgb8();
        let colours: std::collections::BTreeSet<_> = picture.pixels().map(|p| p.0).collect();
        assert!(picture.width() > 100 && colours.len() > 16, "{name}: {} colours", colours.len());
    }
    out
}

#[test]
fn mnist() {
    let out = draw(env!("CARGO_BIN_EXE_mnist"), &[], &["mnist.png"]);
    assert!(number(&out, "unseen digits") > 0.95, "{out}");
}

/// A few pictures in the form of MNIST's files.
fn write_mnist(folder: &Path) {
    for (part, n) in [("train", 200u32), ("t10k", 100)] {
        let mut pictures = vec![0, 0, 8, 3];
        [n, 28, 28].iter().for_each(|d| pictures.extend(d.to_be_bytes()));
        let mut labels = vec![0, 0, 8, 1];
        labels.extend(n.to_be_bytes());
        for i in 0..n as usize {
            // A bright row whose place is the digit.
            pictures.extend((0..784).map(|p| if p / 28 == 2 * (i % 10) { 255u8 } else { 0 }));
            labels.push((i % 10) as u8);
        }
        std::fs::write(folder.join(format!("{part}-images-idx3-ubyte")), pictures).unwrap();
        std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn mnist_of_files() {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(folder.path());
    let data = ["--data", folder.path().to_str().unwrap()];
    let out = draw(env!("CARGO_BIN_EXE_mnist"), &data, &[]);
    assert!(number(&out, "unseen digits") > 0.99, "{out}");
}

#[test]
fn cifar() {
    // Fewer steps: the test program is not the fastest.
    let out = draw(env!("CARGO_BIN_EXE_cifar"), &["--steps", "300"], &["cifar.png"]);
    assert!(number(&out, "unseen pictures") > 0.3, "{out}");
}

#[test]
fn cvae() {
    let pictures = ["cvae_reconstructed.png", "cvae_generated.png"];
    let out = draw(env!("CARGO_BIN_EXE_cvae"), &["--steps", "40"], &pictures);
    assert!(number(&out, "error of a picture") < 90.0, "{out}");
}

#[test]
fn normalizing_flow() {
    let out = draw(env!("CARGO_BIN_EXE_normalizing_flow"), &[], &["normalizing_flow.png"]);
    // A normal distribution of the same spread has about -1.9.
    assert!(number(&out, "of unseen points") > -0.6, "{out}");
}

#[test]
fn gcn() {
    let out = draw(env!("CARGO_BIN_EXE_gcn"), &[], &["gcn.png"]);
    assert!(out.contains("34 members, 78 friendships"), "{out}");
    assert!(number(&out, "sides told right") >= 32.0, "{out}");
}

#[test]
fn transformer_lm() {
    let out = run_with(env!("CARGO_BIN_EXE_transformer_lm"), &["--steps", "100"]);
    assert!(number(&out, "bits of a byte") < 4.5, "{out}");
}

#[test]
fn speechcommands() {
    let out = draw(env!("CARGO_BIN_EXE_speechcommands"), &[], &["speechcommands.png"]);
    assert!(number(&out, "unseen words") > 0.85, "{out}");
}

#[test]
fn lora() {
    let out = run(env!("CARGO_BIN_EXE_lora"));
    let of_numbers = number(&out, "base: ");
    assert!(of_numbers > 80.0, "{out}");
    assert!(out.contains("base: 0 of 100 days"), "{out}");
    assert!(number(&out, "with adapters: ") > 70.0, "{out}");
    assert_eq!(number(&out, "without them again: "), of_numbers, "{out}");
}

#[test]
fn train_lm() {
    let out = run(env!("CARGO_BIN_EXE_train_lm"));
    assert!(number(&out, "validation perplexity ") < 1500.0, "{out}");
    assert!(out.contains("The compiler "), "{out}");
}
