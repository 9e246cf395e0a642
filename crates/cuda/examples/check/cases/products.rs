//! Products of matrices, dense and quantized.

use super::*;

impl Cases {
    pub(super) fn matmul(&mut self) {
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

    pub(super) fn quantized(&mut self) {
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
}
