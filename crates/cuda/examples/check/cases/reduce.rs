//! Reductions, running reductions and sorting.

use super::*;

impl Cases {
    pub(super) fn reductions(&mut self) {
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

    pub(super) fn scans(&mut self) {
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

    pub(super) fn sorts(&mut self) {
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
}
