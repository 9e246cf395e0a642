//! Exported functions: round trips of loops, branches and derivatives, and files that are none.

use lazul_core::prelude::*;
use lazul_core::program::Form;
use lazul_core::{Error, checkpoint, compile, custom_function};
use lazul_io::{ErrorKind, Exporter, SafeTensors, export_function, import_function};
use std::path::PathBuf;

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("function.safetensors")
}

fn example() -> Array {
    (arange(12, DType::F32).reshape([4, 3]) * 0.3).sin()
}

/// Loops, a branch, a checkpoint, a compiled function, quantized numbers, arrays from outside.
fn busy(x: &Array) -> Result<Array, Error> {
    let grow = |v: &Array| v * 2.0;
    let last = ending(x)?;
    Ok(last + while_loop(|v: &Array| v.sum(..).less(9.0), grow, &x.exp())?.sum(..))
}

/// What ends whatever its numbers are: a loop of unknown length need not.
fn ending(x: &Array) -> Result<Array, Error> {
    let w = linspace(-1.0, 1.0, 6, DType::F32).reshape([3, 2]);
    let step = |c: &Array, x: &Array| (c * 0.5 + x, c.exp());
    let (last, all) = scan(step, &x.at_index(0, 0).zeros_like(), x)?;
    let either = cond(&last.sum(..).greater(0.0), |v: &Array| v.sin(), |v: &Array| v.cos(), &last)?;
    let kept = checkpoint(|v: &Array| v.tanh().matmul(&w))(x)?;
    let made = compile(|v: &Array| v.square() + 1.0)(&all)?;
    let q = Array::broadcast_to(x, [2, 4, 3]).pad_last().quantize(Quantization::MxFp8)?;
    let product = q.dequantize_to(DType::F32).sum(..);
    Ok(kept.sum(..) + made.sum(..) + (last.stop_gradient() * either).sum(..) + product)
}

trait Wide {
    fn pad_last(&self) -> Array;
}

impl Wide for Array {
    /// The last axis repeated to 96 elements.
    fn pad_last(&self) -> Array {
        let parts: Vec<Array> = (0..32).map(|_| self.clone()).collect();
        concatenate(&parts, -1)
    }
}

#[test]
fn what_is_read_does_the_same() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = path(&folder);
    let x = example();
    export_function(&path, busy, &x)?;
    let read = import_function(&path)?;
    let again = |x: &Array| Ok::<_, Error>(read.call(std::slice::from_ref(x))?.remove(0));
    for x in [x.clone(), x.cos() * 3.0, -x.clone()] {
        assert_eq!(again(&x)?.to_bytes()?, busy(&x)?.to_bytes()?);
        assert_eq!(compile(again)(&x)?.to_bytes()?, busy(&x)?.to_bytes()?);
    }
    let batch = stack(&[x.clone(), x.cos()], 0);
    assert_eq!(vmap(again)(&batch)?.to_bytes()?, vmap(busy)(&batch)?.to_bytes()?);

    // Derivatives, of what was read and written down themselves.
    let smooth = |x: &Array| -> Result<Array, Error> {
        let step = |c: &Array, x: &Array| (c * 0.5 + x.sin(), c.exp());
        let (last, all) = scan(step, &x.at_index(0, 0).zeros_like(), x)?;
        Ok(last.sum(..) + all.square().sum(..))
    };
    export_function(&path, smooth, &x)?;
    let read = import_function(&path)?;
    let again = |x: &Array| Ok::<_, Error>(read.call(std::slice::from_ref(x))?.remove(0));
    let slope = grad(smooth)(&x)?.to_bytes()?;
    assert_eq!(grad(again)(&x)?.to_bytes()?, slope);
    export_function(&path, grad(smooth), &x)?;
    let read = import_function(&path)?;
    assert_eq!(read.call(&[x])?[0].to_bytes()?, slope);
    Ok(())
}

#[test]
fn several_traces_share_their_arrays() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = path(&folder);
    let table = arange(50, DType::I32);
    let f = |(i, scale): &(Array, Array)| table.take(i, 0) * scale;
    let mut exporter = Exporter::new();
    for n in [2, 5] {
        exporter.trace(f, &(zeros([n], DType::U8), Array::scalar(1i32)))?;
    }
    let twice = exporter.trace(f, &(zeros([5], DType::U8), Array::scalar(1i32)));
    assert_eq!(twice.map(|_| ()).unwrap_err().kind(), ErrorKind::Argument);
    exporter.note("rows").save(&path)?;
    assert_eq!(SafeTensors::open(&path)?.names().len(), 1);

    let read = import_function(&path)?;
    assert_eq!(read.note(), Some("rows"));
    let shapes: Vec<usize> = read.signatures().iter().map(|(_, out)| out[0].shape[0]).collect();
    assert_eq!(shapes, [2, 5]);
    let i = Array::from_slice(&[3u8, 4, 5, 49, 0], [5]);
    let y = read.call(&[i.clone(), Array::scalar(2i32)])?;
    assert_eq!(y[0].to_vec::<i32>()?, [6, 8, 10, 98, 0]);

    let error = read.call(&[i.slice_axis(0, 0, 3), Array::scalar(2i32)]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("uint8(2,)") || text.contains("uint8(2)"), "{text}");
    assert!(text.contains("function.rs"), "{text}");
    let high = Array::from_slice(&[3u8, 50], [2]);
    assert_eq!(
        read.call(&[high, Array::scalar(1i32)])?[0].eval().unwrap_err().kind(),
        lazul_core::ErrorKind::Index
    );
    Ok(())
}

