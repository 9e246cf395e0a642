//! What every primitive asks of its operands and outputs, as code.
//!
//! Public functions check their arguments and then write nodes that fit; [`check`] says whether a node
//! does fit, whoever wrote it. Graphs that come from files pass through it, and so does every node of
//! a debug build.

use crate::{
    DType, ErrorKind, FastOp, FftKind, GroupedOp, LinalgOp, OpError, Prim, Quantization,
    QuantizedOp, ReduceOp, ScanOp, Shape, Vectors, ViewOp,
};

/// Shape and dtype.
pub type Spec = (Shape, DType);

/// Checks that a primitive with these operands gives these outputs: their numbers, shapes and dtypes,
/// and that no attribute leads outside of an operand. What depends on values, an index that is out of bounds, say, is
/// the backend's to check.
///
/// ```
/// use lazul_ir::{DType, Prim, Shape, check};
/// let spec = |dims: &[usize]| (Shape::new(dims), DType::F32);
/// assert!(check(&Prim::Matmul, &[spec(&[2, 3]), spec(&[3, 4])], &[spec(&[2, 4])]).is_ok());
/// assert!(check(&Prim::Matmul, &[spec(&[2, 3]), spec(&[3, 4])], &[spec(&[2, 5])]).is_err());
/// ```
///
/// # Errors
/// An error of kind [`ErrorKind::Shape`], [`ErrorKind::DType`], [`ErrorKind::Axis`] or
/// [`ErrorKind::Value`] that names the primitive, with the operands.
pub fn check(prim: &Prim, inputs: &[Spec], outputs: &[Spec]) -> Result<(), OpError> {
    let node = Node { inputs, outputs };
    let fail = |(kind, why): (ErrorKind, String)| {
        let operands = inputs.iter().map(|(shape, dtype)| (*dtype, shape.clone()));
        OpError::new(kind, prim.name(), why).operands(operands)
    };
    for (shape, dtype) in outputs {
        if !shape.is_countable() {
            return Err(fail((ErrorKind::Shape, format!("{dtype}{shape} is too large"))));
        }
    }
    node.of(prim).map_err(fail)
}

/// What is wrong, if anything is.
type Checked = Result<(), (ErrorKind, String)>;

fn wrong(kind: ErrorKind, why: impl Into<String>) -> Checked {
    Err((kind, why.into()))
}

fn need(so: bool, kind: ErrorKind, why: &str) -> Checked {
    if so { Ok(()) } else { wrong(kind, why) }
}

fn shapes(so: bool) -> Checked {
    need(so, ErrorKind::Shape, "shapes of operands and outputs do not belong together")
}

fn dtypes(so: bool) -> Checked {
    need(so, ErrorKind::DType, "dtypes of operands and outputs do not belong together")
}

/// Whether `from` broadcasts to `to`.
fn fits(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len()
        && from.iter().rev().zip(to.iter().rev()).all(|(&a, &b)| a == b || a == 1)
}

fn is_half_or_f32(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

/// Axes below `rank`, none of them twice.
fn distinct(axes: &[u8], rank: usize) -> Checked {
    let good = axes.iter().enumerate().all(|(i, a)| (*a as usize) < rank && !axes[..i].contains(a));
    need(good, ErrorKind::Axis, "axes repeat or are out of range")
}

/// The dimensions of `shape` that are not in `axes`.
fn others(shape: &[usize], axes: &[u8]) -> Vec<usize> {
    let kept = |i: &usize| !axes.contains(&(*i as u8));
    (0..shape.len()).filter(kept).map(|i| shape[i]).collect()
}

/// Positions `start + i * step` for `i < count` all lie below `len`.
fn inside(start: i64, step: i64, count: usize, len: usize) -> bool {
    let (start, len) = (start as i128, len as i128);
    if count == 0 {
        return (-1..=len).contains(&start);
    }
    let last = start + (count as i128 - 1) * step as i128;
    (0..len).contains(&start) && (0..len).contains(&last)
}

struct Node<'a> {
    inputs: &'a [Spec],
    outputs: &'a [Spec],
}

