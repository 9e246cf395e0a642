//! One job a case: every primitive, in every dtype that it has, over every kind of layout.

use crate::tensor::{Rng, Tensor, Tolerance, epsilon, layouts};
use lazul_ir::DType::{self, *};
use lazul_ir::{
    ArgReduceOp, Axes, BinaryOp, F32Bits, FastOp, Prim, Quantization, QuantizedOp, ReduceOp,
    Scalar, ScanOp, ScatterOp, Step, StepOp, Tape, UnaryOp,
};

/// What a case computes.
pub(crate) enum What {
    Prim(Prim),
    Fused(Tape),
}

/// A job with its operands, to be run here and there.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) what: What,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<(DType, Vec<usize>)>,
    pub(crate) tolerance: Tolerance,
    /// The operand whose memory is the output's.
    pub(crate) alias: Option<usize>,
}

const FLOATS: [DType; 4] = [F32, F16, BF16, F64];
const INTEGERS: [DType; 8] = [U8, U16, U32, U64, I8, I16, I32, I64];

pub(crate) struct Cases {
    pub(crate) list: Vec<Case>,
    rng: Rng,
}

fn axes(list: &[usize]) -> Axes {
    list.iter().map(|&a| a as u8).collect()
}

fn ulps(n: f64, dtype: DType) -> Tolerance {
    Tolerance { rel: n * epsilon(dtype) * 1.001, abs: 0.0 }
}

impl Cases {
    /// All of them.
    pub(crate) fn all() -> Cases {
        let mut c = Cases { list: Vec::new(), rng: Rng(2026) };
        c.unary();
        c.binary();
        c.casts_and_selects();
        c.fused();
        c.creation();
        c.copies();
        c.reductions();
        c.scans();
        c.sorts();
        c.indexing();
        c.slices();
        c.random();
        c.rows();
        c.rope();
        c.matmul();
        c.quantized();
        c.attention();
        c
    }

    fn add(
        &mut self,
        name: String,
        prim: Prim,
        inputs: Vec<Tensor>,
        output: (DType, &[usize]),
        tolerance: Tolerance,
    ) {
        self.list.push(Case {
            name: format!("{}: {name}", prim.name()),
            what: What::Prim(prim),
            inputs,
            outputs: vec![(output.0, output.1.to_vec())],
            tolerance,
            alias: None,
        });
    }

    /// Layouts of an element-wise operand, of one shape each.
    fn operands(&mut self, dtype: DType, wild: bool) -> Vec<(&'static str, Tensor)> {
        let make = |rng: &mut Rng, shape: &[usize]| match wild {
            true => Tensor::wild(rng, dtype, shape),
            false => Tensor::random(rng, dtype, shape, -4.0, 4.0),
        };
        let mut all = layouts(&make(&mut self.rng, &[5, 48]));
        all.push(("ragged", make(&mut self.rng, &[1003])));
        all.push(("scalar", make(&mut self.rng, &[])));
        all.push(("empty", make(&mut self.rng, &[0, 4])));
        all.push(("row", make(&mut self.rng, &[1, 48]).broadcast(&[5, 48])));
        all.push(("column", make(&mut self.rng, &[5, 1]).broadcast(&[5, 48])));
        all.push(("one", make(&mut self.rng, &[1]).broadcast(&[5, 48])));
        all
    }

    fn unary(&mut self) {
        for &op in UnaryOp::ALL {
            for dtype in DType::ALL {
                let Ok((operand, result)) = op.rule().resolve(dtype) else { continue };
                if operand != dtype {
                    continue;
                }
                // Exactly rounded operations give the CPU's bits.
                let exact = matches!(op, UnaryOp::Erfinv | UnaryOp::Log) && dtype == F32;
                let n = match (dtype, result) {
                    _ if exact => 0.0,
                    (F64, _) if op == UnaryOp::Erfinv => 64.0,
                    (F32 | F64, _) => 8.0,
                    (C64, _) => 6.0,
                    _ => 1.0,
                };
                for (name, x) in self.operands(dtype, true) {
                    let shape = x.shape.clone();
                    let name = format!("{dtype} {name}");
                    self.add(name, Prim::Unary(op), vec![x], (result, &shape), ulps(n, result));
                }
            }
        }
    }

    fn binary(&mut self) {
        for &op in BinaryOp::ALL {
            for dtype in DType::ALL {
                let Ok((operand, result)) = op.rule().resolve(dtype) else { continue };
                if operand != dtype {
                    continue;
                }
                let n = match dtype {
                    F32 | F64 if matches!(op, BinaryOp::Power | BinaryOp::LogAddExp) => 16.0,
                    F32 | F64 => 4.0,
                    C64 => 16.0,
                    _ => 1.0,
                };
                // Differences cancel: what is left of a quotient's or logarithm's error is absolute.
                let abs = match (op, result) {
                    (BinaryOp::LogAddExp, d) => epsilon(d),
                    _ => 0.0,
                };
                let tolerance = Tolerance { abs, ..ulps(n, result) };
                let a = self.operands(dtype, true);
                let mut b = self.operands(dtype, true);
                // Each layout meets itself, and then, among those of one shape, the next.
                for round in 0..2 {
                    for ((name, a), (other, b)) in a.iter().zip(&b) {
                        if a.shape == b.shape {
                            let name = format!("{dtype} {name} and {other}");
                            let shape = a.shape.clone();
                            let inputs = vec![a.clone(), b.clone()];
                            self.add(name, Prim::Binary(op), inputs, (result, &shape), tolerance);
                        }
                    }
                    if round == 0 && !matches!(op, BinaryOp::Add | BinaryOp::Power) {
                        break;
                    }
                    b.rotate_left(1);
                }
            }
        }
    }

