//! Printing arrays the way MLX does: `array([1, 2, 3], dtype=float32)`.
//!
//! Floats have six significant digits, or as many decimals as the format asks for: `{x:.3}`. What holds
//! where it does not ask is set by [`set_printoptions`] for the process, and by [`printoptions`] for a
//! function on this thread.

use crate::node::Array;
use crate::ops::join::concatenate;
use lazul_ir::{DType, Element, bf16, f16};
use std::cell::Cell;
use std::fmt::{Debug, Display, Formatter, Result, Write};
use std::sync::Mutex;

/// How arrays are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrintOptions {
    /// Decimals of floats; six significant digits for `None`.
    pub precision: Option<usize>,
}

static OPTIONS: Mutex<PrintOptions> = Mutex::new(PrintOptions { precision: None });

thread_local! {
    static SCOPED: Cell<Option<PrintOptions>> = const { Cell::new(None) };
}

/// Sets how arrays are printed, for the whole process.
///
/// ```standalone_crate
/// use lazul_core::print::{PrintOptions, get_printoptions, set_printoptions};
/// use lazul_core::Array;
/// set_printoptions(PrintOptions { precision: Some(1) });
/// assert_eq!(Array::scalar(2.25f32).to_string(), "array(2.2, dtype=float32)");
/// assert_eq!(get_printoptions().precision, Some(1));
/// set_printoptions(PrintOptions::default());
/// ```
pub fn set_printoptions(options: PrintOptions) {
    *OPTIONS.lock().unwrap_or_else(|e| e.into_inner()) = options;
}

/// How arrays are printed now, on this thread.
///
/// ```
/// use lazul_core::print::{PrintOptions, get_printoptions, printoptions};
/// let options = PrintOptions { precision: Some(3) };
/// assert_eq!(printoptions(options, get_printoptions), options);
/// ```
pub fn get_printoptions() -> PrintOptions {
    SCOPED.get().unwrap_or_else(|| *OPTIONS.lock().unwrap_or_else(|e| e.into_inner()))
}

/// Runs `f`, in which arrays are printed as `options` say; other threads are not concerned.
///
/// ```
/// use lazul_core::Array;
/// use lazul_core::print::{PrintOptions, printoptions};
/// let x = Array::scalar(1.0f32 / 3.0);
/// let short = printoptions(PrintOptions { precision: Some(2) }, || x.to_string());
/// assert_eq!(short, "array(0.33, dtype=float32)");
/// assert_eq!(x.to_string(), "array(0.333333, dtype=float32)");
/// ```
pub fn printoptions<R>(options: PrintOptions, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<PrintOptions>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPED.set(self.0);
        }
    }
    let _restore = Restore(SCOPED.replace(Some(options)));
    f()
}

/// Axes longer than twice this show this many entries at each end.
const EDGE: usize = 3;

/// Evaluates the array and prints it; an array that failed, or fails now, prints its error.
impl Display for Array {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Err(e) = self.eval() {
            return write!(f, "array(<{e}>)");
        }
        let decimals = f.precision().or(get_printoptions().precision);
        let float = |v: f64| match decimals {
            Some(n) if v.is_finite() => format!("{v:.n$}"),
            _ => general(v),
        };
        let printed = match self.0.dtype {
            DType::Bool => self.show::<bool>(f, |v| if v { "True" } else { "False" }.to_string()),
            DType::U8 => self.show::<u8>(f, |v| v.to_string()),
            DType::U16 => self.show::<u16>(f, |v| v.to_string()),
            DType::U32 => self.show::<u32>(f, |v| v.to_string()),
            DType::U64 => self.show::<u64>(f, |v| v.to_string()),
            DType::I8 => self.show::<i8>(f, |v| v.to_string()),
            DType::I16 => self.show::<i16>(f, |v| v.to_string()),
            DType::I32 => self.show::<i32>(f, |v| v.to_string()),
            DType::I64 => self.show::<i64>(f, |v| v.to_string()),
            DType::F16 => self.show::<f16>(f, |v| float(v.to_f64())),
            DType::BF16 => self.show::<bf16>(f, |v| float(v.to_f64())),
            DType::F32 => self.show::<f32>(f, |v| float(v as f64)),
            DType::F64 => self.show::<f64>(f, float),
            DType::C64 => self.show::<lazul_ir::Complex32>(f, |v| {
                // A negative zero is not below zero: it brings its sign along, `0+-0j`.
                let plus = if v.im < 0.0 { "" } else { "+" };
                format!("{}{plus}{}j", float(v.re as f64), float(v.im as f64))
            }),
        };
        printed?;
        write!(f, ", dtype={})", self.0.dtype)
    }
}

/// The same as [`Display`] once the array is evaluated; a lazy array shows its shape and dtype, and is
/// not evaluated.
impl Debug for Array {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.check() {
            Err(e) => write!(f, "array(<{e}>)"),
            Ok(()) if self.is_ready() => Display::fmt(self, f),
            Ok(()) => write!(f, "array(<lazy {}{}>)", self.0.dtype, self.0.shape),
        }
    }
}

/// Six significant digits, trailing zeros dropped, exponents from 1e-5 down and 1e6 up: C's `%g`.
fn general(v: f64) -> String {
    if v.is_nan() {
        return "nan".to_string();
    }
    if v.is_infinite() {
        return if v > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    if v == 0.0 {
        return if v.is_sign_negative() { "-0" } else { "0" }.to_string();
    }
    let scientific = format!("{v:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{v:.*}", (5 - exponent).max(0) as usize))
}

impl Array {
    fn show<T: Element>(&self, f: &mut Formatter<'_>, text: impl Fn(T) -> String) -> Result {
        // Only what is shown is read: an array may be larger than the memory that is left.
        let mut shown = self.clone();
        for (axis, &n) in self.0.shape.iter().enumerate() {
            if n > 2 * EDGE {
                let (axis, n, edge) = (axis as i64, n as i64, EDGE as i64);
                let ends = [shown.slice_axis(axis, 0, edge), shown.slice_axis(axis, n - edge, n)];
                shown = concatenate(&ends, axis);
            }
        }
        let Ok(values) = shown.to_vec::<T>() else {
            return f.write_str("array(<unreadable>)");
        };
        f.write_str("array(")?;
        let mut out = String::new();
        level(&mut out, &self.0.shape, &values, "array(".len(), &text)?;
        f.write_str(&out)
    }
}

/// Writes one level of brackets; `values` are the elements below it that are shown.
fn level<T: Element>(
    out: &mut String,
    shape: &[usize],
    values: &[T],
    indent: usize,
    text: &impl Fn(T) -> String,
) -> Result {
    let Some((&n, inner)) = shape.split_first() else {
        out.push_str(&text(values[0]));
        return Ok(());
    };
    out.push('[');
    let step = inner.iter().map(|&n| n.min(2 * EDGE)).product::<usize>();
    let separator = if inner.is_empty() {
        ", ".to_string()
    } else {
        format!(",\n{:width$}", "", width = indent + 1)
    };
    let abbreviated = n > 2 * EDGE;
    for i in 0..n.min(2 * EDGE) {
        if i > 0 {
            out.push_str(&separator);
        }
        if abbreviated && i == EDGE {
            out.push_str("...");
            out.push_str(&separator);
        }
        level(out, inner, &values[i * step..(i + 1) * step], indent + 1, text)?;
    }
    out.write_char(']')
}
