//! Kernels that a user writes in CUDA, as operations.

use crate::array::checked_shape;
use crate::control::Control;
use crate::control::graph::{Graph, Spec, spec};
use crate::control::kernel::{ByValue, Kernel, MOST_AXES, OP, Told};
use crate::device::accelerator::UserCode;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::{Array, Inputs, Op};
use crate::scope::call_site;
use lazul_ir::{DType, Scalar};
use std::fmt::Write;
use std::panic::Location;
use std::sync::Arc;

type Fallback = Arc<dyn Fn(&[Array]) -> Vec<Array> + Send + Sync>;

/// A kernel of a user's; made by [`cuda_kernel`] and [`precompiled_cuda_kernel`].
#[derive(Clone)]
pub struct CudaKernel {
    name: String,
    text: Text,
    dense: bool,
    shared: usize,
    fallback: Option<Fallback>,
}

#[derive(Clone)]
enum Text {
    Source { inputs: Vec<String>, outputs: Vec<String>, body: String, header: String },
    Compiled(Arc<[u8]>),
}

/// A template argument of a [`CudaKernel`]: a name in its source that stands for a type or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateArg {
    /// The C++ type of a dtype.
    Type(DType),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl From<DType> for TemplateArg {
    fn from(dtype: DType) -> TemplateArg {
        TemplateArg::Type(dtype)
    }
}
impl From<i64> for TemplateArg {
    fn from(value: i64) -> TemplateArg {
        TemplateArg::Int(value)
    }
}
impl From<bool> for TemplateArg {
    fn from(value: bool) -> TemplateArg {
        TemplateArg::Bool(value)
    }
}

/// How a [`CudaKernel`] is called: how many threads, and what it gives.
///
/// ```
/// use lazul_core::{DType, fast::KernelLaunch};
/// let launch = KernelLaunch::new([1024, 1, 1], [256, 1, 1])
///     .output([4, 256], DType::F32)
///     .template("T", DType::F32);
/// # let _ = launch;
/// ```
#[derive(Clone, Debug)]
pub struct KernelLaunch {
    grid: [usize; 3],
    threadgroup: [usize; 3],
    outputs: Vec<(Result<lazul_ir::Shape>, DType)>,
    template: Vec<(String, TemplateArg)>,
    by_value: Vec<ByValue>,
    init: Option<f64>,
}

impl KernelLaunch {
    /// `grid` threads along each axis, in blocks of `threadgroup`; the last block of an axis may have more
    /// threads than are left.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn new(grid: [usize; 3], threadgroup: [usize; 3]) -> KernelLaunch {
        let (outputs, template, by_value) = Default::default();
        KernelLaunch { grid, threadgroup, outputs, template, by_value, init: None }
    }

    /// One more output, of this shape and dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn output(mut self, shape: impl IntoInts, dtype: DType) -> KernelLaunch {
        self.outputs.push((checked_shape(OP, shape), dtype));
        self
    }

    /// A name in the source for a dtype's C++ type, an integer or a truth value.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = N * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).template("N", 2);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn template(mut self, name: &str, value: impl Into<TemplateArg>) -> KernelLaunch {
        self.template.push((name.to_string(), value.into()));
        self
    }

    /// One more argument behind the outputs of a precompiled kernel: an `int`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, precompiled_cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { precompiled_cuda_kernel("twice", b"") }.fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).int(4);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn int(mut self, value: i32) -> KernelLaunch {
        self.by_value.push(ByValue::I32(value));
        self
    }

    /// One more argument behind the outputs of a precompiled kernel: a `float`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, precompiled_cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { precompiled_cuda_kernel("twice", b"") }.fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).float(2.0);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn float(mut self, value: f32) -> KernelLaunch {
        self.by_value.push(ByValue::F32(value));
        self
    }

    /// One more argument behind the outputs of a precompiled kernel: a `bool`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, precompiled_cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { precompiled_cuda_kernel("twice", b"") }.fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).bool(true);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn bool(mut self, value: bool) -> KernelLaunch {
        self.by_value.push(ByValue::Bool(value));
        self
    }

    /// What the outputs hold before the kernel runs. Without it they hold anything, and the kernel must write
    /// them all.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] += 2 * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).init_value(0.0);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn init_value(mut self, value: f64) -> KernelLaunch {
        self.init = Some(value);
        self
    }
}

