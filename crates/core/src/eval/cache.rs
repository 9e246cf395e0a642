//! Plans of programs seen before.

use super::claim::{Ids, OpKey, Program, Role, op_key};
use super::fusion;
use super::plan::{Plan, plan};
use crate::device::choice::Choice;
use lazul_ir::{DType, Prim, Shape};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Larger programs are planned each time: they are rarely repeated and their keys are large.
const LARGEST: usize = 1 << 16;
/// Values that all keys together may hold.
const CAPACITY: usize = 1 << 18;

#[derive(Default)]
struct Cache {
    entries: HashMap<(u64, bool), Arc<Entry>>,
    values: usize,
    clock: u64,
}

struct Entry {
    form: Vec<Form>,
    plan: Arc<Plan>,
    used: std::sync::atomic::AtomicU64,
}

/// What a plan depends on of one value.
#[derive(PartialEq)]
enum Form {
    Leaf { shape: Shape, dtype: DType },
    Step { op: Key, ids: Ids, shape: Shape, dtype: DType, held: bool, device: Choice },
}

#[derive(PartialEq)]
enum Key {
    Prim(Prim),
    Pick(u32),
    Load,
    Identity,
    Control,
}

impl Form {
    fn of(value: &super::claim::Value) -> Form {
        let node = &value.node.0;
        let (shape, dtype) = (node.shape.clone(), node.dtype);
        match &value.role {
            Role::Leaf => Form::Leaf { shape, dtype },
            Role::Step { op, ids, .. } => {
                let op = match op_key(op) {
                    OpKey::Prim(p) => Key::Prim(p.clone()),
                    OpKey::Pick(i) => Key::Pick(i),
                    OpKey::Load => Key::Load,
                    OpKey::Identity => Key::Identity,
                    OpKey::Control => Key::Control,
                };
                let (held, device) = (value.held, node.scope.choice);
                Form::Step { op, ids: ids.clone(), shape, dtype, held, device }
            }
        }
    }

    fn is(&self, value: &super::claim::Value) -> bool {
        let node = &value.node.0;
        match (self, &value.role) {
            (Form::Leaf { shape, dtype }, Role::Leaf) => {
                *shape == node.shape && *dtype == node.dtype
            }
            (
                Form::Step { op, ids, shape, dtype, held, device },
                Role::Step { op: op2, ids: ids2, .. },
            ) => {
                ids == ids2
                    && *held == value.held
                    && *device == node.scope.choice
                    && *dtype == node.dtype
                    && *shape == node.shape
                    && match (op, op_key(op2)) {
                        (Key::Prim(a), OpKey::Prim(b)) => a == b,
                        (Key::Pick(a), OpKey::Pick(b)) => *a == b,
                        (Key::Load, OpKey::Load)
                        | (Key::Identity, OpKey::Identity)
                        | (Key::Control, OpKey::Control) => true,
                        _ => false,
                    }
            }
            _ => false,
        }
    }
}

/// The plan of a program, from the cache where its form is known.
pub(super) fn plan_for(program: &Program) -> Arc<Plan> {
    static CACHE: Mutex<Option<Cache>> = Mutex::new(None);
    let n = program.values.len();
    let fuse = fusion();
    if n > LARGEST {
        return Arc::new(plan(&program.values, fuse));
    }
    let key = (program.hash, fuse);
    let found = {
        let mut cache = CACHE.lock().unwrap_or_else(|e| e.into_inner());
        let cache = cache.get_or_insert_default();
        cache.clock += 1;
        let clock = cache.clock;
        cache.entries.get(&key).inspect(|e| e.used.store(clock, super::Relaxed)).cloned()
    };
    if let Some(entry) = found
        && entry.form.len() == n
        && entry.form.iter().zip(&program.values).all(|(f, v)| f.is(v))
    {
        return entry.plan.clone();
    }
    let plan = Arc::new(plan(&program.values, fuse));
    let form: Vec<Form> = program.values.iter().map(Form::of).collect();
    let mut cache = CACHE.lock().unwrap_or_else(|e| e.into_inner());
    let cache = cache.get_or_insert_default();
    let entry = Entry { form, plan: plan.clone(), used: cache.clock.into() };
    cache.values += n;
    if let Some(old) = cache.entries.insert(key, Arc::new(entry)) {
        cache.values -= old.form.len();
    }
    while cache.values > CAPACITY {
        let oldest = cache.entries.iter().min_by_key(|(_, e)| e.used.load(super::Relaxed));
        let Some(key) = oldest.map(|(k, _)| *k) else { break };
        if let Some(old) = cache.entries.remove(&key) {
            cache.values -= old.form.len();
        }
    }
    plan
}
