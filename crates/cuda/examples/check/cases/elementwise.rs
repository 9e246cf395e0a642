//! Operations element by element, alone and fused.

use super::*;

impl Cases {
    pub(super) fn unary(&mut self) {
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

    pub(super) fn binary(&mut self) {
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

    pub(super) fn casts_and_selects(&mut self) {
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

    pub(super) fn fused(&mut self) {
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
}
