//! Programs of one function for many sizes of its arguments, from traces for a few.
//!
//! Two traces for arguments of different lengths show which lengths vary, the *symbols*, and which numbers
//! of the program vary with them: shapes, starts of slices, paddings, counts that sums are divided by. For
//! each of those a rule is sought that gives what both traces hold ([`Rule`]). Where everything else of the
//! two is equal and every number has its rule, they are a [`Family`], whose members are written down
//! without calling the function, and checked like a program from a file.
//!
//! A third trace tells a rule that holds from one that two examples only suggest ([`Family::holds`]). What
//! no trace can show is a function that does something else from some length on.

use super::size::{MOST_SYMBOLS, Rule, Sizes, Value, symbols};
use super::{Form, Program, Step, Work};
use crate::control::graph::{ByNode, Graph, GraphStep, Spec, address, spec};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Op, State, Storage};
use crate::operand::constant;
use crate::scope::call_site;
use crate::tree::{IntoResult, Tree, structure_of};
use lazul_ir::{Number, Scalar};
use smallvec::SmallVec;

/// A traced program with everything it computes: also what does not depend on arguments, such as the
/// positions along an axis, was not evaluated, and may follow their lengths.
pub(crate) struct Sample {
    program: Program,
    constants: Vec<Array>,
}

/// Programs of one function for arguments of the same dtypes and numbers of axes, whose lengths differ.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// The member that was traced first.
    program: Program,
    rules: Rules,
    /// The symbols' lengths in the second trace, if this was made of traces.
    second: Sizes,
}

/// How the members of a [`Family`] differ.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Rules {
    /// For each length that varies the places where it stands: number of an argument, axis.
    symbols: Vec<SmallVec<[(u32, u32); 2]>>,
    /// Numbers of the program that follow them, in [`Program::numbers`]'s order.
    numbers: Vec<(u32, Rule)>,
    /// What each constant is.
    constants: Vec<Constant>,
}

/// A constant of a family.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum Constant {
    /// The same array in every member.
    Array,
    /// One value, over the shape that the member's program says.
    Value(Scalar),
    /// One value that follows lengths, in the dtype of the first.
    Follows(Scalar, Rule),
}

impl Sample {
    /// Writes a graph down; `None` if it cannot be, because it holds a custom function or computes with
    /// arrays of a transform that is running.
    pub(crate) fn of(graph: &Graph) -> Option<Sample> {
        Sample::written(graph).ok()
    }

    fn written(graph: &Graph) -> Result<Sample> {
        let Some((constants, mut steps)) = unevaluated(&graph.captures) else {
            let why = "the function uses arrays of a transform that is running";
            return Err(Error::new(ErrorKind::Value, super::OP, why));
        };
        steps.extend(graph.steps.iter().cloned());
        let mut program = Program::of_parts(&graph.arguments, &constants, &steps, &graph.outputs)?;
        program.constants = program.arguments.split_off(graph.arguments.len());
        Ok(Sample { program, constants })
    }
}

/// What arrays are computed from, as far as it was not evaluated: arrays that are there, and steps.
fn unevaluated(captures: &[Array]) -> Option<(Vec<Array>, Vec<GraphStep>)> {
    struct Frame {
        step: GraphStep,
        next: usize,
    }
    let (mut there, mut steps) = (Vec::new(), Vec::new());
    let mut known: ByNode<()> = ByNode::new();
    let mut stack: Vec<Frame> = Vec::new();
    for capture in captures {
        let mut open = Some(capture.clone());
        loop {
            if let Some(node) = open.take()
                && known.insert(address(&node), ()).is_none()
            {
                if node.0.trace.as_ref().is_some_and(|t| t.is_live()) {
                    return None;
                }
                match (node.is_ready(), node.origin()) {
                    (false, Some((Op::Placeholder, _))) => return None,
                    (true, _) | (_, None | Some((Op::Load(_), _))) => there.push(node),
                    (false, Some((op, inputs))) => {
                        stack.push(Frame { step: GraphStep { node, op, inputs }, next: 0 });
                    }
                }
            }
            let Some(frame) = stack.last_mut() else { break };
            match frame.step.inputs.get(frame.next) {
                Some(input) => {
                    frame.next += 1;
                    open = Some(input.clone());
                }
                None => steps.extend(stack.pop().map(|f| f.step)),
            }
        }
    }
    Some((there, steps))
}