/// A kernel of which `source` is the body, in CUDA C++.
///
/// It has a pointer for each input (`const T*`, in the input's dtype) and each output, under the given names.
/// `NAME_shape`, `NAME_strides` (indexed by the axis) and `NAME_ndim` of an input are there if the source
/// mentions them; they are of the operand as the kernel gets it. The dtypes' types are `bool`, `int8_t` to
/// `uint64_t`, `float16_t`, `bfloat16_t` (which convert to `float` and back), `float`, `double` and `complex64_t`. No
/// header is needed; `cooperative_groups::this_grid().thread_rank()` is there.
///
/// It runs on CUDA devices, compiled when it is first needed. Elsewhere, and for derivatives and `vmap`, its
/// [`fallback`](CudaKernel::fallback) is what it means; without one those are errors.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_core::fast::{KernelLaunch, cuda_kernel};
/// // SAFETY: the kernel keeps within its arrays.
/// let double = unsafe { cuda_kernel("double", &["x"], &["y"], "
///     auto i = cooperative_groups::this_grid().thread_rank();
///     if (i < x_shape[0]) y[i] = T(2) * x[i];
/// ") }
/// .fallback(|inputs| vec![&inputs[0] * 2.0]);
/// let x = arange(5, DType::F32);
/// let launch = KernelLaunch::new([5, 1, 1], [32, 1, 1])
///     .output([5], DType::F32)
///     .template("T", DType::F32);
/// let y = double.call(&[&x], &launch).remove(0);
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 2.0, 4.0, 6.0, 8.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Safety
/// Whenever it is called, the kernel must read within its inputs and write within its outputs, all of which it must
/// write unless the launch has an initial value: no check stands between it and the device's memory.
pub unsafe fn cuda_kernel(
    name: &str,
    input_names: &[&str],
    output_names: &[&str],
    source: &str,
) -> CudaKernel {
    let all = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    let text = Text::Source {
        inputs: all(input_names),
        outputs: all(output_names),
        body: source.to_string(),
        header: String::new(),
    };
    CudaKernel { name: name.to_string(), text, dense: true, shared: 0, fallback: None }
}

/// The kernel `name` of code that was compiled before: a cubin, a fat binary or PTX. Its parameters are pointers to the
/// inputs, pointers to the outputs, and the numbers of the launch. Inputs come as they lie in memory, unless
/// [`CudaKernel::ensure_row_contiguous`] says otherwise.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_core::fast::{KernelLaunch, precompiled_cuda_kernel};
/// # let code = b"";
/// // SAFETY: the kernel keeps within its arrays.
/// let scale = unsafe { precompiled_cuda_kernel("scale", code) }.fallback(|inputs| vec![&inputs[0] * 3.0]);
/// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32).float(3.0).int(4);
/// let y = scale.call(&[&ones([4], DType::F32)], &launch).remove(0);
/// assert_eq!(y.to_vec::<f32>()?, [3.0; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Safety
/// As for [`cuda_kernel`]; the launch must give what the kernel's parameters are.
pub unsafe fn precompiled_cuda_kernel(name: &str, code: &[u8]) -> CudaKernel {
    let text = Text::Compiled(code.into());
    CudaKernel { name: name.to_string(), text, dense: false, shared: 0, fallback: None }
}

impl CudaKernel {
    /// Text before the kernel: functions and types of its own.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = twice(x[threadIdx.x]);") }
    ///     .header("__device__ float twice(float x) { return 2 * x; }")
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn header(mut self, text: &str) -> CudaKernel {
        if let Text::Source { header, .. } = &mut self.text {
            *header = text.to_string();
        }
        self
    }

