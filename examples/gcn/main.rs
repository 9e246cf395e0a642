//! A graph convolutional network (Kipf and Welling, 2016) on the karate club of Zachary, 1977: who went with whom as
//! it broke in two, told from friendships and the sides of two members.

use lazul::nn::Linear;
use lazul::nn::layers::Dropout;
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{Adam, Optimizer, WeightDecay};
use lazul::nn::value_and_grad;
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::out;
use lazul_examples::picture::{COLOURS, Plot};

/// Friends of each member with higher numbers, by Zachary's own numbers from 1.
const FRIENDS: [(usize, &[usize]); 26] = [
    (1, &[2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 18, 20, 22, 32]),
    (2, &[3, 4, 8, 14, 18, 20, 22, 31]),
    (3, &[4, 8, 9, 10, 14, 28, 29, 33]),
    (4, &[8, 13, 14]),
    (5, &[7, 11]),
    (6, &[7, 11, 17]),
    (7, &[17]),
    (9, &[31, 33, 34]),
    (10, &[34]),
    (14, &[34]),
    (15, &[33, 34]),
    (16, &[33, 34]),
    (19, &[33, 34]),
    (20, &[34]),
    (21, &[33, 34]),
    (23, &[33, 34]),
    (24, &[26, 28, 30, 33, 34]),
    (25, &[26, 28, 32]),
    (26, &[32]),
    (27, &[30, 34]),
    (28, &[34]),
    (29, &[32, 34]),
    (30, &[33, 34]),
    (31, &[33, 34]),
    (32, &[33, 34]),
    (33, &[34]),
];
/// Who stayed with the teacher, member 1; the others went with the president, member 34.
const TEACHERS: [usize; 17] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 17, 18, 20, 22];
const MEMBERS: usize = 34;

/// Two convolutions over a graph: each member becomes a mixture of its friends, and that a map's argument.
#[derive(Clone, Module)]
struct Gcn {
    first: Linear,
    second: Linear,
    dropout: Dropout,
}

impl Gcn {
    /// Features of members `(n, features)` → scores of the two sides `(n, 2)`.
    fn forward(&self, x: &Array, graph: &Array) -> Array {
        let h = graph.matmul(&self.first.forward(&self.dropout.forward(x))).tanh();
        graph.matmul(&self.second.forward(&self.dropout.forward(&h)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pairs = || FRIENDS.iter().flat_map(|(a, all)| all.iter().map(move |b| (a - 1, b - 1)));
    let mut edges = vec![0f32; MEMBERS * MEMBERS];
    pairs().for_each(|(a, b)| (edges[a * MEMBERS + b], edges[b * MEMBERS + a]) = (1.0, 1.0));
    // With oneself among the friends, and divided by the roots of both numbers of friends.
    let edges =
        Array::from_slice(&edges, [MEMBERS, MEMBERS]) + eye(MEMBERS, MEMBERS, 0, DType::F32);
    let degree = edges.sum(1);
    let graph = &edges * degree.rsqrt().expand_dims(1) * degree.rsqrt();
    println!("{MEMBERS} members, {} friendships", pairs().count());
    let sides: Vec<i32> = (1..=MEMBERS).map(|m| !TEACHERS.contains(&m) as i32).collect();
    // Nothing is known of anybody but who it is, and the sides of the teacher and the president.
    let x = eye(MEMBERS, MEMBERS, 0, DType::F32);
    let known = Array::from_slice(&[0, MEMBERS as i32 - 1], [2]);
    let told = Array::from_slice(&[sides[0], sides[MEMBERS - 1]], [2]);

    let mut random = Generator::new(1);
    let mut linear = |i, o| Linear::init(i, o, true, Some(&random.next_key()));
    let mut model =
        Gcn { first: linear(MEMBERS, 16)?, second: linear(16, 2)?, dropout: Dropout::new(0.1)? };
    let optimizer = WeightDecay::new(Adam { bias_correction: true, ..Adam::new(1e-2) }, 5e-2);
    let state = optimizer.init(&model.trainable_parameters())?;
    let step = compile_with_state(
        |(model, state, random): &mut (Gcn, lazul::nn::optim::State, Generator), (): &()| {
            let how = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
            let loss = |m: &mut Gcn| {
                let scores = m.forward(&x, &graph);
                cross_entropy(&scores.take(&known, 0), &told, how)
            };
            let (loss, grads) = random.scope(|| value_and_grad(loss)(model))?;
            optimizer.update(state, model, &grads)?;
            Ok::<_, lazul::Error>(loss)
        },
    );
    let mut all = (model.clone(), state, random);
    for i in 0..50 {
        let loss = step(&mut all, &())?.item::<f32>()?;
        if i % 10 == 9 {
            println!("step {:>3}  loss {loss:.4}", i + 1);
        }
    }
    model = all.0;
    model.eval();
    let scores = model.forward(&x, &graph);
    let guesses = scores.argmax(-1).to_vec::<u32>()?;
    let right = guesses.iter().zip(&sides).filter(|(g, s)| **g as i32 == **s).count();
    println!("sides told right {right} of {MEMBERS}");

    // Across: how much speaks for each side; up and down: only so that lines can be told apart.
    let across = (scores.slice_axis(1, 1, 2) - scores.slice_axis(1, 0, 1)).to_vec::<f32>()?;
    let at = |member: usize| [across[member], ((member * 13) % MEMBERS) as f32];
    let edge = |f: fn(f32, f32) -> f32| across.iter().copied().fold(f32::NAN, f);
    let (low, high) = (edge(f32::min), edge(f32::max));
    let margin = (high - low) * 0.08;
    let corners = [[low - margin, -2.0], [high + margin, MEMBERS as f32 + 1.0]];
    let mut plot = Plot::new(800, 600, corners);
    pairs().for_each(|(a, b)| plot.line(at(a), at(b), 1.0, [210; 3]));
    for member in 0..MEMBERS {
        let leader = member == 0 || member == MEMBERS - 1;
        plot.dot(at(member), if leader { 13.0 } else { 8.0 }, COLOURS[sides[member] as usize]);
        if guesses[member] as i32 != sides[member] {
            plot.dot(at(member), 4.0, [255; 3]);
        }
    }
    let path = out("gcn.png")?;
    plot.save(&path)?;
    println!(
        "{}: members from side to side as the net tells; a white point is a wrong side",
        path.display()
    );
    Ok(())
}
