//! Functions as data: traced, written down, read again, called.
//!
//! A [`Program`] is what is left of a function when its code is taken away: numbered values, and for each
//! step what is computed from which of them. Values `0..arguments` are the arguments, those after them the
//! constants (arrays that the function used from outside), then come the results of the steps in order.
//! A loop or a branch is one step with programs of its own, whose arguments are what the step is given.
//!
//! What comes from a file is checked as a whole before anything of it runs ([`Program::check`]): every
//! number names an earlier value, and every step's shapes and dtypes are those that its operation
//! gives. Nothing that passes can lead a kernel out of its operands.

mod family;
mod size;

pub(crate) use family::Sample;
pub use family::{Family, Rules};

use crate::control::graph::{Graph, GraphStep, Spec, address, spec};
use crate::control::{Control, branch, call, scan, whiles};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs, Op};
use crate::scope::call_site;
use crate::tree::{IntoResult, Tree};
use lazul_ir::{DType, Prim, Shape, check};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

/// Shape and dtype of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Form {
    /// The shape.
    pub shape: Shape,
    /// The dtype.
    pub dtype: DType,
}

impl Form {
    /// That of an array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let form = Form::of(&zeros([2, 3], DType::F16))?;
    /// assert_eq!((form.to_string(), form.dtype), ("float16(2,3)".to_string(), DType::F16));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the array has failed.
    pub fn of(array: &Array) -> Result<Form> {
        Ok(Form { shape: Shape::new(array.shape()?), dtype: array.dtype()? })
    }

    fn spec(&self) -> Spec {
        (self.shape.clone(), self.dtype)
    }

    fn from_spec((shape, dtype): Spec) -> Form {
        Form { shape, dtype }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// A traced function, without the values of its constants.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Program {
    /// The arguments' shapes and dtypes.
    pub arguments: Vec<Form>,
    /// Those of the constants; the programs of loops and branches have none.
    pub constants: Vec<Form>,
    steps: Vec<Step>,
    outputs: Vec<u32>,
}

#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
struct Step {
    work: Work,
    inputs: Vec<u32>,
    outputs: Vec<Form>,
}

/// What a step does.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
enum Work {
    Prim(Prim),
    /// The value itself, through which no gradient passes.
    StopGradient,
    /// A call of another function.
    Call {
        checkpoint: bool,
        body: Program,
    },
    /// A loop over first axes. Inputs: carries, what is looped over, the rest of the body's arguments.
    /// Outputs: carries, stacked results, and with `history` the carries before each step, stacked.
    Scan {
        body: Program,
        carries: u32,
        xs: u32,
        length: u64,
        reverse: bool,
        history: bool,
    },
    /// A loop while `condition` gives true. Inputs: `values`, `captures` of the condition, those of the
    /// body.
    While {
        condition: Program,
        body: Program,
        values: u32,
        captures: u32,
    },
    /// Inputs: a condition, `arguments`, `captures` of `then`, those of `other`.
    Branch {
        then: Program,
        other: Program,
        arguments: u32,
        captures: u32,
    },
}

impl Program {
    /// Traces `f` on arguments with the shapes and dtypes of the leaves of `example`, in the tree's order.
    /// The second result are the constants: whatever arrays `f` used that are not its arguments.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::Program;
    /// let w = arange(3, DType::F32);
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, constants) = Program::trace(|x: &Array| (x * &w).sum(1), &x)?;
    /// assert_eq!((program.arguments.len(), constants.len()), (1, 1));
    /// let y = program.call(&[ones([2, 3], DType::F32)], &constants)?;
    /// assert_eq!(y[0].to_vec::<f32>()?, [3.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `f`; if it calls a [`custom_function`](crate::custom_function), whose rules are code.
    #[track_caller]
    pub fn trace<T: Tree, O: Tree, R: IntoResult<O>>(
        f: impl FnOnce(&T) -> R,
        example: &T,
    ) -> Result<(Program, Vec<Array>)> {
        let site = call_site();
        let leaves: Vec<Array> = example.leaves().into_iter().cloned().collect();
        leaves.iter().try_for_each(|l| l.check())?;
        let specs: Vec<Spec> = leaves.iter().map(spec).collect();
        let graph = Graph::trace_at(site, &specs, |given| {
            let value = f(&example.with_leaves(given.iter().cloned())).into_result()?;
            Ok(value.leaves().into_iter().cloned().collect())
        })?;
        let mut program = Program::of(&graph).map_err(|e| e.at(site))?;
        program.constants = program.arguments.split_off(leaves.len());
        Ok((program, graph.captures))
    }