/// The one value of a constant that has no memory.
fn value(array: &Array) -> Option<Scalar> {
    match &*array.0.lock() {
        State::Ready { data, .. } => match data.storage {
            Storage::Inline(value) => Some(value),
            Storage::Buffer(_) => None,
        },
        _ => None,
    }
}

/// Whether two constants are the same array, or small ones that hold the same.
fn equal(a: &Array, b: &Array) -> bool {
    const SMALL: usize = 1 << 16;
    let alike = || a.0.shape == b.0.shape && a.0.dtype == b.0.dtype;
    let small = || a.nbytes().is_ok_and(|n| n <= SMALL);
    let bytes = || a.to_bytes().ok().zip(b.to_bytes().ok());
    a.ptr_eq(b) || alike() && small() && bytes().is_some_and(|(a, b)| a == b)
}

/// An argument of a third length, on the line through two others.
fn further_form(a: &Form, b: &Form) -> Option<Spec> {
    let mut shape = b.shape.clone();
    for (n, &m) in shape.iter_mut().zip(a.shape.iter()) {
        let (low, high) = (m.min(*n), m.max(*n));
        *n = high.checked_add((high - low).checked_mul(2)?)?;
    }
    shape.is_countable().then_some((shape, b.dtype))
}

fn lengths(forms: &[Form]) -> Vec<Vec<i64>> {
    forms.iter().map(|f| f.shape.iter().map(|&n| n as i64).collect()).collect()
}

/// Whether a length may be one of a family: one element is broadcast, none is an error here and there.
fn ordinary(n: i64) -> bool {
    n > 1
}

impl Family {
    /// The family of two samples, with the arrays that all of its members use.
    ///
    /// # Errors
    /// In words: what differs between them without following the lengths of arguments.
    pub(crate) fn of(a: &Sample, b: &Sample) -> Result<(Family, Vec<Array>), String> {
        let (x, y) = (lengths(&a.program.arguments), lengths(&b.program.arguments));
        let ranks = |all: &[Vec<i64>]| all.iter().map(Vec::len).collect::<Vec<_>>();
        if ranks(&x) != ranks(&y) {
            return Err("the arguments differ in their numbers of axes".into());
        }
        let Some((places, at_a, at_b)) = symbols(&x, &y) else {
            return Err(format!("more than {MOST_SYMBOLS} lengths of the arguments differ"));
        };
        if !at_a.iter().chain(&at_b).all(|&n| ordinary(n)) {
            return Err("a length that varies is 0 or 1 in one of the examples".into());
        }
        // Numbers that differ are put aside; what is left must be equal.
        let (mut p, mut q) = (a.program.clone(), b.program.clone());
        let (from, to) = (read(&mut p), read(&mut q));
        let other = |what: &str| Err(format!("the two traces differ in {what}"));
        if from.len() != to.len() {
            return other("their steps");
        }
        let mut numbers = Vec::new();
        for (i, (&n, &m)) in from.iter().zip(&to).enumerate() {
            if n == m {
                continue;
            }
            match Rule::find(&at_a, &at_b, n, m) {
                Some(rule) => numbers.push((i as u32, rule)),
                None => {
                    let place = a.program.place(i);
                    return Err(format!("{place} does not follow the arguments' lengths"));
                }
            }
        }
        let mut i = 0;
        q.numbers(&mut |number| {
            write(number, from[i]);
            i += 1;
        });
        if p != q {
            return other("their steps");
        }
        // Constants: the same arrays, or values that follow.
        let (mut constants, mut arrays) = (Vec::new(), Vec::new());
        if a.constants.len() != b.constants.len() {
            return other("the arrays they use from outside");
        }
        for (c, d) in a.constants.iter().zip(&b.constants) {
            constants.push(match (value(c), value(d)) {
                (Some(v), Some(w)) if v == w => Constant::Value(v),
                (Some(v), Some(w)) if v.dtype == w.dtype => {
                    let rule = Rule::find(&at_a, &at_b, Value::Scalar(v), Value::Scalar(w));
                    let Some(rule) = rule else {
                        return Err("a value does not follow the arguments' lengths".into());
                    };
                    Constant::Follows(v, rule)
                }
                _ if equal(c, d) => {
                    arrays.push(c.clone());
                    Constant::Array
                }
                _ => return other("the arrays they use from outside"),
            });
        }
        let rules = Rules { symbols: places, numbers, constants };
        Ok((Family { program: a.program.clone(), rules, second: at_b }, arrays))
    }