    fn casts_and_selects(&mut self) {
        for from in DType::ALL {
            for to in DType::ALL {
                for (name, x) in self.operands(from, true) {
                    if !matches!(name, "contiguous" | "ragged" | "column-major" | "row") {
                        continue;
                    }
                    let shape = x.shape.clone();
                    let name = format!("{from} to {to} {name}");
                    self.add(name, Prim::Cast, vec![x], (to, &shape), ulps(0.0, to));
                }
            }
            for ((name, a), (_, b)) in
                self.operands(from, true).into_iter().zip(self.operands(from, true))
            {
                let c = Tensor::wild(&mut self.rng, Bool, &a.shape);
                let shape = a.shape.clone();
                self.add(
                    format!("{from} {name}"),
                    Prim::Select,
                    vec![c, a, b],
                    (from, &shape),
                    ulps(0.0, from),
                );
            }
        }
    }

    fn fused(&mut self) {
        let step = |op, operand, result, args, dst| Step { op, operand, result, args, dst };
        let (mul, add, sub) = (BinaryOp::Multiply, BinaryOp::Add, BinaryOp::Subtract);
        for dtype in FLOATS {
            let d = dtype;
            // gelu(x * w + b), with constants as operands.
            let tape = Tape {
                inputs: vec![d; 6],
                steps: vec![
                    step(StepOp::Binary(mul), d, d, [0, 1, 0], 6),
                    step(StepOp::Binary(add), d, d, [6, 2, 6], 6),
                    step(StepOp::Binary(mul), d, d, [6, 3, 6], 7),
                    step(StepOp::Unary(UnaryOp::Erf), d, d, [7, 7, 7], 7),
                    step(StepOp::Binary(add), d, d, [7, 4, 7], 7),
                    step(StepOp::Binary(mul), d, d, [6, 7, 6], 7),
                    step(StepOp::Binary(mul), d, d, [7, 5, 7], 7),
                ],
                outputs: vec![(7, d)],
                registers: 8,
            };
            let one = |v: f64, shape: &[usize]| Tensor::from_f64(d, &[], |_| v).broadcast(shape);
            for (name, x) in self.operands(d, false) {
                let shape = x.shape.clone();
                let row: Vec<usize> = shape.last().map_or(vec![], |&n| vec![n]);
                let w = Tensor::random(&mut self.rng, d, &row, -2.0, 2.0).broadcast(&shape);
                let b = Tensor::random(&mut self.rng, d, &row, -2.0, 2.0).broadcast(&shape);
                let inputs = vec![
                    x,
                    w,
                    b,
                    one(std::f64::consts::FRAC_1_SQRT_2, &shape),
                    one(1.0, &shape),
                    one(0.5, &shape),
                ];
                // 1 + erf is small where x is: an error of erf's last place weighs more there.
                let tolerance = Tolerance { rel: 4.0 * epsilon(d), abs: 4.0 * epsilon(d) };
                self.list.push(Case {
                    name: format!("fused gelu: {d} {name}"),
                    what: What::Fused(tape.clone()),
                    inputs,
                    outputs: vec![(d, shape)],
                    tolerance,
                    alias: None,
                });
            }
        }
        // Two outputs, casts, comparison and selection; an output in an operand's memory.
        for (narrow, wide) in [(BF16, F32), (F16, F32), (F32, F64), (U8, I32)] {
            let tape = Tape {
                inputs: vec![narrow, wide, Bool],
                steps: vec![
                    step(StepOp::Cast, narrow, wide, [0, 0, 0], 3),
                    step(StepOp::Binary(sub), wide, wide, [3, 1, 3], 4),
                    step(StepOp::Binary(BinaryOp::Less), wide, Bool, [3, 4, 3], 5),
                    step(StepOp::Binary(BinaryOp::LogicalXor), Bool, Bool, [5, 2, 5], 5),
                    step(StepOp::Select, wide, wide, [5, 3, 4], 3),
                    step(StepOp::Cast, wide, narrow, [3, 3, 3], 4),
                    step(StepOp::Unary(UnaryOp::Square), narrow, narrow, [4, 4, 4], 4),
                ],
                outputs: vec![(3, wide), (4, narrow), (5, Bool)],
                registers: 6,
            };
            for (name, x) in self.operands(narrow, false) {
                let shape = x.shape.clone();
                let y = Tensor::random(&mut self.rng, wide, &shape, -3.0, 3.0);
                let m = Tensor::wild(&mut self.rng, Bool, &shape);
                for alias in [None, Some(1)] {
                    self.list.push(Case {
                        name: format!("fused three outputs: {narrow} {name}, alias {alias:?}"),
                        what: What::Fused(tape.clone()),
                        inputs: vec![x.clone(), y.clone(), m.clone()],
                        outputs: vec![
                            (wide, shape.clone()),
                            (narrow, shape.clone()),
                            (Bool, shape.clone()),
                        ],
                        tolerance: ulps(0.0, wide),
                        alias,
                    });
                }
            }
        }
        // Three axes that do not merge.
        let tape = Tape {
            inputs: vec![F32, F32],
            steps: vec![step(StepOp::Binary(add), F32, F32, [0, 1, 0], 2)],
            outputs: vec![(2, F32)],
            registers: 3,
        };
        for shape in [[3, 5, 16], [4, 3, 7], [2, 9, 4]] {
            let a = Tensor::random(&mut self.rng, F32, &[shape[0], 1, shape[2]], -1.0, 1.0);
            let b = Tensor::random(&mut self.rng, F32, &[1, shape[1], shape[2]], -1.0, 1.0);
            let c = Tensor::random(&mut self.rng, F32, &[shape[2], shape[1], shape[0]], -1.0, 1.0);
            for (x, y) in [
                (a.broadcast(&shape), b.broadcast(&shape)),
                (a.broadcast(&shape), c.transpose(&[2, 1, 0])),
            ] {
                self.list.push(Case {
                    name: format!("fused three axes: {shape:?}"),
                    what: What::Fused(tape.clone()),
                    inputs: vec![x, y],
                    outputs: vec![(F32, shape.to_vec())],
                    tolerance: ulps(0.0, F32),
                    alias: None,
                });
            }
        }
    }

