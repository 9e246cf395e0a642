//! Conformance cases, laws and golden-file helpers for Lazul's own tests.
