//! A function as a graph of its own: traced once, then run, rebuilt or walked as often as wanted.
//!
//! Tracing calls the function with placeholders, arrays that have a shape and a dtype but no value.
//! What depends on a placeholder is *inside* the graph; every other array that the function used is a
//! *capture*, an input like the arguments. The graph can be run on data directly ([`Graph::run`]), and
//! it can be written out again as ordinary nodes on other arrays ([`Graph::replay`]), which is how
//! transforms see through it.

use crate::device::choice::{Places, Scope, within};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::claim::{Ids, Role, Value};
use crate::eval::plan::{Plan, plan};
use crate::eval::{fusion, run::run_closed};
use crate::node::{Array, Data, Inputs, Node, Op};
use crate::scope::call_site;
use crate::trace::Running;
use lazul_ir::{DType, Prim, Shape};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

/// Shape and dtype of an array that is not there yet.
pub(crate) type Spec = (Shape, DType);

pub(crate) fn spec(a: &Array) -> Spec {
    (a.0.shape.clone(), a.0.dtype)
}

/// Nodes by address, valid while the arrays are alive.
pub(crate) type ByNode<T> = HashMap<*const Node, T>;

pub(crate) fn address(a: &Array) -> *const Node {
    Arc::as_ptr(&a.0)
}

/// A traced function.
pub(crate) struct Graph {
    /// The placeholders.
    pub(crate) arguments: Vec<Array>,
    /// Arrays from outside that the function used.
    pub(crate) captures: Vec<Array>,
    pub(crate) outputs: Vec<Array>,
    /// Nodes that depend on arguments, inputs first, with what they are made of.
    pub(crate) steps: Vec<GraphStep>,
    /// The form to run, with and without fusion.
    closed: [OnceLock<Closed>; 2],
}

/// One node inside.
#[derive(Clone)]
pub(crate) struct GraphStep {
    pub(crate) node: Array,
    pub(crate) op: Op,
    pub(crate) inputs: Inputs,
}

/// A graph written down for running.
struct Closed {
    values: Vec<Value>,
    plan: Plan,
    /// Numbers of arguments, then captures.
    leaves: Vec<u32>,
    outputs: Vec<u32>,
}

impl Graph {
    /// Traces `f` for arguments of these shapes and dtypes.
    #[track_caller]
    pub(crate) fn trace(
        arguments: &[Spec],
        f: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    ) -> Result<Graph> {
        Graph::trace_at(call_site(), arguments, f)
    }

    /// As [`Graph::trace`], for a caller on the line `site`.
    pub(crate) fn trace_at(
        site: &'static Location<'static>,
        arguments: &[Spec],
        f: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    ) -> Result<Graph> {
        let running = Running::start();
        let arguments: Vec<Array> = arguments
            .iter()
            .map(|(shape, dtype)| Array::placeholder(shape.clone(), *dtype, &running.0, site))
            .collect();
        let outputs = f(&arguments)?;
        outputs.iter().try_for_each(|o| o.check())?;
        Ok(Graph::from_parts(arguments, outputs, running.0.id))
    }

    fn from_parts(arguments: Vec<Array>, outputs: Vec<Array>, trace: u64) -> Graph {
        let inside = dependents(&outputs, &arguments, trace);
        let mut known: ByNode<()> = arguments.iter().map(|a| (address(a), ())).collect();
        inside.iter().for_each(|s| {
            known.insert(address(&s.node), ());
        });
        let mut captures = Vec::new();
        let used = inside.iter().flat_map(|s| s.inputs.iter()).chain(&outputs);
        for array in used {
            if known.insert(address(array), ()).is_none() {
                captures.push(array.clone());
            }
        }
        let closed = [OnceLock::new(), OnceLock::new()];
        Graph { arguments, captures, outputs, steps: inside, closed }
    }

    /// The graph with equal steps computed once.
    pub(crate) fn without_repeats(self) -> Graph {
        let mut first: HashMap<(Prim, Vec<*const Node>, Spec), Array> = HashMap::new();
        let mut now: ByNode<Array> = ByNode::new();
        let mut steps: Vec<GraphStep> = Vec::with_capacity(self.steps.len());
        let Graph { arguments, captures, outputs, steps: old, .. } = self;
        // Replaced nodes stay alive to the end: their addresses are keys.
        let mut replaced = Vec::new();
        for mut step in old {
            for input in &mut step.inputs {
                if let Some(other) = now.get(&address(input)) {
                    *input = other.clone();
                }
            }
            if let Op::Prim(prim) = &step.op
                && step.node.0.more.is_empty()
            {
                let inputs = step.inputs.iter().map(address).collect();
                let key = (prim.clone(), inputs, spec(&step.node));
                if let Some(other) = first.get(&key) {
                    now.insert(address(&step.node), other.clone());
                    replaced.push(step.node);
                    continue;
                }
                first.insert(key, step.node.clone());
            }
            steps.push(step);
        }
        let swap = |a: Array| now.get(&address(&a)).cloned().unwrap_or(a);
        let outputs = outputs.into_iter().map(swap).collect();
        drop(replaced);
        Graph { arguments, captures, outputs, steps, closed: [OnceLock::new(), OnceLock::new()] }
    }