    fn creation(&mut self) {
        for dtype in DType::ALL {
            let (start, step) = match dtype.is_inexact() {
                true => (Scalar::new(-1.5f64), Scalar::new(0.1f64)),
                false => (Scalar::new(-3i64), Scalar::new(7i64)),
            };
            for n in [0, 1, 1000] {
                self.add(
                    format!("{dtype} {n}"),
                    Prim::Arange { start, step },
                    vec![],
                    (dtype, &[n]),
                    ulps(0.0, dtype),
                );
            }
        }
    }

    fn copies(&mut self) {
        for dtype in [U8, BF16, F32, F64] {
            let x = Tensor::wild(&mut self.rng, dtype, &[3, 40, 33]);
            let mut all = layouts(&x);
            all.push((
                "transposed",
                Tensor::wild(&mut self.rng, dtype, &[33, 40, 3]).transpose(&[2, 1, 0]),
            ));
            all.push((
                "inner two",
                Tensor::wild(&mut self.rng, dtype, &[3, 33, 40]).transpose(&[0, 2, 1]),
            ));
            all.push((
                "outer two",
                Tensor::wild(&mut self.rng, dtype, &[40, 3, 33]).transpose(&[1, 0, 2]),
            ));
            all.push((
                "broadcast",
                Tensor::wild(&mut self.rng, dtype, &[3, 1, 33]).broadcast(&[3, 40, 33]),
            ));
            for (name, x) in all {
                self.add(
                    format!("{dtype} {name}"),
                    Prim::Copy,
                    vec![x],
                    (dtype, &[3, 40, 33]),
                    ulps(0.0, dtype),
                );
            }
            for shape in [&[][..], &[0, 3], &[1]] {
                let x = Tensor::wild(&mut self.rng, dtype, shape);
                self.add(
                    format!("{dtype} {shape:?}"),
                    Prim::Copy,
                    vec![x],
                    (dtype, shape),
                    ulps(0.0, dtype),
                );
            }
            let four = Tensor::wild(&mut self.rng, dtype, &[4, 3, 5, 16]).transpose(&[2, 0, 3, 1]);
            self.add(
                format!("{dtype} four axes"),
                Prim::Copy,
                vec![four],
                (dtype, &[5, 4, 16, 3]),
                ulps(0.0, dtype),
            );
        }
        for dtype in DType::ALL {
            for axis in 0..2usize {
                let shape = |n: usize| if axis == 0 { [n, 12] } else { [12, n] };
                let parts: Vec<Tensor> = [4, 0, 1, 7]
                    .iter()
                    .enumerate()
                    .map(|(i, &n)| {
                        let t = Tensor::wild(&mut self.rng, dtype, &shape(n));
                        layouts(&t)[i % 6].1.clone()
                    })
                    .collect();
                let out = shape(12);
                self.add(
                    format!("{dtype} axis {axis}"),
                    Prim::Concatenate { axis: axis as u8 },
                    parts,
                    (dtype, &out),
                    ulps(0.0, dtype),
                );
            }
        }
    }

    fn reductions(&mut self) {
        let shapes: [(&[usize], &[usize]); 14] = [
            (&[6, 70], &[1]),
            (&[6, 70], &[0]),
            (&[6, 70], &[0, 1]),
            (&[3, 5, 64], &[1]),
            (&[3, 5, 64], &[0, 2]),
            (&[3, 0, 4], &[1]),
            (&[0, 3], &[1]),
            (&[1], &[0]),
            (&[2, 5000], &[1]),
            (&[3000, 16], &[0]),
            (&[40000], &[0]),
            (&[5, 3], &[1]),
            (&[300, 8, 3], &[0]),
            (&[7, 600], &[1]),
        ];
        for op in [
            ReduceOp::Sum,
            ReduceOp::Prod,
            ReduceOp::Min,
            ReduceOp::Max,
            ReduceOp::All,
            ReduceOp::Any,
        ] {
            for dtype in DType::ALL {
                let logical = matches!(op, ReduceOp::All | ReduceOp::Any);
                if dtype == C64 && matches!(op, ReduceOp::Min | ReduceOp::Max) {
                    continue;
                }
                for (i, (shape, reduced)) in shapes.into_iter().enumerate() {
                    let empty = shape.contains(&0);
                    if empty && matches!(op, ReduceOp::Min | ReduceOp::Max) {
                        continue;
                    }
                    let x = match op {
                        ReduceOp::Prod => Tensor::random(&mut self.rng, dtype, shape, 0.97, 1.03),
                        ReduceOp::Sum => Tensor::random(&mut self.rng, dtype, shape, 0.1, 3.0),
                        ReduceOp::Any => Tensor::random(&mut self.rng, dtype, shape, -0.8, 1.2),
                        ReduceOp::All => Tensor::random(&mut self.rng, dtype, shape, 0.9, 40.0),
                        _ => Tensor::wild(&mut self.rng, dtype, shape),
                    };
                    let out: Vec<usize> = (0..shape.len())
                        .map(|a| if reduced.contains(&a) { 1 } else { shape[a] })
                        .collect();
                    let mut results = vec![if logical { Bool } else { dtype }];
                    if matches!(op, ReduceOp::Sum | ReduceOp::Prod) && i % 4 == 0 {
                        results.extend(match dtype {
                            Bool | I8 => Some(I32),
                            U8 => Some(U32),
                            F16 | BF16 => Some(F32),
                            _ => None,
                        });
                    }
                    for result in results {
                        let n = if matches!(op, ReduceOp::Prod) { 256.0 } else { 16.0 };
                        let n = if matches!(result, F16 | BF16) { 1.0 } else { n };
                        let all = layouts(&x);
                        let count = if matches!(dtype, F32 | BF16 | U8 | F64) || i < 3 {
                            all.len()
                        } else {
                            1
                        };
                        for (name, x) in all.into_iter().take(count) {
                            let name =
                                format!("{dtype} to {result} {shape:?} axes {reduced:?} {name}");
                            let prim = Prim::Reduce { op, axes: axes(reduced) };
                            self.add(name, prim, vec![x], (result, &out), ulps(n, result));
                        }
                    }
                }
            }
        }
        for op in [ArgReduceOp::ArgMin, ArgReduceOp::ArgMax] {
            for dtype in DType::ALL {
                if dtype == C64 {
                    continue;
                }
                for (shape, axis) in [
                    (&[6, 70][..], 1),
                    (&[6, 70], 0),
                    (&[3, 5, 64], 1),
                    (&[2, 50000], 1),
                    (&[9000], 0),
                    (&[3, 1], 1),
                    (&[4000, 16], 0),
                    (&[5, 7], 1),
                ] {
                    for few in [false, true] {
                        let x = match few {
                            // Ties.
                            true => Tensor::from_f64(dtype, shape, |_| self.rng.below(3) as f64),
                            false => Tensor::wild(&mut self.rng, dtype, shape),
                        };
                        let mut out = shape.to_vec();
                        out[axis] = 1;
                        for (name, x) in
                            layouts(&x).into_iter().take(if shape.len() == 3 { 6 } else { 3 })
                        {
                            let name = format!("{dtype} {shape:?} axis {axis} {name}");
                            let prim = Prim::ArgReduce { op, axis: axis as u8 };
                            self.add(name, prim, vec![x], (U32, &out), ulps(0.0, U32));
                        }
                    }
                }
            }
        }
    }

