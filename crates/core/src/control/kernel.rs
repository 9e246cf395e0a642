//! Kernels that a user wrote: a node that enqueues one on a device that can, and computes its fallback
//! elsewhere.

use super::graph::{Graph, Spec};
use crate::device::accelerator::{UserArg, UserCode, UserLaunch, accelerator};
use crate::device::choice::Places;
use crate::device::launch::record_fallback;
use crate::device::replica::alloc;
use crate::device::session::enter;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::view::copy_to;
use crate::node::{Array, Data};
use crate::rules::{Call, Outputs, Slots};
use crate::transforms::{pulled_through, pushed_through, vectorised_through};
use lazul_ir::layout::is_row_major;
use lazul_ir::{Buffer, HOST, Place, Scalar};
use smallvec::SmallVec;
use std::sync::Arc;

pub(crate) const OP: &str = "cuda_kernel";

/// Axes that a kernel can be told of.
pub(crate) const MOST_AXES: usize = 10;

/// What a kernel is told of an operand beside its address.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) shape: bool,
    pub(crate) strides: bool,
    pub(crate) rank: bool,
}

/// A number that is passed by value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ByValue {
    I32(i32),
    F32(f32),
    Bool(bool),
}

/// A call of a user's kernel: inputs are its operands, then the captures of its fallback.
pub(crate) struct Kernel {
    pub(crate) code: UserCode,
    pub(crate) inputs: Vec<Spec>,
    pub(crate) outputs: Vec<Spec>,
    pub(crate) told: Vec<Told>,
    pub(crate) by_value: Vec<ByValue>,
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    pub(crate) shared: u32,
    /// Whether operands are brought into row-major order first.
    pub(crate) dense: bool,
    /// What the outputs hold before the kernel runs; `None` where it writes them all.
    pub(crate) init: Option<Vec<Scalar>>,
    pub(crate) fallback: Option<Arc<Graph>>,
}

impl Kernel {
    pub(super) fn run(&self, inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        let place = places.default;
        if place != HOST {
            if let Some(made) = self.enqueued(&inputs, place)? {
                return Ok(made);
            }
            record_fallback(OP, "the device runs no CUDA kernels");
        }
        match &self.fallback {
            Some(graph) => graph.run(inputs, places),
            None => {
                let why = "runs on CUDA devices alone, and has no fallback";
                Err(Error::new(ErrorKind::Device, OP, why))
            }
        }
    }

    /// The outputs' data, being computed; `None` where the device cannot.
    fn enqueued(&self, inputs: &[Data], place: Place) -> Result<Option<Vec<Data>>> {
        let device = accelerator(place)?;
        if !device.runs_user_kernels() {
            return Ok(None);
        }
        enter(place, None)?;
        let mut copies: SmallVec<[Buffer; 4]> = SmallVec::new();
        let mut pointers: SmallVec<[u64; 8]> = SmallVec::new();
        let mut dims: Vec<[[u64; MOST_AXES]; 2]> = Vec::with_capacity(self.inputs.len());
        for (data, (shape, dtype)) in inputs.iter().zip(&self.inputs) {
            let mut strides = data.strides.clone();
            if self.dense && !is_row_major(shape, &strides) {
                let copy = alloc(place, shape.size() * dtype.size())?;
                copy_to(place, data, shape, *dtype, copy.ptr())?;
                pointers.push(copy.ptr() as u64);
                strides = shape.strides();
                copies.push(copy);
            } else {
                let held = data.at(place, *dtype)?;
                pointers.push(held.ptr as u64);
                copies.extend(held.constant);
            }
            let mut all = [[0; MOST_AXES]; 2];
            all[0].iter_mut().zip(shape.iter()).for_each(|(to, &n)| *to = n as u64);
            all[1].iter_mut().zip(strides.iter()).for_each(|(to, &n)| *to = n as u64);
            dims.push(all);
        }
        let mut arguments: SmallVec<[UserArg<'_>; 16]> = SmallVec::new();
        for (i, (told, dims)) in self.told.iter().zip(&dims).enumerate() {
            arguments.push(UserArg::Pointer(pointers[i]));
            if told.shape {
                arguments.push(UserArg::Words(&dims[0]));
            }
            if told.strides {
                arguments.push(UserArg::Words(&dims[1]));
            }
            if told.rank {
                arguments.push(UserArg::I32(self.inputs[i].0.len() as i32));
            }
        }
        let mut made = Vec::with_capacity(self.outputs.len());
        for (i, (shape, dtype)) in self.outputs.iter().enumerate() {
            let buffer = alloc(place, shape.size() * dtype.size())?;
            if let Some(init) = &self.init {
                let value = Data::constant(init[i], shape.len());
                copy_to(place, &value, shape, *dtype, buffer.ptr())?;
            }
            arguments.push(UserArg::Pointer(buffer.ptr() as u64));
            made.push(Data::contiguous(buffer, shape));
        }
        arguments.extend(self.by_value.iter().map(|value| match *value {
            ByValue::I32(x) => UserArg::I32(x),
            ByValue::F32(x) => UserArg::F32(x),
            ByValue::Bool(x) => UserArg::Bool(x),
        }));
        let launch = UserLaunch {
            code: &self.code,
            blocks: self.blocks,
            threads: self.threads,
            shared: self.shared,
            arguments: &arguments,
        };
        // SAFETY: the pointers are live memory of the device; that the kernel keeps within it is the
        // promise of whoever made it.
        unsafe { device.enqueue_user(&launch) }?;
        Ok(Some(made))
    }

    fn replay(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let Some(graph) = &self.fallback else {
            let why = "has no derivatives and no batching without a fallback";
            return Err(Error::new(ErrorKind::Value, OP, why));
        };
        let (arguments, captures) = inputs.split_at(graph.arguments.len());
        Ok(graph.replay(arguments, captures))
    }

    pub(super) fn vjp(
        &self,
        call: &Call<'_>,
        cotangents: &[Option<Array>],
        wanted: &[bool],
    ) -> Result<Slots> {
        pulled_through(|inputs| self.replay(inputs), call.inputs, cotangents, wanted)
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        pushed_through(|inputs| self.replay(inputs), call.inputs, tangents)
    }

    pub(super) fn vmap(&self, inputs: &[Array], batched: &[bool], size: usize) -> Result<Outputs> {
        vectorised_through(|inputs| self.replay(inputs), inputs, batched, size)
    }
}
