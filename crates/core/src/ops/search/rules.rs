//! Searching over a batch. It has no derivatives: places do not change as values do.

use super::Side;
use crate::node::Array;
use crate::rules::{Outputs, all_batched, batch_shape};
use lazul_ir::{DType, Shape};

/// Searching over a batch: the rows of all examples are rows. What has no batch is the same for all.
pub(crate) fn vmap(
    right: bool,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    output: &(Shape, DType),
) -> Outputs {
    let all = all_batched(inputs, batched, size);
    let side = if right { Side::Right } else { Side::Left };
    let found = all[0].searchsorted(&all[1], side);
    Outputs::from_iter([found.reshape(&batch_shape(&output.0, size))])
}
