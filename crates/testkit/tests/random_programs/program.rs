//! Random programs: drawn from a seed, run on given leaves, written as text, and made smaller.

use crate::table::{KINDS, Kind, Smooth};
use lazul_core::{Array, DType, Result, arange, random, zeros};
use lazul_testkit::Rng;

/// What a program is drawn for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Anything goes: every dtype, values that are not finite.
    Any,
    /// A batch must give each example's bits.
    Batch,
    /// It is differentiated: f64, and operations that keep numbers moderate.
    Gradient,
}

#[derive(Clone, Debug)]
struct Leaf {
    shape: Vec<usize>,
    dtype: DType,
    fill: usize,
    /// Made by the program itself instead of being an argument.
    inside: bool,
}

#[derive(Clone, Debug)]
struct Step {
    kind: usize,
    variant: usize,
    operands: Vec<usize>,
}

/// A program: leaves, then steps, each on values made before; some values are held as results.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) seed: u64,
    pub(crate) purpose: Purpose,
    leaves: Vec<Leaf>,
    steps: Vec<Step>,
    held: Vec<bool>,
}

const LEAVES: &[DType] = &{
    use DType::*;
    [F32, F32, F16, BF16, F64, I32, U8, I64, U64, I8, Bool, C64]
};
const SHAPES: &[&[usize]] =
    &[&[7], &[3, 5], &[2, 3, 4], &[1, 4, 1], &[4, 4], &[5, 2], &[1], &[2, 6]];
/// Beyond one block of the interpreter and one chunk of the pool.
const LARGE_SHAPES: &[&[usize]] = &[&[33, 65], &[4100], &[257, 9], &[1, 40, 50]];

impl Leaf {
    fn draw(rng: &mut Rng, shape: &[usize], purpose: Purpose) -> Leaf {
        // An operand may be missing leading axes, or have some of length one, rarely of none.
        let mut shape = shape[rng.below(shape.len())..].to_vec();
        let rare = |rng: &mut Rng, d: usize| match rng.below(60) {
            0 if purpose == Purpose::Any => 0,
            1..10 => 1,
            _ => d,
        };
        shape.iter_mut().for_each(|d| *d = rare(rng, *d));
        if rng.once_in(12) {
            shape.clear();
        }
        let gradient = purpose == Purpose::Gradient;
        let dtype = if gradient { DType::F64 } else { *rng.pick(LEAVES) };
        let fill = if gradient { 3 } else { rng.below(6) };
        Leaf { shape, dtype, fill, inside: rng.once_in(4) }
    }

    fn make(&self, seed: u64, i: usize) -> Array {
        let n: usize = self.shape.iter().product();
        match self.fill {
            0 => zeros(&self.shape, self.dtype),
            1 => (arange(n, DType::F32) - 3.0).reshape(&self.shape).astype(self.dtype),
            _ => {
                let key = random::key(seed.wrapping_mul(64) + i as u64);
                let scale = if self.fill == 2 { 3.0 } else { 1.0 };
                (random::normal(&self.shape, DType::F32, Some(&key)) * scale).astype(self.dtype)
            }
        }
    }
}

impl Program {
    pub(crate) fn draw(seed: u64) -> Program {
        let mut rng = Rng::of(seed, "program");
        let purpose = *rng.pick(&[Purpose::Any, Purpose::Batch, Purpose::Gradient]);
        let large = purpose == Purpose::Any && rng.once_in(30);
        let shape = *rng.pick(if large { LARGE_SHAPES } else { SHAPES });
        let largest = if large { 40_000 } else { 400 };
        let leaves: Vec<Leaf> =
            (0..2 + rng.below(3)).map(|_| Leaf::draw(&mut rng, shape, purpose)).collect();
        let mut all: Vec<Array> = leaves.iter().enumerate().map(|(i, l)| l.make(seed, i)).collect();
        let allowed: Vec<usize> =
            (0..KINDS.len()).filter(|&k| allows(purpose, &KINDS[k])).collect();
        let mut steps = Vec::new();
        for _ in 0..3 + rng.below(28) {
            let kind = *rng.pick(&allowed);
            let last = all.len();
            let mut near = || {
                if rng.once_in(3) { rng.below(last) } else { last - 1 - rng.below(last.min(3)) }
            };
            let operands: Vec<usize> = (0..KINDS[kind].arity).map(|_| near()).collect();
            let step = Step { kind, variant: rng.below(64), operands };
            // What a dtype or shape does not allow is no part of the program.
            let Ok(out) = step.run(&all) else { continue };
            let small = out.size().is_ok_and(|n| n <= largest) && out.ndim().is_ok_and(|n| n <= 5);
            let wanted = purpose != Purpose::Gradient
                || out.dtype().is_ok_and(|d| d == DType::F64) && out.size().is_ok_and(|n| n > 0);
            if small && wanted {
                all.push(out);
                steps.push(step);
            }
        }
        // Only some arrays outlive the building; the rest exist only inside the graph.
        let mut held: Vec<bool> = all.iter().map(|_| rng.once_in(3)).collect();
        if let Some(last) = held.last_mut() {
            *last = true;
        }
        Program { seed, purpose, leaves, steps, held }
    }

