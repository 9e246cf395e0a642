//! What kernels are made from: a family's text with definitions in front, or a fused program's.
//!
//! Every kernel is compiled on its own, for exactly the dtypes and options at hand, when it is first
//! needed: nothing is compiled that no program uses.

use crate::elementwise::Fused;
use crate::user::{USER_ENTRY, USER_PRELUDE, UserCode};
use lazul_ir::DType;
use smallvec::SmallVec;

/// Files of kernels, one a family of primitives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Family {
    Arange,
    Attention,
    Copy,
    Flash,
    Hopper,
    Index,
    Matmul,
    Notes,
    Quantized,
    Random,
    Reduce,
    Rope,
    Rows,
    Scan,
    Search,
    Sort,
}

impl Family {
    /// The text, in parts.
    fn text(self) -> &'static [&'static str] {
        match self {
            Family::Arange => &[include_str!("kernels/arange.cu")],
            Family::Attention => {
                &[include_str!("kernels/attention_row.cu"), include_str!("kernels/attention.cu")]
            }
            Family::Copy => &[include_str!("kernels/copy.cu")],
            Family::Flash => {
                &[include_str!("kernels/attention_row.cu"), include_str!("kernels/flash.cu")]
            }
            Family::Hopper => {
                &[include_str!("kernels/attention_row.cu"), include_str!("kernels/hopper.cu")]
            }
            Family::Index => &[include_str!("kernels/index.cu")],
            Family::Matmul => &[include_str!("kernels/matmul.cu")],
            Family::Notes => &[include_str!("kernels/notes.cu")],
            Family::Quantized => &[include_str!("kernels/quantized.cu")],
            Family::Random => &[include_str!("kernels/random.cu")],
            Family::Reduce => &[include_str!("kernels/reduce.cu")],
            Family::Rope => &[include_str!("kernels/rope.cu")],
            Family::Rows => &[include_str!("kernels/rows.cu")],
            Family::Scan => &[include_str!("kernels/scan.cu")],
            Family::Search => &[include_str!("kernels/sort.cu"), include_str!("kernels/search.cu")],
            Family::Sort => &[include_str!("kernels/sort.cu")],
        }
    }

    /// Whether it uses instructions that only the very generation at hand has.
    fn is_bound(self) -> bool {
        self == Family::Hopper
    }

    /// Whether it uses the element-wise functions.
    fn functions(self) -> bool {
        self == Family::Scan
    }
}

/// The value of a definition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Value {
    Int(i64),
    /// The storage type of a dtype.
    Type(DType),
    /// Any other text.
    Text(&'static str),
}

impl From<DType> for Value {
    fn from(dtype: DType) -> Value {
        Value::Type(dtype)
    }
}
impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Int(value as i64)
    }
}
impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Int(value as i64)
    }
}
impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Int(value as i64)
    }
}
impl From<&'static str> for Value {
    fn from(value: &'static str) -> Value {
        Value::Text(value)
    }
}

/// Definitions that a kernel is compiled with.
pub(crate) type Defs = SmallVec<[(&'static str, Value); 8]>;

/// `defs![T = dtype, RANK = 3usize]`.
macro_rules! defs {
    ($($name:ident = $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut defs = $crate::source::Defs::new();
        $(defs.push((stringify!($name), $crate::source::Value::from($value)));)*
        defs
    }};
}
pub(crate) use defs;

/// What names a kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
// Keys are made once a kernel and looked up by reference; a box would cost each look-up more.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Key {
    /// The kernel `entry` of a family.
    Family(Family, &'static str, Defs),
    /// A fused program.
    Fused(Box<Fused>),
    /// A user's.
    User(UserCode),
}

impl Key {
    /// The name of the function in the compiled text.
    pub(crate) fn entry(&self) -> &str {
        match self {
            Key::Family(_, entry, _) => entry,
            Key::Fused(_) => "fused",
            Key::User(UserCode::Source(_)) => USER_ENTRY,
            Key::User(UserCode::Compiled(_, name)) => name,
        }
    }

    /// Code that need not be compiled.
    pub(crate) fn compiled(&self) -> Option<&[u8]> {
        match self {
            Key::User(UserCode::Compiled(code, _)) => Some(code),
            _ => None,
        }
    }

    /// Whether it must be compiled for the generation at hand alone.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Key::Family(family, ..) if family.is_bound())
    }

    /// The whole text to compile.
    pub(crate) fn source(&self) -> String {
        if let Key::User(UserCode::Source(text)) = self {
            return format!("{USER_PRELUDE}\n{text}");
        }
        let mut text = String::with_capacity(32 << 10);
        text.push_str(include_str!("kernels/prelude.cu"));
        match self {
            Key::Family(family, entry, defs) => {
                // Functions first: definitions have short names, which are those of parameters there.
                if family.functions() {
                    text.push_str(include_str!("kernels/elementwise.cu"));
                    text.push_str(include_str!("kernels/complex.cu"));
                }
                // A kernel's text stands between `#ifdef`s of its name.
                text.push_str(&format!("#define ENTRY_{entry} 1\n"));
                for (name, value) in defs {
                    let value = match value {
                        Value::Int(i) => i.to_string(),
                        Value::Type(dtype) => c_type(*dtype).to_string(),
                        Value::Text(text) => text.to_string(),
                    };
                    text.push_str(&format!("#define {name} {value}\n"));
                }
                family.text().iter().for_each(|part| text.push_str(part));
            }
            Key::Fused(fused) => {
                text.push_str(include_str!("kernels/elementwise.cu"));
                if fused.is_complex() {
                    text.push_str(include_str!("kernels/complex.cu"));
                }
                text.push_str(&fused.text());
            }
            Key::User(_) => {}
        }
        text
    }
}

/// The C++ name of a dtype's storage type.
pub(crate) const fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::U8 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::F32 => "float",
        DType::F64 => "double",
        DType::C64 => "c64",
    }
}

/// The unsigned type of `bytes` bytes (16: four words).
pub(crate) const fn unit_type(bytes: usize) -> &'static str {
    match bytes {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        8 => "u64",
        _ => "uint4",
    }
}
