//! Every named hostile file, each loaded in a process of its own under a limit on its memory and
//! time. The files are built here; what must be rejected is rejected with a typed error, what is
//! odd but valid loads with the right bits, and nothing is ever killed.
//!
//! `cargo test -p lazul-io --test hostile -- --nocapture` prints the figures.

#![cfg(unix)]

mod build;
mod folders;
mod gguf;
mod mutate;
mod numpy;
mod runner;
mod safetensors;

use runner::{Case, run_all};

/// The other side of [`runner`]: this test is what a child process runs.
#[test]
fn child() {
    runner::child();
}

#[test]
fn safetensors_files() {
    let figures = run_all("safetensors", &safetensors::cases());
    assert_eq!(figures.groups, (1..=47).collect());
}

#[test]
fn numpy_files() {
    let figures = run_all("npy and npz", &numpy::cases());
    assert_eq!(figures.groups, (1..=48).collect());
}

/// Groups 39 to 41, 43 and 47 are about models and vocabularies: the tests of `lazul-lm` have them.
#[test]
fn gguf_files() {
    let figures = run_all("gguf", &gguf::cases());
    let groups = (1..=38).chain([42, 44, 45, 46]).collect();
    assert_eq!(figures.groups, groups);
}

#[test]
fn model_folders() {
    let figures = run_all("model folders", &folders::cases());
    assert!(figures.groups.is_superset(&[1, 2, 4, 6, 7, 8, 10].into()), "{:?}", figures.groups);
}

/// A table is only as good as its worst line: no two cases may have one name.
#[test]
fn names_are_unique() {
    for cases in [safetensors::cases(), numpy::cases(), gguf::cases(), folders::cases()] {
        let mut names: Vec<String> = cases.iter().map(Case::label).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