    /// The shapes and dtypes of the results.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, _) = Program::trace(|x: &Array| x.exp().sum(1), &x)?;
    /// assert_eq!(program.outputs(), [Form::of(&zeros(2, DType::F32))?]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn outputs(&self) -> Vec<Form> {
        let all: Vec<&Form> = self.values().collect();
        self.outputs.iter().filter_map(|&i| all.get(i as usize).map(|f| (*f).clone())).collect()
    }

    /// Number of steps, not counting those of loops and branches.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, _) = Program::trace(|x: &Array| x.exp().sum(1), &x)?;
    /// assert!(program.len() >= 2);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is computed.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, _) = Program::trace(|x: &Array| x.clone(), &x)?;
    /// assert!(program.is_empty());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The values' shapes and dtypes, in the order of their numbers.
    fn values(&self) -> impl Iterator<Item = &Form> {
        let made = self.steps.iter().flat_map(|s| &s.outputs);
        self.arguments.iter().chain(&self.constants).chain(made)
    }

    /// The program of a graph; captures are its last arguments.
    fn of(graph: &Graph) -> Result<Program> {
        Program::of_parts(&graph.arguments, &graph.captures, &graph.steps, &graph.outputs)
    }

    fn of_parts(
        arguments: &[Array],
        captures: &[Array],
        steps: &[GraphStep],
        outputs: &[Array],
    ) -> Result<Program> {
        let mut program = Program {
            arguments: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            outputs: Vec::new(),
        };
        let mut numbers: HashMap<*const crate::node::Node, u32> = HashMap::new();
        let mut count = 0u32;
        for leaf in arguments.iter().chain(captures) {
            // An array that is an argument twice has two numbers; either will do.
            numbers.insert(address(leaf), count);
            program.arguments.push(Form::from_spec(spec(leaf)));
            count += 1;
        }
        for step in steps {
            let inputs: Vec<u32> = step.inputs.iter().map(|i| numbers[&address(i)]).collect();
            let at = address(&step.node);
            let work = match &step.op {
                Op::Identity { stop: false } => {
                    numbers.insert(at, inputs[0]);
                    continue;
                }
                Op::Pick(i) => {
                    numbers.insert(at, inputs[0] + i);
                    continue;
                }
                Op::Identity { stop: true } => Work::StopGradient,
                Op::Prim(prim) => Work::Prim(prim.clone()),
                Op::Control(control) => Program::of_control(control)?,
                Op::Load(_) | Op::Placeholder => {
                    let why = format!("{} in the middle of a function", step.op.name());
                    return Err(Error::new(ErrorKind::Internal, OP, why));
                }
            };
            let more = step.node.0.more.iter().cloned();
            let outputs: Vec<Form> =
                [spec(&step.node)].into_iter().chain(more).map(Form::from_spec).collect();
            numbers.insert(at, count);
            count += outputs.len() as u32;
            program.steps.push(Step { work, inputs, outputs });
        }
        program.outputs = outputs.iter().map(|o| numbers[&address(o)]).collect();
        Ok(program)
    }

    fn of_control(control: &Control) -> Result<Work> {
        Ok(match control {
            Control::Call(c) => {
                Work::Call { checkpoint: c.name == "checkpoint", body: Program::of(&c.graph)? }
            }
            Control::Scan(s) => Work::Scan {
                body: Program::of(&s.body)?,
                carries: s.carries as u32,
                xs: s.xs as u32,
                length: s.length as u64,
                reverse: s.reverse,
                history: s.history,
            },
            Control::While(w) => Work::While {
                condition: Program::of(&w.condition)?,
                body: Program::of(&w.body)?,
                values: w.body.arguments.len() as u32,
                captures: w.condition.captures.len() as u32,
            },
            Control::Branch(b) => Work::Branch {
                then: Program::of(&b.then)?,
                other: Program::of(&b.other)?,
                arguments: b.then.arguments.len() as u32,
                captures: b.then.captures.len() as u32,
            },
            Control::Custom(_) => {
                let why = "a custom function's rules are code, which cannot be written down";
                return Err(Error::new(ErrorKind::Value, OP, why));
            }
            Control::Kernel(_) => {
                let why =
                    "files hold no kernels of users; export the fallback's operations instead";
                return Err(Error::new(ErrorKind::Value, OP, why));
            }
        })
    }

    /// Checks all of it. A program that was read must be checked before it is called.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, _) = Program::trace(|x: &Array| x.exp().sum(1), &x)?;
    /// assert!(program.check().is_ok());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a number names no earlier value, or a step's shapes or dtypes are not those of its operation.
    pub fn check(&self) -> Result<()> {
        let mut values: Vec<Form> = Vec::new();
        for form in self.arguments.iter().chain(&self.constants) {
            if !form.shape.is_countable() {
                return broken(format!("{form} is too large"));
            }
            values.push(form.clone());
        }
        for (i, step) in self.steps.iter().enumerate() {
            let find = |&n: &u32| values.get(n as usize).cloned();
            let Some(inputs) = step.inputs.iter().map(find).collect::<Option<Vec<Form>>>() else {
                return broken(format!("step {i} reads a value that is not there yet"));
            };
            if step.outputs.is_empty() {
                return broken(format!("step {i} gives nothing"));
            }
            step.check(&inputs)?;
            values.extend(step.outputs.iter().cloned());
        }
        if self.outputs.iter().any(|&o| o as usize >= values.len()) {
            return broken("a result is not among the values");
        }
        Ok(())
    }

    /// Calls a checked program: lazy arrays, as if the function had been called.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::program::{Form, Program};
    /// let x = zeros([2, 3], DType::F32);
    /// let (program, constants) = Program::trace(|x: &Array| x.exp().sum(1), &x)?;
    /// let y = program.call(&[x.clone()], &constants)?;
    /// assert_eq!(y[0].to_vec::<f32>()?, [3.0, 3.0]);
    /// assert!(program.call(&[x.t()], &constants).is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If arguments or constants differ in number, shape or dtype from the program's.
    #[track_caller]
    pub fn call(&self, arguments: &[Array], constants: &[Array]) -> Result<Vec<Array>> {
        let site = call_site();
        let fits = |given: &[Array], wanted: &[Form], what: &str| -> Result<()> {
            given.iter().try_for_each(|a| a.check())?;
            let same = given.len() == wanted.len()
                && given.iter().zip(wanted).all(|(a, f)| spec(a) == f.spec());
            if same {
                return Ok(());
            }
            let wanted: Vec<String> = wanted.iter().map(Form::to_string).collect();
            let why = format!("the {what} must be {}", wanted.join(", "));
            let given: Vec<&Array> = given.iter().collect();
            Err(crate::ops::error(ErrorKind::Shape, CALL, why, &given).at(site))
        };
        fits(arguments, &self.arguments, "arguments")?;
        fits(constants, &self.constants, "constants")?;
        self.replay(&[arguments, constants].concat(), site)
    }

    /// The steps as nodes.
    fn replay(&self, leaves: &[Array], site: &'static Location<'static>) -> Result<Vec<Array>> {
        let mut values = leaves.to_vec();
        for step in &self.steps {
            let inputs: Inputs = step.inputs.iter().map(|&i| values[i as usize].clone()).collect();
            let outputs: Vec<Spec> = step.outputs.iter().map(Form::spec).collect();
            let op = match &step.work {
                Work::Prim(prim) => Op::Prim(prim.clone()),
                Work::StopGradient => Op::Identity { stop: true },
                Work::Call { checkpoint: false, body } => {
                    values.extend(body.replay(&inputs, site)?);
                    continue;
                }
                control => Op::Control(Arc::new(control.control(&inputs, site)?)),
            };
            match &outputs[..] {
                [(shape, dtype)] if !matches!(op, Op::Control(_)) => {
                    values.push(Array::lazy(op, inputs, shape.clone(), *dtype, site));
                }
                _ => values.extend(Array::lazy_many(op, inputs, &outputs, site)),
            }
        }
        Ok(self.outputs.iter().map(|&o| values[o as usize].clone()).collect())
    }

    /// A graph of its own, whose last arguments are captures from `arguments` on.
    fn graph(
        &self,
        arguments: usize,
        inputs: impl Iterator<Item = Array>,
        site: &'static Location<'static>,
    ) -> Result<Arc<Graph>> {
        let specs: Vec<Spec> = self.arguments.iter().map(Form::spec).collect();
        let mut graph = Graph::trace_at(site, &specs, |given| self.replay(given, site))?;
        let placeholders = graph.arguments.split_off(arguments);
        let given: Vec<Array> = inputs.collect();
        debug_assert_eq!(placeholders.len(), given.len());
        // A capture's value is given by whoever calls the graph; only its form counts here.
        graph.captures = placeholders;
        Ok(Arc::new(graph))
    }
}