    /// A family of a program and rules from outside, with as many arrays as it is given for constants.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, arrays) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// let forms = arrays.iter().map(Form::of).collect::<Result<Vec<_>, _>>()?;
    /// let again = Family::new(family.program().clone(), family.rules().clone(), &forms).unwrap();
    /// assert_eq!(again.program(), family.program());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the program does not hold together, or the arrays are not its constants.
    pub fn new(program: Program, rules: Rules, arrays: &[Form]) -> Result<Family, String> {
        program.check().map_err(|e| e.to_string())?;
        if rules.symbols.len() > MOST_SYMBOLS {
            return Err(format!("more than {MOST_SYMBOLS} lengths vary"));
        }
        let mut left = arrays.iter();
        if rules.constants.len() != program.constants.len() {
            return Err("the rules are for other constants than the program's".into());
        }
        for (constant, form) in rules.constants.iter().zip(&program.constants) {
            let fits = match constant {
                Constant::Array => left.next() == Some(form),
                Constant::Value(value) | Constant::Follows(value, _) => value.dtype == form.dtype,
            };
            if !fits {
                return Err(format!("a constant is not {form}"));
            }
        }
        if left.next().is_some() {
            return Err("there are more constants than the program has".into());
        }
        Ok(Family { program, rules, second: Sizes::new() })
    }