    /// Whether inputs that are views are brought into row-major order first.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .ensure_row_contiguous(false)
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn ensure_row_contiguous(mut self, on: bool) -> CudaKernel {
        self.dense = on;
        self
    }

    /// Bytes of dynamic shared memory of each block.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .shared_memory(1024)
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn shared_memory(mut self, bytes: usize) -> CudaKernel {
        self.shared = bytes;
        self
    }

    /// What the kernel computes, as ordinary operations: the outputs from the inputs.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn fallback(
        mut self,
        f: impl Fn(&[Array]) -> Vec<Array> + Send + Sync + 'static,
    ) -> CudaKernel {
        self.fallback = Some(Arc::new(f));
        self
    }

    /// The outputs of the kernel on `inputs`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_core::fast::{KernelLaunch, cuda_kernel};
    /// let x = ones([4], DType::F32);
    /// // SAFETY: the kernel keeps within its arrays.
    /// let kernel = unsafe { cuda_kernel("twice", &["x"], &["y"], "y[threadIdx.x] = 2 * x[threadIdx.x];") }
    ///     .fallback(|x| vec![&x[0] * 2.0]);
    /// let launch = KernelLaunch::new([4, 1, 1], [32, 1, 1]).output([4], DType::F32);
    /// assert_eq!(kernel.call(&[&x], &launch).remove(0).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Failed arrays, if names, numbers of inputs and outputs or the grid are wrong, or if the fallback gives other
    /// shapes and dtypes than the launch says. A source that does not compile is an error of the evaluation on
    /// the device, with the compiler's messages.
    #[track_caller]
    pub fn call(&self, inputs: &[&Array], launch: &KernelLaunch) -> Vec<Array> {
        let site = call_site();
        match self.node(inputs, launch, site) {
            Ok(made) => made,
            Err(error) => {
                let error = error.at(site);
                let fail = |_| Array::fail(error.clone(), site);
                (0..launch.outputs.len().max(1)).map(fail).collect()
            }
        }
    }

    fn node(
        &self,
        inputs: &[&Array],
        launch: &KernelLaunch,
        site: &'static Location<'static>,
    ) -> Result<Vec<Array>> {
        inputs.iter().try_for_each(|i| i.check())?;
        let specs: Vec<Spec> = inputs.iter().map(|i| spec(i)).collect();
        if let Some((shape, _)) = specs.iter().find(|(shape, _)| shape.len() > MOST_AXES) {
            return wrong(format!(
                "an input has {} axes, and {MOST_AXES} is the most",
                shape.len()
            ));
        }
        let outputs = launch
            .outputs
            .iter()
            .map(|(shape, dtype)| Ok((shape.clone()?, *dtype)))
            .collect::<Result<Vec<Spec>>>()?;
        if outputs.is_empty() {
            return wrong("a kernel needs an output");
        }
        let (blocks, threads) = blocks(launch)?;
        let Ok(shared) = u32::try_from(self.shared) else {
            return wrong(format!("{} bytes of shared memory are too many", self.shared));
        };
        let (code, told) = match &self.text {
            Text::Source { inputs, outputs: names, body, header } => {
                if !launch.by_value.is_empty() {
                    return wrong(
                        "numbers are arguments of precompiled kernels; use template here",
                    );
                }
                source(&self.name, (inputs, &specs), (names, &outputs), body, header, launch)?
            }
            Text::Compiled(code) => {
                if !launch.template.is_empty() {
                    return wrong("a precompiled kernel has no template arguments");
                }
                let code = UserCode::Compiled(code.clone(), self.name.as_str().into());
                (code, vec![Told::default(); specs.len()])
            }
        };
        let fallback = match &self.fallback {
            Some(f) => {
                let graph = Graph::trace_at(site, &specs, |arguments| {
                    let made = f(arguments);
                    made.iter().try_for_each(|a| a.check())?;
                    let given: Vec<Spec> = made.iter().map(spec).collect();
                    if given != outputs {
                        let why =
                            format!("the fallback gives {given:?}, the launch says {outputs:?}");
                        return wrong(why);
                    }
                    Ok(made)
                })?;
                Some(Arc::new(graph))
            }
            None => None,
        };
        let captures = fallback.iter().flat_map(|g| g.captures.iter().cloned());
        let all: Inputs = inputs.iter().map(|&i| i.clone()).chain(captures).collect();
        let init = launch
            .init
            .map(|value| outputs.iter().map(|(_, d)| Scalar::from_f64(value, *d)).collect());
        let kernel = Kernel {
            code,
            inputs: specs,
            outputs: outputs.clone(),
            told,
            by_value: launch.by_value.clone(),
            blocks,
            threads,
            shared,
            dense: self.dense,
            init,
            fallback,
        };
        let op = Op::Control(Arc::new(Control::Kernel(kernel)));
        Ok(Array::lazy_many(op, all, &outputs, site))
    }
}

