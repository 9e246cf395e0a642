//! Graphs as pictures: Graphviz's language.

use crate::control::graph::{ByNode, address};
use crate::error::Result;
use crate::node::{Array, Op};
use std::fmt::Write;

/// The graph that arrays would be computed by, in Graphviz's language (`dot -Tsvg`): a box for each
/// operation with the shape and dtype of its result, an ellipse for each array that is there.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = ones([2, 3], DType::F32);
/// let text = export_to_dot([&x.exp().sum(..)])?;
/// assert!(text.starts_with("digraph {"));
/// assert!(text.contains("exp\\nfloat32(2,3)"), "{text}");
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// The error of a wrong call that an array is built on.
pub fn export_to_dot<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<String> {
    let mut numbers: ByNode<usize> = ByNode::new();
    // Numbered nodes stay alive: their addresses are keys.
    let mut nodes: Vec<Array> = Vec::new();
    let mut number = |a: &Array, nodes: &mut Vec<Array>| -> (usize, bool) {
        let next = nodes.len();
        let id = *numbers.entry(address(a)).or_insert(next);
        if id == next {
            nodes.push(a.clone());
        }
        (id, id == next)
    };
    let mut stack: Vec<Array> = Vec::new();
    for array in arrays {
        array.check()?;
        if number(array, &mut nodes).1 {
            stack.push(array.clone());
        }
    }
    let mut out = String::from("digraph {\n");
    while let Some(array) = stack.pop() {
        let (id, _) = number(&array, &mut nodes);
        let (name, inputs) = match array.origin() {
            Some((Op::Placeholder, _)) | None => (None, Default::default()),
            Some((op, inputs)) => (Some(op.name()), inputs),
        };
        let node = &array.0;
        let what = format!("{}{}", node.dtype, node.shape);
        let _ = match name {
            Some(name) => writeln!(out, "  n{id} [shape=box, label=\"{name}\\n{what}\"];"),
            None => writeln!(out, "  n{id} [label=\"{what}\"];"),
        };
        for input in &inputs {
            let (from, new) = number(input, &mut nodes);
            let _ = writeln!(out, "  n{from} -> n{id};");
            if new {
                stack.push(input.clone());
            }
        }
    }
    out.push_str("}\n");
    Ok(out)
}
