//! What an index selects, in normal form: a slice of every axis, then positions of some of the axes
//! that are left, then the order of the result's axes.
//!
//! ```text
//! x ──slice──▶ sliced ──reshape──▶ view ──gather──▶ block ++ kept ──transpose, reshape──▶ result
//!              (rank of x)  (integers gone)          (arrays first)
//! ```
//!
//! Reading follows the arrows; an update of the selected elements goes the same way backwards. The
//! rules are NumPy's: where arrays stand side by side (integers count as arrays beside them) their
//! common shape takes their place, where other words stand between them it comes first.

use super::mask::positions;
use super::words::{Index, Slice};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::ops::shape::python_slice;
use crate::ops::{error, prim};
use lazul_ir::{Axes, DType, Prim, Shape, ViewOp};

/// An index of one array, resolved.
pub(super) struct Selection {
    /// First index and step along each axis of the array.
    starts: Vec<i64>,
    steps: Vec<i64>,
    /// The array's shape, and that of the slice.
    whole: Shape,
    sliced: Shape,
    /// The slice without the axes that integers took.
    view: Shape,
    /// Axes of `view` that arrays index, ascending, with the arrays, all of shape `block`.
    arrays: Vec<(u8, Array)>,
    block: Shape,
    /// Number of axes of the result before the block, new ones not counted.
    before: usize,
    /// The result's shape, and the same without new axes.
    result: Shape,
    plain: Shape,
}

/// Where words stand relative to the run of arrays.
#[derive(PartialEq)]
enum Run {
    Before,
    In,
    After,
}

/// A mask or an integer array, as words have them.
pub(super) fn is_mask(array: &Array) -> bool {
    array.0.dtype == DType::Bool
}

impl Selection {
    /// Resolves `words` as an index of `x` for operation `op`. Masks are evaluated.
    #[track_caller]
    pub(super) fn new(op: &'static str, x: &Array, words: &[Index]) -> Result<Selection> {
        let shape = &x.0.shape;
        let rank = shape.len();
        let mut consumed = 0;
        for word in words {
            consumed += match word {
                Index::At(_) | Index::Slice(_) => 1,
                Index::NewAxis | Index::Ellipsis => 0,
                Index::Array(a) => {
                    a.check()?;
                    if is_mask(a) { a.0.shape.len() } else { 1 }
                }
            };
        }
        if consumed > rank {
            let why = format!("an index of {consumed} axes into an array of {rank}");
            return Err(error(ErrorKind::Index, op, why, &[x]));
        }
        let ellipses = words.iter().filter(|w| matches!(w, Index::Ellipsis)).count();
        if ellipses > 1 {
            return Err(Error::new(ErrorKind::Index, op, "an index has one ellipsis at most"));
        }
        let fancy = words.iter().any(|w| matches!(w, Index::Array(_)));
        let mut s = Selection {
            starts: vec![0; rank],
            steps: vec![1; rank],
            whole: shape.clone(),
            sliced: shape.clone(),
            view: Shape::scalar(),
            arrays: Vec::new(),
            block: Shape::scalar(),
            before: 0,
            result: Shape::scalar(),
            plain: Shape::scalar(),
        };
        // Axes of the result in order: kept ones with their lengths, new ones as `None`.
        let mut parts: Vec<Option<usize>> = Vec::new();
        let (mut axis, mut place, mut run, mut apart) = (0, 0, Run::Before, false);
        let implied = [Index::Ellipsis];
        let tail: &[Index] = if ellipses == 0 { &implied } else { &[] };
        for word in words.iter().chain(tail) {
            if fancy {
                let array = matches!(word, Index::At(_) | Index::Array(_));
                match (array, &run) {
                    (true, Run::Before) => {
                        place = parts.len();
                        run = Run::In;
                    }
                    (true, Run::After) => apart = true,
                    (false, Run::In) => run = Run::After,
                    _ => {}
                }
            }
            match word {
                Index::At(index) => {
                    let n = shape[axis] as i64;
                    let at = if *index < 0 { index.saturating_add(n) } else { *index };
                    if !(0..n).contains(&at) {
                        let why =
                            format!("index {index} is out of bounds for axis {axis} of length {n}");
                        return Err(error(ErrorKind::Index, op, why, &[x]));
                    }
                    (s.starts[axis], s.sliced[axis]) = (at, 1);
                    axis += 1;
                }
                Index::Slice(Slice { start, stop, step }) => {
                    let (first, count) = python_slice(shape[axis], *start, *stop, *step)
                        .map_err(|e| e.operands([(x.0.dtype, shape.clone())]))?;
                    // The step from a single element leads nowhere, and may be too long to multiply.
                    s.starts[axis] = first;
                    s.steps[axis] = if count > 1 { *step } else { 1 };
                    s.sliced[axis] = count;
                    s.view.push(count);
                    parts.push(Some(count));
                    axis += 1;
                }
                Index::NewAxis => parts.push(None),
                Index::Ellipsis => {
                    for _ in consumed..rank {
                        s.view.push(shape[axis]);
                        parts.push(Some(shape[axis]));
                        axis += 1;
                    }
                }
                Index::Array(a) if is_mask(a) => {
                    let k = a.0.shape.len();
                    if a.0.shape[..] != shape[axis..axis + k] {
                        let why =
                            format!("the mask does not have the shape of the {k} axes at {axis}");
                        return Err(error(ErrorKind::Shape, op, why, &[x, a]));
                    }
                    if k == 0 {
                        // A truth value keeps everything or nothing, along an axis of its own.
                        let count = a.item::<bool>()? as usize;
                        s.array(crate::ops::creation::zeros([count], DType::U32), 1);
                    }
                    for (i, index) in positions(a)?.into_iter().enumerate() {
                        s.array(index, shape[axis + i]);
                    }
                    axis += k;
                }
                Index::Array(a) => {
                    super::check_index(op, a)?;
                    s.array(a.clone(), shape[axis]);
                    axis += 1;
                }
            }
        }
        for (_, a) in &s.arrays {
            s.block = Shape::broadcast(&s.block, &a.0.shape).ok_or_else(|| {
                let all: Vec<&Array> = s.arrays.iter().map(|(_, a)| a).collect();
                error(ErrorKind::Shape, op, "index arrays cannot be broadcast", &all)
            })?;
        }
        for (_, a) in &mut s.arrays {
            *a = a.broadcast_to(&s.block);
        }
        if apart {
            place = 0;
        }
        for (i, part) in parts.iter().enumerate() {
            if i == place && fancy {
                s.put_block();
            }
            match part {
                Some(d) => {
                    s.result.push(*d);
                    s.plain.push(*d);
                }
                None => s.result.push(1),
            }
        }
        if place >= parts.len() && fancy {
            s.put_block();
        }
        Ok(s)
    }