    fn scans(&mut self) {
        for op in [ScanOp::Sum, ScanOp::Prod, ScanOp::Min, ScanOp::Max, ScanOp::LogAddExp] {
            for dtype in DType::ALL {
                if op == ScanOp::LogAddExp && !dtype.is_float() {
                    continue;
                }
                if dtype == C64 && !matches!(op, ScanOp::Sum | ScanOp::Prod) {
                    continue;
                }
                for (shape, axis) in [
                    (&[5, 33][..], 1),
                    (&[5, 33], 0),
                    (&[2, 3000], 1),
                    (&[3, 40, 7], 1),
                    (&[20000], 0),
                    (&[9000, 2], 0),
                    (&[0, 3], 1),
                    (&[3, 0], 1),
                    (&[1, 1], 0),
                ] {
                    let x = match op {
                        ScanOp::Sum => Tensor::random(&mut self.rng, dtype, shape, 0.1, 2.0),
                        ScanOp::Prod => Tensor::random(&mut self.rng, dtype, shape, 0.999, 1.001),
                        ScanOp::LogAddExp => Tensor::random(&mut self.rng, dtype, shape, -3.0, 3.0),
                        _ => Tensor::wild(&mut self.rng, dtype, shape),
                    };
                    for (reverse, inclusive) in
                        [(false, true), (true, true), (false, false), (true, false)]
                    {
                        let few = !matches!(dtype, F32 | BF16) && (reverse || !inclusive);
                        if few && shape[0] != 5 {
                            continue;
                        }
                        let n = match op {
                            ScanOp::Prod => 4000.0,
                            ScanOp::LogAddExp => 64.0,
                            _ => 64.0,
                        };
                        let n = if matches!(dtype, F16 | BF16) { 1.0 } else { n };
                        let tolerance = Tolerance {
                            abs: if op == ScanOp::LogAddExp { epsilon(dtype) } else { 0.0 },
                            ..ulps(n, dtype)
                        };
                        for (name, x) in
                            layouts(&x).into_iter().take(if shape.len() == 3 { 6 } else { 1 })
                        {
                            let name = format!(
                                "{dtype} {shape:?} axis {axis} reverse {reverse} inclusive {inclusive} {name}"
                            );
                            let prim = Prim::Scan { op, axis: axis as u8, reverse, inclusive };
                            self.add(name, prim, vec![x], (dtype, shape), tolerance);
                        }
                    }
                }
            }
        }
        let x = Tensor::wild(&mut self.rng, Bool, &[3, 100]);
        let prim = Prim::Scan { op: ScanOp::Sum, axis: 1, reverse: false, inclusive: true };
        self.add("bool to int32".into(), prim, vec![x], (I32, &[3, 100]), ulps(0.0, I32));
    }

    fn sorts(&mut self) {
        for dtype in DType::ALL {
            for (shape, axis) in [
                (&[5, 33][..], 1),
                (&[5, 33], 0),
                (&[2, 2048], 1),
                (&[2, 2049], 1),
                (&[3, 10000], 1),
                (&[7, 5, 64], 1),
                (&[0, 3], 1),
                (&[3, 1], 1),
                (&[20000], 0),
            ] {
                for few in [false, true] {
                    let x = match few {
                        true => Tensor::from_f64(dtype, shape, |_| self.rng.below(5) as f64),
                        false => Tensor::wild(&mut self.rng, dtype, shape),
                    };
                    for (name, x) in
                        layouts(&x).into_iter().take(if shape.len() == 3 { 6 } else { 1 })
                    {
                        let name = format!("{dtype} {shape:?} axis {axis} {name}");
                        let axis = axis as u8;
                        self.add(
                            name.clone(),
                            Prim::Sort { axis },
                            vec![x.clone()],
                            (dtype, shape),
                            ulps(0.0, dtype),
                        );
                        self.add(
                            name,
                            Prim::ArgSort { axis },
                            vec![x],
                            (U32, shape),
                            ulps(0.0, U32),
                        );
                    }
                }
            }
        }
    }

    fn indices(&mut self, dtype: DType, shape: &[usize], size: usize) -> Tensor {
        let low = if dtype.is_signed_integer() { -(size as f64) } else { 0.0 };
        let rng = &mut self.rng;
        Tensor::from_f64(dtype, shape, |_| rng.uniform(low, size as f64).floor())
    }

