//! The rules of primitives: how each is differentiated, forward and backward, and batched.
//!
//! The transforms walk graphs and know no operation; here is the one place where a primitive's rules
//! are found, by matches that the compiler keeps complete. A rule itself stands with its family in
//! [`crate::ops`], and is written with public operations, so that what it builds can be transformed
//! again. A missing gradient is an answer that a rule gives (`None`: it is zero everywhere), never an
//! omission.

use crate::node::Array;
use smallvec::SmallVec;

/// One application of a primitive, as its derivative rules see it.
#[allow(dead_code)]
pub(crate) struct Call<'a> {
    pub(crate) inputs: &'a [Array],
    pub(crate) outputs: &'a [Array],
}

/// Tangents or cotangents, one a place; `None` stands for zeros.
#[allow(dead_code)]
pub(crate) type Slots = SmallVec<[Option<Array>; 3]>;

/// Results of a batched application, each with the batch as its first axis.
#[allow(dead_code)]
pub(crate) type Outputs = SmallVec<[Array; 1]>;
