//! Fused regions give the bits that single operations give, whatever the program: random programs over
//! all dtypes with views, broadcasts and held intermediates run fused, unfused and one step at a time.
//!
//! One test: whether to fuse is a setting of the whole process.

use lazul_core::{
    Array, DType, arange, concatenate, eval, random, scope, set_fusion, where_, zeros,
};
use lazul_testkit::{Report, Rule, compare};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

type Unary = (&'static str, fn(&Array) -> Array);
const UNARY: &[Unary] = &[
    ("abs", Array::abs),
    ("negative", Array::negative),
    ("square", Array::square),
    ("sqrt", Array::sqrt),
    ("rsqrt", Array::rsqrt),
    ("exp", Array::exp),
    ("expm1", Array::expm1),
    ("log", Array::log),
    ("log1p", Array::log1p),
    ("sin", Array::sin),
    ("cos", Array::cos),
    ("tanh", Array::tanh),
    ("erf", Array::erf),
    ("sigmoid", Array::sigmoid),
    ("floor", Array::floor),
    ("round", |x| x.round(0)),
    ("sign", Array::sign),
    ("isnan", Array::isnan),
    ("logical_not", Array::logical_not),
    ("bitwise_invert", Array::bitwise_invert),
    ("real", Array::real),
    ("conj", Array::conj),
    ("+ 1", |x| x + 1),
    ("* 0.5", |x| x * 0.5),
    ("clip", |x| x.clip(Some(-1), Some(2))),
    ("to bool", |x| x.astype(DType::Bool)),
    ("to u8", |x| x.astype(DType::U8)),
    ("to i16", |x| x.astype(DType::I16)),
    ("to i32", |x| x.astype(DType::I32)),
    ("to i64", |x| x.astype(DType::I64)),
    ("to f16", |x| x.astype(DType::F16)),
    ("to bf16", |x| x.astype(DType::BF16)),
    ("to f32", |x| x.astype(DType::F32)),
    ("to f64", |x| x.astype(DType::F64)),
    ("to c64", |x| x.astype(DType::C64)),
];

/// Views, and operations that end a fused region.
const MOVES: &[Unary] = &[
    ("t", Array::t),
    ("flip", |x| x.flip(())),
    ("half", |x| x.slice_step(-1, None, None, 2)),
    ("tail", |x| x.slice_axis(0, 1, None)),
    ("first", |x| x.slice_axis(-1, 0, 1)),
    ("flat", |x| x.reshape([-1])),
    ("lift", |x| x.expand_dims(0)),
    ("twice", |x| {
        x.expand_dims(0).broadcast_to([vec![2], x.shape().unwrap_or(&[]).to_vec()].concat())
    }),
    ("contiguous", Array::contiguous),
    ("sum", |x| x.sum_keepdims(-1)),
    ("max", |x| x.max_keepdims(0)),
    ("join", |x| concatenate(&[x.clone(), x.clone()], 0)),
    ("cumsum", |x| x.cumsum(-1, Default::default())),
];

type Binary = (&'static str, fn(&Array, &Array) -> Array);
const BINARY: &[Binary] = &[
    ("add", |a, b| a + b),
    ("subtract", |a, b| a - b),
    ("multiply", |a, b| a * b),
    ("divide", |a, b| a / b),
    ("maximum", |a, b| a.maximum(b)),
    ("minimum", |a, b| a.minimum(b)),
    ("remainder", |a, b| a % b),
    ("floor_divide", |a, b| a.floor_divide(b)),
    ("power", |a, b| a.power(b)),
    ("logaddexp", |a, b| a.logaddexp(b)),
    ("arctan2", |a, b| a.arctan2(b)),
    ("less", |a, b| a.less(b)),
    ("equal", |a, b| a.equal(b)),
    ("logical_and", |a, b| a.logical_and(b)),
    ("bitwise_xor", |a, b| a.bitwise_xor(b)),
    ("left_shift", |a, b| a.left_shift(b)),
    ("where", |a, b| where_(a.less(0), a, b)),
];

const LEAVES: &[DType] = &[
    DType::F32,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I32,
    DType::U8,
    DType::I64,
    DType::U64,
    DType::Bool,
    DType::C64,
];

const SHAPES: &[&[usize]] =
    &[&[7], &[3, 5], &[2, 3, 4], &[33, 65], &[4100], &[1, 40, 1], &[257, 9]];

/// Most elements of an array of a program.
const LARGEST: usize = 40_000;

/// A random program of a seed, built anew at each call: the arrays that are held, and how each came
/// to be. `step` sees every array as it is made.
fn program(seed: u64, step: impl Fn(&Array)) -> (Vec<Array>, Vec<String>) {
    let mut rng = Rng(seed);
    let shape = *rng.pick(SHAPES);
    let (mut all, mut text): (Vec<Array>, Vec<String>) = (Vec::new(), Vec::new());
    for i in 0..2 + rng.below(3) {
        let dtype = *rng.pick(LEAVES);
        // An operand may be missing leading axes, or have some of length one.
        let mut shape = shape[rng.below(shape.len())..].to_vec();
        shape.iter_mut().for_each(|d| *d = if rng.below(6) == 0 { 1 } else { *d });
        let key = random::key(seed ^ i as u64);
        let n: usize = shape.iter().product();
        let x = match rng.below(5) {
            0 => zeros(&shape, dtype),
            1 => (arange(n, DType::F32) - 3.0).reshape(&shape).astype(dtype),
            _ => (random::normal(&shape, DType::F32, Some(&key)) * 3.0).astype(dtype),
        };
        if rng.below(2) == 0 {
            // Some leaves are there already, others are part of the program.
            let _ = x.eval();
        }
        step(&x);
        text.push(format!("%{i} = {dtype}{shape:?}"));
        all.push(x);
    }
    for _ in 0..4 + rng.below(28) {
        let near = |rng: &mut Rng| {
            let last = all.len();
            if rng.below(3) == 0 { rng.below(last) } else { last - 1 - rng.below(last.min(3)) }
        };
        let (i, j) = (near(&mut rng), near(&mut rng));
        let (name, out) = match rng.below(9) {
            0 => {
                let &(name, f) = rng.pick(MOVES);
                (format!("{name} %{i}"), f(&all[i]))
            }
            1..4 => {
                let &(name, f) = rng.pick(UNARY);
                (format!("{name} %{i}"), f(&all[i]))
            }
            _ => {
                let &(name, f) = rng.pick(BINARY);
                (format!("{name} %{i} %{j}"), f(&all[i], &all[j]))
            }
        };
        // What a dtype or shape does not allow is no part of the program.
        if out.size().is_ok_and(|n| n <= LARGEST) && out.ndim().is_ok_and(|n| n <= 5) {
            step(&out);
            text.push(format!("%{} = {name}", all.len()));
            all.push(out);
        }
    }
    // Only some arrays outlive the building; the rest exist only inside the graph.
    let keep: Vec<bool> = all.iter().map(|_| rng.below(3) == 0).collect();
    let last = all.len() - 1;
    let held: Vec<(Array, usize)> =
        all.into_iter().zip(0..).filter(|(_, i)| keep[*i] || *i == last).collect();
    let names = held.iter().map(|(_, i)| format!("%{i}")).collect::<Vec<_>>().join(" ");
    text.push(format!("held: {names}"));
    (held.into_iter().map(|(x, _)| x).collect(), text)
}

#[test]
fn fused_equals_unfused() {
    let programs: u64 = match std::env::var("LAZUL_PROGRAMS") {
        Ok(n) => n.parse().expect("a number of programs"),
        Err(_) => 400,
    };
    let mut report = Report::new();
    for seed in 0..programs {
        set_fusion(true);
        let (fused, text) = scope("fused", || program(seed, |_| ()));
        let outcome = eval(&fused);
        set_fusion(false);
        let (unfused, _) = scope("unfused", || program(seed, |_| ()));
        let outcome = outcome.and_then(|()| eval(&unfused));
        let (eager, _) = scope("eager", || {
            program(seed, |x| {
                let _ = x.eval();
            })
        });
        let text = || text.join("\n    ");
        if let Err(e) = outcome {
            report.case(format!("program {seed}"), Err(format!("{e}\n    {}", text())));
            continue;
        }
        for (i, x) in unfused.iter().enumerate() {
            for (how, y) in [("fused", &fused[i]), ("eager", &eager[i])] {
                let outcome = compare(y, x, Rule::EXACT);
                let id = format!("program {seed}, held {i}, {how}");
                report.case(id, outcome.map_err(|why| format!("{why}\n    {}", text())));
            }
        }
    }
    set_fusion(true);
    report.finish();

    // The long chain also runs unfused.
    set_fusion(false);
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let chain = small.spawn(|| {
        let mut x = zeros([3], DType::F32);
        for _ in 0..1_000_000 {
            x += 1.0;
        }
        x.to_vec::<f32>()
    });
    let chain = chain.expect("a thread").join().expect("no overflow of the stack");
    assert_eq!(chain.expect("evaluates"), [1e6; 3]);
    set_fusion(true);
}
