//! Functions in files: traced, written with the arrays they use, called without their code.
//!
//! The file is a safetensors file, so any tool shows what arrays it holds. Its metadata:
//!
//! | key | value |
//! |---|---|
//! | `format` | `lazul.function` |
//! | `version` | `1`; a reader refuses any other |
//! | `functions` | JSON: for each trace its `program`, the `constants`, numbers of the tensors `constant.0`, `constant.1`, …, and for one of many lengths the rules that they follow, `lengths` |
//! | `note` | what the writer says about the function, if anything |
//!
//! The book's page *Exported functions* describes programs.

use crate::error::{Error, ErrorKind, Result};
use crate::safetensors::{SafeTensors, save_safetensors};
use lazul_core::program::{Family, Form, Program, Rules};
use lazul_core::{Array, IntoResult, Tree};
use std::path::Path;
use std::sync::Arc;

const FORMAT: &str = "lazul.function";
const VERSION: &str = "1";

/// One trace in the file, or one for many lengths.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    program: Program,
    constants: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lengths: Option<Rules>,
}

/// Traces `f` on arguments like `example` and writes it, with every array that it used, to a file.
///
/// The arguments of the function in the file are the leaves of `example` in the tree's order, of the same
/// shapes and dtypes; [`Exporter`] writes one function for several shapes.
///
/// ```
/// use lazul_core::prelude::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("score.safetensors");
/// let w = arange(3, DType::F32);
/// lazul_io::export_function(&path, |x: &Array| (x * &w).sum(..), &zeros([3], DType::F32))?;
///
/// let score = lazul_io::import_function(&path)?;
/// let y = score.call(&[ones([3], DType::F32)])?;
/// assert_eq!(y[0].item::<f32>()?, 3.0);
/// let slope = grad(|x: &Array| Ok::<_, lazul_core::Error>(score.call(&[x.clone()])?.remove(0)));
/// assert_eq!(slope(&ones([3], DType::F32))?.to_vec::<f32>()?, [0.0, 1.0, 2.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of `f`; if it calls a custom function; if the file cannot be written.
#[track_caller]
pub fn export_function<T: Tree, O: Tree, R: IntoResult<O>>(
    path: impl AsRef<Path>,
    f: impl FnOnce(&T) -> R,
    example: &T,
) -> Result<()> {
    let mut exporter = Exporter::new();
    exporter.trace(f, example)?;
    exporter.save(path)
}

/// Collects traces of one function for arguments of several shapes or dtypes, to be written to one file.
/// Arrays that several traces use are written once.
///
/// ```
/// use lazul_core::prelude::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("double.safetensors");
/// let mut exporter = lazul_io::Exporter::new();
/// for n in [1, 8] {
///     exporter.trace(|x: &Array| x * 2, &zeros([n], DType::F32))?;
/// }
/// exporter.note("twice the argument").save(&path)?;
/// let double = lazul_io::import_function(&path)?;
/// assert_eq!(double.call(&[ones([8], DType::F32)])?[0].sum(..).item::<f32>()?, 16.0);
/// assert_eq!(double.note(), Some("twice the argument"));
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct Exporter {
    entries: Vec<Entry>,
    constants: Vec<Array>,
    note: Option<String>,
}

