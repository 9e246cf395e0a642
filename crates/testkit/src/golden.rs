//! Reading golden files: JSON with one case a line, and a safetensors file of tensors beside it. The
//! formats are those of `golden/README.md`.

use lazul_core::{Array, Complex32, DType, bf16, f16};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file of cases and its tensors.
pub struct Golden {
    /// The facts above the cases.
    pub head: Value,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
    tensors: BTreeMap<String, Array>,
}

/// One case: an object with an `id`.
pub struct Case(Value);

impl Golden {
    /// Reads `golden/<name>.json`, and the tensors that it names.
    ///
    /// # Panics
    /// If a file cannot be read: a test cannot go on without.
    pub fn load(name: &str) -> Golden {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
        let path = folder.join(format!("{name}.json"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut head: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let Value::Array(cases) = head["cases"].take() else { panic!("{name}.json has no cases") };
        let tensors = match head["tensors"].as_str() {
            Some(file) => lazul_io::load_safetensors(folder.join(file))
                .unwrap_or_else(|e| panic!("{file}: {e}")),
            None => BTreeMap::new(),
        };
        Golden { head, cases: cases.into_iter().map(Case).collect(), tensors }
    }

    /// The tensor called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn tensor(&self, name: &str) -> Array {
        self.tensors.get(name).unwrap_or_else(|| panic!("there is no tensor {name}")).clone()
    }

    /// The tensor that a case names under `key`.
    pub fn tensor_of(&self, case: &Case, key: &str) -> Array {
        self.tensor(case.str(key))
    }

    /// The tensors of a list of names.
    pub fn tensors_of(&self, case: &Case, key: &str) -> Vec<Array> {
        let names = case.get(key).as_array().unwrap_or_else(|| panic!("{}: no {key}", case.id()));
        names.iter().map(|n| self.tensor(n.as_str().unwrap_or_default())).collect()
    }
}

impl Case {
    /// A case, or the attributes of one, from JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn from_json(text: &str) -> Case {
        Case(serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    /// What the case is called.
    pub fn id(&self) -> &str {
        self.str("id")
    }

    /// The value under `key`, null if there is none.
    pub fn get(&self, key: &str) -> &Value {
        &self.0[key]
    }

    /// The string under `key`.
    ///
    /// # Panics
    /// If there is none.
    pub fn str(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_else(|| panic!("{}: {key} is no string", self.0["id"]))
    }

    /// The number under `key`, 0 if there is none.
    pub fn float(&self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap_or(0.0)
    }

    /// The flag under `key`, false if there is none.
    pub fn flag(&self, key: &str) -> bool {
        self.0[key].as_bool().unwrap_or(false)
    }

    /// The integers under `key`: none, one or several.
    pub fn ints(&self, key: &str) -> Vec<i64> {
        ints(&self.0[key])
    }

    /// The dtype named under `key`.
    ///
    /// # Panics
    /// If there is none.
    pub fn dtype(&self, key: &str) -> DType {
        let name = self.str(key);
        DType::from_name(name).unwrap_or_else(|| panic!("{}: no dtype {name}", self.id()))
    }

    /// The object under `key` as if it were a case itself.
    pub fn inner(&self, key: &str) -> Case {
        Case(self.0[key].clone())
    }
}

/// An integer, or a (possibly nested) list of them, flattened.
fn ints(value: &Value) -> Vec<i64> {
    match value {
        Value::Array(all) => all.iter().flat_map(ints).collect(),
        other => other.as_i64().into_iter().collect(),
    }
}

/// A number as golden files write it: NaN and the infinities are strings.
fn real(value: &Value) -> f64 {
    match value {
        Value::String(s) => match s.as_str() {
            "nan" => f64::NAN,
            "inf" => f64::INFINITY,
            "-inf" => f64::NEG_INFINITY,
            other => panic!("{other} is no number"),
        },
        Value::Bool(b) => *b as u8 as f64,
        other => other.as_f64().unwrap_or_else(|| panic!("{other} is no number")),
    }
}

/// The array of JSON's flat `values`.
///
/// # Panics
/// If a value is not one of `dtype`.
pub fn array_of(values: &Value, shape: &[i64], dtype: DType) -> Array {
    let values = values.as_array().unwrap_or_else(|| panic!("{values} is no list"));
    let reals = || values.iter().map(real);
    let ints = || {
        values.iter().map(|v| {
            let int = v.as_i64().map(i128::from).or_else(|| v.as_u64().map(i128::from));
            int.unwrap_or_else(|| panic!("{v} is no integer"))
        })
    };
    macro_rules! of {
        ($ty:ty) => {
            Array::from_slice(&ints().map(|v| v as $ty).collect::<Vec<_>>(), shape)
        };
    }
    match dtype {
        DType::Bool => Array::from_slice(&reals().map(|v| v != 0.0).collect::<Vec<_>>(), shape),
        DType::U8 => of!(u8),
        DType::U16 => of!(u16),
        DType::U32 => of!(u32),
        DType::U64 => of!(u64),
        DType::I8 => of!(i8),
        DType::I16 => of!(i16),
        DType::I32 => of!(i32),
        DType::I64 => of!(i64),
        DType::F16 => Array::from_slice(&reals().map(f16::from_f64).collect::<Vec<_>>(), shape),
        DType::BF16 => Array::from_slice(&reals().map(bf16::from_f64).collect::<Vec<_>>(), shape),
        DType::F32 => Array::from_slice(&reals().map(|v| v as f32).collect::<Vec<_>>(), shape),
        DType::F64 => Array::from_slice(&reals().collect::<Vec<_>>(), shape),
        DType::C64 => {
            let pair = |v: &Value| Complex32::new(real(&v[0]) as f32, real(&v[1]) as f32);
            Array::from_slice(&values.iter().map(pair).collect::<Vec<_>>(), shape)
        }
    }
}
