//! Models learn, and one compiled step with model, optimizer and generator as its state does what the
//! uncompiled one does, dropout included.

use lazul_core::prelude::*;
use lazul_core::random::Generator;
use lazul_core::{Result, fast::Mask};
use lazul_nn::layers::{Activation, BatchNorm, Dropout, TransformerEncoder, TransformerOptions};
use lazul_nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul_nn::optim::{Adam, AdamW, Optimizer, State, linear_schedule};
use lazul_nn::{Embedding, Layer, Linear, Module, Sequential, Trainable, value_and_grad};

#[derive(Clone, Module)]
struct Model {
    embed: Embedding,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Model {
    fn new(checkpoint: bool) -> Result<Model> {
        let key = random::split(&random::key(0), 3);
        let options = TransformerOptions {
            dims: 16,
            heads: 2,
            dropout: 0.2,
            checkpoint,
            ..Default::default()
        };
        Ok(Model {
            embed: Embedding::init(11, 16, Some(&key.at_index(0, 0)))?,
            encoder: TransformerEncoder::init(2, &options, Some(&key.at_index(0, 1)))?,
            head: Linear::init(16, 11, true, Some(&key.at_index(0, 2)))?,
        })
    }

    fn loss(&self, tokens: &Array) -> Array {
        let inputs = tokens.slice_axis(1, 0, -1); // (b, t)
        let x = self.encoder.forward(&self.embed.forward(&inputs), &Mask::Causal); // (b, t, d)
        let targets = tokens.slice_axis(1, 1, None);
        let how = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
        cross_entropy(&self.head.forward(&x), &targets, how)
    }
}

type All = (Model, State, Generator);

fn step((model, state, generator): &mut All, tokens: &Array) -> Result<Array> {
    let optimizer = AdamW::new(linear_schedule(0.0, 3e-3, 5)?);
    let loss = value_and_grad(|m: &mut Model| m.loss(tokens));
    let (value, grads) = generator.scope(|| loss(model))?;
    optimizer.update(state, model, &grads)?;
    Ok(value)
}

fn start(checkpoint: bool) -> Result<All> {
    let model = Model::new(checkpoint)?;
    let state = AdamW::new(linear_schedule(0.0, 3e-3, 5)?).init(&model.trainable_parameters())?;
    Ok((model, state, Generator::new(5)))
}

fn batch(i: u64) -> Array {
    random::randint(0, 11, [4, 7], DType::I32, Some(&random::key(i)))
}

fn bytes(all: &All) -> Result<Vec<Vec<u8>>> {
    all.leaves().into_iter().map(|a| a.to_bytes()).collect()
}

#[test]
fn a_compiled_step_trains_a_transformer_with_dropout() -> Result<()> {
    let compiled = compile_with_state(step);
    let (mut a, mut b, mut c) = (start(false)?, start(false)?, start(true)?);
    let mut losses = Vec::new();
    for i in 0..4 {
        let (fast, slow) = (compiled(&mut a, &batch(i))?, step(&mut b, &batch(i))?);
        let again = step(&mut c, &batch(i))?;
        assert_eq!(fast.item::<f32>()?.to_bits(), slow.item::<f32>()?.to_bits(), "step {i}");
        assert_eq!(again.item::<f32>()?.to_bits(), slow.item::<f32>()?.to_bits(), "step {i}");
        losses.push(slow.item::<f32>()?);
    }
    // Weights, moments, the number of steps, and the key that dropout goes on with.
    assert!(bytes(&a)? == bytes(&b)?);
    assert!(bytes(&a)? == bytes(&c)?, "checkpointed layers draw other masks in the backward pass");
    // Another generator makes other masks, and inference none.
    let mut other = start(false)?;
    other.2 = Generator::new(6);
    compiled(&mut other, &batch(0))?.eval()?;
    assert!(bytes(&other)? != bytes(&start(false)?)?);
    let [mut first, mut second] = [start(false)?, start(false)?];
    second.2 = Generator::new(6);
    let value = |all: &mut All| compiled(all, &batch(0))?.item::<f32>();
    assert_ne!(value(&mut first)?, value(&mut second)?);
    for all in [&mut first, &mut second] {
        *all = (Model::new(false)?, all.1.clone(), all.2.clone());
        all.0.eval();
    }
    // The compiled function notices the mode, which is no array.
    assert_eq!(value(&mut first)?, value(&mut second)?);
    Ok(())
}

#[test]
fn a_perceptron_learns_a_circle() -> Result<()> {
    let x = random::normal([256, 2], DType::F32, Some(&random::key(3)));
    let y = x.square().sum(1).greater(1.2).astype(DType::I32);
    let keys = random::split(&random::key(1), 2);
    let model = Sequential::new()
        .then(Linear::init(2, 32, true, Some(&keys.at_index(0, 0)))?)
        .then(Activation::Relu)
        .then(BatchNorm::new(32))
        .then(Dropout::new(0.1)?)
        .then(Linear::init(32, 2, true, Some(&keys.at_index(0, 1)))?);
    let optimizer = Adam::new(1e-2);
    let state = optimizer.init(&model.trainable_parameters())?;
    let step = |(model, state, generator): &mut (Sequential, State, Generator),
                (x, y): &(Array, Array)|
     -> Result<Array> {
        let how = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
        let loss = |m: &mut Sequential| cross_entropy(&m.forward_mut(x), y, how);
        let (value, grads) = generator.scope(|| value_and_grad(loss)(model))?;
        optimizer.update(state, model, &grads)?;
        Ok(value)
    };
    let run = compile_with_state(step);
    let mut all = (model, state, Generator::new(2));
    let data = (x, y);
    for _ in 0..120 {
        run(&mut all, &data)?.eval()?;
    }
    all.0.eval();
    let right = all.0.forward(&data.0).argmax(-1).astype(DType::I32).equal(&data.1);
    let accuracy = right.astype(DType::F32).mean(..).item::<f32>()?;
    assert!(accuracy > 0.95, "{accuracy}");
    Ok(())
}

#[test]
fn what_is_frozen_stays_in_compiled_steps() -> Result<()> {
    let linear = |i| Linear::init(3, 3, true, Some(&random::key(i)));
    let model = Sequential::new().then(linear(0)?).then(linear(1)?);
    let model = Trainable::new(model).freeze("layers.0");
    let before = model.clone();
    let optimizer = Adam::new(0.1);
    let state = optimizer.init(&model.trainable_parameters())?;
    assert_eq!(state.slots.len(), 2);
    let step = |(model, state): &mut (Trainable<Sequential>, State), x: &Array| -> Result<Array> {
        let loss = |m: &mut Trainable<Sequential>| m.forward(x).square().sum(..);
        let (value, grads) = value_and_grad(loss)(model)?;
        optimizer.update(state, model, &grads)?;
        Ok(value)
    };
    let run = compile_with_state(step);
    let mut all = (model, state);
    run(&mut all, &ones([2, 3], DType::F32))?.eval()?;
    for ((path, a), (_, b)) in all.0.parameters().into_iter().zip(before.parameters()) {
        assert_eq!(a.to_bytes()? == b.to_bytes()?, path.starts_with("layers.0"), "{path}");
    }
    // The same function, with everything thawed, is traced again.
    all.0.set_frozen("", false);
    all.1 = optimizer.init(&all.0.trainable_parameters())?;
    run(&mut all, &ones([2, 3], DType::F32))?.eval()?;
    assert!(all.0.parameters()[0].1.to_bytes()? != before.parameters()[0].1.to_bytes()?);
    Ok(())
}