impl Exporter {
    /// Without traces. At least one is needed for a file.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// let mut exporter = Exporter::new();
    /// assert!(exporter.save(&path).is_err());
    /// exporter.trace(|x: &Array| x.sin(), &zeros([3], DType::F32))?.save(&path)?;
    /// assert_eq!(import_function(&path)?.signatures().len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn new() -> Exporter {
        Exporter::default()
    }

    /// Traces `f` on arguments like `example`: a function in the file takes arrays of exactly these
    /// shapes and dtypes.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// let mut exporter = Exporter::new();
    /// for dtype in [DType::F16, DType::F32] {
    ///     exporter.trace(|x: &Array| x.square(), &zeros([2], dtype))?;
    /// }
    /// exporter.save(&path)?;
    /// let square = import_function(&path)?;
    /// assert_eq!(square.call(&[full([2], 3.0f32)])?[0].to_vec::<f32>()?, [9.0, 9.0]);
    /// assert!(exporter.trace(|x: &Array| x.square(), &zeros([2], DType::F32)).is_err()); // again
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `f`; if it calls a custom function; if there is a trace of such arguments.
    #[track_caller]
    pub fn trace<T: Tree, O: Tree, R: IntoResult<O>>(
        &mut self,
        f: impl FnOnce(&T) -> R,
        example: &T,
    ) -> Result<&mut Exporter> {
        let traced = Program::trace(f, example);
        let (program, used) = traced.map_err(|e| Error::from_array(e, "the function"))?;
        self.add(program, None, used)
    }

    /// Traces `f` for arguments of many lengths: those that differ between the two examples may have any value
    /// above 1. It is traced for both, and once more for further lengths, which shows that what follows the
    /// lengths (shapes, positions, counts that sums are divided by) was understood.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("mean.safetensors");
    /// let mut exporter = lazul_io::Exporter::new();
    /// let examples = [zeros([2, 8], DType::F32), zeros([3, 8], DType::F32)];
    /// exporter.trace_lengths(|x: &Array| x.mean(0), &examples[0], &examples[1])?.save(&path)?;
    /// let mean = lazul_io::import_function(&path)?;
    /// assert_eq!(mean.call(&[ones([1000, 8], DType::F32)])?[0].to_vec::<f32>()?, [1.0; 8]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Exporter::trace`]; if the examples differ in more than lengths; if something follows the lengths in
    /// a way that three traces do not show.
    #[track_caller]
    pub fn trace_lengths<T: Tree, O: Tree, R: IntoResult<O>>(
        &mut self,
        f: impl Fn(&T) -> R,
        small: &T,
        large: &T,
    ) -> Result<&mut Exporter> {
        let traced = Family::trace(f, small, large);
        let (family, used) = traced.map_err(|e| Error::from_array(e, "the function"))?;
        self.add(family.program().clone(), Some(family.rules().clone()), used)
    }

    fn add(
        &mut self,
        program: Program,
        lengths: Option<Rules>,
        used: Vec<Array>,
    ) -> Result<&mut Exporter> {
        if self.entries.iter().any(|e| e.program.arguments == program.arguments) {
            let what = format!("there is a trace for {} already", list(&program.arguments));
            return Err(Error::new(ErrorKind::Argument, what));
        }
        let mut constants = Vec::new();
        for array in used {
            let known = self.constants.iter().position(|c| c.ptr_eq(&array));
            constants.push(known.unwrap_or(self.constants.len()));
            if known.is_none() {
                self.constants.push(array);
            }
        }
        self.entries.push(Entry { program, constants, lengths });
        Ok(self)
    }

    /// What [`ImportedFunction::note`] will give. Of several the last counts.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// let mut exporter = Exporter::new();
    /// exporter.trace(|x: &Array| x.exp(), &zeros([1], DType::F32))?;
    /// exporter.note("e to the argument").save(&path)?;
    /// assert_eq!(import_function(&path)?.note(), Some("e to the argument"));
    /// # Ok(()) }
    /// ```
    pub fn note(&mut self, text: impl Into<String>) -> &mut Exporter {
        self.note = Some(text.into());
        self
    }

    /// Writes the file, whole or not at all. It is a safetensors file with the arrays that the
    /// function uses.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// let w = arange(4, DType::F32);
    /// let mut exporter = Exporter::new();
    /// exporter.trace(|x: &Array| x * &w, &zeros([4], DType::F32))?.save(&path)?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.metadata()["format"], "lazul.function");
    /// assert_eq!(file.get("constant.0")?.to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if nothing was traced; those of [`save_safetensors`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if self.entries.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "nothing was traced"));
        }
        let functions = serde_json::to_string(&self.entries)
            .map_err(|e| Error::new(ErrorKind::Argument, format!("the function: {e}")))?;
        let mut metadata =
            vec![("format", FORMAT), ("version", VERSION), ("functions", &*functions)];
        if let Some(note) = &self.note {
            metadata.push(("note", note));
        }
        let names = (0..self.constants.len()).map(tensor);
        save_safetensors(path, names.zip(&self.constants), &metadata)
    }
}

