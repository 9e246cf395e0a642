//! Fused programs as CUDA text.
//!
//! A thread computes [`Fused::vector`] neighbouring elements, two lanes at a time. A value of a half
//! type lives as a *pair*, both lanes in one register, and is widened to floats only for operations
//! that need them: sums and products of pairs are single instructions, which round as a float
//! operation followed by a rounding does (a float has more than twice the bits). Every other value is
//! one variable a lane.

use super::ops::{self, Form};
use crate::source::c_type;
use lazul_ir::{DType, Step, StepOp, Tape};
use smallvec::SmallVec;
use std::fmt::Write;

/// How an operand is read along the innermost axis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Access {
    /// One element for the whole job.
    Scalar,
    /// One element a row.
    Splat,
    /// Neighbours, together.
    Vector,
    /// Elements apart (with a vector of one only).
    Apart,
}

/// A fused program for one kind of layouts: what a kernel is compiled for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fused {
    pub(crate) tape: Tape,
    /// Merged axes; the outputs are row-major.
    pub(crate) rank: usize,
    /// Elements a thread computes.
    pub(crate) vector: usize,
    pub(crate) access: SmallVec<[Access; 8]>,
    /// Whether the last vector may be cut (one axis only).
    pub(crate) ragged: bool,
}

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;

/// A register of the program while text is written.
#[derive(Clone, Default)]
struct Register {
    dtype: Option<DType>,
    /// The variable that holds a pair.
    pair: Option<String>,
    /// The variables that hold each lane, widened.
    lanes: Option<[String; 2]>,
}

const fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The C++ type that values of `dtype` are computed in.
fn wide(dtype: DType) -> &'static str {
    c_type(dtype.compute())
}

struct Writer {
    text: String,
    lanes: usize,
    names: usize,
    registers: Vec<Register>,
}

impl Writer {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("v{}", self.names)
    }

    /// Declares a variable a lane; `value(lane)` is its text.
    fn declare(&mut self, ty: &str, value: impl Fn(usize) -> String) -> [String; 2] {
        let name = self.name();
        let names = [format!("{name}a"), format!("{name}b")];
        for (lane, name) in names.iter().enumerate().take(self.lanes) {
            let _ = writeln!(self.text, "      {ty} {name} = {};", value(lane));
        }
        names
    }

    fn set_lanes(&mut self, register: usize, dtype: DType, lanes: [String; 2]) {
        self.registers[register] = Register { dtype: Some(dtype), pair: None, lanes: Some(lanes) };
    }

    fn set_pair(&mut self, register: usize, dtype: DType, value: String) {
        let name = self.name();
        let _ = writeln!(self.text, "      u32 {name} = {value};");
        self.registers[register] = Register { dtype: Some(dtype), pair: Some(name), lanes: None };
    }

    /// The register's lanes as wide values.
    fn lanes(&mut self, register: usize) -> [String; 2] {
        let r = self.registers[register].clone();
        if let Some(lanes) = r.lanes {
            return lanes;
        }
        let (pair, ty) = (r.pair.unwrap_or_default(), r.dtype.map_or("", c_type));
        let part = ["low", "high"];
        let lanes = self.declare("float", |lane| format!("Pair<{ty}>::{}({pair})", part[lane]));
        self.registers[register].lanes = Some(lanes.clone());
        lanes
    }

    /// The register's lanes as a pair.
    fn pair(&mut self, register: usize) -> String {
        let r = self.registers[register].clone();
        if let Some(pair) = r.pair {
            return pair;
        }
        let ty = r.dtype.map_or("", c_type);
        let lanes = r.lanes.unwrap_or_default();
        let value = self.packed(ty, &lanes);
        let name = self.name();
        let _ = writeln!(self.text, "      u32 {name} = {value};");
        self.registers[register].pair = Some(name.clone());
        name
    }

    fn packed(&self, ty: &str, lanes: &[String; 2]) -> String {
        match self.lanes {
            1 => format!("Pair<{ty}>::pack({}, 0.0f)", lanes[0]),
            _ => format!("Pair<{ty}>::pack({}, {})", lanes[0], lanes[1]),
        }
    }

    /// Stores wide results into a register, rounded to `dtype`.
    fn finish(&mut self, register: usize, dtype: DType, value: impl Fn(usize) -> String) {
        let lanes = self.declare(wide(dtype), value);
        if is_half(dtype) {
            let value = self.packed(c_type(dtype), &lanes);
            self.set_pair(register, dtype, value);
        } else {
            self.set_lanes(register, dtype, lanes);
        }
    }

    fn step(&mut self, step: &Step) {
        let args = step.args.map(|a| a as usize);
        let (dst, from, to) = (step.dst as usize, step.operand, step.result);
        match step.op {
            StepOp::Unary(op) => match ops::unary(op, from) {
                Form::Identity => self.copy(dst, args[0]),
                Form::Constant(value) => {
                    let value = format!("{}({value})", wide(to));
                    self.finish(dst, to, |_| value.clone());
                }
                Form::Packed(name) => {
                    let a = self.pair(args[0]);
                    self.set_pair(dst, to, format!("Pair<{}>::{name}({a}, {a})", c_type(from)));
                }
                Form::Bits(op, mask) => {
                    let a = self.pair(args[0]);
                    self.set_pair(dst, to, format!("{a} {op} {mask}"));
                }
                Form::Call(name) => {
                    let a = self.lanes(args[0]);
                    self.finish(dst, to, |l| format!("{name}({})", a[l]));
                }
            },
            StepOp::Binary(op) => match ops::binary(op, from) {
                Form::Packed(name) => {
                    let (a, b) = (self.pair(args[0]), self.pair(args[1]));
                    self.set_pair(dst, to, format!("Pair<{}>::{name}({a}, {b})", c_type(from)));
                }
                Form::Call(name) => {
                    let (a, b) = (self.lanes(args[0]), self.lanes(args[1]));
                    self.finish(dst, to, |l| format!("{name}({}, {})", a[l], b[l]));
                }
                other => unreachable!("{} as {other:?}", op.name()),
            },
            StepOp::Select => {
                let c = self.lanes(args[0]);
                if is_half(to) {
                    let (a, b) = (self.pair(args[1]), self.pair(args[2]));
                    let high = if self.lanes == 1 { &c[0] } else { &c[1] };
                    let mask = format!("(({} ? 0xffffu : 0u) | ({high} ? 0xffff0000u : 0u))", c[0]);
                    let name = self.name();
                    let _ = writeln!(self.text, "      u32 {name} = {mask};");
                    self.set_pair(dst, to, format!("({a} & {name}) | ({b} & ~{name})"));
                } else {
                    let (a, b) = (self.lanes(args[1]), self.lanes(args[2]));
                    self.finish(dst, to, |l| format!("{} ? {} : {}", c[l], a[l], b[l]));
                }
            }
            StepOp::Cast if from == to => self.copy(dst, args[0]),
            StepOp::Cast => {
                let a = self.lanes(args[0]);
                match to {
                    DType::Bool => self.finish(dst, to, |l| format!("truth({})", a[l])),
                    DType::F16 | DType::BF16 => {
                        self.finish(dst, to, |l| format!("round_to_odd({})", a[l]));
                    }
                    _ => {
                        let ty = c_type(to);
                        self.finish(dst, to, |l| format!("convert<{ty}>({})", a[l]));
                    }
                }
            }
        }
    }

    fn copy(&mut self, dst: usize, src: usize) {
        self.registers[dst] = self.registers[src].clone();
    }
}

