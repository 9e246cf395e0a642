//! The extension module `lazul._core`, behind the Python package `lazul`.
//!
//! It gives Python's programs core's arrays under MLX's names. What operations do is core's matter: here are the
//! class with its handles ([`array`]), how Python's values become arrays ([`value`], [`index`], [`buffer`],
//! [`dlpack`]), functions with MLX's arguments in tables ([`elementwise`], [`reduce`]) and file by file, and
//! transforms over Python's trees ([`tree`], [`transforms`], [`compile`]).
//!
//! Nothing that Python does may end the process: wrong calls are exceptions, and evaluations run without the
//! interpreter's lock.

// What the macros of PyO3 make of methods that stand in a macro of ours.
#![allow(unsafe_op_in_unsafe_fn)]
// Documentation of functions is Python's: examples with what they print.
#![allow(clippy::doc_lazy_continuation)]

mod args;
mod array;
mod buffer;
mod compile;
mod creation;
mod custom;
mod device;
mod distributed;
mod dlpack;
mod dtype;
mod elementwise;
mod error;
mod eval;
mod export;
mod fast;
mod fft;
mod function;
mod index;
mod io;
mod linalg;
mod matrix;
mod memory;
mod operators;
mod print;
mod random;
mod reduce;
mod sets;
mod shape;
mod transforms;
mod tree;
mod value;

use pyo3::prelude::*;

/// A module within `lazul.core`.
fn inner(
    m: &Bound<'_, PyModule>,
    name: &str,
    doc: &str,
    fill: impl FnOnce(&Bound<'_, PyModule>) -> PyResult<()>,
) -> PyResult<()> {
    let py = m.py();
    let inner = PyModule::new(py, name)?;
    inner.setattr("__doc__", doc)?;
    fill(&inner)?;
    m.add(name, &inner)?;
    let path = format!("lazul.core.{name}");
    inner.setattr("__name__", &path)?;
    // So that `import lazul.core.fast` finds it.
    py.import("sys")?.getattr("modules")?.set_item(path, inner)
}

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    array::add(m)?;
    dtype::add(m)?;
    device::add(m)?;
    index::add(m)?;
    print::add(m)?;
    eval::add(m)?;
    creation::add_to(m)?;
    elementwise::add_to(m)?;
    reduce::add_to(m)?;
    shape::add_to(m)?;
    sets::add_to(m)?;
    matrix::add_to(m)?;
    custom::add(m)?;
    transforms::add(m)?;
    compile::add(m)?;
    export::add(m)?;
    io::add(m)?;
    memory::add_top(m)?;
    inner(m, "random", "Random numbers.", random::add)?;
    inner(m, "linalg", "Linear algebra.", linalg::add)?;
    inner(m, "fft", "Fourier transforms.", fft::add)?;
    inner(m, "fast", "Operations with kernels of their own.", fast::add)?;
    inner(m, "distributed", "Groups of processes.", distributed::add)?;
    inner(m, "metal", "What is asked of Metal.", memory::add_metal)?;
    inner(m, "cuda", "What is asked of CUDA.", memory::add_cuda)?;
    m.add("matrix_norm", m.getattr("linalg")?.getattr("norm")?)?;
    m.add("e", std::f64::consts::E)?;
    m.add("pi", std::f64::consts::PI)?;
    m.add("euler_gamma", 0.577_215_664_901_532_9)?;
    m.add("inf", f64::INFINITY)?;
    m.add("nan", f64::NAN)?;
    m.add("newaxis", py.None())?;
    m.add("AxisError", error::axis_error_type(py)?)?;
    Ok(())
}
