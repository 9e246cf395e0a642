//! Reading and writing at computed positions.

use super::*;

impl Cases {
    pub(super) fn indices(&mut self, dtype: DType, shape: &[usize], size: usize) -> Tensor {
        let low = if dtype.is_signed_integer() { -(size as f64) } else { 0.0 };
        let rng = &mut self.rng;
        Tensor::from_f64(dtype, shape, |_| rng.uniform(low, size as f64).floor())
    }

    pub(super) fn indexing(&mut self) {
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
}