    fn indexing(&mut self) {
        let src: [usize; 3] = [6, 9, 16];
        for dtype in DType::ALL {
            for (k, indexed) in [&[0usize][..], &[1], &[2], &[0, 2], &[1, 0], &[2, 1, 0], &[]]
                .into_iter()
                .enumerate()
            {
                for shape in [&[7][..], &[2, 3], &[], &[0]] {
                    if indexed.is_empty() && !shape.is_empty() {
                        continue;
                    }
                    let index_dtype = INTEGERS[(k + shape.len()) % 8];
                    let x = Tensor::wild(&mut self.rng, dtype, &src);
                    let x = layouts(&x)[k % 6].1.clone();
                    let mut inputs = vec![x];
                    for &a in indexed {
                        let i = self.indices(index_dtype, shape, src[a]);
                        inputs.push(layouts(&i)[k % 6].1.clone());
                    }
                    let mut out = shape.to_vec();
                    out.extend((0..3).filter(|a| !indexed.contains(a)).map(|a| src[a]));
                    let name = format!("{dtype} axes {indexed:?} {shape:?} by {index_dtype}");
                    self.add(
                        name,
                        Prim::Gather { axes: axes(indexed) },
                        inputs,
                        (dtype, &out),
                        ulps(0.0, dtype),
                    );
                }
            }
            for axis in 0..3usize {
                let mut shape = src;
                shape[axis] = 11;
                let index_dtype = INTEGERS[(axis * 3 + dtype as usize) % 8];
                let x = Tensor::wild(&mut self.rng, dtype, &src);
                let x = layouts(&x)[(axis + 1) % 6].1.clone();
                let i = self.indices(index_dtype, &shape, src[axis]);
                let name = format!("{dtype} axis {axis} by {index_dtype}");
                self.add(
                    name,
                    Prim::GatherAxis { axis: axis as u8 },
                    vec![x, i],
                    (dtype, &shape),
                    ulps(0.0, dtype),
                );
            }
        }
        for op in
            [ScatterOp::Assign, ScatterOp::Add, ScatterOp::Multiply, ScatterOp::Min, ScatterOp::Max]
        {
            for dtype in DType::ALL {
                let n = if matches!(dtype, F16 | BF16) { 1.0 } else { 16.0 };
                for (k, indexed) in
                    [&[0usize][..], &[1], &[0, 2], &[2, 1, 0], &[]].into_iter().enumerate()
                {
                    for shape in [&[7][..], &[2, 30], &[]] {
                        if indexed.is_empty() && !shape.is_empty() {
                            continue;
                        }
                        let index_dtype = INTEGERS[(k + 3 + shape.len()) % 8];
                        let low = if matches!(op, ScatterOp::Multiply) { 0.9 } else { 0.2 };
                        let high = if matches!(op, ScatterOp::Multiply) { 1.1 } else { 4.0 };
                        let mut inputs =
                            vec![Tensor::random(&mut self.rng, dtype, &src, low, high)];
                        for &a in indexed {
                            let i = self.indices(index_dtype, shape, src[a]);
                            inputs.push(layouts(&i)[(k + 1) % 6].1.clone());
                        }
                        let mut updates = shape.to_vec();
                        updates.extend((0..3).filter(|a| !indexed.contains(a)).map(|a| src[a]));
                        let u = Tensor::random(&mut self.rng, dtype, &updates, low, high);
                        inputs.push(layouts(&u)[k % 6].1.clone());
                        let name =
                            format!("{op:?} {dtype} axes {indexed:?} {shape:?} by {index_dtype}");
                        self.add(
                            name,
                            Prim::Scatter { op, axes: axes(indexed) },
                            inputs,
                            (dtype, &src),
                            ulps(n, dtype),
                        );
                    }
                }
                for axis in 0..3usize {
                    let mut shape = src;
                    shape[axis] = 20;
                    let index_dtype = INTEGERS[(axis + dtype as usize) % 8];
                    let x = Tensor::random(&mut self.rng, dtype, &src, 0.9, 1.2);
                    let i = self.indices(index_dtype, &shape, src[axis]);
                    let u = Tensor::random(&mut self.rng, dtype, &shape, 0.9, 1.2);
                    let u = layouts(&u)[(axis + 2) % 6].1.clone();
                    let name = format!("{op:?} {dtype} axis {axis} by {index_dtype}");
                    self.add(
                        name,
                        Prim::ScatterAxis { op, axis: axis as u8 },
                        vec![x, i, u],
                        (dtype, &src),
                        ulps(n, dtype),
                    );
                }
            }
        }
        let x = Tensor::random(&mut self.rng, F32, &[100, 8], -1.0, 1.0);
        let i = self.indices(I32, &[20000], 100);
        let u = Tensor::random(&mut self.rng, F32, &[20000, 8], 0.0, 1.0);
        let prim = Prim::Scatter { op: ScatterOp::Add, axes: axes(&[0]) };
        self.add("many to few".into(), prim, vec![x, i, u], (F32, &[100, 8]), ulps(64.0, F32));
    }