    /// Adds an index array for a new axis of the view, of length `n`.
    fn array(&mut self, index: Array, n: usize) {
        self.arrays.push((self.view.len() as u8, index));
        self.view.push(n);
    }

    fn put_block(&mut self) {
        self.before = self.plain.len();
        for &d in self.block.iter() {
            self.result.push(d);
            self.plain.push(d);
        }
    }

    /// The shape of what is selected.
    pub(super) fn result(&self) -> &Shape {
        &self.result
    }

    /// Whether some of the positions come from arrays, so that they may repeat.
    pub(super) fn has_arrays(&self) -> bool {
        !self.arrays.is_empty()
    }

    /// Axes of the view that arrays index, and the arrays.
    pub(super) fn arrays(&self) -> (Axes, impl Iterator<Item = Array> + '_) {
        let axes = self.arrays.iter().map(|(axis, _)| *axis).collect();
        (axes, self.arrays.iter().map(|(_, a)| a.clone()))
    }

    /// Whether the slice is the whole array.
    pub(super) fn is_whole(&self) -> bool {
        self.sliced == self.whole && self.steps.iter().all(|&s| s == 1)
    }

    /// The slice of `x` without the axes that integers took.
    #[track_caller]
    pub(super) fn view(&self, x: &Array) -> Array {
        if self.is_whole() {
            return x.reshape(&self.view);
        }
        let (starts, steps) = (self.starts[..].into(), self.steps[..].into());
        let slice = Prim::View(ViewOp::Slice { starts, steps });
        prim(slice, [x.clone()], self.sliced.clone(), x.0.dtype).reshape(&self.view)
    }

    /// `x` with its slice replaced by `view`.
    #[track_caller]
    pub(super) fn put_view(&self, x: &Array, view: &Array) -> Array {
        if self.is_whole() {
            return view.reshape(&self.whole);
        }
        if self.sliced.size() == 0 {
            return x.clone();
        }
        let (starts, steps) = (self.starts[..].into(), self.steps[..].into());
        let inputs = [x.clone(), view.reshape(&self.sliced)];
        prim(Prim::SliceUpdate { starts, steps }, inputs, self.whole.clone(), x.0.dtype)
    }

    /// The elements of `x` that are selected.
    #[track_caller]
    pub(super) fn read(&self, x: &Array) -> Array {
        let view = self.view(x);
        if !self.has_arrays() {
            return view.reshape(&self.result);
        }
        let (axes, arrays) = self.arrays();
        let kept = (0..self.view.len()).filter(|i| !axes.contains(&(*i as u8)));
        let shape = self.block.iter().copied().chain(kept.map(|i| self.view[i])).collect();
        let inputs = [view].into_iter().chain(arrays);
        let gathered = prim(Prim::Gather { axes }, inputs, shape, x.0.dtype);
        // block ++ kept → the block behind the kept axes that stand before it.
        let (b, rank) = (self.block.len(), gathered.0.shape.len());
        let order: Vec<usize> =
            (b..b + self.before).chain(0..b).chain(b + self.before..rank).collect();
        gathered.transpose(order).reshape(&self.result)
    }

    /// Values of the result's shape as a scatter takes them: block ++ kept; without arrays, in the
    /// shape of the view.
    #[track_caller]
    pub(super) fn scattered(&self, values: &Array) -> Array {
        let values = values.reshape(&self.plain);
        let (b, rank) = (self.block.len(), self.plain.len());
        let order: Vec<usize> = (self.before..self.before + b)
            .chain(0..self.before)
            .chain(self.before + b..rank)
            .collect();
        values.transpose(order)
    }
}
