//! The recurrence of gated delta networks, a linear attention with a memory of fixed size.

use super::float_only;
use crate::control::{Loop, scan_with};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::zeros;
use crate::ops::elementwise::where_;
use crate::ops::error;
use lazul_ir::DType;

/// What [`gated_delta_update`] may be given besides.
#[derive(Clone, Copy, Default, Debug)]
pub struct GatedDelta<'a> {
    /// The memory to begin with, `(b, hv, dv, dk)`; zeros if not given.
    pub state: Option<&'a Array>,
    /// bool `(b, t)`: where false, a position leaves the memory as it is.
    pub mask: Option<&'a Array>,
}

/// A gated delta network over a sequence: for each head and position `t`
///
/// ```text
/// S ← gamma_t · S
/// S ← S + beta_t · (v_t - S k_t) k_tᵀ
/// y_t = S q_t
/// ```
///
/// `q` and `k` are `(b, t, hk, dk)`, `v` is `(b, t, hv, dv)`, where `hv` is a multiple of `hk` and head `i` of `v` uses head
/// `i / (hv/hk)` of `q` and `k`. `gamma (b, t, hv)`, or `(b, t, hv, dk)` for a decay of its own along `dk`, and
/// `beta (b, t, hv)`. Gives `y (b, t, hv, dv)` in `q`'s dtype and the memory after the last position,
/// `(b, hv, dv, dk)`. The memory is kept in f32 (f64 if an operand is f64).
/// Source: Yang, Kautz and Hatamizadeh, 2024; MLX's `fast.gated_delta_update`.
///
/// ```
/// use lazul_core::prelude::*;
/// // One head of one feature that forgets half and takes the value in whole.
/// let one = |x: &[f32]| Array::from_slice(x, [1, 2, 1, 1]);
/// let rate = |x: &[f32]| Array::from_slice(x, [1, 2, 1]);
/// let (q, k, v) = (one(&[1.0, 1.0]), one(&[1.0, 0.0]), one(&[3.0, 5.0]));
/// let half = rate(&[0.5, 0.5]);
/// let (y, state) =
///     fast::gated_delta_update(&q, &k, &v, &half, &rate(&[1.0, 1.0]), fast::GatedDelta::default())?;
/// assert_eq!(y.to_vec::<f32>()?, [3.0, 1.5]);
/// assert_eq!(state.shape()?, [1, 1, 1, 1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If shapes or dtypes are others.
#[track_caller]
pub fn gated_delta_update(
    q: &Array,
    k: &Array,
    v: &Array,
    gamma: &Array,
    beta: &Array,
    how: GatedDelta<'_>,
) -> Result<(Array, Array)> {
    const OP: &str = "gated_delta_update";
    let site = crate::scope::call_site();
    let floats = [q, k, v, gamma, beta];
    let fail = |kind: ErrorKind, why: &str| -> Error { error(kind, OP, why, &floats).at(site) };
    for x in floats.into_iter().chain(how.state) {
        x.check()?;
        float_only(OP, x).map_err(|e| e.at(site))?;
    }
    let (&[b, t, hk, dk], &[_, _, hv, dv]) = (&q.0.shape[..], &v.0.shape[..]) else {
        return Err(fail(ErrorKind::Shape, "q, k and v have four axes"));
    };
    let fits = k.0.shape == q.0.shape
        && v.0.shape[..2] == [b, t]
        && hk.checked_sub(1).is_some_and(|_| hv % hk == 0)
        && beta.0.shape[..] == [b, t, hv];
    if !fits {
        let why = "q, k (b, t, hk, dk), v (b, t, hv, dv) and beta (b, t, hv) do not fit together";
        return Err(fail(ErrorKind::Shape, why));
    }
    if gamma.0.shape[..] != [b, t, hv] && gamma.0.shape[..] != [b, t, hv, dk] {
        return Err(fail(ErrorKind::Shape, "gamma needs shape (b, t, hv) or (b, t, hv, dk)"));
    }
    let is_f64 = floats.into_iter().chain(how.state).any(|x| x.0.dtype == DType::F64);
    let dtype = if is_f64 { DType::F64 } else { DType::F32 };
    let state = match how.state {
        None => zeros([b, hv, dv, dk], dtype),
        Some(state) if state.0.shape[..] == [b, hv, dv, dk] => state.astype(dtype),
        Some(state) => {
            let why = format!("the state needs shape ({b}, {hv}, {dv}, {dk})");
            return Err(error(ErrorKind::Shape, OP, why, &[state]).at(site));
        }
    };
    if let Some(mask) = how.mask {
        mask.check()?;
        if mask.0.dtype != DType::Bool || mask.0.shape[..] != [b, t] {
            let why = format!("the mask is bool of shape ({b}, {t})");
            return Err(error(ErrorKind::Shape, OP, why, &[mask]).at(site));
        }
    }
    // Time first: what the loop runs over. Rows of the memory are those of v, columns those of k.
    let heads = |x: &Array| x.astype(dtype).repeat(hv / hk, 2).moveaxis(1, 0).expand_dims(-2);
    let decay = match gamma.0.shape.len() {
        3 => gamma.expand_dims(-1),
        _ => gamma.clone(),
    };
    let xs = (
        (heads(q), heads(k)),                               // (t, b, hv, 1, dk)
        v.astype(dtype).moveaxis(1, 0).expand_dims(-1),     // (t, b, hv, dv, 1)
        decay.astype(dtype).moveaxis(1, 0).expand_dims(-2), // (t, b, hv, 1, dk or 1)
        beta.astype(dtype).moveaxis(1, 0).expand_dims(-1).expand_dims(-1), // (t, b, hv, 1, 1)
        how.mask.map(|m| m.moveaxis(1, 0).reshape([t, b, 1, 1, 1])),
    );
    type Step = ((Array, Array), Array, Array, Array, Option<Array>);
    let step = |state: &Array, ((q, k), v, decay, beta, keep): &Step| {
        let faded = state * decay;
        let error = (v - (&faded * k).sum_keepdims(-1)) * beta;
        let next = faded + error * k;
        let y = (&next * q).sum(-1);
        let next = match keep {
            Some(keep) => where_(keep, next, state),
            None => next,
        };
        (next, y)
    };
    let (state, y) = scan_with(step, &state, &xs, Loop { length: Some(t), reverse: false })
        .map_err(|e| e.at(site))?;
    Ok((y.moveaxis(0, 1).astype(q.0.dtype), state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn example(shape: &[usize], seed: u64) -> Array {
        random::normal(shape, DType::F64, Some(&random::key(seed)))
    }

    #[test]
    fn is_the_recurrence_written_out() {
        let (b, t, hk, hv, dk, dv) = (2, 5, 2, 4, 3, 6);
        let (q, k) = (example(&[b, t, hk, dk], 1), example(&[b, t, hk, dk], 2));
        let v = example(&[b, t, hv, dv], 3);
        let beta = example(&[b, t, hv], 5).sigmoid();
        let first = example(&[b, hv, dv, dk], 6);
        let keep = Array::from_slice(&[1u8, 1, 0, 1, 1, 0, 1, 1, 1, 0], [b, t]).astype(DType::Bool);
        for gamma in [example(&[b, t, hv], 4).sigmoid(), example(&[b, t, hv, dk], 4).sigmoid()] {
            let how = GatedDelta { state: Some(&first), mask: Some(&keep) };
            let (y, last) = gated_delta_update(&q, &k, &v, &gamma, &beta, how).unwrap();
            let numbers = |a: &Array| a.to_vec::<f64>().unwrap();
            let (qn, kn, vn, gn, bn) =
                (numbers(&q), numbers(&k), numbers(&v), numbers(&gamma), numbers(&beta));
            let (mut s, yn) = (numbers(&first), numbers(&y));
            let kept = keep.to_vec::<bool>().unwrap();
            let wide = gn.len() / (b * t * hv);
            for i in 0..b {
                for p in 0..t {
                    for h in 0..hv {
                        let at = (i * t + p) * hk + h / (hv / hk);
                        let (qr, kr) = (&qn[at * dk..][..dk], &kn[at * dk..][..dk]);
                        let place = (i * t + p) * hv + h;
                        for row in 0..dv {
                            let memory = &mut s[((i * hv + h) * dv + row) * dk..][..dk];
                            let mut next: Vec<f64> =
                                (0..dk).map(|c| memory[c] * gn[place * wide + c % wide]).collect();
                            let seen: f64 = next.iter().zip(kr).map(|(m, k)| m * k).sum();
                            let error = (vn[place * dv + row] - seen) * bn[place];
                            next.iter_mut().zip(kr).for_each(|(m, k)| *m += error * k);
                            let out: f64 = next.iter().zip(qr).map(|(m, q)| m * q).sum();
                            assert!((out - yn[place * dv + row]).abs() < 1e-12);
                            if kept[i * t + p] {
                                memory.copy_from_slice(&next);
                            }
                        }
                    }
                }
            }
            let far = numbers(&last).iter().zip(&s).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-12);
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        let all = [
            example(&[1, 4, 1, 2], 1),
            example(&[1, 4, 1, 2], 2),
            example(&[1, 4, 2, 3], 3),
            example(&[1, 4, 2], 4).sigmoid(),
            example(&[1, 4, 2], 5).sigmoid(),
        ];
        let loss = |x: &[Array; 5]| {
            let [q, k, v, gamma, beta] = x;
            let (y, s) = gated_delta_update(q, k, v, gamma, beta, GatedDelta::default())?;
            Ok::<_, Error>(y.square().sum(..) + s.sin().sum(..))
        };
        let slopes = grad(loss)(&all).unwrap();
        let h = 1e-6;
        for i in 0..5 {
            let along = example(all[i].shape().unwrap(), 9);
            let moved = |by: f64| {
                let mut x = all.clone();
                x[i] = &x[i] + &along * by;
                loss(&x).unwrap().item::<f64>().unwrap()
            };
            let numeric = (moved(h) - moved(-h)) / (2.0 * h);
            let exact = (&slopes[i] * &along).sum(..).item::<f64>().unwrap();
            assert!(
                (numeric - exact).abs() < 1e-6 * exact.abs().max(1.0),
                "{i}: {numeric} {exact}"
            );
        }
    }

    #[test]
    fn wrong_operands() {
        let z = |shape: &[usize]| zeros(shape, DType::F32);
        let (q, v, rate) = (z(&[2, 3, 2, 4]), z(&[2, 3, 4, 5]), z(&[2, 3, 4]));
        let run = |q: &Array, v: &Array, gamma: &Array, how: GatedDelta<'_>| {
            gated_delta_update(q, q, v, gamma, &rate, how).map(|_| ()).map_err(|e| e.kind())
        };
        let plain = GatedDelta::default();
        assert_eq!(run(&q, &v, &rate, plain), Ok(()));
        assert_eq!(run(&z(&[2, 3, 8]), &v, &rate, plain), Err(ErrorKind::Shape));
        assert_eq!(run(&z(&[2, 3, 3, 4]), &v, &rate, plain), Err(ErrorKind::Shape));
        assert_eq!(run(&z(&[2, 3, 0, 4]), &v, &rate, plain), Err(ErrorKind::Shape));
        assert_eq!(run(&q, &v, &z(&[2, 3, 2]), plain), Err(ErrorKind::Shape));
        assert_eq!(run(&q.astype(DType::I32), &v, &rate, plain), Err(ErrorKind::DType));
        let mask = GatedDelta { mask: Some(&rate), ..plain };
        assert_eq!(run(&q, &v, &rate, mask), Err(ErrorKind::Shape));
        let state = GatedDelta { state: Some(&rate), ..plain };
        assert_eq!(run(&q, &v, &rate, state), Err(ErrorKind::Shape));
        // Nothing to go through leaves the memory as it was.
        let (q, v, rate) = (z(&[1, 0, 1, 2]), z(&[1, 0, 1, 2]), z(&[1, 0, 1]));
        let (y, s) = gated_delta_update(&q, &q, &v, &rate, &rate, plain).unwrap();
        assert_eq!(
            (y.shape().unwrap(), s.shape().unwrap()),
            (&[1, 0, 1, 2][..], &[1, 1, 2, 2][..])
        );
    }
}