    /// Arguments: the leaves that are not made inside, with other numbers for each example.
    pub(crate) fn arguments(&self, example: u64) -> Vec<Array> {
        let seed = self.seed.wrapping_add(example << 40);
        let leaves = self.leaves.iter().enumerate().filter(|(_, l)| !l.inside);
        let made: Vec<Array> = leaves.map(|(i, l)| l.make(seed, i)).collect();
        made.iter().for_each(|a| a.eval().expect("a leaf has a value"));
        made
    }

    /// The values that are held. `see` sees every value as it is made.
    pub(crate) fn run(&self, arguments: &[Array], see: impl Fn(&Array)) -> Result<Vec<Array>> {
        let mut given = arguments.iter();
        let mut all: Vec<Array> = Vec::with_capacity(self.leaves.len() + self.steps.len());
        for (i, leaf) in self.leaves.iter().enumerate() {
            let value = match leaf.inside {
                true => leaf.make(self.seed, i),
                false => given.next().expect("an argument for each leaf").clone(),
            };
            see(&value);
            all.push(value);
        }
        for step in &self.steps {
            let value = step.run(&all)?;
            see(&value);
            all.push(value);
        }
        let held = all.into_iter().zip(&self.held).filter(|(_, held)| **held);
        Ok(held.map(|(value, _)| value).collect())
    }

    /// Whether the gradient has no kinks.
    pub(crate) fn smooth(&self) -> bool {
        self.steps.iter().all(|s| KINDS[s.kind].smooth == Smooth::Yes)
    }

    /// The program as text, one value a line.
    pub(crate) fn text(&self) -> String {
        let leaf = |(i, l): (usize, &Leaf)| {
            let inside = if l.inside { ", inside" } else { "" };
            format!("%{i} = {}{:?} fill {}{inside}", l.dtype, l.shape, l.fill)
        };
        let mut lines: Vec<String> = self.leaves.iter().enumerate().map(leaf).collect();
        for (i, step) in self.steps.iter().enumerate() {
            let operands: Vec<String> = step.operands.iter().map(|o| format!("%{o}")).collect();
            let name = KINDS[step.kind].name;
            let at = self.leaves.len() + i;
            lines.push(format!("%{at} = {name} ({}) {}", step.variant, operands.join(" ")));
        }
        let held: Vec<String> =
            (0..self.held.len()).filter(|&i| self.held[i]).map(|i| format!("%{i}")).collect();
        lines.push(format!("held: {}; seed {} for {:?}", held.join(" "), self.seed, self.purpose));
        lines.join("\n    ")
    }

    /// The program without one step and all that needs it.
    fn without(&self, step: usize) -> Option<Program> {
        let first = self.leaves.len();
        let mut number: Vec<Option<usize>> = (0..first).map(Some).collect();
        let (mut steps, mut held) = (Vec::new(), self.held[..first].to_vec());
        for (i, s) in self.steps.iter().enumerate() {
            let operands: Option<Vec<usize>> = s.operands.iter().map(|&o| number[o]).collect();
            match operands {
                Some(operands) if i != step => {
                    number.push(Some(first + steps.len()));
                    steps.push(Step { operands, ..s.clone() });
                    held.push(self.held[first + i]);
                }
                _ => number.push(None),
            }
        }
        *held.last_mut()? = true;
        (!steps.is_empty()).then(|| Program { steps, held, ..self.clone() })
    }

    /// The program with fewer values held.
    fn releasing(&self, value: usize) -> Option<Program> {
        let mut held = self.held.clone();
        let others = held.iter().enumerate().any(|(i, h)| i != value && *h);
        (std::mem::replace(&mut held[value], false) && others)
            .then(|| Program { held, ..self.clone() })
    }

    /// A smaller program that still fails.
    pub(crate) fn shrunk(self, fails: impl Fn(&Program) -> bool) -> Program {
        let mut program = self;
        loop {
            let steps = (0..program.steps.len()).rev().filter_map(|i| program.without(i));
            let held = (0..program.held.len()).filter_map(|i| program.releasing(i));
            match steps.chain(held).find(&fails) {
                Some(smaller) => program = smaller,
                None => return program,
            }
        }
    }
}

fn allows(purpose: Purpose, kind: &Kind) -> bool {
    match purpose {
        Purpose::Any => true,
        Purpose::Batch => kind.exact,
        Purpose::Gradient => kind.smooth != Smooth::No,
    }
}

impl Step {
    fn run(&self, all: &[Array]) -> Result<Array> {
        let operands: Vec<&Array> = self.operands.iter().map(|&o| &all[o]).collect();
        let out = (KINDS[self.kind].f)(&operands, self.variant)?;
        out.check()?;
        Ok(out)
    }
}
