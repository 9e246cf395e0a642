//! Two classes by gradient descent: which side of a plane a point is on, learned from 1,000 points.

use lazul::nn::losses::{BinaryCrossEntropy, Reduction, binary_cross_entropy};
use lazul::prelude::*;

const FEATURES: usize = 100;
const SAMPLES: usize = 1_000;
const STEPS: usize = 1_000;
const RATE: f32 = 0.5;

fn main() -> lazul::Result<()> {
    let keys = random::split(&random::key(0), 2);
    let normal =
        |shape: &[usize], key| random::normal(shape, DType::F32, Some(&keys.at_index(0, key)));
    let plane = normal(&[FEATURES], 0);
    let x = normal(&[SAMPLES, FEATURES], 1);
    let y = x.matmul(&plane).greater(0.0).astype(DType::F32);

    let step = compile_with_state(|w: &mut Array, (): &()| {
        let how = BinaryCrossEntropy { reduction: Reduction::Mean, ..Default::default() };
        let loss = |w: &Array| binary_cross_entropy(&x.matmul(w), &y, how);
        let (value, slope) = value_and_grad(loss)(w)?;
        *w -= slope * RATE;
        Ok::<_, lazul::Error>(value)
    });
    let mut w = zeros([FEATURES], DType::F32);
    for i in 0..STEPS {
        let loss = step(&mut w, &())?;
        if i % (STEPS / 5) == 0 {
            println!("step {i:>5}  loss {:.6}", loss.item::<f32>()?);
        }
    }
    let right = x.matmul(&w).greater(0.0).astype(DType::F32).equal(&y);
    println!("accuracy {:.4}", right.astype(DType::F32).mean(..).item::<f32>()?);
    // The direction is what can be known of the plane.
    let norm = |a: &Array| a.square().sum(..).sqrt();
    let cosine = (&w * &plane).sum(..) / (norm(&w) * norm(&plane));
    println!("cosine with the plane that the points came from {:.4}", cosine.item::<f32>()?);
    Ok(())
}
