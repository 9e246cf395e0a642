//! Operations on rows: softmax, norms, rotary embedding, attention.

use super::*;

impl Cases {
    pub(super) fn rows(&mut self) {
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

    pub(super) fn rope(&mut self) {
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

    pub(super) fn attention(&mut self) {
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