    /// The graph as ordinary nodes, with these arrays for arguments and captures.
    pub(crate) fn replay(&self, arguments: &[Array], captures: &[Array]) -> Vec<Array> {
        let mut now: ByNode<Array> = ByNode::with_capacity(self.steps.len());
        for (old, new) in self.arguments.iter().zip(arguments) {
            now.insert(address(old), new.clone());
        }
        for (old, new) in self.captures.iter().zip(captures) {
            now.insert(address(old), new.clone());
        }
        let at = |now: &ByNode<Array>, a: &Array| now.get(&address(a)).unwrap_or(a).clone();
        for step in &self.steps {
            let inputs: Inputs = step.inputs.iter().map(|i| at(&now, i)).collect();
            let made = step.node.rebuilt(step.op.clone(), inputs);
            now.insert(address(&step.node), made);
        }
        self.outputs.iter().map(|o| at(&now, o)).collect()
    }

    /// Runs the graph on the data of arguments and captures, in that order.
    pub(crate) fn run(&self, inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        let fuse = fusion();
        let closed = self.closed[fuse as usize].get_or_init(|| self.close(fuse));
        if closed.leaves.len() != inputs.len() {
            return Err(Error::new(ErrorKind::Internal, "eval", "a function lacks an argument"));
        }
        let leaves = closed.leaves.iter().copied().zip(inputs);
        run_closed(&closed.values, &closed.plan, leaves, &closed.outputs, places)
    }

    fn close(&self, fuse: bool) -> Closed {
        let mut numbers: ByNode<u32> = ByNode::new();
        let mut values: Vec<Value> = Vec::new();
        let mut add = |node: &Array, role: Role, numbers: &mut ByNode<u32>| -> u32 {
            let id = values.len() as u32;
            numbers.insert(address(node), id);
            let node = node.clone();
            values.push(Value { node, role, uses: 0, held: false, kept: false, needed: false });
            id
        };
        let leaves: Vec<u32> = self
            .arguments
            .iter()
            .chain(&self.captures)
            .map(|a| add(a, Role::Leaf, &mut numbers))
            .collect();
        for step in &self.steps {
            let ids: Ids = step.inputs.iter().map(|i| numbers[&address(i)]).collect();
            let role = Role::Step { op: step.op.clone(), inputs: step.inputs.clone(), ids };
            add(&step.node, role, &mut numbers);
        }
        let outputs: Vec<u32> = self.outputs.iter().map(|o| numbers[&address(o)]).collect();
        let uses: Vec<u32> = values
            .iter()
            .flat_map(|v| match &v.role {
                Role::Step { ids, .. } => ids.to_vec(),
                Role::Leaf => Vec::new(),
            })
            .collect();
        uses.iter().for_each(|&i| values[i as usize].uses += 1);
        outputs.iter().for_each(|&o| values[o as usize].held = true);
        let plan = plan(&values, fuse);
        Closed { values, plan, leaves, outputs }
    }
}

/// The nodes between `outputs` and `leaves`: those that depend on a leaf, inputs first. Marks of `trace`
/// or later are the only nodes that can.
pub(crate) fn dependents(outputs: &[Array], leaves: &[Array], trace: u64) -> Vec<GraphStep> {
    struct Frame {
        node: Array,
        op: Op,
        inputs: Inputs,
        next: usize,
        depends: bool,
    }
    let mut known: ByNode<bool> = leaves.iter().map(|l| (address(l), true)).collect();
    let mut steps = Vec::new();
    let mut stack: Vec<Frame> = Vec::new();
    // Whether a node depends on a leaf, if that is known without looking at its inputs.
    let quick = |known: &ByNode<bool>, a: &Array| -> Option<bool> {
        if let Some(depends) = known.get(&address(a)) {
            return Some(*depends);
        }
        match &a.0.trace {
            Some(t) if t.id >= trace => None,
            _ => Some(false),
        }
    };
    for output in outputs {
        if quick(&known, output).is_some() {
            continue;
        }
        let mut open = Some(output.clone());
        loop {
            if let Some(node) = open.take() {
                match node.origin() {
                    Some((op, inputs)) => {
                        stack.push(Frame { node, op, inputs, next: 0, depends: false });
                    }
                    None => {
                        known.insert(address(&node), false);
                    }
                }
            }
            let Some(frame) = stack.last_mut() else { break };
            match frame.inputs.get(frame.next) {
                Some(input) => match quick(&known, input) {
                    Some(depends) => {
                        frame.depends |= depends;
                        frame.next += 1;
                    }
                    None => open = Some(input.clone()),
                },
                None => {
                    let Some(Frame { node, op, inputs, depends, .. }) = stack.pop() else { break };
                    known.insert(address(&node), depends);
                    if depends {
                        steps.push(GraphStep { node, op, inputs });
                    }
                }
            }
        }
    }
    steps
}

impl Array {
    /// A node like this one on other inputs.
    pub(crate) fn rebuilt(&self, op: Op, inputs: Inputs) -> Array {
        let node = &self.0;
        let build = || {
            if node.more.is_empty() {
                return Array::lazy(op, inputs, node.shape.clone(), node.dtype, node.site);
            }
            let outputs: Vec<Spec> =
                [spec(self)].into_iter().chain(node.more.iter().cloned()).collect();
            Array::group(op, inputs, &outputs, node.site)
        };
        if node.scope == Scope::NONE { build() } else { within(node.scope, build) }
    }
}