    /// Traces `f` for two examples whose lengths differ where they may vary, and once more for other lengths.
    /// The second result are the arrays that all members use.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let mean = |x: &Array| x.mean(0);
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, constants) = Family::trace(mean, &small, &large)?;
    /// let x = ones([100, 3], DType::F32);
    /// let (program, constants) = family.member(&[Form::of(&x)?], &constants).unwrap();
    /// assert_eq!(program.call(&[x], &constants)?[0].to_vec::<f32>()?, [1.0; 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `f`; if it calls a custom function; if what it does follows the lengths in a way that three traces
    /// do not show.
    #[track_caller]
    pub fn trace<T: Tree, O: Tree, R: IntoResult<O>>(
        f: impl Fn(&T) -> R,
        small: &T,
        large: &T,
    ) -> Result<(Family, Vec<Array>)> {
        let site = call_site();
        let fail = |why: String| Err(Error::new(ErrorKind::Value, super::OP, why).at(site));
        let sample = |specs: &[Spec]| -> Result<Sample> {
            let graph = Graph::trace_at(site, specs, |given| {
                let value = f(&small.with_leaves(given.iter().cloned())).into_result()?;
                Ok(value.leaves().into_iter().cloned().collect())
            })?;
            Sample::written(&graph).map_err(|e| e.at(site))
        };
        let specs = |tree: &T| -> Result<Vec<Spec>> {
            let leaves = tree.leaves();
            leaves.iter().try_for_each(|l| l.check())?;
            Ok(leaves.into_iter().map(spec).collect())
        };
        if structure_of(small) != structure_of(large) {
            return fail("the two examples are trees of different structure".into());
        }
        let (a, b) = (sample(&specs(small)?)?, sample(&specs(large)?)?);
        let (family, arrays) = match Family::of(&a, &b) {
            Ok(made) => made,
            Err(why) => return fail(why),
        };
        let further = a.program.arguments.iter().zip(&b.program.arguments);
        let further = further.map(|(a, b)| further_form(a, b)).collect::<Option<Vec<Spec>>>();
        let Some(further) = further else { return fail("the examples are too large".into()) };
        if family.holds(&arrays, &sample(&further)?) != Some(true) {
            let why = "a third trace, for further lengths, is not what two of them suggest";
            return fail(why.into());
        }
        Ok((family, arrays))
    }

    /// The member for arguments of these forms, with its constants, given the family's arrays. `None` if
    /// they are none of its arguments, or if a number would not be whole: a function's trace decides then.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, arrays) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// let form = |x: Array| Form::of(&x);
    /// assert!(family.member(&[form(zeros([100, 3], DType::F32))?], &arrays).is_some());
    /// assert!(family.member(&[form(zeros([100, 4], DType::F32))?], &arrays).is_none());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn member(&self, arguments: &[Form], arrays: &[Array]) -> Option<(Program, Vec<Array>)> {
        let sizes = self.sizes(arguments)?;
        let mut program = self.program.clone();
        let mut rules = self.rules.numbers.iter().peekable();
        let (mut i, mut whole) = (0u32, true);
        program.numbers(&mut |number| {
            if let Some((_, rule)) = rules.next_if(|(n, _)| *n == i) {
                match rule.at(&sizes, get(&number)) {
                    Some(value) => write(number, value),
                    None => whole = false,
                }
            }
            i += 1;
        });
        if !whole || rules.peek().is_some() || program.arguments != arguments {
            return None;
        }
        program.check().ok()?;
        let mut arrays = arrays.iter();
        let mut all = Vec::with_capacity(program.constants.len());
        for (like, form) in self.rules.constants.iter().zip(&program.constants) {
            let value = match like {
                Constant::Array => {
                    all.push(arrays.next().filter(|a| spec(a) == form.spec())?.clone());
                    continue;
                }
                Constant::Value(value) => *value,
                Constant::Follows(like, rule) => match rule.at(&sizes, Value::Scalar(*like))? {
                    Value::Scalar(value) => value,
                    Value::Int(_) | Value::Float(_) => return None,
                },
            };
            all.push(constant(value, form.shape.clone(), call_site()));
        }
        Some((program, all))
    }

    /// Whether the member for a sample's arguments is that sample; `None` where some length is one that
    /// the rules were made from, which they give whether they are right or not.
    pub(crate) fn holds(&self, arrays: &[Array], sample: &Sample) -> Option<bool> {
        let Some(sizes) = self.sizes(&sample.program.arguments) else {
            // Lengths of 0 and 1 are of no family and teach nothing of it; others want another.
            let places = self.rules.symbols.iter().flatten();
            let length = |&(argument, axis): &(u32, u32)| {
                sample.program.arguments.get(argument as usize)?.shape.get(axis as usize).copied()
            };
            let rare = places.filter_map(length).any(|n| !ordinary(n as i64));
            return (!rare).then_some(false);
        };
        let first = self.sizes(&self.program.arguments)?;
        let known = |s: usize| sizes[s] == first[s] || self.second.get(s) == Some(&sizes[s]);
        if (0..sizes.len()).any(known) {
            return None;
        }
        let same = self.member(&sample.program.arguments, arrays).is_some_and(|(program, all)| {
            program == sample.program
                && all.len() == sample.constants.len()
                && all.iter().zip(&sample.constants).all(|(a, b)| equal(a, b))
        });
        Some(same)
    }

    /// The member that was traced first.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, _) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// assert_eq!(family.program().arguments, [Form::of(&small)?]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How members differ.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, _) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// let (same, _) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// assert_eq!(same.rules(), family.rules());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The arguments in words, with letters for lengths that vary.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Family, Form};
    /// let (small, large) = (zeros([2, 3], DType::F32), zeros([5, 3], DType::F32));
    /// let (family, _) = Family::trace(|x: &Array| x.mean(0), &small, &large)?;
    /// assert_eq!(family.arguments(), ["float32(a,3)"]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn arguments(&self) -> Vec<String> {
        let mut letters: ByPlace = ByPlace::new();
        for (s, places) in self.rules.symbols.iter().enumerate() {
            letters.extend(places.iter().map(|&place| (place, (b'a' + s as u8) as char)));
        }
        let forms = self.program.arguments.iter().enumerate();
        forms
            .map(|(i, form)| {
                let lengths = form.shape.iter().enumerate().map(|(axis, n)| {
                    let letter = letters.get(&(i as u32, axis as u32));
                    letter.map_or_else(|| n.to_string(), char::to_string)
                });
                let lengths: Vec<String> = lengths.collect();
                let comma = if lengths.len() == 1 { "," } else { "" };
                format!("{}({}{comma})", form.dtype, lengths.join(","))
            })
            .collect()
    }

    /// The symbols' sizes in arguments of these forms.
    fn sizes(&self, arguments: &[Form]) -> Option<Sizes> {
        let alike = |(a, b): (&Form, &Form)| a.dtype == b.dtype && a.shape.len() == b.shape.len();
        let known = &self.program.arguments;
        if known.len() != arguments.len() || !known.iter().zip(arguments).all(alike) {
            return None;
        }
        let mut sizes = Sizes::new();
        for places in &self.rules.symbols {
            let mut size = None;
            for &(argument, axis) in places {
                let n = *arguments.get(argument as usize)?.shape.get(axis as usize)? as i64;
                if !ordinary(n) || *size.get_or_insert(n) != n {
                    return None;
                }
            }
            sizes.push(size?);
        }
        Some(sizes)
    }
}