fn tensor(number: usize) -> String {
    format!("constant.{number}")
}

/// Shapes and dtypes in words.
fn list(forms: &[Form]) -> String {
    let words: Vec<String> = forms.iter().map(Form::to_string).collect();
    format!("({})", words.join(", "))
}

/// What can be called.
enum Trace {
    One(Program),
    Lengths(Family),
}

impl Trace {
    /// The arguments in words, with letters for lengths that vary.
    fn arguments(&self) -> String {
        match self {
            Trace::One(program) => list(&program.arguments),
            Trace::Lengths(family) => format!("({})", family.arguments().join(", ")),
        }
    }
}

/// A function from a file. Clones share its arrays.
#[derive(Clone)]
pub struct ImportedFunction {
    traces: Arc<[(Trace, Vec<Array>)]>,
    note: Option<String>,
}

/// Reads a function that [`export_function`] or [`Exporter`] wrote. Its arrays are read when they
/// are first evaluated.
///
/// ```
/// # use lazul_core::prelude::*;
/// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("f.safetensors");
/// export_function(&path, |x: &Array| x.sum(0), &zeros([2, 3], DType::F32))?;
/// let sum = import_function(&path)?;
/// assert_eq!(sum.call(&[ones([2, 3], DType::F32)])?[0].to_vec::<f32>()?, [2.0, 2.0, 2.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the file cannot be read, is none of these, is of another version, or does not hold together:
/// every step of it is checked before anything runs.
pub fn import_function(path: impl AsRef<Path>) -> Result<ImportedFunction> {
    let path = path.as_ref();
    ImportedFunction::from_tensors(&SafeTensors::open(path)?).map_err(|e| e.in_file(path.display()))
}

impl ImportedFunction {
    /// Reads a function from an open file.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// export_function(&path, |x: &Array| x + 1, &zeros([2], DType::I32))?;
    /// let file = SafeTensors::from_bytes(std::fs::read(&path)?)?;
    /// let next = lazul_io::ImportedFunction::from_tensors(&file)?;
    /// assert_eq!(next.call(&[arange(2, DType::I32)])?[0].to_vec::<i32>()?, [1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`import_function`].
    pub fn from_tensors(file: &SafeTensors) -> Result<ImportedFunction> {
        let metadata = file.metadata();
        let key = |name: &str| metadata.get(name).map(String::as_str);
        if key("format") != Some(FORMAT) {
            return Err(Error::malformed("this is no exported function"));
        }
        match key("version") {
            Some(VERSION) => {}
            other => {
                let version = other.unwrap_or("none");
                let what = format!("version {version} of exported functions; {VERSION} is read");
                return Err(Error::unsupported(what));
            }
        }
        let text = key("functions").ok_or_else(|| {
            Error::new(ErrorKind::Missing, "the metadata have no entry \"functions\"")
        })?;
        let entries: Vec<Entry> = serde_json::from_str(text)
            .map_err(|e| Error::malformed(format!("the entry \"functions\": {e}")))?;
        if entries.is_empty() {
            return Err(Error::malformed("the file holds no function"));
        }
        let constants: Vec<Array> =
            (0..file.names().len()).map(|i| file.get(&tensor(i))).collect::<Result<_>>()?;
        let mut traces = Vec::new();
        for Entry { program, constants: used, lengths } in entries {
            let find = |&i: &usize| constants.get(i).cloned();
            let Some(arrays) = used.iter().map(find).collect::<Option<Vec<Array>>>() else {
                return Err(Error::malformed("a function uses a constant that is not there"));
            };
            let forms = arrays.iter().map(Form::of).collect::<Result<Vec<_>, _>>();
            let forms = forms.map_err(|e| Error::from_array(e, "a constant"))?;
            let trace = match lengths {
                Some(rules) => {
                    let family = Family::new(program, rules, &forms);
                    Trace::Lengths(family.map_err(Error::malformed)?)
                }
                None if forms != program.constants => {
                    let (is, want) = (list(&forms), list(&program.constants));
                    return Err(Error::malformed(format!("constants are {is}, not {want}")));
                }
                None => {
                    program.check().map_err(|e| Error::malformed(e.to_string()))?;
                    Trace::One(program)
                }
            };
            traces.push((trace, arrays));
        }
        Ok(ImportedFunction { traces: traces.into(), note: key("note").map(str::to_string) })
    }