const OP: &str = "export_function";
const CALL: &str = "imported function";

fn broken<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Value, "import_function", why))
}

/// `form` with a new first axis, or `None` if it would be too large.
fn stacked(form: &Form, length: u64) -> Option<Form> {
    let length = usize::try_from(length).ok()?;
    let mut dims = form.shape.to_vec();
    dims.insert(0, length);
    let shape = Shape::new(&dims);
    shape.is_countable().then_some(Form { shape, dtype: form.dtype })
}

/// A step that does not hold together.
fn wrong<T>(name: &str, why: &str) -> Result<T> {
    broken(format!("{name}: {why}"))
}

impl Step {
    fn check(&self, inputs: &[Form]) -> Result<()> {
        let name = self.work.name();
        // A program of a loop or a branch: its arguments, and what it gives.
        let body = |program: &Program, given: &[&[Form]]| -> Result<Vec<Form>> {
            if !program.constants.is_empty() {
                return wrong(name, "a function within has constants");
            }
            if program.arguments != given.concat() {
                return wrong(name, "what a function within is given differs from its arguments");
            }
            program.check()?;
            Ok(program.outputs())
        };
        let gives = |expected: &[Form]| {
            if self.outputs == expected { Ok(()) } else { wrong(name, "its results are others") }
        };
        let one_bool =
            |form: &Form| form.dtype == DType::Bool && form.shape.checked_size() == Some(1);
        match &self.work {
            Work::Prim(prim) => {
                let specs = |forms: &[Form]| forms.iter().map(Form::spec).collect::<Vec<_>>();
                check(prim, &specs(inputs), &specs(&self.outputs))
            }
            Work::StopGradient => match inputs {
                [input] => gives(std::slice::from_ref(input)),
                _ => wrong(name, "it has one operand"),
            },
            Work::Call { body: program, .. } => gives(&body(program, &[inputs])?),
            Work::Scan { body: program, carries, xs, length, history, .. } => {
                let (carries, xs) = (*carries as usize, *xs as usize);
                if carries.saturating_add(xs) > inputs.len() {
                    return wrong(name, "an operand is missing");
                }
                let (init, rest) = inputs.split_at(carries);
                let (over, captures) = rest.split_at(xs);
                let mut slices = Vec::new();
                for x in over {
                    let Some((&first, rest)) = x.shape.split_first() else {
                        return wrong(name, "what is looped over has no first axis");
                    };
                    if first as u64 != *length {
                        return wrong(name, "what is looped over has another length");
                    }
                    slices.push(Form { shape: Shape::new(rest), dtype: x.dtype });
                }
                let made = body(program, &[init, &slices, captures])?;
                if made.len() < carries || made[..carries] != *init {
                    return wrong(name, "a step changes what it carries");
                }
                let more = if *history { init } else { &[] };
                let stacks = made[carries..].iter().chain(more).map(|f| stacked(f, *length));
                let Some(stacks) = stacks.collect::<Option<Vec<Form>>>() else {
                    return wrong(name, "a result is too large");
                };
                gives(&[init, &stacks].concat())
            }
            Work::While { condition, body: program, values, captures } => {
                let (values, captures) = (*values as usize, *captures as usize);
                if values.saturating_add(captures) > inputs.len() {
                    return wrong(name, "an operand is missing");
                }
                let (init, rest) = inputs.split_at(values);
                let (of_condition, of_body) = rest.split_at(captures);
                match &body(condition, &[init, of_condition])?[..] {
                    [go] if one_bool(go) => {}
                    _ => return wrong(name, "the condition is not one bool"),
                }
                if body(program, &[init, of_body])? != init {
                    return wrong(name, "a step changes a shape or dtype");
                }
                gives(init)
            }
            Work::Branch { then, other, arguments, captures } => {
                let (arguments, captures) = (*arguments as usize, *captures as usize);
                let Some((condition, rest)) = inputs.split_first() else {
                    return wrong(name, "an operand is missing");
                };
                if !one_bool(condition) || arguments.saturating_add(captures) > rest.len() {
                    return wrong(name, "the condition is not one bool, or an operand is missing");
                }
                let (given, rest) = rest.split_at(arguments);
                let (of_then, of_other) = rest.split_at(captures);
                let made = body(then, &[given, of_then])?;
                if body(other, &[given, of_other])? != made {
                    return wrong(name, "the two functions give different shapes or dtypes");
                }
                gives(&made)
            }
        }
    }
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Work::Prim(prim) => prim.name(),
            Work::StopGradient => "stop_gradient",
            Work::Call { checkpoint: true, .. } => "checkpoint",
            Work::Call { checkpoint: false, .. } => "compile",
            Work::Scan { .. } => "scan",
            Work::While { .. } => "while_loop",
            Work::Branch { .. } => "cond",
        }
    }

    /// The node of a loop, a branch or a checkpoint on these inputs.
    fn control(&self, inputs: &[Array], site: &'static Location<'static>) -> Result<Control> {
        let after = |n: usize| inputs.iter().skip(n).cloned();
        Ok(match self {
            Work::Prim(_) | Work::StopGradient => {
                let why = format!("{} holds no function", self.name());
                return Err(Error::new(ErrorKind::Internal, CALL, why));
            }
            Work::Call { body, .. } => {
                let graph = body.graph(inputs.len(), after(inputs.len()), site)?;
                Control::Call(call::Called { name: "checkpoint", graph })
            }
            Work::Scan { body, carries, xs, length, reverse, history } => {
                let (carries, xs) = (*carries as usize, *xs as usize);
                let body = body.graph(carries + xs, after(carries + xs), site)?;
                let (length, reverse, history) = (*length as usize, *reverse, *history);
                Control::Scan(scan::Scan { body, carries, xs, length, reverse, history })
            }
            Work::While { condition, body, values, captures } => {
                let (values, captures) = (*values as usize, *captures as usize);
                let of_condition = after(values).take(captures);
                let condition = condition.graph(values, of_condition, site)?;
                let body = body.graph(values, after(values + captures), site)?;
                Control::While(whiles::While { condition, body })
            }
            Work::Branch { then, other, arguments, captures } => {
                let (arguments, captures) = (*arguments as usize, *captures as usize);
                let then = then.graph(arguments, after(1 + arguments).take(captures), site)?;
                let other = other.graph(arguments, after(1 + arguments + captures), site)?;
                Control::Branch(branch::Branch { then, other })
            }
        })
    }
}
