//! Options and states that do not fit, half precision, compiled steps.

use super::*;
use crate::{Linear, value_and_grad};
use lazul_core::{bf16, compile_with_state, ones, random, zeros};

fn one(value: Array) -> Parameters {
    Parameters::from([("w".to_string(), value)])
}

#[test]
fn options_that_make_no_sense() {
    let w = one(ones([2], DType::F32));
    let wrong: Vec<Box<dyn Optimizer>> = vec![
        Box::new(Sgd { nesterov: true, ..Sgd::new(0.1) }),
        Box::new(Sgd { momentum: f64::NAN, ..Sgd::new(0.1) }),
        Box::new(RmsProp { eps: 0.0, ..RmsProp::new(0.1) }),
        Box::new(Adagrad { eps: -1.0, ..Adagrad::new(0.1) }),
        Box::new(AdaDelta { rho: -1.0, ..AdaDelta::new(0.1) }),
        Box::new(Adam { betas: [0.9, 1.0], ..Adam::new(0.1) }),
        Box::new(AdamW { weight_decay: f64::INFINITY, ..AdamW::new(0.1) }),
        Box::new(Lion { betas: [-0.1, 0.9], ..Lion::new(0.1) }),
        Box::new(Adafactor { relative_step: false, ..Adafactor::default() }),
        Box::new(Muon { momentum: 1.0, ..Muon::new(0.1) }),
    ];
    for (i, optimizer) in wrong.iter().enumerate() {
        assert_eq!(optimizer.init(&w).unwrap_err().kind(), ErrorKind::Value, "optimizer {i}");
    }
}

