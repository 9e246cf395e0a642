//! Taking the nodes of an evaluation, and writing them down as a numbered program.

use super::Ticket;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs, Op, State};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

/// Numbers of a step's inputs.
pub(crate) type Ids = SmallVec<[u32; 3]>;

/// A node that takes part in an evaluation.
pub(crate) struct Value {
    pub(crate) node: Array,
    pub(crate) role: Role,
    /// How many inputs of steps are this value.
    pub(crate) uses: u32,
    /// Whether somebody outside the program can see a step's node.
    pub(crate) held: bool,
    /// Whether a step's node keeps its operation and inputs, for a transform that looks at it.
    pub(crate) kept: bool,
    /// Whether such a node has this one for an input.
    pub(crate) needed: bool,
}

/// What a value is in its program.
pub(crate) enum Role {
    /// Evaluated before, or by another program that this one waits for.
    Leaf,
    /// Computed here.
    Step { op: Op, inputs: Inputs, ids: Ids },
}

/// Claimed nodes in an order in which inputs come before what is made of them.
pub(crate) struct Program {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) values: Vec<Value>,
    /// Other evaluations whose results are leaves here.
    pub(crate) waits: Vec<Arc<Ticket>>,
    /// Hash of the program's form.
    pub(crate) hash: u64,
}

/// The lock of all claims, and the number of the next ticket.
static CLAIMS: Mutex<u64> = Mutex::new(1);

/// Claims what `roots` need; `None` if they are all there.
pub(crate) fn claim(roots: &[&Array]) -> Result<Option<Program>> {
    roots.iter().try_for_each(|r| r.check())?;
    if roots.iter().all(|r| r.is_ready()) {
        return Ok(None);
    }
    let mut next = CLAIMS.lock().unwrap_or_else(|e| e.into_inner());
    let ticket = Arc::new(Ticket::new(*next));
    *next += 1;
    let mut program = Program { ticket, values: Vec::new(), waits: Vec::new(), hash: 0 };
    let mut stack: Vec<Frame> = Vec::new();
    let mut hasher = FormHasher::default();
    let mut walk = || -> Result<()> {
        for root in roots {
            program.enter(root, &mut stack)?;
            while let Some(frame) = stack.last_mut() {
                if let Some(input) = frame.inputs.get(frame.ids.len()) {
                    if let Some(id) = program.visited(input) {
                        frame.ids.push(id);
                        continue;
                    }
                    let input = input.clone();
                    // Otherwise the input is a frame now; its number is asked for when it is done.
                    if let Some(id) = program.enter(&input, &mut stack)? {
                        stack.last_mut().expect("the frame is there").ids.push(id);
                    }
                    continue;
                }
                let frame = stack.pop().expect("the frame is there");
                program.finish(frame, &mut hasher);
            }
        }
        Ok(())
    };
    if let Err(error) = walk() {
        for frame in stack {
            *frame.node.0.lock() = State::Lazy { op: frame.op, inputs: frame.inputs };
        }
        return Err(error);
    }
    for value in &mut program.values {
        value.held = value.needed || Arc::strong_count(&value.node.0) > 1 + value.uses as usize;
        if matches!(value.role, Role::Step { .. }) {
            value.held.hash(&mut hasher);
        }
    }
    program.hash = hasher.finish();
    drop(next);
    Ok(Some(program))
}

/// A node whose inputs are being visited.
struct Frame {
    node: Array,
    op: Op,
    inputs: Inputs,
    ids: Ids,
}

impl Program {
    /// The number of `array`, if it has one.
    fn visited(&self, array: &Array) -> Option<u32> {
        let node = &array.0;
        (node.visit.load(Relaxed) == self.ticket.id).then(|| node.number.load(Relaxed))
    }

    /// The number of `array`, or `None` after putting it on the stack.
    fn enter(&mut self, array: &Array, stack: &mut Vec<Frame>) -> Result<Option<u32>> {
        let node = &array.0;
        if let Some(id) = self.visited(array) {
            return Ok(Some(id));
        }
        let mut state = node.lock();
        match &mut *state {
            State::Lazy { op: Op::Placeholder, .. } => {
                let message = "this array stands for an argument of a function that is being \
                               compiled, vectorised or made a loop of, and has no value there";
                return Err(Error::new(ErrorKind::Value, "eval", message).at(node.site));
            }
            State::Lazy { .. } => {
                let claimed = State::Claimed(self.ticket.clone());
                let State::Lazy { op, inputs } = std::mem::replace(&mut *state, claimed) else {
                    unreachable!("the state was just read")
                };
                drop(state);
                stack.push(Frame { node: array.clone(), op, inputs, ids: Ids::new() });
                return Ok(None);
            }
            State::Claimed(other) => {
                if self.waits.last().is_none_or(|w| w.id != other.id)
                    && self.waits.iter().all(|w| w.id != other.id)
                {
                    self.waits.push(other.clone());
                }
            }
            State::Ready { .. } => {}
            State::Failed(e) => return Err(e.clone()),
            State::Consumed => {
                let message = "this array's memory was given to an operation that then failed";
                return Err(Error::new(ErrorKind::Value, "eval", message).at(node.site));
            }
        }
        drop(state);
        Ok(Some(self.number(array.clone(), Role::Leaf)))
    }

    fn number(&mut self, node: Array, role: Role) -> u32 {
        let id = self.values.len() as u32;
        node.0.visit.store(self.ticket.id, Relaxed);
        node.0.number.store(id, Relaxed);
        self.values.push(Value { node, role, uses: 0, held: false, kept: false, needed: false });
        id
    }

    fn finish(&mut self, frame: Frame, hasher: &mut FormHasher) {
        let Frame { node, op, inputs, ids } = frame;
        let kept = node.0.trace.as_ref().is_some_and(|t| t.is_live());
        for &id in &ids {
            let input = &mut self.values[id as usize];
            input.uses += 1;
            // A node that keeps its inputs keeps their values.
            input.needed |= kept;
            hasher.write_u32(id);
        }
        op_key(&op).hash(hasher);
        node.0.dtype.hash(hasher);
        node.0.shape.hash(hasher);
        node.0.scope.choice.hash(hasher);
        let id = self.number(node, Role::Step { op, inputs, ids });
        self.values[id as usize].kept = kept;
    }
}

/// Steps that nobody computed are lazy again.
impl Drop for Program {
    fn drop(&mut self) {
        for value in &mut self.values {
            if let Role::Step { op, inputs, .. } = std::mem::replace(&mut value.role, Role::Leaf) {
                *value.node.0.lock() = State::Lazy { op, inputs };
            }
        }
    }
}

/// The part of an operation that its plan depends on.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum OpKey<'a> {
    Prim(&'a lazul_ir::Prim),
    Pick(u32),
    Load,
    Identity,
    /// Functions run by themselves: all that a plan knows of one is where it is.
    Control,
}

pub(crate) fn op_key(op: &Op) -> OpKey<'_> {
    match op {
        Op::Prim(p) => OpKey::Prim(p),
        Op::Pick(i) => OpKey::Pick(*i),
        Op::Load(_) => OpKey::Load,
        Op::Identity { .. } => OpKey::Identity,
        // Placeholders are never claimed.
        Op::Control(_) | Op::Placeholder => OpKey::Control,
    }
}

/// A quick hash for program forms: collisions cost a comparison, nothing more.
#[derive(Default)]
pub(crate) struct FormHasher(u64);

impl Hasher for FormHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(v as u64);
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v as u64);
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