fn wrong<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Value, OP, why.into()))
}

/// Blocks along each axis, and threads of a block.
fn blocks(launch: &KernelLaunch) -> Result<([u32; 3], [u32; 3])> {
    let (grid, group) = (launch.grid, launch.threadgroup);
    let block = group.iter().try_fold(1usize, |n, &t| n.checked_mul(t)).unwrap_or(usize::MAX);
    if grid.contains(&0) || block == 0 {
        return wrong(format!("a grid of {grid:?} threads in blocks of {group:?} has none"));
    }
    if block > 1024 || group[2] > 64 {
        return wrong(format!(
            "blocks of {group:?} threads: 1024 is the most, and 64 along the last axis"
        ));
    }
    let count = [0, 1, 2].map(|i| grid[i].div_ceil(group[i]));
    if count[0] > i32::MAX as usize || count[1] > 65_535 || count[2] > 65_535 {
        return wrong(format!("{count:?} blocks: (2147483647, 65535, 65535) is the most"));
    }
    Ok((count.map(|n| n as u32), group.map(|n| n as u32)))
}

/// The whole text of a kernel but for the types' definitions, and what it is told of each input.
fn source(
    name: &str,
    (input_names, inputs): (&[String], &[Spec]),
    (output_names, outputs): (&[String], &[Spec]),
    body: &str,
    header: &str,
    launch: &KernelLaunch,
) -> Result<(UserCode, Vec<Told>)> {
    for (what, names, given) in
        [("inputs", input_names, inputs.len()), ("outputs", output_names, outputs.len())]
    {
        if names.len() != given {
            return wrong(format!(
                "kernel {name:?} has {} {what}, and {given} were given",
                names.len()
            ));
        }
    }
    let template = launch.template.iter().map(|(n, _)| n);
    let mut seen: Vec<&String> = Vec::new();
    for each in input_names.iter().chain(output_names).chain(template) {
        let mut letters = each.bytes();
        let first = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return wrong(format!("{each:?} is no name in C++"));
        }
        if seen.contains(&each) {
            return wrong(format!("the name {each:?} stands twice"));
        }
        seen.push(each);
    }
    let mut text = format!("{header}\n");
    for (name, value) in &launch.template {
        let _ = match value {
            TemplateArg::Type(dtype) => writeln!(text, "using {name} = {};", c_type(*dtype)),
            // The least 64-bit number has no literal.
            TemplateArg::Int(i64::MIN) => {
                writeln!(text, "constexpr int64_t {name} = -9223372036854775807ll - 1;")
            }
            TemplateArg::Int(i) if i32::try_from(*i).is_ok() => {
                writeln!(text, "constexpr int {name} = {i};")
            }
            TemplateArg::Int(i) => writeln!(text, "constexpr int64_t {name} = {i}ll;"),
            TemplateArg::Bool(b) => writeln!(text, "constexpr bool {name} = {b};"),
        };
    }
    let mut parameters: Vec<String> = Vec::new();
    let mut told = Vec::new();
    for (name, (_, dtype)) in input_names.iter().zip(inputs) {
        parameters.push(format!("const {}* {name}", c_type(*dtype)));
        let mentions =
            |what: &str| [body, header].iter().any(|t| t.contains(&format!("{name}_{what}")));
        let one =
            Told { shape: mentions("shape"), strides: mentions("strides"), rank: mentions("ndim") };
        let more = [
            (one.shape, format!("const Dims {name}_shape")),
            (one.strides, format!("const Dims {name}_strides")),
            (one.rank, format!("const int {name}_ndim")),
        ];
        parameters.extend(more.into_iter().filter_map(|(is, text)| is.then_some(text)));
        told.push(one);
    }
    for (name, (_, dtype)) in output_names.iter().zip(outputs) {
        parameters.push(format!("{}* {name}", c_type(*dtype)));
    }
    let _ = writeln!(
        text,
        "extern \"C\" __global__ void user_kernel({}) {{\n{body}\n}}",
        parameters.join(", ")
    );
    Ok((UserCode::Source(text.into()), told))
}