#[test]
fn a_step_that_fails_leaves_the_state() -> Result<()> {
    let optimizer = Adam::new(0.1);
    let w = one(ones([2], DType::F32));
    let mut state = optimizer.init(&w)?;
    let misshapen = one(ones([3], DType::F32));
    let failed = one(ones([3], DType::F32).reshape([2]));
    let other = Parameters::from([("v".to_string(), ones([2], DType::F32))]);
    for gradients in [&misshapen, &failed, &other] {
        assert!(optimizer.apply(&mut state, gradients, &w).is_err());
    }
    let mut foreign = Sgd::new(0.1).init(&w)?;
    assert!(optimizer.apply(&mut foreign, &w, &w).is_err());
    let mut none = Adafactor::default().init(&w)?;
    assert!(optimizer.apply(&mut none, &w, &w).is_err());
    assert!(optimizer.init(&one(Array::from_slice(&[1], [1]))).is_err());
    assert_eq!(state.step.item::<i64>()?, 0);
    assert_eq!(state.slots["w"]["m"].to_vec::<f32>()?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn parameters_without_elements_move_nowhere() -> Result<()> {
    let w = one(zeros([0, 3], DType::F32));
    let all: [Box<dyn Optimizer>; 3] =
        [Box::new(Muon::new(0.1)), Box::new(Adafactor::default()), Box::new(Adam::new(0.1))];
    for optimizer in &all {
        let mut state = optimizer.init(&w)?;
        assert_eq!(optimizer.apply(&mut state, &w, &w)?["w"].shape()?, [0, 3]);
    }
    Ok(())
}

#[test]
fn half_precision_has_moments_that_move() -> Result<()> {
    // 0.999 is 1 in bf16, so a second moment of that dtype would never fall.
    let optimizer = Adam::new(1e-3);
    let w = one(ones([1], DType::BF16));
    let mut state = optimizer.init(&w)?;
    optimizer.apply(&mut state, &w, &w)?;
    let first = state.slots["w"]["v"].item::<f32>()?;
    let now = optimizer.apply(&mut state, &one(zeros([1], DType::BF16)), &w)?;
    assert!(state.slots["w"]["v"].item::<f32>()? < first);
    assert_eq!(now["w"].dtype()?, DType::BF16);
    assert!(now["w"].to_vec::<bf16>()?[0] < bf16::from_f32(1.0));
    Ok(())
}

#[test]
fn a_compiled_step_is_the_same_step() -> Result<()> {
    let model = Linear::init(4, 3, true, Some(&random::key(0)))?;
    let optimizer = AdamW::new(cosine_decay(0.1, 10, 0.0)?);
    let start = (model.trainable_parameters(), optimizer.init(&model.trainable_parameters())?);
    let step = |(parameters, state): &mut (Parameters, State), x: &Array| -> Result<Array> {
        let mut model = model.clone();
        model.update(parameters)?;
        let loss = |m: &mut Linear| m.forward(x).square().mean(..);
        let (loss, grads) = value_and_grad(loss)(&mut model)?;
        *parameters = optimizer.apply(state, &grads, parameters)?;
        Ok(loss)
    };
    let compiled = compile_with_state(step);
    let (mut a, mut b) = (start.clone(), start);
    for i in 0..4 {
        let x = random::normal([8, 4], DType::F32, Some(&random::key(i)));
        let (eager, fast) = (step(&mut a, &x)?, compiled(&mut b, &x)?);
        assert_eq!(eager.item::<f32>()?, fast.item::<f32>()?, "step {i}");
    }
    for (name, value) in &a.0 {
        assert_eq!(value.to_vec::<f32>()?, b.0[name].to_vec::<f32>()?, "{name}");
    }
    assert_eq!(b.1.step.item::<i64>()?, 4);
    Ok(())
}

#[test]
fn several_optimizers_are_each_their_own() -> Result<()> {
    let parameters = Parameters::from([
        ("a".to_string(), ones([2, 2], DType::F32)),
        ("b".to_string(), ones([2], DType::F32)),
        ("c".to_string(), ones([3], DType::F32)),
    ]);
    let multi = MultiOptimizer::new(Adam::new(0.1))
        .before(Muon::new(0.2), |_, g| g.ndim().is_ok_and(|n| n == 2))
        .before(Adafactor::default(), |path, _| path == "c");
    let alone: [(&str, Box<dyn Optimizer>); 3] = [
        ("a", Box::new(Muon::new(0.2))),
        ("b", Box::new(Adam::new(0.1))),
        ("c", Box::new(Adafactor::default())),
    ];
    let mut state = multi.init(&parameters)?;
    let together = multi.apply(&mut state, &parameters, &parameters)?;
    for (name, optimizer) in alone {
        let mine = Parameters::from([(name.to_string(), parameters[name].clone())]);
        let moved = optimizer.apply(&mut optimizer.init(&mine)?, &mine, &mine)?;
        assert_eq!(moved[name].to_vec::<f32>()?, together[name].to_vec::<f32>()?, "{name}");
    }
    assert_eq!(state.rates.len(), 2);
    Ok(())
}

#[test]
fn decay_by_a_mask_is_adamw_where_it_is_and_adam_elsewhere() -> Result<()> {
    let parameters = Parameters::from([
        ("bias".to_string(), random::normal([3], DType::F32, Some(&random::key(0)))),
        ("weight".to_string(), random::normal([2, 3], DType::F32, Some(&random::key(1)))),
    ]);
    let gradients = parameters.map_leaves(|p| p.sin());
    let run = |optimizer: &dyn Optimizer| -> Result<Parameters> {
        let (mut state, mut now) = (optimizer.init(&parameters)?, parameters.clone());
        for _ in 0..3 {
            now = optimizer.apply(&mut state, &gradients, &now)?;
        }
        Ok(now)
    };
    let matrices = |_: &str, value: &Array| value.ndim().is_ok_and(|n| n > 1);
    let masked = run(&WeightDecay::new(Adam::new(0.1), 0.3).only(matrices))?;
    let with = run(&AdamW { weight_decay: 0.3, ..AdamW::new(0.1) })?;
    let without = run(&Adam::new(0.1))?;
    assert_eq!(masked["weight"].to_vec::<f32>()?, with["weight"].to_vec::<f32>()?);
    assert_eq!(masked["bias"].to_vec::<f32>()?, without["bias"].to_vec::<f32>()?);
    assert_ne!(with["bias"].to_vec::<f32>()?, without["bias"].to_vec::<f32>()?);
    assert!(WeightDecay::new(Adam::new(0.1), f64::NAN).init(&parameters).is_err());
    Ok(())
}

#[test]
fn accumulated_batches_are_one_large_batch() -> Result<()> {
    let mut model = Linear::init(4, 3, true, Some(&random::key(0)))?;
    let x = random::normal([8, 4], DType::F32, Some(&random::key(1)));
    let mut gradients = |x: Array| -> Result<Parameters> {
        let loss = |m: &mut Linear| m.forward(&x).square().mean(..);
        Ok(value_and_grad(loss)(&mut model)?.1.into_parameters())
    };
    let whole = gradients(x.clone())?;
    let mut accumulated = Accumulator::default();
    for i in 0..4 {
        accumulated.add(&gradients(x.slice_axis(0, i * 2, i * 2 + 2))?)?;
    }
    for (path, mean) in accumulated.take(4) {
        let close = mean.allclose(&whole[&path], lazul_core::Tolerance::default());
        assert!(close.item::<bool>()?, "{path}");
    }
    accumulated.add(&whole)?;
    let fewer = one(whole["weight"].clone());
    assert!(accumulated.add(&fewer).is_err() && accumulated.add(&Parameters::new()).is_err());
    assert_eq!(accumulated.take(1)["bias"].to_vec::<f32>()?, whole["bias"].to_vec::<f32>()?);
    Ok(())
}

#[test]
fn factors_grow_and_shrink() -> Result<()> {
    let mut scaler = LossScaler { interval: 2, ..LossScaler::new(4.0)? };
    let mut factors = Vec::new();
    for finite in [true, true, true, false, true, true, false, false, false, false] {
        scaler.update(&Array::scalar(finite));
        factors.push(scaler.factor.item::<f32>()?);
    }
    assert_eq!(factors, [4.0, 8.0, 8.0, 4.0, 4.0, 8.0, 4.0, 2.0, 1.0, 1.0]);
    let overflow = vec![Array::from_slice(&[1.0f32, f32::INFINITY], [2])];
    let (_, finite) = scaler.unscale(&overflow);
    assert!(!finite.item::<bool>()?);
    assert!(LossScaler::new(0.5).is_err() && LossScaler::new(f64::NAN).is_err());
    let (one, other) = (Array::scalar(1.0f32), ones([2], DType::F32));
    assert!(select(&finite, &one, &other).is_err());
    Ok(())
}

/// Decay around exact copies shrank the value that the copies then replaced.
#[test]
fn decay_reaches_exact_copies_in_both_orders() -> Result<()> {
    // Gradients of zero: decay alone moves the parameter.
    let decay = |dtype: DType, optimizer: &dyn Optimizer| -> Result<f32> {
        let mut w = one(ones([1], dtype));
        let still = one(zeros([1], dtype));
        let mut state = optimizer.init(&w)?;
        for _ in 0..100 {
            w = optimizer.apply(&mut state, &still, &w)?;
        }
        w["w"].astype(DType::F32).item::<f32>()
    };
    let (rate, share) = (1e-2, 1e-1);
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let around = WeightDecay::new(Master(Adam::new(rate)), share);
        let within = Master(WeightDecay::new(Adam::new(rate), share));
        let several = MultiOptimizer::new(Master(Adam::new(rate)));
        let deep = WeightDecay::new(several, share);
        for optimizer in [&around as &dyn Optimizer, &within, &deep] {
            // Steps of a thousandth, which bf16 would lose.
            let (moved, wanted) = (decay(dtype, optimizer)?, 0.999f32.powi(100));
            assert!((moved - wanted).abs() < 3e-3, "{dtype}: {moved} for {wanted}");
        }
    }
    Ok(())
}
