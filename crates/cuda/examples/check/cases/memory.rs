//! What makes and moves elements.

use super::*;

impl Cases {
    pub(super) fn creation(&mut self) {
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

    pub(super) fn copies(&mut self) {
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

    pub(super) fn slices(&mut self) {
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

    pub(super) fn random(&mut self) {
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
}