    fn slices(&mut self) {
        let shape: [usize; 3] = [5, 9, 16];
        for dtype in DType::ALL {
            for (block, starts, steps) in [
                ([2usize, 9, 16], [1i64, 0, 0], [2i64, 1, 1]),
                ([5, 3, 4], [0, 8, 3], [1, -2, 3]),
                ([5, 9, 8], [0, 0, 8], [1, 1, 1]),
                ([0, 9, 16], [0, 0, 0], [1, 1, 1]),
            ] {
                let x = Tensor::wild(&mut self.rng, dtype, &shape);
                let u = Tensor::wild(&mut self.rng, dtype, &block);
                for (name, u) in layouts(&u).into_iter().take(3) {
                    let prim = Prim::SliceUpdate { starts: starts.into(), steps: steps.into() };
                    self.add(
                        format!("{dtype} {block:?} {name}"),
                        prim,
                        vec![x.clone(), u],
                        (dtype, &shape),
                        ulps(0.0, dtype),
                    );
                }
            }
            for (block, indexed, starts) in [
                ([2usize, 9, 16], &[0usize][..], &[3.0][..]),
                ([5, 4, 8], &[2, 1], &[8.0, 2.0]),
                ([1, 1, 16], &[0, 1], &[4.0, 8.0]),
                ([5, 9, 16], &[1], &[0.0]),
                ([5, 9, 0], &[2], &[16.0]),
            ] {
                let index = INTEGERS[dtype as usize % 8];
                let start = Tensor::from_f64(index, &[starts.len()], |i| starts[i]);
                let x = Tensor::wild(&mut self.rng, dtype, &shape);
                for (name, x) in layouts(&x) {
                    let prim = Prim::DynamicSlice { axes: axes(indexed) };
                    let name = format!("{dtype} {block:?} at {starts:?} {name}");
                    self.add(name, prim, vec![x, start.clone()], (dtype, &block), ulps(0.0, dtype));
                }
                let u = Tensor::wild(&mut self.rng, dtype, &block);
                for (name, u) in layouts(&u).into_iter().take(3) {
                    let prim = Prim::DynamicSliceUpdate { axes: axes(indexed) };
                    let name = format!("{dtype} {block:?} at {starts:?} {name}");
                    self.add(
                        name,
                        prim,
                        vec![x.clone(), u, start.clone()],
                        (dtype, &shape),
                        ulps(0.0, dtype),
                    );
                }
            }
        }
    }

    fn random(&mut self) {
        for dtype in [U8, U16, U32] {
            for shape in [&[][..], &[1], &[2], &[3], &[7], &[0], &[1000], &[70001]] {
                let key = Tensor::wild(&mut self.rng, U32, &[2]);
                self.add(
                    format!("{dtype} {shape:?}"),
                    Prim::RandomBits,
                    vec![key],
                    (dtype, shape),
                    ulps(0.0, dtype),
                );
            }
            let keys = Tensor::wild(&mut self.rng, U32, &[3, 4, 2]);
            for (name, keys) in layouts(&keys) {
                self.add(
                    format!("{dtype} twelve keys {name}"),
                    Prim::RandomBits,
                    vec![keys],
                    (dtype, &[3, 4, 13]),
                    ulps(0.0, dtype),
                );
            }
        }
    }

    fn rows(&mut self) {
        let eps = F32Bits::new(1e-5);
        for dtype in FLOATS {
            let near = match dtype {
                F64 => Tolerance { rel: 1e-13, abs: 1e-14 },
                F32 => Tolerance { rel: 4e-6, abs: 1e-6 },
                d => Tolerance { rel: epsilon(d) * 1.01, abs: epsilon(d) * 0.02 },
            };
            for shape in [
                &[3, 5][..],
                &[2, 3, 64],
                &[1],
                &[7, 130],
                &[2, 1000],
                &[2, 4096],
                &[1, 8192],
                &[1, 40000],
                &[9, 1],
                &[0, 4],
            ] {
                let d = *shape.last().unwrap();
                let x = Tensor::random(&mut self.rng, dtype, shape, -3.0, 5.0);
                let mut out = shape.to_vec();
                *out.last_mut().unwrap() = 1;
                for (name, x) in layouts(&x) {
                    let name = format!("{dtype} {shape:?} {name}");
                    self.add(
                        name.clone(),
                        Prim::Fast(FastOp::Softmax),
                        vec![x.clone()],
                        (dtype, shape),
                        near,
                    );
                    self.add(
                        name.clone(),
                        Prim::Fast(FastOp::LogSumExp),
                        vec![x.clone()],
                        (dtype, &out),
                        near,
                    );
                    self.add(
                        name.clone(),
                        Prim::Fast(FastOp::RmsNorm { eps }),
                        vec![x.clone()],
                        (dtype, shape),
                        near,
                    );
                    let prim = Prim::Fast(FastOp::LayerNorm { eps, weight: false, bias: false });
                    self.add(name, prim, vec![x], (dtype, shape), near);
                }
                for other in [F32, dtype, BF16] {
                    let w = Tensor::random(&mut self.rng, other, &[d], -2.0, 2.0);
                    let b = Tensor::random(&mut self.rng, other, &[d], -2.0, 2.0);
                    let name = format!("{dtype} {shape:?} with {other}");
                    self.add(
                        name.clone(),
                        Prim::Fast(FastOp::RmsNorm { eps }),
                        vec![x.clone(), w.clone()],
                        (dtype, shape),
                        near,
                    );
                    for (weight, bias) in [(true, true), (true, false), (false, true)] {
                        let mut inputs = vec![x.clone()];
                        inputs.extend(weight.then(|| w.clone()));
                        inputs.extend(bias.then(|| b.clone()));
                        let prim = Prim::Fast(FastOp::LayerNorm { eps, weight, bias });
                        // A bias cancels.
                        let near = Tolerance { abs: near.abs.max(4.0 * epsilon(dtype)), ..near };
                        self.add(
                            format!("{name} {weight} {bias}"),
                            prim,
                            inputs,
                            (dtype, shape),
                            near,
                        );
                    }
                }
            }
            let ends = Tensor::from_f64(dtype, &[4, 3], |i| {
                [
                    1.0,
                    f64::NAN,
                    2.0,
                    f64::NEG_INFINITY,
                    f64::NEG_INFINITY,
                    f64::NEG_INFINITY,
                    1.0,
                    f64::INFINITY,
                    2.0,
                    0.0,
                    f64::NEG_INFINITY,
                    1.0,
                ][i]
            });
            self.add(
                format!("{dtype} ends"),
                Prim::Fast(FastOp::Softmax),
                vec![ends.clone()],
                (dtype, &[4, 3]),
                near,
            );
            self.add(
                format!("{dtype} ends"),
                Prim::Fast(FastOp::LogSumExp),
                vec![ends],
                (dtype, &[4, 1]),
                near,
            );
            let none = Tensor::empty(dtype, &[3, 0]);
            self.add(
                format!("{dtype} of nothing"),
                Prim::Fast(FastOp::LogSumExp),
                vec![none],
                (dtype, &[3, 1]),
                near,
            );
        }
    }