#[test]
fn what_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let f = custom_function(|x: &Array| x * 2.0);
    let error = export_function(&path, |x: &Array| f.call(x), &example()).unwrap_err();
    assert!(error.to_string().contains("custom function"), "{error}");
    assert_eq!(Exporter::new().save(&path).unwrap_err().kind(), ErrorKind::Argument);
    assert!(!path.exists());
    let wrong = |x: &Array| x.matmul(x);
    let error = export_function(&path, wrong, &example()).unwrap_err();
    assert!(error.to_string().contains("matmul"), "{error}");
}

/// The parts of a file: its header as JSON, and its data.
fn parts(bytes: &[u8]) -> (serde_json::Value, &[u8]) {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + n]).unwrap(), &bytes[8 + n..])
}

fn joined(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn read(bytes: Vec<u8>) -> lazul_io::Result<lazul_io::ImportedFunction> {
    lazul_io::ImportedFunction::from_tensors(&SafeTensors::from_bytes(bytes)?)
}

#[test]
fn other_files_and_versions_are_refused() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = path(&folder);
    export_function(&path, |x: &Array| x + 1.0, &example())?;
    let bytes = std::fs::read(&path)?;
    let (header, data) = parts(&bytes);
    let with = |key: &str, value: Option<&str>| {
        let mut header = header.clone();
        let map = header["__metadata__"].as_object_mut().unwrap();
        match value {
            Some(value) => map.insert(key.into(), value.into()),
            None => map.remove(key),
        };
        read(joined(&header, data)).map(|_| ()).unwrap_err()
    };
    assert_eq!(with("version", Some("2")).kind(), ErrorKind::Unsupported);
    assert_eq!(with("version", None).kind(), ErrorKind::Unsupported);
    assert_eq!(with("format", Some("pt")).kind(), ErrorKind::Malformed);
    assert_eq!(with("functions", None).kind(), ErrorKind::Missing);
    assert_eq!(with("functions", Some("[]")).kind(), ErrorKind::Malformed);
    // A truth value is 0 or 1, and no other byte may become one.
    let text = header["__metadata__"]["functions"].as_str().unwrap();
    let truth = text.replacen(r#"{"Prim":"#, r#"{"Prim":{"Arange":{"start":{"bits":2,"dtype":"Bool"},"step":{"bits":1,"dtype":"Bool"}}},"was":"#, 1);
    assert!(with("functions", Some(&truth)).to_string().contains("no bool"));
    assert_eq!(with("functions", Some("[{")).kind(), ErrorKind::Malformed);
    let deep = "[".repeat(100_000);
    assert_eq!(with("functions", Some(&deep)).kind(), ErrorKind::Malformed);
    Ok(())
}

/// Files with something changed are refused, or run to an end: a value or an error, never a panic.
#[test]
fn changed_files_never_panic() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = path(&folder);
    // Loops of unknown length are read, not run.
    export_function(&path, busy, &example())?;
    let (refused, _) = change(&path, false)?;
    assert!(refused > 1500);
    export_function(&path, ending, &example())?;
    let (refused, ran) = change(&path, true)?;
    assert!(refused > 1500 && ran > 10);
    let [small, large] = [4, 6].map(|n| zeros([n, 3], DType::F32));
    Exporter::new().trace_lengths(along, &small, &large)?.save(&path)?;
    let (refused, ran) = change(&path, true)?;
    assert!(refused > 1000 && ran > 10);
    Ok(())
}

/// A function along a first axis of any length: counts, positions, a loop, a constant of that shape.
fn along(x: &Array) -> Result<Array, Error> {
    let n = x.dim(0)?;
    let w = linspace(-1.0, 1.0, 6, DType::F32).reshape([3, 2]);
    let places = arange(n as i64, DType::F32).expand_dims(1) + ones([n, 3], DType::F32);
    let step = |c: &Array, x: &Array| (c * 0.5 + x, c.exp());
    let (last, all) = scan(step, &x.at_index(0, 0).zeros_like(), &(x * places))?;
    let both = concatenate(&[all.matmul(&w), (x - x.mean(0)).matmul(&w)], 0);
    Ok(both.reshape([-1]).cumsum(0, Scan::default()) + last.sum(..) + x.var(.., 1))
}

