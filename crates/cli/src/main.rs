//! The `lazul` program.
fn main() {}
