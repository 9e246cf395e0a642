//! Fast operations against their fallbacks, over dtypes and options.

use lazul_core::fast::{Attention, F32Bits, FastOp, Mask, Rope, fallback};
use lazul_core::prelude::*;
use lazul_core::{Result, fast};

const DTYPES: [(DType, f64); 4] =
    [(DType::F64, 1e-6), (DType::F32, 2e-5), (DType::F16, 4e-3), (DType::BF16, 3e-2)];

fn draw(seed: u64, shape: &[usize], dtype: DType) -> Array {
    random::normal(shape, DType::F32, Some(&random::key(seed))).astype(dtype)
}

/// Largest difference over the largest value of `b`.
fn check(what: &str, a: &Array, b: &Array, bound: f64) -> Result<()> {
    assert_eq!(a.shape()?, b.shape()?, "{what}");
    assert_eq!(a.dtype()?, b.dtype()?, "{what}");
    let (a, b) = (a.astype(DType::F64), b.astype(DType::F64));
    let scale = b.abs().max(..).item::<f64>()?.max(1e-3);
    let apart = (a - b).abs().max(..).item::<f64>()? / scale;
    assert!(apart <= bound, "{what}: {apart:.2e} > {bound:.2e}");
    Ok(())
}

#[test]
fn norms_and_softmax() -> Result<()> {
    for (dtype, bound) in DTYPES {
        for shape in [&[3, 5][..], &[2, 3, 64], &[1, 300], &[4, 1]] {
            let d = shape[shape.len() - 1];
            let x = draw(1, shape, dtype);
            let (w, b) = (draw(2, &[d], dtype), draw(3, &[d], DType::F32));
            let name = format!("{dtype} {shape:?}");
            let plain = |op: FastOp| fallback(&op, std::slice::from_ref(&x));
            check(&name, &x.softmax(-1), &plain(FastOp::Softmax)?, bound)?;
            check(&name, &x.logsumexp_keepdims(-1), &plain(FastOp::LogSumExp)?, bound)?;
            let eps = F32Bits::new(1e-5);
            let rms = fallback(&FastOp::RmsNorm { eps }, &[x.clone(), w.clone()])?;
            check(&name, &fast::rms_norm(&x, Some(&w), 1e-5), &rms, bound)?;
            check(&name, &fast::rms_norm(&x, None, 1e-5), &plain(FastOp::RmsNorm { eps })?, bound)?;
            if d > 1 {
                let op = FastOp::LayerNorm { eps, weight: true, bias: true };
                let layer = fallback(&op, &[x.clone(), w.clone(), b.clone()])?;
                check(&name, &fast::layer_norm(&x, Some(&w), Some(&b), 1e-5), &layer, bound)?;
                let op = FastOp::LayerNorm { eps, weight: false, bias: true };
                let layer = fallback(&op, &[x.clone(), b.clone()])?;
                check(&name, &fast::layer_norm(&x, None, Some(&b), 1e-5), &layer, bound)?;
            }
        }
    }
    Ok(())
}

#[test]
fn rope() -> Result<()> {
    for (dtype, bound) in DTYPES {
        for traditional in [false, true] {
            for dims in [4usize, 8] {
                for with_freqs in [false, true] {
                    let x = draw(4, &[2, 3, 5, 8], dtype);
                    let offset = Array::from_slice(&[3, 11], [2]);
                    let freqs = (draw(5, &[dims / 2], DType::F32)).abs() + 1.0;
                    let how = Rope {
                        dims,
                        traditional,
                        scale: 0.5,
                        freqs: with_freqs.then(|| freqs.clone()),
                        ..Rope::default()
                    };
                    let op = FastOp::Rope {
                        dims: dims as u32,
                        traditional,
                        base: F32Bits::new(how.base),
                        scale: F32Bits::new(0.5),
                        freqs: with_freqs,
                    };
                    let mut inputs = vec![x.clone(), offset.clone()];
                    inputs.extend(how.freqs.clone());
                    let name =
                        format!("{dtype} traditional {traditional} dims {dims} {with_freqs}");
                    // Angles are in f32 whatever the dtype.
                    let bound = bound.max(1e-5);
                    check(&name, &fast::rope(&x, &how, &offset), &fallback(&op, &inputs)?, bound)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn attention() -> Result<()> {
    for (dtype, bound) in DTYPES {
        for (tq, tk) in [(1, 1), (1, 37), (5, 5), (7, 40), (33, 300)] {
            let q = draw(6, &[2, 4, tq, 16], dtype);
            let k = draw(7, &[2, 2, tk, 16], dtype);
            let v = draw(8, &[2, 2, tk, 24], dtype);
            let keep = random::bernoulli(0.6, [tq, tk], Some(&random::key(9)));
            let added = draw(10, &[2, 1, tq, tk], dtype);
            let sinks = draw(11, &[4], dtype);
            let masks = [
                Mask::None,
                Mask::Causal,
                Mask::Window(3),
                Mask::Array(keep.clone()),
                Mask::Array(added.clone()),
            ];
            for mask in masks {
                for (sink, used) in
                    [(None, None), (Some(&sinks), None), (Some(&sinks), Some(tk / 2))]
                {
                    let (causal, window) = match &mask {
                        Mask::Causal => (true, 0),
                        Mask::Window(n) => (true, *n as u32),
                        _ => (false, 0),
                    };
                    let mut inputs = vec![q.clone(), k.clone(), v.clone()];
                    if let Mask::Array(mask) = &mask {
                        inputs.push(mask.broadcast_to([2, 4, tq, tk]));
                    }
                    inputs.extend(sink.cloned());
                    let used = used.map(|n| Array::from_slice(&[n as i32], [1]));
                    inputs.extend(used.clone());
                    let op = FastOp::Attention {
                        scale: F32Bits::new(0.25),
                        causal,
                        window,
                        mask: matches!(mask, Mask::Array(_)),
                        sinks: sink.is_some(),
                        length: used.is_some(),
                    };
                    let name = format!("{dtype} {tq}x{tk} {mask:?} sinks {}", sink.is_some());
                    let how = Attention {
                        scale: 0.25,
                        mask: mask.clone(),
                        sinks: sink,
                        length: used.as_ref(),
                    };
                    let ours = fast::scaled_dot_product_attention(&q, &k, &v, &how);
                    check(&name, &ours, &fallback(&op, &inputs)?, bound)?;
                }
            }
        }
    }
    Ok(())
}
