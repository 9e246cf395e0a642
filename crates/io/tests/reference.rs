//! The same files, read and written by us and by the reference implementations.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use lazul_core::{Array, DType};
use lazul_io::gguf::GgufList;
use lazul_io::{
    Gguf, ModelFolder, Npy, Npz, SafeTensors, load_gguf, load_npy, load_npz, load_safetensors,
    save_npy, save_npz, save_npz_compressed, save_safetensors,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// Golden files written by NumPy, MLX and safetensors; a crate taken out of its workspace lacks them.
fn golden() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden");
    path.is_dir().then_some(path)
}

const DTYPES: [(DType, Dtype); 14] = [
    (DType::Bool, Dtype::BOOL),
    (DType::U8, Dtype::U8),
    (DType::U16, Dtype::U16),
    (DType::U32, Dtype::U32),
    (DType::U64, Dtype::U64),
    (DType::I8, Dtype::I8),
    (DType::I16, Dtype::I16),
    (DType::I32, Dtype::I32),
    (DType::I64, Dtype::I64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
    (DType::C64, Dtype::C64),
];

/// A value of `files.json` as the bytes that an array should hold.
fn bytes_of(value: &Value, dtype: &str) -> Vec<u8> {
    if let Value::Array(parts) = value {
        return parts.iter().flat_map(|part| bytes_of(part, "float32")).collect();
    }
    let float = match value {
        Value::String(text) => text.parse().unwrap(),
        _ => value.as_f64().unwrap_or_default(),
    };
    let integer = || value.as_i64().unwrap_or_else(|| value.as_u64().unwrap() as i64).to_le_bytes();
    match dtype {
        "bool" => vec![u8::from(value.as_bool().unwrap())],
        "float16" => f16::from_f64(float).to_le_bytes().to_vec(),
        "bfloat16" => bf16::from_f64(float).to_le_bytes().to_vec(),
        "float32" => (float as f32).to_le_bytes().to_vec(),
        "float64" => float.to_le_bytes().to_vec(),
        "uint8" | "int8" => integer()[..1].to_vec(),
        "uint16" | "int16" => integer()[..2].to_vec(),
        "uint32" | "int32" => integer()[..4].to_vec(),
        "uint64" | "int64" => integer().to_vec(),
        other => panic!("{other}"),
    }
}

fn load(format: &str, path: &Path) -> lazul_io::Result<BTreeMap<String, Array>> {
    match format {
        "npy" => Ok(BTreeMap::from([(String::new(), load_npy(path)?)])),
        "npz" => load_npz(path),
        "gguf" => load_gguf(path),
        _ => load_safetensors(path),
    }
}

#[test]
fn golden_files() {
    let Some(folder) = golden() else { return };
    let table: Value =
        serde_json::from_slice(&fs::read(folder.join("files.json")).unwrap()).unwrap();
    let (mut loaded, mut refused) = (0, 0);
    for case in table["cases"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let (id, path) = (text("id"), folder.join(text("file")));
        let arrays = load(text("format"), &path);
        let Some(expected) = case["arrays"].as_array() else {
            // A checksum is verified when the data is read.
            let evaluated = arrays.map(|a| a.values().try_for_each(|a| a.to_bytes().map(drop)));
            assert!(!matches!(evaluated, Ok(Ok(()))), "{id}: {}", text("error"));
            refused += 1;
            continue;
        };
        let arrays = arrays.unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(arrays.len(), expected.len(), "{id}");
        for entry in expected {
            let name = entry["name"].as_str().unwrap();
            let (array, dtype) = (&arrays[name], entry["dtype"].as_str().unwrap());
            assert_eq!(array.dtype().unwrap().name(), dtype, "{id} {name}");
            let shape: Vec<u64> = array.shape().unwrap().iter().map(|&d| d as u64).collect();
            assert_eq!(Value::from(shape), entry["shape"], "{id} {name}");
            let values = entry["values"].as_array().unwrap().iter();
            let wanted: Vec<Vec<u8>> = values.map(|v| bytes_of(v, dtype)).collect();
            let found = array.to_bytes().unwrap();
            let size = array.dtype().unwrap().size();
            assert_eq!(found.len(), wanted.len() * size, "{id} {name}");
            for (found, wanted) in found.chunks(size).zip(&wanted) {
                // Which NaN a text means is nobody's promise.
                let nan = is_nan(found, dtype) && is_nan(wanted, dtype);
                assert!(nan || found == wanted, "{id} {name}: {found:?} and not {wanted:?}");
            }
        }
        if let Value::Object(metadata) = &case["metadata"] {
            let found = SafeTensors::open(&path).unwrap().metadata().clone();
            let found: serde_json::Map<_, _> =
                found.into_iter().map(|(k, v)| (k, Value::from(v))).collect();
            assert_eq!(&found, metadata, "{id}");
        }
        loaded += 1;
    }
    println!("golden files: loaded {loaded}, refused {refused}");
    assert!(loaded > 0 && refused > 0);
}

#[test]
fn metadata_of_other_writers() {
    let Some(folder) = golden() else { return };
    let file = Gguf::open(folder.join("files/mlx.gguf")).unwrap();
    assert_eq!(file.text("text").unwrap(), Some("a\nb"));
    assert_eq!(file.count("count").unwrap(), Some(5));
    let texts: Vec<&[u8]> = file.texts("texts").unwrap().unwrap().iter().collect();
    assert_eq!(texts, [&b"a"[..], b"", b"bc"]);
    assert_eq!(file.floats("numbers").unwrap(), Some(&[1.5, 2.5][..]));
    let file = Gguf::open(folder.join("files/gguf.gguf")).unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("test"));
    assert_eq!(file.float("f64").unwrap(), Some(1e300));
    let Some(GgufList::List(lists)) = file.list("nested").unwrap() else { panic!("a list") };
    let lists: Vec<_> = lists.iter().map(|list| list.integers().unwrap()).collect();
    assert_eq!(lists, [vec![1, 2], vec![3]]);
    assert_eq!(file.quantized("q8_0").unwrap().shape().unwrap()[..], [2, 32]);
}