    fn rope(&mut self) {
        for dtype in FLOATS {
            let near = match dtype {
                F64 => Tolerance { rel: 1e-12, abs: 1e-12 },
                F32 => Tolerance { rel: 1e-6, abs: 1e-6 },
                d => Tolerance { rel: epsilon(d), abs: epsilon(d) },
            };
            for (shape, dims) in [
                (&[2, 3, 5, 16][..], 16),
                (&[2, 3, 5, 16], 8),
                (&[1, 32, 1, 128], 128),
                (&[2, 4, 8], 8),
                (&[6, 8], 4),
                (&[8], 8),
                (&[3, 2, 2, 4, 10], 6),
            ] {
                for traditional in [false, true] {
                    for freqs in [false, true] {
                        let x = Tensor::random(&mut self.rng, dtype, shape, -2.0, 2.0);
                        let batch = if shape.len() >= 3 { shape[0] } else { 1 };
                        for (k, (name, x)) in layouts(&x).into_iter().enumerate() {
                            let count = if k % 2 == 0 { 1 } else { batch };
                            let offset = Tensor::from_f64(I32, &[count], |i| (i * 1000 + k) as f64);
                            let mut inputs = vec![x, offset];
                            if freqs {
                                inputs.push(Tensor::random(
                                    &mut self.rng,
                                    F32,
                                    &[dims / 2],
                                    1.0,
                                    100.0,
                                ));
                            }
                            let prim = Prim::Fast(FastOp::Rope {
                                dims: dims as u32,
                                traditional,
                                base: F32Bits::new(10000.0),
                                scale: F32Bits::new(0.5),
                                freqs,
                            });
                            self.add(
                                format!("{dtype} {shape:?} {dims} {traditional} {freqs} {name}"),
                                prim,
                                inputs,
                                (dtype, shape),
                                near,
                            );
                        }
                    }
                }
            }
        }
    }

    fn matmul(&mut self) {
        for dtype in DType::ALL {
            if dtype == Bool {
                continue;
            }
            for (lead, m, k, n) in [
                (&[][..], 5, 7, 3),
                (&[], 1, 64, 200),
                (&[], 3, 256, 100),
                (&[], 65, 33, 130),
                (&[2, 3], 4, 16, 8),
                (&[4], 1, 32, 96),
                (&[], 128, 128, 128),
                (&[], 0, 4, 3),
                (&[], 3, 0, 2),
                (&[3], 17, 40, 24),
            ] {
                let shape = |a: usize, b: usize| [lead, &[a, b]].concat();
                let (low, high) = if dtype.is_inexact() { (-1.0, 1.0) } else { (-20.0, 20.0) };
                let a = Tensor::random(&mut self.rng, dtype, &shape(m, k), low, high);
                let b = Tensor::random(&mut self.rng, dtype, &shape(k, n), low, high);
                let out = shape(m, n);
                let root = (k as f64).sqrt();
                let near = match dtype {
                    F64 => Tolerance { rel: 1e-13, abs: 1e-14 * root },
                    F32 | C64 => Tolerance { rel: 1e-5, abs: 2e-6 * root },
                    d => Tolerance { rel: epsilon(d), abs: 1e-5 * root },
                };
                for (i, (name, a)) in layouts(&a).into_iter().enumerate() {
                    let (other, b) = layouts(&b)[(i * 5 + 2) % 6].clone();
                    self.add(
                        format!("{dtype} {lead:?} {m}x{k}x{n} {name} by {other}"),
                        Prim::Matmul,
                        vec![a, b],
                        (dtype, &out),
                        near,
                    );
                }
                // A matrix stored transposed, shared by the batch.
                let t = Tensor::random(&mut self.rng, dtype, &[n, k], low, high).transpose(&[1, 0]);
                let t = t.broadcast(&shape(k, n));
                self.add(
                    format!("{dtype} {lead:?} {m}x{k}x{n} shared, transposed"),
                    Prim::Matmul,
                    vec![a, t],
                    (dtype, &out),
                    near,
                );
            }
        }
    }