    /// Calls the trace whose arguments are like these. Results are lazy, and may be differentiated,
    /// vectorised and compiled like those of any function.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// let pair = |x: &(Array, Array)| (&x.0 + &x.1, &x.0 - &x.1);
    /// export_function(&path, pair, &(zeros([2], DType::F32), zeros([2], DType::F32)))?;
    /// let pair = import_function(&path)?;
    /// let results = pair.call(&[arange(2, DType::F32), ones([2], DType::F32)])?;
    /// assert_eq!(results[0].to_vec::<f32>()?, [1.0, 2.0]);
    /// assert_eq!(results[1].to_vec::<f32>()?, [-1.0, 0.0]);
    /// assert!(pair.call(&[zeros([5], DType::F32)]).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If no trace has arguments of these shapes and dtypes; the message lists those that there
    /// are.
    #[track_caller]
    pub fn call(&self, arguments: &[Array]) -> lazul_core::Result<Vec<Array>> {
        let forms = arguments.iter().map(Form::of).collect::<lazul_core::Result<Vec<_>>>()?;
        for (trace, constants) in self.traces.iter() {
            match trace {
                Trace::One(program) if program.arguments == forms => {
                    return program.call(arguments, constants);
                }
                Trace::One(_) => {}
                Trace::Lengths(family) => {
                    if let Some((program, constants)) = family.member(&forms, constants) {
                        return program.call(arguments, &constants);
                    }
                }
            }
        }
        let all: Vec<String> = self.traces.iter().map(|(t, _)| t.arguments()).collect();
        let why = format!("it was traced for {}, not for {}", all.join(" and for "), list(&forms));
        let site = std::panic::Location::caller();
        let kind = lazul_core::ErrorKind::Shape;
        Err(lazul_core::Error::new(kind, "imported function", why).at(site))
    }

    /// What the writer said about the function.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// export_function(&path, |x: &Array| x.exp(), &zeros([1], DType::F32))?;
    /// assert_eq!(import_function(&path)?.note(), None);
    /// # Ok(()) }
    /// ```
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Shapes and dtypes of the arguments and of the results of each trace; of one for many lengths
    /// those of its first example.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Exporter, SafeTensors, export_function, import_function};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("f.safetensors");
    /// export_function(&path, |x: &Array| x.sum(0), &zeros([2, 3], DType::F32))?;
    /// let signatures = import_function(&path)?.signatures();
    /// let (arguments, results) = &signatures[0]; // of the one trace
    /// assert_eq!((arguments.len(), &arguments[0].shape[..]), (1, &[2, 3][..]));
    /// assert_eq!((&results[0].shape[..], results[0].dtype), (&[3][..], DType::F32));
    /// # Ok(()) }
    /// ```
    pub fn signatures(&self) -> Vec<(Vec<Form>, Vec<Form>)> {
        let programs = self.traces.iter().map(|(trace, _)| match trace {
            Trace::One(program) => program,
            Trace::Lengths(family) => family.program(),
        });
        programs.map(|p| (p.arguments.clone(), p.outputs())).collect()
    }
}

impl std::fmt::Debug for ImportedFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = f.debug_list();
        for ((trace, _), (_, results)) in self.traces.iter().zip(self.signatures()) {
            lines.entry(&format_args!("{} -> {}", trace.arguments(), list(&results)));
        }
        lines.finish()
    }
}
