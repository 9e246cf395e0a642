//! Least squares by gradient descent: 100 weights found from 1,000 noisy samples, and held against the
//! solution that linear algebra gives.

use lazul::prelude::*;
use std::time::Instant;

const FEATURES: usize = 100;
const SAMPLES: usize = 1_000;
const STEPS: usize = 2_000;
const RATE: f32 = 0.02;

fn main() -> lazul::Result<()> {
    let keys = random::split(&random::key(0), 3);
    let normal =
        |shape: &[usize], key| random::normal(shape, DType::F32, Some(&keys.at_index(0, key)));
    let truth = normal(&[FEATURES], 0);
    let x = normal(&[SAMPLES, FEATURES], 1);
    let y = x.matmul(&truth) + normal(&[SAMPLES], 2) * 0.01;

    // x and y are constants of the compiled step; the weights are its state.
    let step = compile_with_state(|w: &mut Array, (): &()| {
        let loss = |w: &Array| (x.matmul(w) - &y).square().mean(..) * 0.5;
        let (value, slope) = value_and_grad(loss)(w)?;
        *w -= slope * RATE;
        Ok::<_, lazul::Error>(value)
    });
    let mut w = zeros([FEATURES], DType::F32);
    let began = Instant::now();
    for i in 0..STEPS {
        let loss = step(&mut w, &())?;
        if i % (STEPS / 5) == 0 {
            println!("step {i:>5}  loss {:.6}", loss.item::<f32>()?);
        }
    }
    w.eval()?;
    let seconds = began.elapsed().as_secs_f64();

    let distance = |a: &Array, b: &Array| (a - b).square().sum(..).sqrt().item::<f32>();
    // The normal equations: (xᵀ x) w = xᵀ y.
    let exact = linalg::solve(&x.t().matmul(&x), &x.t().matmul(&y));
    println!("|w - truth|  = {:.5}", distance(&w, &truth)?);
    println!("|w - exact|  = {:.5}", distance(&w, &exact)?);
    println!("{:.0} steps a second", STEPS as f64 / seconds);
    Ok(())
}