impl Fused {
    /// Whether functions of complex numbers are needed.
    pub(crate) fn is_complex(&self) -> bool {
        let complex = |d: DType| d == DType::C64;
        self.tape.inputs.iter().any(|d| complex(*d))
            || self.tape.steps.iter().any(|s| complex(s.operand) || complex(s.result))
    }

    /// The kernel's text. Arguments: the structure `Params` as declared in it.
    pub(crate) fn text(&self) -> String {
        let (tape, n, rank) = (&self.tape, self.vector, self.rank);
        let lanes = if n == 1 { 1 } else { 2 };
        let (inputs, outputs) = (tape.inputs.len(), tape.outputs.len());
        let mut w = Writer {
            text: String::new(),
            lanes,
            names: 0,
            registers: vec![Register::default(); (tape.registers as usize).max(inputs)],
        };
        let t = &mut w.text;
        let _ = writeln!(t, "struct Params {{");
        let _ = writeln!(t, "  const void *in[{}]; void *out[{outputs}];", inputs.max(1));
        if rank > 1 {
            let _ = writeln!(t, "  i64 stride[{}][{rank}];", inputs.max(1));
        } else {
            let _ = writeln!(t, "  i64 stride[{}];", inputs.max(1));
        }
        let _ = writeln!(t, "  u32 size[{rank}], mul[{rank}], shift[{rank}];");
        let _ = writeln!(t, "  u32 vectors, total;\n}};");
        let _ = writeln!(t, "KERNEL __launch_bounds__({THREADS}) fused(const Params p) {{");
        let _ = writeln!(t, "  BEGIN;");
        let _ = writeln!(t, "  u32 i = blockIdx.x * {THREADS}u + threadIdx.x;");
        let _ = writeln!(t, "  if (i >= p.vectors) return;");
        if rank > 1 {
            let _ = writeln!(t, "  u32 rest = i;");
            for axis in (1..rank).rev() {
                let _ =
                    writeln!(t, "  u32 q{axis} = divide(rest, p.mul[{axis}], p.shift[{axis}]);");
                let _ = writeln!(t, "  u32 c{axis} = rest - q{axis} * p.size[{axis}];");
                let _ = writeln!(t, "  rest = q{axis};");
            }
            let _ = writeln!(t, "  u32 c0 = rest;");
        }
        for (k, (&dtype, access)) in tape.inputs.iter().zip(&self.access).enumerate() {
            self.load(t, k, dtype, *access);
        }
        for (k, &(_, dtype)) in tape.outputs.iter().enumerate() {
            match is_half(dtype) && lanes == 2 {
                true => writeln!(t, "  Vec<u32, {}> r{k};", n / 2),
                false => writeln!(t, "  Vec<{}, {n}> r{k};", c_type(dtype)),
            }
            .unwrap_or_default();
        }
        let _ = writeln!(t, "#pragma unroll\n  for (int l = 0; l < {n}; l += {lanes}) {{");
        for (k, (&dtype, access)) in tape.inputs.iter().zip(&self.access).enumerate() {
            self.read(&mut w, k, dtype, *access);
        }
        for step in &tape.steps {
            w.step(step);
        }
        for (k, &(register, dtype)) in tape.outputs.iter().enumerate() {
            if is_half(dtype) {
                let pair = w.pair(register as usize);
                let _ = match lanes {
                    2 => writeln!(w.text, "      r{k}.v[l / 2] = {pair};"),
                    _ => writeln!(w.text, "      r{k}.v[0].bits = u16({pair});"),
                };
            } else {
                let value = w.lanes(register as usize);
                for (lane, value) in value.iter().enumerate().take(lanes) {
                    let _ = writeln!(w.text, "      r{k}.v[l + {lane}] = {value};");
                }
            }
        }
        let t = &mut w.text;
        let _ = writeln!(t, "  }}");
        for (k, &(_, dtype)) in tape.outputs.iter().enumerate() {
            let ty = c_type(dtype);
            if self.ragged && n > 1 {
                let _ = writeln!(t, "  if (i * {n}u + {n}u > p.total) {{");
                let _ = writeln!(t, "    for (u32 j = 0; i * {n}u + j < p.total; ++j)");
                let _ = writeln!(
                    t,
                    "      (({ty} *)p.out[{k}])[i * {n}u + j] = (({ty} *)&r{k})[j];\n  }} else"
                );
            }
            let held = if is_half(dtype) && lanes == 2 { ("u32", n / 2) } else { (ty, n) };
            let _ = writeln!(t, "  ((Vec<{}, {}> *)p.out[{k}])[i] = r{k};", held.0, held.1);
        }
        let _ = writeln!(t, "}}");
        w.text
    }