type ByPlace = std::collections::HashMap<(u32, u32), char>;

fn get(number: &Number<'_>) -> Value {
    match number {
        Number::Int(n) => Value::Int(**n),
        Number::Float(f) => Value::Float(**f),
        Number::Scalar(s) => Value::Scalar(**s),
    }
}

fn write(number: Number<'_>, value: Value) {
    match (number, value) {
        (Number::Int(n), Value::Int(m)) => *n = m,
        (Number::Float(f), Value::Float(g)) => *f = g,
        (Number::Scalar(s), Value::Scalar(t)) => *s = t,
        _ => {}
    }
}

/// The numbers of a program.
fn read(program: &mut Program) -> Vec<Value> {
    let mut all = Vec::new();
    program.numbers(&mut |number| all.push(get(&number)));
    all
}

fn of_forms(forms: &mut [Form], visit: &mut dyn FnMut(Number<'_>)) {
    for n in forms.iter_mut().flat_map(|f| f.shape.iter_mut()) {
        let mut length = *n as i64;
        visit(Number::Int(&mut length));
        // A negative length is larger than what any array can have, and is found by the check.
        *n = usize::try_from(length).unwrap_or(usize::MAX);
    }
}

impl Program {
    /// Shows every number that may follow the lengths of arguments, in a fixed order, to be read or replaced.
    fn numbers(&mut self, visit: &mut dyn FnMut(Number<'_>)) {
        of_forms(&mut self.arguments, visit);
        of_forms(&mut self.constants, visit);
        for step in &mut self.steps {
            step.numbers(visit);
        }
    }

    /// Where the number `i` stands, in words.
    fn place(&self, i: usize) -> String {
        let mut program = self.clone();
        let (mut count, mut place) = (0, "a length".to_string());
        of_forms(&mut program.arguments, &mut |_| count += 1);
        of_forms(&mut program.constants, &mut |_| count += 1);
        for step in &mut program.steps {
            let before = count;
            step.numbers(&mut |_| count += 1);
            if (before..count).contains(&i) {
                place = format!("what {} does", step.work.name());
            }
        }
        place
    }
}

impl Step {
    fn numbers(&mut self, visit: &mut dyn FnMut(Number<'_>)) {
        match &mut self.work {
            Work::Prim(prim) => prim.numbers(visit),
            Work::StopGradient => {}
            Work::Call { body, .. } => body.numbers(visit),
            Work::Scan { body, length, .. } => {
                let mut steps = *length as i64;
                visit(Number::Int(&mut steps));
                *length = steps as u64;
                body.numbers(visit);
            }
            Work::While { condition, body, .. } => {
                condition.numbers(visit);
                body.numbers(visit);
            }
            Work::Branch { then, other, .. } => {
                then.numbers(visit);
                other.numbers(visit);
            }
        }
        of_forms(&mut self.outputs, visit);
    }
}
