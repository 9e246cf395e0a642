//! Cases of operations that have a kernel of their own.

use crate::case::{AROUND, Case, Domain, FLOATS, Input, REAL};
use crate::list::FastKind;
use lazul_core::fast::{
    Attention, Mask, Rope, layer_norm, rms_norm, rope, scaled_dot_product_attention,
};
use lazul_core::{Array, DType};

fn numbers(shape: &[usize]) -> Input {
    Input::numbers(shape, AROUND)
}

pub(crate) fn cases(kind: FastKind) -> Vec<Case> {
    match kind {
        FastKind::Softmax => {
            let softmax = |shape: &[usize], axis: i64| {
                let name = format!("softmax {shape:?} over {axis}");
                Case::new(name, REAL, vec![numbers(shape)], move |x| x[0].softmax(axis))
            };
            vec![
                softmax(&[3, 4], -1),
                softmax(&[3, 4], 0),
                softmax(&[5], 0),
                softmax(&[0, 3], 1),
                softmax(&[1], 0),
            ]
        }
        FastKind::LogSumExp => {
            let logsumexp = |shape: &[usize], axis: i64| {
                let name = format!("logsumexp {shape:?} over {axis}");
                Case::new(name, REAL, vec![numbers(shape)], move |x| x[0].logsumexp(axis))
            };
            vec![
                logsumexp(&[3, 4], -1),
                logsumexp(&[3, 4], 0),
                logsumexp(&[5], 0),
                logsumexp(&[0, 3], 1),
            ]
        }
        FastKind::RmsNorm => {
            let with = |shape: &[usize]| {
                let inputs = vec![numbers(shape), numbers(&shape[shape.len() - 1..])];
                Case::new(format!("rms_norm {shape:?} weight"), FLOATS, inputs, |x| {
                    rms_norm(&x[0], Some(&x[1]), 1e-3)
                })
            };
            let without = Case::new("rms_norm", FLOATS, vec![numbers(&[2, 3])], |x| {
                rms_norm(&x[0], None, 1e-3)
            });
            vec![with(&[2, 3]), with(&[4]), with(&[2, 1, 3]), with(&[0, 3]), without]
        }
        FastKind::LayerNorm => {
            let norm = |shape: &[usize], weight: bool, bias: bool| {
                let last = &shape[shape.len() - 1..];
                let mut inputs = vec![numbers(shape)];
                inputs.extend([weight, bias].iter().filter(|p| **p).map(|_| numbers(last)));
                let name = format!("layer_norm {shape:?} weight {weight} bias {bias}");
                Case::new(name, FLOATS, inputs, move |x| {
                    let b = if weight { 2 } else { 1 };
                    layer_norm(&x[0], weight.then(|| &x[1]), bias.then(|| &x[b]), 1e-3)
                })
            };
            vec![
                norm(&[2, 4], true, true),
                norm(&[2, 3], true, false),
                norm(&[2, 3], false, true),
                norm(&[4], false, false),
                norm(&[2, 1, 3], true, true),
                norm(&[0, 3], true, true),
            ]
        }
        FastKind::Rope => ropes(),
        FastKind::Attention => attention(),
    }
}

fn ropes() -> Vec<Case> {
    let mut all = Vec::new();
    for traditional in [false, true] {
        for (dims, shape) in [(4, &[2, 2, 4][..]), (2, &[2, 1, 2, 4]), (4, &[2, 4])] {
            let one_each = (shape.len() > 2).then(|| &shape[..1]);
            for offsets in [Some(&[][..]), one_each].into_iter().flatten() {
                let how = Rope { dims, traditional, base: 10.0, scale: 0.5, freqs: None };
                let offset = Input::indices(offsets, 5, DType::U32);
                let inputs = vec![numbers(shape), offset];
                let name =
                    format!("rope {dims} of {shape:?} at {offsets:?} traditional {traditional}");
                // Angles are in f32, and the same for every dtype.
                all.push(Case::new(name, FLOATS, inputs, move |x| rope(&x[0], &how, &x[1])));
            }
        }
        let freqs = Input::numbers(&[2], Domain::Spread(1.0, 2.0));
        let inputs = vec![numbers(&[2, 2, 4]), Input::indices(&[], 3, DType::I32), freqs];
        let name = format!("rope with freqs traditional {traditional}");
        let case = Case::new(name, FLOATS, inputs, move |x| {
            let freqs = Some(x[2].clone());
            let how = Rope { dims: 4, traditional, base: 10.0, scale: 0.5, freqs };
            rope(&x[0], &how, &x[1].abs())
        });
        all.push(case.inside(DType::F32));
    }
    all
}

/// What stands where the mask does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    None,
    Causal,
    Window,
    Keep,
    KeepNothing,
    Added,
    Length,
}

fn attention() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in [
        Kind::None,
        Kind::Causal,
        Kind::Window,
        Kind::Keep,
        Kind::KeepNothing,
        Kind::Added,
        Kind::Length,
    ] {
        for sinks in [false, true] {
            // Two query heads share a head of keys; a query more than keys sees nothing when causal.
            let (h, hk, tq, tk) = match kind {
                Kind::Window => (1, 1, 3, 4),
                Kind::Causal if sinks => (2, 1, 3, 2),
                _ => (2, 1, 2, 3),
            };
            let mut inputs = vec![numbers(&[1, h, tq, 2]), numbers(&[1, hk, tk, 2])];
            inputs.push(numbers(&[1, hk, tk, 1]));
            match kind {
                Kind::Keep => inputs.push(Input::mask(&[tq, tk])),
                Kind::KeepNothing => {
                    inputs.push(Input::made(move |_| {
                        // The first query sees nothing.
                        Array::from_slice(&[false, true], [2, 1]).broadcast_to([tq, tk])
                    }));
                }
                Kind::Added => inputs.push(numbers(&[h, 1, tk])),
                _ => {}
            }
            if sinks {
                inputs.push(numbers(&[h]));
            }
            if let Kind::Length = kind {
                inputs.push(Input::starts(&[tk], DType::I32));
            }
            let name = format!("attention {kind:?} sinks {sinks}");
            all.push(Case::new(name, FLOATS, inputs, move |x| {
                let mask = match kind {
                    Kind::None => Mask::None,
                    Kind::Causal | Kind::Length => Mask::Causal,
                    Kind::Window => Mask::Window(2),
                    Kind::Keep | Kind::KeepNothing | Kind::Added => Mask::Array(x[3].clone()),
                };
                let length = matches!(kind, Kind::Length).then(|| &x[x.len() - 1]);
                let last = x.len() - 1 - usize::from(length.is_some());
                let sinks = sinks.then(|| &x[last]);
                let how = Attention { scale: 0.7, mask, sinks, length };
                scaled_dot_product_attention(&x[0], &x[1], &x[2], &how)
            }));
        }
    }
    all
}