    /// Loads operand `k` into `a{k}`, before the lanes.
    fn load(&self, t: &mut String, k: usize, dtype: DType, access: Access) {
        let (ty, n, rank) = (c_type(dtype), self.vector, self.rank);
        let mut offset = String::new();
        if rank > 1 && access != Access::Scalar {
            for axis in 0..rank {
                // Along a row, a splat has no step.
                if access == Access::Splat && axis == rank - 1 {
                    continue;
                }
                let plus = if offset.is_empty() { "" } else { " + " };
                let _ = write!(offset, "{plus}i64(c{axis}) * p.stride[{k}][{axis}]");
            }
        } else if rank == 1 && access == Access::Vector {
            let _ = write!(offset, "i64(i) * {n}");
        } else if rank == 1 && access == Access::Apart {
            let _ = write!(offset, "i64(i) * p.stride[{k}]");
        }
        if offset.is_empty() {
            offset.push('0');
        }
        let _ = writeln!(t, "  const {ty} *x{k} = (const {ty} *)p.in[{k}] + ({offset});");
        if access != Access::Vector || n == 1 {
            let _ = writeln!(t, "  {ty} a{k} = *x{k};");
            return;
        }
        let (held, count) = if is_half(dtype) { ("u32", n / 2) } else { (ty, n) };
        let _ = writeln!(t, "  Vec<{held}, {count}> a{k};");
        if self.ragged {
            let _ = writeln!(t, "  if (i * {n}u + {n}u > p.total) {{");
            let _ = writeln!(t, "    for (u32 j = 0; j < {n}; ++j)");
            let _ = writeln!(
                t,
                "      (({ty} *)&a{k})[j] = x{k}[i * {n}u + j < p.total ? j : 0];\n  }} else"
            );
        }
        let _ = writeln!(t, "  a{k} = *(const Vec<{held}, {count}> *)x{k};");
    }

    /// Brings the lanes at hand of operand `k` into its register.
    fn read(&self, w: &mut Writer, k: usize, dtype: DType, access: Access) {
        let vector = access == Access::Vector && self.vector > 1;
        if is_half(dtype) {
            let value = match (vector, w.lanes) {
                (true, _) => format!("a{k}.v[l / 2]"),
                (false, 1) => format!("u32(a{k}.bits)"),
                (false, _) => format!("u32(a{k}.bits) * 0x10001u"),
            };
            w.set_pair(k, dtype, value);
        } else {
            let lanes = w.declare(wide(dtype), |lane| match vector {
                true => format!("a{k}.v[l + {lane}]"),
                false => format!("a{k}"),
            });
            w.set_lanes(k, dtype, lanes);
        }
    }
}