    fn quantized(&mut self) {
        for bits in [2, 3, 4, 5, 6, 8] {
            for group_size in [32, 64, 128] {
                let q = Quantization::Affine { group_size, bits };
                for dtype in [F32, F16, BF16] {
                    let w = Tensor::random(&mut self.rng, dtype, &[6, 256], -1.0, 1.0);
                    let (codes, groups) = ([6, 8 * bits as usize], [6, 256 / group_size as usize]);
                    self.list.push(Case {
                        name: format!("quantize: {dtype} {bits} bits, {group_size}"),
                        what: What::Prim(Prim::Quantized(QuantizedOp::Quantize(q))),
                        inputs: vec![layouts(&w)[(bits as usize) % 6].1.clone()],
                        outputs: vec![
                            (U32, codes.to_vec()),
                            (dtype, groups.to_vec()),
                            (dtype, groups.to_vec()),
                        ],
                        tolerance: ulps(0.0, dtype),
                        alias: None,
                    });
                    let c = Tensor::wild(&mut self.rng, U32, &codes);
                    let s = Tensor::random(&mut self.rng, dtype, &groups, 0.01, 0.1);
                    let b = Tensor::random(&mut self.rng, dtype, &groups, -1.0, 0.0);
                    let prim = Prim::Quantized(QuantizedOp::Dequantize(q));
                    self.add(
                        format!("{dtype} {bits} bits, {group_size}"),
                        prim,
                        vec![c, s, b],
                        (dtype, &[6, 256]),
                        ulps(0.0, dtype),
                    );
                }
            }
        }
        for (bits, group_size) in
            [(4, 64), (4, 32), (4, 128), (8, 64), (2, 64), (3, 32), (5, 64), (6, 128), (8, 32)]
        {
            let q = Quantization::Affine { group_size, bits };
            for dtype in [BF16, F16, F32] {
                for (lead, shared, m, k, n) in [
                    (&[][..], true, 1usize, 512usize, 40usize),
                    (&[], true, 2, 1024, 33),
                    (&[], true, 5, 256, 64),
                    (&[], true, 8, 384, 20),
                    (&[], true, 17, 256, 48),
                    (&[], true, 64, 512, 100),
                    (&[3], true, 2, 256, 24),
                    (&[2], false, 1, 256, 24),
                    (&[2], false, 20, 256, 24),
                ] {
                    for transpose in [true, false] {
                        // A matrix of (rows, columns), packed along columns.
                        let (rows, columns) =
                            if transpose { (n, k) } else { (k, n.next_multiple_of(128)) };
                        let n = if transpose { n } else { columns };
                        let stored = if shared { vec![] } else { lead.to_vec() };
                        let part =
                            |c: &mut Cases, dtype: DType, columns: usize, low: f64, high: f64| {
                                let shape = [&stored[..], &[rows, columns]].concat();
                                let full = [lead, &[rows, columns]].concat();
                                let t = match dtype {
                                    U32 => Tensor::wild(&mut c.rng, U32, &shape),
                                    d => Tensor::random(&mut c.rng, d, &shape, low, high),
                                };
                                t.broadcast(&full)
                            };
                        let top = (1u32 << bits) as f64;
                        let codes = part(self, U32, columns * bits as usize / 32, 0.0, 0.0);
                        let scales =
                            part(self, dtype, columns / group_size as usize, 0.5 / top, 2.0 / top);
                        let biases = part(self, dtype, columns / group_size as usize, -1.0, 0.0);
                        let x = Tensor::random(
                            &mut self.rng,
                            dtype,
                            &[lead, &[m, k]].concat(),
                            -1.0,
                            1.0,
                        );
                        let root = (k as f64).sqrt();
                        let near = match dtype {
                            F32 => Tolerance { rel: 1e-5, abs: 1e-5 * root },
                            // Products of many rows round weights to the dtype.
                            d => Tolerance { rel: epsilon(d), abs: 0.5 * epsilon(d) * root },
                        };
                        let prim =
                            Prim::Quantized(QuantizedOp::Matmul { quantization: q, transpose });
                        let name = format!(
                            "{dtype} {bits} bits, {group_size}, {lead:?} {m}x{k}x{n} {transpose}"
                        );
                        self.add(
                            name,
                            prim,
                            vec![x, codes, scales, biases],
                            (dtype, &[lead, &[m, n]].concat()),
                            near,
                        );
                    }
                }
            }
        }
    }

    fn attention(&mut self) {
        for dtype in [F32, F16, BF16, F64] {
            let near = match dtype {
                F64 => Tolerance { rel: 1e-12, abs: 1e-12 },
                F32 => Tolerance { rel: 1e-5, abs: 1e-5 },
                d => Tolerance { rel: 2.0 * epsilon(d), abs: 1.5 * epsilon(d) },
            };
            for (tq, tk) in [
                (1, 1),
                (1, 300),
                (1, 1000),
                (3, 70),
                (8, 8),
                (40, 600),
                (70, 70),
                (9, 4),
                (130, 130),
                (200, 333),
            ] {
                for (causal, window) in [(false, 0), (true, 0), (true, 5), (true, 290)] {
                    for (h, hk, d, dv) in [
                        (2, 2, 64, 64),
                        (6, 2, 40, 24),
                        (4, 1, 7, 64),
                        (8, 2, 128, 128),
                        (2, 1, 256, 256),
                        (4, 4, 96, 96),
                    ] {
                        let heavy = tq * tk > 5000;
                        if heavy && (window == 5 || (dtype == F64 && h == 8)) {
                            continue;
                        }
                        for variant in 0..6 {
                            if variant > 0 && (d == 7 || d == 40 || window == 290) {
                                continue;
                            }
                            let b = if heavy { 1 } else { 2 };
                            let shape = |h: usize, t: usize, d: usize| [b, h, t, d];
                            let q =
                                Tensor::random(&mut self.rng, dtype, &shape(h, tq, d), -2.0, 2.0);
                            let k =
                                Tensor::random(&mut self.rng, dtype, &shape(hk, tk, d), -2.0, 2.0);
                            // As projections give them: (b, t, h, d), seen transposed.
                            let v =
                                Tensor::random(&mut self.rng, dtype, &[b, tk, hk, dv], -2.0, 2.0)
                                    .transpose(&[0, 2, 1, 3]);
                            let mut inputs = vec![q, k, v];
                            let full = [b, h, tq, tk];
                            let (mask, sinks) = (matches!(variant, 1 | 2 | 5), variant == 3);
                            let length = variant >= 4;
                            if variant == 1 || variant == 5 {
                                let m = Tensor::wild(&mut self.rng, Bool, &[1, 1, tq, tk])
                                    .broadcast(&full);
                                inputs.push(m);
                            }
                            if variant == 2 {
                                let mdtype = if dtype == F64 { F64 } else { [F32, dtype][tq % 2] };
                                let m = Tensor::random(
                                    &mut self.rng,
                                    mdtype,
                                    &[b, 1, tq, tk],
                                    -2.0,
                                    2.0,
                                )
                                .broadcast(&full);
                                inputs.push(m);
                            }
                            if sinks {
                                inputs.push(Tensor::random(&mut self.rng, dtype, &[h], -1.0, 3.0));
                            }
                            if length {
                                let used = (tk * 2 / 3 + 1).min(tk) as f64;
                                inputs.push(Tensor::from_f64(I32, &[1], |_| used));
                            }
                            let prim = Prim::Fast(FastOp::Attention {
                                scale: F32Bits::new(0.15),
                                causal,
                                window,
                                mask,
                                sinks,
                                length,
                            });
                            let name = format!(
                                "{dtype} b{b} h{h}/{hk} tq{tq} tk{tk} d{d} dv{dv} causal {causal} window {window} variant {variant}"
                            );
                            self.add(name, prim, inputs, (dtype, &[b, h, tq, dv]), near);
                        }
                    }
                }
            }
        }
    }
}