#[test]
fn one_trace_for_many_lengths() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = path(&folder);
    let [small, large] = [4, 6].map(|n| zeros([n, 3], DType::F32));
    Exporter::new().trace_lengths(along, &small, &large)?.save(&path)?;
    // Constants of one value are rules, not arrays.
    assert_eq!(SafeTensors::open(&path)?.names().len(), 0);
    let read = import_function(&path)?;
    for n in [2, 3, 4, 100] {
        let x = (arange(n * 3, DType::F32) * 0.3).sin().reshape([n, 3]);
        let y = read.call(std::slice::from_ref(&x))?.remove(0);
        assert_eq!(y.to_bytes()?, along(&x)?.to_bytes()?, "{n}");
        let again = |x: &Array| Ok::<_, Error>(read.call(std::slice::from_ref(x))?[0].sum(..));
        let direct = |x: &Array| Ok::<_, Error>(along(x)?.sum(..));
        assert_eq!(grad(again)(&x)?.to_bytes()?, grad(direct)(&x)?.to_bytes()?, "{n}");
    }
    for wrong in [zeros([5, 4], DType::F32), zeros([5, 3], DType::F16), zeros([1, 3], DType::F32)] {
        let error = read.call(&[wrong]).unwrap_err();
        assert!(error.message().contains("float32(a,3)"), "{error}");
    }
    assert_eq!(format!("{read:?}"), "[(float32(a,3)) -> (float32(16,))]");
    Ok(())
}

#[test]
fn what_does_not_follow_lengths_is_told() {
    let [small, large, wide] = [[4, 3], [6, 3], [4, 5]].map(|s| zeros(s, DType::F32));
    let error = |f: &dyn Fn(&Array) -> Result<Array, Error>, other: &Array| {
        let error = Exporter::new().trace_lengths(f, &small, other).map(|_| ()).unwrap_err();
        error.to_string()
    };
    let root = |x: &Array| Ok(x * (x.dim(0)? as f64).sqrt());
    assert!(error(&root, &large).contains("does not follow"), "{}", error(&root, &large));
    let until = |x: &Array| Ok(if x.dim(0)? > 6 { x.exp() } else { x.sin() });
    assert!(error(&until, &large).contains("third trace"), "{}", error(&until, &large));
    let product = |x: &Array| Ok(x.matmul(&ones([3, 2], DType::F32)));
    assert!(error(&product, &wide).contains("matmul"), "{}", error(&product, &wide));
    let low = zeros([4], DType::F32);
    assert!(error(&root, &low).contains("axes"), "{}", error(&root, &low));
    assert!(error(&root, &zeros([1, 3], DType::F32)).contains("0 or 1"));
}

/// How many changed files of a function were refused, and how many ran.
fn change(path: &PathBuf, run: bool) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let (header, data) = parts(&bytes);
    let text = header["__metadata__"]["functions"].as_str().unwrap().to_string();
    let numbers: Vec<(usize, usize)> = {
        let b = text.as_bytes();
        let mut all = Vec::new();
        let mut i = 0;
        while i < b.len() {
            let start = i;
            while i < b.len() && b[i].is_ascii_digit() {
                i += 1;
            }
            if i > start {
                all.push((start, i));
            }
            i += 1;
        }
        all
    };
    let mut state = 7u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let values = ["0", "1", "2", "3", "7", "255", "4294967295", "18446744073709551615", "-1"];
    let (mut refused, mut ran) = (0, 0);
    for round in 0..3000 {
        let mut changed = text.clone();
        if round % 3 < 2 {
            let (start, end) = numbers[next(numbers.len())];
            changed.replace_range(start..end, values[next(values.len())]);
        } else {
            let at = next(text.len());
            let byte = b"{}[]\",:0123456789abcFT"[next(22)] as char;
            changed.replace_range(at..at + 1, &byte.to_string());
        }
        let mut header = header.clone();
        header["__metadata__"]["functions"] = changed.into();
        match read(joined(&header, data)) {
            Err(_) => refused += 1,
            Ok(_) if !run => {}
            Ok(function) => {
                ran += 1;
                let forms = function.signatures().remove(0).0;
                // What asks for much memory is refused by the limit when it runs, not here.
                for length in [None, Some(9)] {
                    let with = |f: &Form| {
                        let mut shape = f.shape.to_vec();
                        shape.iter_mut().take(1).zip(length).for_each(|(n, m)| *n = m);
                        shape
                    };
                    if forms.iter().any(|f| f.shape.size() >= 1 << 16) {
                        continue;
                    }
                    let x: Vec<Array> = forms.iter().map(|f| zeros(with(f), f.dtype)).collect();
                    if let Ok(y) = function.call(&x) {
                        let small = |y: &Array| y.size().is_ok_and(|n| n < 1 << 16);
                        y.iter().filter(|y| small(y)).for_each(|y| drop(y.eval()));
                    }
                }
            }
        }
    }
    println!("{refused} refused, {ran} ran");
    for end in (0..bytes.len()).step_by(97) {
        let _ = read(bytes[..end].to_vec());
    }
    Ok((refused, ran))
}