impl Node<'_> {
    fn shape(&self, i: usize) -> &[usize] {
        &self.inputs[i].0
    }

    fn dtype(&self, i: usize) -> DType {
        self.inputs[i].1
    }

    fn out(&self) -> (&[usize], DType) {
        (&self.outputs[0].0, self.outputs[0].1)
    }

    fn count(&self, inputs: usize, outputs: usize) -> Checked {
        let good = self.inputs.len() == inputs && self.outputs.len() == outputs;
        let (a, b) = (self.inputs.len(), self.outputs.len());
        let why = format!("{a} operands and {b} outputs, not {inputs} and {outputs}");
        if good { Ok(()) } else { wrong(ErrorKind::Value, why) }
    }

    /// One output, with the shape and dtype of operand 0.
    fn same(&self) -> Checked {
        shapes(self.shape(0) == self.out().0)?;
        dtypes(self.dtype(0) == self.out().1)
    }

    fn axis(&self, axis: u8) -> Checked {
        distinct(&[axis], self.shape(0).len())
    }

    /// Operand `i` holds integers.
    fn integers(&self, i: usize) -> Checked {
        dtypes(self.dtype(i).is_integer())
    }

    fn of(&self, prim: &Prim) -> Checked {
        match prim {
            Prim::Arange { start, step } => {
                self.count(0, 1)?;
                let wide = if self.out().1.is_inexact() { DType::F64 } else { DType::I64 };
                dtypes(start.dtype == wide && step.dtype == wide)?;
                shapes(self.out().0.len() == 1)
            }
            Prim::Unary(op) => {
                self.count(1, 1)?;
                shapes(self.shape(0) == self.out().0)?;
                dtypes(op.rule().resolve(self.dtype(0)) == Ok((self.dtype(0), self.out().1)))
            }
            Prim::Binary(op) => {
                self.count(2, 1)?;
                shapes((0..2).all(|i| self.shape(i) == self.out().0))?;
                dtypes(self.dtype(0) == self.dtype(1))?;
                dtypes(op.rule().resolve(self.dtype(0)) == Ok((self.dtype(0), self.out().1)))
            }
            Prim::Select => {
                self.count(3, 1)?;
                shapes((0..3).all(|i| self.shape(i) == self.out().0))?;
                let d = self.out().1;
                dtypes(self.dtype(0) == DType::Bool && self.dtype(1) == d && self.dtype(2) == d)
            }
            Prim::Cast => {
                self.count(1, 1)?;
                shapes(self.shape(0) == self.out().0)
            }
            Prim::View(view) => self.view(view),
            Prim::Copy => {
                self.count(1, 1)?;
                self.same()
            }
            Prim::Reduce { op, axes } => {
                self.count(1, 1)?;
                self.reduced(axes)?;
                let (from, to) = (self.dtype(0), self.out().1);
                dtypes(match op {
                    ReduceOp::All | ReduceOp::Any => to == DType::Bool,
                    ReduceOp::Min | ReduceOp::Max => from == to,
                    ReduceOp::Sum | ReduceOp::Prod => from == to || widened(from, to),
                })
            }
            Prim::ArgReduce { axis, .. } => {
                self.count(1, 1)?;
                self.reduced(&[*axis])?;
                dtypes(self.out().1 == DType::U32)?;
                let len = self.shape(0)[*axis as usize];
                let empty = self.outputs[0].0.size() == 0;
                shapes((len > 0 || empty) && len as u64 <= 1 << 32)
            }
            Prim::Scan { op, axis, .. } => {
                self.count(1, 1)?;
                self.axis(*axis)?;
                shapes(self.shape(0) == self.out().0)?;
                let (from, to) = (self.dtype(0), self.out().1);
                dtypes(
                    from == to || !matches!(op, ScanOp::Min | ScanOp::Max) && widened(from, to),
                )?;
                dtypes(*op != ScanOp::LogAddExp || to.is_inexact())
            }
            Prim::Sort { axis } => {
                self.count(1, 1)?;
                self.axis(*axis)?;
                self.same()
            }
            Prim::ArgSort { axis } => {
                self.count(1, 1)?;
                self.axis(*axis)?;
                shapes(self.shape(0) == self.out().0)?;
                shapes(self.shape(0)[*axis as usize] as u64 <= 1 << 32)?;
                dtypes(self.out().1 == DType::U32)
            }
            Prim::SearchSorted { .. } => {
                self.count(2, 1)?;
                let (&[b, n], &[c, m]) = (self.shape(0), self.shape(1)) else {
                    return shapes(false);
                };
                shapes(b == c && *self.out().0 == [b, m] && (n as u64) < 1 << 32)?;
                dtypes(self.dtype(0) == self.dtype(1) && self.out().1 == DType::U32)
            }
            Prim::Matmul => {
                self.count(2, 1)?;
                let d = self.dtype(0);
                dtypes(d == self.dtype(1) && d == self.out().1)?;
                self.product(self.shape(0), self.shape(1))
            }
            Prim::Conv(op) => self.conv(op),
            Prim::Gather { axes } => {
                self.count(1 + axes.len(), 1)?;
                let expected = self.indexed(axes, 1..1 + axes.len())?;
                shapes(*self.out().0 == *expected)?;
                dtypes(self.out().1 == self.dtype(0))
            }
            Prim::GatherAxis { axis } => {
                self.count(2, 1)?;
                self.along(*axis, self.shape(1))?;
                shapes(self.shape(1) == self.out().0)?;
                dtypes(self.out().1 == self.dtype(0))
            }
            Prim::Scatter { axes, .. } => {
                let n = axes.len();
                self.count(2 + n, 1)?;
                let expected = self.indexed(axes, 1..1 + n)?;
                shapes(*self.shape(1 + n) == *expected)?;
                dtypes(self.dtype(1 + n) == self.dtype(0))?;
                self.same()
            }
            Prim::ScatterAxis { axis, .. } => {
                self.count(3, 1)?;
                self.along(*axis, self.shape(1))?;
                shapes(self.shape(2) == self.shape(1))?;
                dtypes(self.dtype(2) == self.dtype(0))?;
                self.same()
            }
            Prim::SliceUpdate { starts, steps } => {
                self.count(2, 1)?;
                self.same()?;
                dtypes(self.dtype(1) == self.dtype(0))?;
                self.sliced(starts, steps, self.shape(1))
            }
            Prim::DynamicSlice { axes } => {
                self.count(2, 1)?;
                dtypes(self.out().1 == self.dtype(0))?;
                self.block(axes, 1, self.out().0)
            }
            Prim::DynamicSliceUpdate { axes } => {
                self.count(3, 1)?;
                self.same()?;
                dtypes(self.dtype(1) == self.dtype(0))?;
                self.block(axes, 2, self.shape(1))
            }
            Prim::Concatenate { axis } => {
                need(!self.inputs.is_empty(), ErrorKind::Value, "no operand")?;
                self.count(self.inputs.len(), 1)?;
                self.axis(*axis)?;
                let a = *axis as usize;
                let first = self.shape(0);
                let mut sum = 0usize;
                for (shape, dtype) in self.inputs {
                    dtypes(*dtype == self.out().1)?;
                    let rest = |s: &[usize]| others(s, &[*axis]);
                    shapes(shape.len() == first.len() && rest(shape) == rest(first))?;
                    sum = sum.saturating_add(shape[a]);
                }
                let mut expected = first.to_vec();
                expected[a] = sum;
                shapes(*self.out().0 == *expected)
            }
            Prim::RandomBits => {
                self.count(1, 1)?;
                let (keys, (out, dtype)) = (self.shape(0), self.out());
                let Some((&2, batch)) = keys.split_last() else { return shapes(false) };
                shapes(out.starts_with(batch))?;
                dtypes(self.dtype(0) == DType::U32)?;
                dtypes(matches!(dtype, DType::U8 | DType::U16 | DType::U32))
            }
            Prim::Fft { kind, axis, .. } => self.fft(*kind, *axis),
            Prim::Linalg(op) => self.linalg(*op),
            Prim::Quantized(op) => self.quantized(*op),
            Prim::Grouped(op) => self.grouped(*op),
            Prim::Fast(op) => self.fast(op),
        }
    }

    fn view(&self, view: &ViewOp) -> Checked {
        self.count(1, 1)?;
        let (from, (to, dtype)) = (self.shape(0), self.out());
        if !matches!(view, ViewOp::Bitcast) {
            dtypes(self.dtype(0) == dtype)?;
        }
        match view {
            ViewOp::Reshape => shapes(self.inputs[0].0.size() == self.outputs[0].0.size()),
            ViewOp::Transpose(perm) => {
                distinct(perm, from.len())?;
                shapes(perm.len() == from.len() && to.len() == from.len())?;
                shapes(perm.iter().zip(to).all(|(&p, &d)| from[p as usize] == d))
            }
            ViewOp::Broadcast => shapes(fits(from, to)),
            ViewOp::Slice { starts, steps } => self.sliced(starts, steps, to),
            ViewOp::Strided { strides, offset } => {
                shapes(strides.len() == to.len())?;
                if self.outputs[0].0.size() == 0 {
                    return Ok(());
                }
                let (mut low, mut high) = (*offset as i128, *offset as i128);
                for (&d, &s) in to.iter().zip(strides.iter()) {
                    // Both fit into 64 bits, and so does their product into 128.
                    let reach = (d as i128 - 1) * s as i128;
                    if reach < 0 { low += reach } else { high += reach }
                }
                let inside = low >= 0 && high < self.inputs[0].0.size() as i128;
                need(inside, ErrorKind::Value, "strides lead outside of the operand")
            }
            ViewOp::Bitcast => {
                let (a, b) = (self.dtype(0).size(), dtype.size());
                dtypes(dtype != DType::Bool || self.dtype(0) == DType::Bool)?;
                let (Some((m, from)), Some((n, to))) = (from.split_last(), to.split_last()) else {
                    return shapes(from.is_empty() && to.is_empty() && a == b);
                };
                shapes(from == to && m.checked_mul(a).is_some_and(|m| Some(m) == n.checked_mul(b)))
            }
        }
    }

    /// A block of shape `part` at `starts` and `steps` lies inside operand 0.
    fn sliced(&self, starts: &[i64], steps: &[i64], part: &[usize]) -> Checked {
        let from = self.shape(0);
        let ranks = [starts.len(), steps.len(), part.len()];
        shapes(ranks.iter().all(|&r| r == from.len()))?;
        let good =
            (0..from.len()).all(|i| steps[i] != 0 && inside(starts[i], steps[i], part[i], from[i]));
        need(good, ErrorKind::Value, "a slice leads outside of the operand")
    }

    /// A block of shape `part` fits into operand 0; operand `start` has an element for each axis.
    fn block(&self, axes: &[u8], start: usize, part: &[usize]) -> Checked {
        let from = self.shape(0);
        distinct(axes, from.len())?;
        self.integers(start)?;
        shapes(self.inputs[start].0.size() == axes.len())?;
        shapes(part.len() == from.len() && part.iter().zip(from).all(|(p, d)| p <= d))
    }

    /// The output has length 1 along `axes`, which ascend.
    fn reduced(&self, axes: &[u8]) -> Checked {
        let (from, (to, _)) = (self.shape(0), self.out());
        distinct(axes, from.len())?;
        need(axes.is_sorted(), ErrorKind::Axis, "axes do not ascend")?;
        let kept = |i: usize| if axes.contains(&(i as u8)) { 1 } else { from[i] };
        shapes(from.len() == to.len() && (0..from.len()).all(|i| to[i] == kept(i)))
    }

    /// The shape of what index operands pick along `axes` of operand 0.
    fn indexed(
        &self,
        axes: &[u8],
        indices: std::ops::Range<usize>,
    ) -> Result<Vec<usize>, (ErrorKind, String)> {
        distinct(axes, self.shape(0).len())?;
        let mut shape: Option<&[usize]> = None;
        for i in indices {
            self.integers(i)?;
            shapes(shape.is_none_or(|s| s == self.shape(i)))?;
            shape = Some(self.shape(i));
        }
        Ok([shape.unwrap_or_default(), &others(self.shape(0), axes)].concat())
    }

    /// Operand 1 indexes operand 0 along `axis`.
    fn along(&self, axis: u8, index: &[usize]) -> Checked {
        self.axis(axis)?;
        self.integers(1)?;
        let from = self.shape(0);
        let (mut a, mut b) = (from.to_vec(), index.to_vec());
        shapes(a.len() == b.len())?;
        (a[axis as usize], b[axis as usize]) = (1, 1);
        shapes(a == b)
    }

    /// The output is a product of matrices of one batch.
    fn product(&self, a: &[usize], b: &[usize]) -> Checked {
        let ([lead_a @ .., m, k], [lead_b @ .., l, n]) = (a, b) else { return shapes(false) };
        shapes(lead_a == lead_b && k == l)?;
        shapes(*self.out().0 == [lead_a, &[*m, *n]].concat())
    }

    fn conv(&self, op: &crate::ConvOp) -> Checked {
        self.count(2, 1)?;
        let (x, w, (y, dtype)) = (self.shape(0), self.shape(1), self.out());
        dtypes(self.dtype(0) == dtype && self.dtype(1) == dtype)?;
        let rank = op.axes.len() + 2;
        shapes(rank > 2 && x.len() == rank && w.len() == rank && y.len() == rank)?;
        let positive =
            |a: &crate::ConvAxis| a.stride > 0 && a.kernel_dilation > 0 && a.input_dilation > 0;
        let sound = op.groups > 0 && op.axes.iter().all(positive);
        need(sound, ErrorKind::Value, "a stride, a dilation or the number of groups is 0")?;
        let (c, o, g) = (x[rank - 1], w[0], op.groups);
        shapes(c % g == 0 && o % g == 0 && w[rank - 1] == c / g)?;
        shapes(y[0] == x[0] && y[rank - 1] == o)?;
        let windows = |(i, axis): (usize, &crate::ConvAxis)| {
            w[i + 1] > 0 && axis.output(x[i + 1], w[i + 1]) == Some(y[i + 1])
        };
        shapes(op.axes.iter().enumerate().all(windows))
    }

    fn fft(&self, kind: FftKind, axis: u8) -> Checked {
        self.count(1, 1)?;
        self.axis(axis)?;
        let (from, (to, dtype)) = (self.shape(0), self.out());
        let rest = |s: &[usize]| others(s, &[axis]);
        shapes(from.len() == to.len() && rest(from) == rest(to))?;
        let (m, n) = (from[axis as usize], to[axis as usize]);
        let (complex, real) = (DType::C64, DType::F32);
        let (lengths, expected) = match kind {
            FftKind::Forward | FftKind::Inverse => (m == n && n > 0, (complex, complex)),
            FftKind::RealToHalf => (m > 0 && n == m / 2 + 1, (real, complex)),
            FftKind::HalfToReal => (n > 0 && m == n / 2 + 1, (complex, real)),
        };
        shapes(lengths)?;
        dtypes((self.dtype(0), dtype) == expected)
    }

    fn linalg(&self, op: LinalgOp) -> Checked {
        use LinalgOp as L;
        let two = matches!(op, L::Solve | L::SolveTriangular { .. });
        let dtype = match self.inputs.first() {
            Some((_, d)) if self.inputs.len() == 1 + two as usize => *d,
            _ => return wrong(ErrorKind::Value, "the number of operands is another"),
        };
        dtypes(matches!(dtype, DType::F32 | DType::F64 | DType::C64))?;
        let [batch @ .., m, n] = self.shape(0) else { return shapes(false) };
        let (m, n, k) = (*m, *n, (*m).min(*n));
        let real = if dtype == DType::C64 { DType::F32 } else { dtype };
        let complex = DType::C64;
        let square = !matches!(op, L::Lu | L::Qr { .. } | L::Svd(_) | L::PseudoInverse);
        shapes(!square || m == n)?;
        let expected: Vec<(Vec<usize>, DType)> = match op {
            L::Lu => {
                vec![(vec![m, n], dtype), (vec![k], DType::U32), (vec![m], DType::U32)]
            }
            L::Det => vec![(vec![], dtype)],
            L::Qr { full } => {
                let p = if full { m } else { k };
                vec![(vec![m, p], dtype), (vec![p, n], dtype)]
            }
            L::Svd(Vectors::No) => vec![(vec![k], real)],
            L::Svd(Vectors::Reduced) => {
                vec![(vec![m, k], dtype), (vec![k], real), (vec![k, n], dtype)]
            }
            L::Svd(Vectors::Full) => {
                vec![(vec![m, m], dtype), (vec![k], real), (vec![n, n], dtype)]
            }
            L::Eigh { vectors: false, .. } => vec![(vec![n], real)],
            L::Eigh { vectors: true, .. } => vec![(vec![n], real), (vec![n, n], dtype)],
            L::Eig { vectors: false } => vec![(vec![n], complex)],
            L::Eig { vectors: true } => vec![(vec![n], complex), (vec![n, n], complex)],
            L::Cholesky { .. } | L::Inverse => vec![(vec![n, n], dtype)],
            L::PseudoInverse => vec![(vec![n, m], dtype)],
            L::Solve | L::SolveTriangular { .. } => {
                dtypes(self.dtype(1) == dtype)?;
                let [other @ .., rows, columns] = self.shape(1) else { return shapes(false) };
                shapes(other == batch && *rows == n)?;
                vec![(vec![n, *columns], dtype)]
            }
        };
        self.count(self.inputs.len(), expected.len())?;
        for ((shape, dtype), (dims, expected)) in self.outputs.iter().zip(expected) {
            shapes(**shape == [batch, &dims[..]].concat())?;
            dtypes(*dtype == expected)?;
        }
        Ok(())
    }

    /// Whether inputs from `first` on are the parts of a quantized matrix, of which all but the last
    /// axes fit into `batch`; how many there are, and the matrix's last two dimensions.
    fn parts(
        &self,
        q: Quantization,
        first: usize,
        last: usize,
    ) -> Result<(Vec<usize>, usize), (ErrorKind, String)> {
        q.check().map_err(|e| (ErrorKind::Value, e.message().to_string()))?;
        let parts = &self.inputs[first.min(last)..last];
        if let Some(format) = q.blocks() {
            let [blocks] = parts else {
                return Err((ErrorKind::Value, "blocks are one part of a product".into()));
            };
            let [lead @ .., bytes] = &blocks.0[..] else {
                return shapes(false).map(|()| (Vec::new(), 0));
            };
            shapes(!lead.is_empty() && bytes.is_multiple_of(format.bytes()))?;
            dtypes(blocks.1 == DType::U8)?;
            let k = (bytes / format.bytes()).checked_mul(format.elements());
            shapes(k.is_some())?;
            return Ok(([lead, &[k.unwrap_or(0)]].concat(), k.unwrap_or(0)));
        }
        let ([codes, scales], rest) = match parts {
            [codes, scales, rest @ ..] => ([codes, scales], rest),
            _ => return Err((ErrorKind::Value, "a part of the matrix is missing".into())),
        };
        let ([lead @ .., words], [lead_s @ .., groups]) = (&codes.0[..], &scales.0[..]) else {
            return shapes(false).map(|()| (Vec::new(), 0));
        };
        shapes(lead == lead_s && !lead.is_empty())?;
        let k = groups.checked_mul(q.group_size());
        shapes(k.is_some_and(|k| q.words(k) == *words))?;
        dtypes(codes.1 == DType::U32)?;
        if q.is_affine() {
            dtypes(is_half_or_f32(scales.1))?;
            let [biases] = rest else {
                return Err((ErrorKind::Value, "there are no biases".into()));
            };
            shapes(biases.0 == scales.0)?;
            dtypes(biases.1 == scales.1)?;
        } else {
            dtypes(scales.1 == DType::U8)?;
            let global = rest.len() <= (q == Quantization::NvFp4) as usize;
            need(global, ErrorKind::Value, "the matrix has too many parts")?;
            if let Some(global) = rest.first() {
                self.global(global, &codes.0)?;
            }
        }
        Ok(([lead, &[k.unwrap_or(0)]].concat(), k.unwrap_or(0)))
    }

    /// One number for each matrix of a batch.
    fn global(&self, global: &Spec, of: &[usize]) -> Checked {
        let lead = &of[..of.len().saturating_sub(2)];
        dtypes(global.1 == DType::F32)?;
        shapes(*global.0 == [lead, &[1, 1]].concat())
    }

    fn quantized(&self, op: QuantizedOp) -> Checked {
        match op {
            QuantizedOp::Quantize(q) | QuantizedOp::FakeQuantize(q) => {
                q.check().or_else(|e| wrong(ErrorKind::Value, e.message()))?;
                need(q.blocks().is_none(), ErrorKind::Value, "blocks are read, not made")?;
                let one = matches!(self.inputs.len(), 1 | 2);
                need(one, ErrorKind::Value, "the number of operands is another")?;
                let [lead @ .., k] = self.shape(0) else { return shapes(false) };
                shapes(!lead.is_empty() && k % q.group_size() == 0)?;
                dtypes(is_half_or_f32(self.dtype(0)))?;
                if let Some(global) = self.inputs.get(1) {
                    let nv = q == Quantization::NvFp4;
                    need(nv, ErrorKind::Value, "only nvfp4 has a global scale")?;
                    self.global(global, self.shape(0))?;
                }
                if matches!(op, QuantizedOp::FakeQuantize(_)) {
                    self.count(self.inputs.len(), 1)?;
                    dtypes(is_half_or_f32(self.out().1))?;
                    return shapes(self.shape(0) == self.out().0);
                }
                self.count(self.inputs.len(), 2 + q.is_affine() as usize)?;
                let scale = q.scale_dtype(self.dtype(0));
                let with = |n: usize| [lead, &[n]].concat();
                shapes(*self.outputs[0].0 == with(q.words(*k)))?;
                dtypes(self.outputs[0].1 == DType::U32)?;
                for (shape, dtype) in &self.outputs[1..] {
                    shapes(**shape == with(k / q.group_size()))?;
                    dtypes(*dtype == scale)?;
                }
                Ok(())
            }
            QuantizedOp::Dequantize(q) => {
                self.count(self.inputs.len(), 1)?;
                let (shape, _) = self.parts(q, 0, self.inputs.len())?;
                shapes(*self.out().0 == *shape)?;
                dtypes(is_half_or_f32(self.out().1))
            }
            QuantizedOp::Matmul { quantization, transpose } => {
                self.count(self.inputs.len(), 1)?;
                let (w, _) = self.parts(quantization, 1, self.inputs.len())?;
                dtypes(is_half_or_f32(self.dtype(0)) && self.out().1 == self.dtype(0))?;
                self.product(self.shape(0), &stored(w, transpose))
            }
            QuantizedOp::GatherMatmul { quantization, transpose } => {
                self.count(self.inputs.len(), 1)?;
                let last = self.inputs.len().saturating_sub(2);
                let (w, _) = self.parts(quantization, 1, last)?;
                dtypes(is_half_or_f32(self.dtype(0)) && self.out().1 == self.dtype(0))?;
                self.picked(self.shape(0), &stored(w, transpose), last)
            }
        }
    }

    /// Products of matrices that index operands `at` and `at + 1` pick.
    fn picked(&self, a: &[usize], b: &[usize], at: usize) -> Checked {
        self.integers(at)?;
        self.integers(at + 1)?;
        let ([.., m, k], [.., l, n]) = (a, b) else { return shapes(false) };
        let index = self.shape(at);
        shapes(k == l && index == self.shape(at + 1))?;
        shapes(*self.out().0 == [index, &[*m, *n]].concat())
    }

    fn grouped(&self, op: GroupedOp) -> Checked {
        let operands = match op {
            GroupedOp::Gather => 4,
            GroupedOp::Outer => 5,
            GroupedOp::Segments => 3,
        };
        self.count(operands, 1)?;
        let (a, b, (out, dtype)) = (self.shape(0), self.shape(1), self.out());
        dtypes(self.dtype(0) == dtype && self.dtype(1) == dtype)?;
        match op {
            GroupedOp::Gather => self.picked(a, b, 2),
            GroupedOp::Outer => {
                (2..5).try_for_each(|i| self.integers(i))?;
                let ([.., m, k], [.., l, n]) = (a, b) else { return shapes(false) };
                let index = self.shape(2);
                shapes(m == l && index == self.shape(3) && index == self.shape(4))?;
                shapes(out.len() == 3 && out[1..] == [*k, *n])
            }
            GroupedOp::Segments => {
                self.integers(2)?;
                let ([m, k], [l, n]) = (a, b) else { return shapes(false) };
                let [lead @ .., 2] = self.shape(2) else { return shapes(false) };
                shapes(k == l && *out == [lead, &[*m, *n]].concat())
            }
        }
    }

    fn fast(&self, op: &FastOp) -> Checked {
        need(!self.inputs.is_empty(), ErrorKind::Value, "no operand")?;
        self.count(self.inputs.len(), 1)?;
        let (x, dtype) = (self.shape(0), self.dtype(0));
        let Some((&d, lead)) = x.split_last() else { return shapes(false) };
        dtypes(dtype.is_float() && self.out().1 == dtype)?;
        match op {
            FastOp::Softmax => {
                self.count(1, 1)?;
                self.same()
            }
            FastOp::LogSumExp => {
                self.count(1, 1)?;
                shapes(*self.out().0 == [lead, &[1]].concat())
            }
            FastOp::RmsNorm { .. } | FastOp::LayerNorm { .. } => {
                let most = match op {
                    FastOp::LayerNorm { weight, bias, .. } => {
                        self.count(1 + *weight as usize + *bias as usize, 1)?;
                        3
                    }
                    _ => 2,
                };
                need(self.inputs.len() <= most, ErrorKind::Value, "too many operands")?;
                let vectors = self.inputs[1..].iter();
                shapes(vectors.clone().all(|(shape, _)| **shape == [d]))?;
                dtypes(vectors.clone().all(|(_, dtype)| dtype.is_float()))?;
                self.same()
            }
            FastOp::Rope { dims, freqs, .. } => {
                self.count(2 + *freqs as usize, 1)?;
                let dims = *dims as usize;
                need(
                    dims.is_multiple_of(2) && dims <= d,
                    ErrorKind::Value,
                    "the number of rotated features is odd or too large",
                )?;
                shapes(x.len() >= 3)?;
                let offsets = self.inputs[1].0.size();
                shapes(offsets == 1 || offsets == x[0])?;
                dtypes(self.dtype(1) == DType::I32)?;
                if *freqs {
                    shapes(*self.shape(2) == [dims / 2])?;
                    dtypes(self.dtype(2) == DType::F32)?;
                }
                self.same()
            }
            FastOp::Attention { mask, sinks, length, .. } => {
                self.count(3 + *mask as usize + *sinks as usize + *length as usize, 1)?;
                let (&[b, h, tq, d], &[bk, hk, tk, dk], &[bv, hv, tv, dv]) =
                    (self.shape(0), self.shape(1), self.shape(2))
                else {
                    return shapes(false);
                };
                shapes(b == bk && b == bv && hk == hv && tk == tv && d == dk)?;
                shapes(hk > 0 && h % hk == 0 || h == 0 && hk == 0)?;
                shapes(*self.out().0 == [b, h, tq, dv])?;
                dtypes(self.dtype(1) == dtype && self.dtype(2) == dtype)?;
                let mut next = 3;
                if *mask {
                    shapes(*self.shape(next) == [b, h, tq, tk])?;
                    let kind = self.dtype(next);
                    dtypes(kind == DType::Bool || kind.is_float())?;
                    next += 1;
                }
                if *sinks {
                    shapes(*self.shape(next) == [h])?;
                    dtypes(self.dtype(next).is_float())?;
                    next += 1;
                }
                if *length {
                    shapes(self.inputs[next].0.size() == 1)?;
                    dtypes(self.dtype(next) == DType::I32)?;
                }
                Ok(())
            }
        }
    }
}

/// A stored matrix as the right operand of a product.
fn stored(mut w: Vec<usize>, transpose: bool) -> Vec<usize> {
    let rank = w.len();
    if transpose && rank >= 2 {
        w.swap(rank - 2, rank - 1);
    }
    w
}

/// Whether sums of numbers `from` may be made in `to`.
fn widened(from: DType, to: DType) -> bool {
    match to {
        DType::F32 => !matches!(from, DType::F64 | DType::C64),
        _ => !from.is_inexact() && to.is_integer() && to.size() >= from.size(),
    }
}