fn is_nan(bytes: &[u8], dtype: &str) -> bool {
    match dtype {
        "float16" => f16::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        "bfloat16" => bf16::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        "float32" => f32::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        "float64" => f64::from_le_bytes(bytes.try_into().unwrap()).is_nan(),
        _ => false,
    }
}

#[test]
fn golden_checkpoints() {
    let Some(folder) = golden() else { return };
    let mut count = 0;
    for name in ["llama2", "llama3", "mistral", "biases", "llama3-4bit", "llama2-mixed"] {
        let Ok(model) = ModelFolder::open_dir(folder.join("llama").join(name)) else { continue };
        let weights = model.weights().unwrap();
        assert!(weights.arrays.values().all(|array| array.to_bytes().is_ok()), "{name}");
        count += 1;
    }
    println!("golden checkpoints: {count}");
}

/// A small generator of test data: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> usize {
        (self.next() % n) as usize
    }
}

type Tensor = (String, Dtype, DType, Vec<usize>, Vec<u8>);

/// Arrays of every dtype, of rank 0 to 4, some empty, of any bits.
fn arrays(random: &mut Random) -> Vec<Tensor> {
    (0..random.below(6))
        .map(|number| {
            let (ours, theirs) = DTYPES[random.below(DTYPES.len() as u64)];
            let shape: Vec<usize> = (0..random.below(5)).map(|_| random.below(5)).collect();
            let size = shape.iter().product::<usize>() * ours.size();
            let mut bytes: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
            if ours == DType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            let names = ["w", "layers.0.weight", "ü", "a/b", "quo\"te", "new\nline"];
            (format!("{}{number}", names[random.below(6)]), theirs, ours, shape, bytes)
        })
        .collect()
}

fn check(loaded: &BTreeMap<String, Array>, tensors: &[Tensor]) {
    assert_eq!(loaded.len(), tensors.len());
    for (name, _, dtype, shape, bytes) in tensors {
        let array = &loaded[name];
        assert_eq!(array.dtype().unwrap(), *dtype);
        assert_eq!(array.shape().unwrap(), &shape[..]);
        assert_eq!(&array.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn safetensors_agrees_with_the_reference_both_ways() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.safetensors");
    let mut random = Random(7);
    for _ in 0..200 {
        let tensors = arrays(&mut random);
        let views = tensors.iter().map(|(name, dtype, _, shape, bytes)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let metadata = HashMap::from([("format".to_owned(), "pt \"x\"\n".to_owned())]);
        let theirs = safetensors::serialize(views, Some(metadata.clone())).unwrap();
        let read = SafeTensors::from_bytes(theirs).unwrap();
        assert_eq!(read.metadata()["format"], metadata["format"]);
        check(&read.arrays().unwrap(), &tensors);

        save_safetensors(&path, &read.arrays().unwrap(), &[("format", "pt \"x\"\n")]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let back = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(back.len(), tensors.len());
        for (name, dtype, _, shape, bytes) in &tensors {
            let view = back.tensor(name).unwrap();
            assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &shape[..], &bytes[..]));
        }
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap(), &metadata);
        check(&load_safetensors(&path).unwrap(), &tensors);
    }
}

#[test]
fn numpy_files_make_the_round_trip() {
    let place = tempfile::tempdir().unwrap();
    let (npy, npz) = (place.path().join("x.npy"), place.path().join("x.npz"));
    let mut random = Random(8);
    for round in 0..100 {
        let mut tensors = arrays(&mut random);
        // What no path may contain, no member's name may either.
        tensors.iter_mut().for_each(|tensor| tensor.0 = tensor.0.replace('\n', "_"));
        let arrays: BTreeMap<String, Array> = tensors
            .iter()
            .map(|(name, _, dtype, shape, bytes)| {
                (name.clone(), Array::from_bytes(bytes, &shape[..], *dtype))
            })
            .collect();
        match round % 2 {
            0 => save_npz(&npz, &arrays).unwrap(),
            _ => save_npz_compressed(&npz, &arrays).unwrap(),
        }
        check(&Npz::open(&npz).unwrap().arrays().unwrap(), &tensors);
        for (name, array) in &arrays {
            save_npy(&npy, array).unwrap();
            let back = Npy::open(&npy).unwrap().array().unwrap();
            assert_eq!(back.to_bytes().unwrap(), array.to_bytes().unwrap(), "{name}");
        }
    }
}

#[test]
fn saving_over_the_file_that_arrays_come_from() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.safetensors");
    save_safetensors(&path, [("a", &Array::from_slice(&[1.0f32, 2.0], [2]))], &[]).unwrap();
    let mut arrays = load_safetensors(&path).unwrap();
    arrays.insert("b".to_owned(), Array::from_slice(&[3.0f32], [1]));
    save_safetensors(&path, &arrays, &[]).unwrap();
    let back = load_safetensors(&path).unwrap();
    assert_eq!(back["a"].to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(back["b"].to_vec::<f32>().unwrap(), [3.0]);
}