/// The C++ name of a dtype in users' kernels.
fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::U8 => "uint8_t",
        DType::U16 => "uint16_t",
        DType::U32 => "uint32_t",
        DType::U64 => "uint64_t",
        DType::I8 => "int8_t",
        DType::I16 => "int16_t",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        DType::F16 => "float16_t",
        DType::BF16 => "bfloat16_t",
        DType::F32 => "float",
        DType::F64 => "double",
        DType::C64 => "complex64_t",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    const BODY: &str = "
        auto i = cooperative_groups::this_grid().thread_rank();
        if (i < x_shape[0]) y[i] = x[i] * x[i] + N;
    ";

    fn square() -> CudaKernel {
        // SAFETY: the kernel keeps within its arrays.
        unsafe { cuda_kernel("square", &["x"], &["y"], BODY) }
            .fallback(|x| vec![x[0].square() + 3.0])
    }

    fn launch(n: usize) -> KernelLaunch {
        let one = KernelLaunch::new([n, 1, 1], [128, 1, 1]);
        one.output([n], DType::F32).template("N", 3)
    }

    #[test]
    fn the_fallback_is_what_a_kernel_means() -> Result<()> {
        let x = linspace(-2.0, 2.0, 300, DType::F32);
        let y = square().call(&[&x], &launch(300)).remove(0);
        assert_eq!(y.to_vec::<f32>()?, (x.square() + 3.0).to_vec::<f32>()?);
        // A weak 3.0 of the fallback captures nothing; an array of it is captured.
        let b = Array::scalar(3.0f32);
        let captured =
            // SAFETY: the kernel keeps within its arrays.
            unsafe { cuda_kernel("square", &["x"], &["y"], BODY) }.fallback(move |x| vec![x[0].square() + &b]);
        let z = captured.call(&[&x], &launch(300)).remove(0);
        assert_eq!(z.to_vec::<f32>()?, y.to_vec::<f32>()?);
        Ok(())
    }

    #[test]
    fn kernels_differentiate_and_batch_by_their_fallback() -> Result<()> {
        let x = linspace(-2.0, 2.0, 5, DType::F32);
        let f = |x: &Array| square().call(&[x], &launch(5)).remove(0);
        let slope = grad(|x: &Array| f(x).sum(..))(&x)?;
        assert_eq!(slope.to_vec::<f32>()?, (&x * 2.0).to_vec::<f32>()?);
        let (_, pushed) = jvp(f, &x, &x.ones_like())?;
        assert_eq!(pushed.to_vec::<f32>()?, (&x * 2.0).to_vec::<f32>()?);
        let many = stack(&[x.clone(), x.clone()], 0);
        let y = vmap(f)(&many)?;
        assert_eq!(y.to_vec::<f32>()?, (many.square() + 3.0).to_vec::<f32>()?);
        let compiled = compile(f);
        assert_eq!(compiled(&x)?.to_vec::<f32>()?, f(&x).to_vec::<f32>()?);
        Ok(())
    }

    #[test]
    fn without_a_fallback_a_kernel_needs_its_device() {
        use crate::device::{Device, with_device};
        let x = ones([4], DType::F32);
        // SAFETY: the kernel keeps within its arrays.
        let alone = unsafe { cuda_kernel("square", &["x"], &["y"], BODY) };
        let on_cpu = || alone.call(&[&x], &launch(4)).remove(0);
        let error = with_device(Device::Cpu, on_cpu).unwrap().eval().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device);
        let error = grad(|x: &Array| alone.call(&[x], &launch(4)).remove(0).sum(..))(&x);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Value);
    }

    #[test]
    fn wrong_calls_are_failed_arrays() {
        let x = ones([4], DType::F32);
        let fails = |kernel: CudaKernel, inputs: &[&Array], launch: KernelLaunch, why: &str| {
            let made = kernel.call(inputs, &launch);
            let error = made[0].check().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.to_string().contains("cuda_kernel"), "{error}");
        };
        fails(square(), &[], launch(4), "has 1 inputs, and 0 were given");
        fails(square(), &[&x], launch(4).output([1], DType::F32), "has 1 outputs");
        fails(square(), &[&x], KernelLaunch::new([4, 1, 1], [4, 1, 1]), "needs an output");
        fails(square(), &[&x], launch(4).template("x", 1), "\"x\" stands twice");
        fails(square(), &[&x], launch(4).template("a b", 1), "no name in C++");
        fails(square(), &[&x], launch(4).int(1), "use template");
        fails(square(), &[&x], launch(5), "the fallback gives");
        let at = |grid, group| KernelLaunch::new(grid, group).output([4], DType::F32);
        fails(square(), &[&x], at([0, 1, 1], [1, 1, 1]), "has none");
        fails(square(), &[&x], at([1, 1, 1], [2048, 1, 1]), "1024 is the most");
        fails(square(), &[&x], at([1, usize::MAX, 1], [1, 1, 1]), "is the most");
        let negative = KernelLaunch::new([1, 1, 1], [1, 1, 1]).output([-1], DType::F32);
        fails(square(), &[&x], negative, "-1");
        // SAFETY: the kernel keeps within its arrays.
        let compiled = unsafe { precompiled_cuda_kernel("k", b"code") };
        fails(compiled, &[&x], launch(4), "no template");
    }

    #[test]
    fn a_source_has_what_the_body_mentions() -> Result<()> {
        let spec = |dtype| (lazul_ir::Shape::new(&[4, 2]), dtype);
        let one = KernelLaunch::new([1, 1, 1], [1, 1, 1])
            .output([1], DType::BF16)
            .template("T", DType::F16)
            .template("N", i64::MIN)
            .template("B", true);
        let names = |text: &str| vec![text.to_string()];
        let (code, told) = source(
            "k",
            (&names("x"), &[spec(DType::F16)]),
            (&names("y"), &[spec(DType::BF16)]),
            "y[0] = x[x_strides[1]] + x_ndim;",
            "// first",
            &one,
        )?;
        let UserCode::Source(text) = code else { panic!("a source") };
        assert!(text.starts_with("// first\nusing T = float16_t;\n"), "{text}");
        assert!(text.contains("constexpr bool B = true;"), "{text}");
        let head = "user_kernel(const float16_t* x, const Dims x_strides, const int x_ndim, bfloat16_t* y)";
        assert!(text.contains(head), "{text}");
        assert!(!told[0].shape && told[0].strides && told[0].rank);
        Ok(())
    }
}
