//! Derive macros of Lazul: Tree and Module.
