//! Conformance cases, laws and golden-file helpers for Lazul's own tests.
//!
//! [`Golden`] reads a file of cases from `golden/` with the tensors beside it, [`compare()`] judges one
//! array against another, and a [`Report`] collects every failure, so that a run tells all that is
//! wrong and not only the first case. An [`Rng`] draws what random tests are made of.

mod compare;
mod conv;
mod golden;
mod report;
mod rng;

pub use compare::{Rule, Values, compare};
pub use conv::convolution;
pub use golden::{Case, Golden, array_of};
pub use report::Report;
pub use rng::Rng;
