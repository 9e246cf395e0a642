//! Language models from GGUF files against llama.cpp: logits of every format, tokens of texts.
//!
//! `tests/golden/gguf_files.py` has made the expected values from the same files, which are built here
//! anew: weights are a hash of their position.

use lazul_core::{Array, BlockFormat, DType, Quantization, Quantized};
use lazul_io::gguf::{Gguf, GgufArray, GgufList, GgufValue, TextList, save_gguf_with};
use lazul_lm::{Checkpoint, KvCache};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const HIDDEN: usize = 256;
const INNER: usize = 512;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 64;
const LAYERS: usize = 2;
const VOCAB: usize = 32;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/gguf_files.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Bytes from a hash of their position.
fn noise(seed: u32, n: usize) -> Vec<u8> {
    let byte = |i: u32| {
        let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
        x ^= x >> 15;
        x = x.wrapping_mul(0x2c1b_3c6d);
        x ^= x >> 12;
        x as u8
    };
    (0..n as u32).map(byte).collect()
}

fn numbers(seed: u32, n: usize) -> Vec<f32> {
    noise(seed, n).into_iter().map(|b| (f32::from(b) - 128.0) / 1024.0).collect()
}

/// Where a block has its f16 numbers, and what they are, times 1, 2 or 3.
fn scales(format: BlockFormat) -> Vec<(usize, f32)> {
    let two = |e: i32| 2f32.powi(e);
    match format {
        BlockFormat::Q4_0 => vec![(0, two(-8))],
        BlockFormat::Q4_1 => vec![(0, two(-8)), (2, -two(-5))],
        BlockFormat::Q5_0 => vec![(0, two(-9))],
        BlockFormat::Q5_1 => vec![(0, two(-9)), (2, -two(-5))],
        BlockFormat::Q8_0 => vec![(0, two(-12))],
        BlockFormat::Q2K => vec![(80, two(-9)), (82, 1.5 * two(-9))],
        BlockFormat::Q3K => vec![(108, two(-11))],
        BlockFormat::Q4K => vec![(0, two(-14)), (2, 7.5 * two(-14))],
        BlockFormat::Q5K => vec![(0, two(-15)), (2, 15.5 * two(-15))],
        BlockFormat::Q6K => vec![(208, two(-16))],
    }
}

fn blocks(seed: u32, rows: usize, columns: usize, format: BlockFormat) -> Quantized {
    let size = format.bytes();
    let count = rows * columns / format.elements();
    let mut bytes = noise(seed, count * size);
    for (i, block) in bytes.chunks_exact_mut(size).enumerate() {
        for (at, scale) in scales(format) {
            let value = lazul_core::f16::from_f32(scale * (1 + i % 3) as f32);
            block[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    Quantized {
        codes: Array::from_slice(&bytes, [rows, bytes.len() / rows]),
        scales: None,
        biases: None,
        global_scale: None,
        form: Quantization::Blocks(format),
    }
}

enum Tensor {
    Dense(Array),
    Blocks(Quantized),
}

/// Tensors in the order in which the script hashes them.
struct Model<'a> {
    case: &'a Value,
    seed: u32,
    tensors: Vec<(String, Tensor)>,
}

impl Model<'_> {
    fn matrix(&mut self, name: &str, rows: usize, columns: usize) {
        self.seed += 1;
        let kind = self.case["format"].as_str().unwrap();
        let format = BlockFormat::ALL.into_iter().find(|format| format.name() == kind);
        let tensor = match format {
            Some(format) => Tensor::Blocks(blocks(self.seed, rows, columns, format)),
            None => {
                let dtype = match kind {
                    "F32" => DType::F32,
                    "F16" => DType::F16,
                    "BF16" => DType::BF16,
                    other => panic!("{other}"),
                };
                let values = numbers(self.seed, rows * columns);
                Tensor::Dense(Array::from_slice(&values, [rows, columns]).astype(dtype))
            }
        };
        self.tensors.push((name.to_owned(), tensor));
    }

    fn vector(&mut self, name: &str, n: usize, base: f32) {
        self.seed += 1;
        let values: Vec<f32> = numbers(self.seed, n).iter().map(|x| base + x).collect();
        self.tensors.push((name.to_owned(), Tensor::Dense(Array::from_slice(&values, [n]))));
    }
}

fn text(text: &str) -> GgufValue {
    GgufValue::Text(text.to_owned())
}

fn texts<T: AsRef<[u8]>>(list: impl IntoIterator<Item = T>) -> GgufValue {
    GgufValue::List(GgufList::Text(list.into_iter().collect::<TextList>()))
}

fn model(path: &Path, case: &Value) {
    let flag = |name: &str| case[name].as_bool().unwrap_or(false);
    let mut model = Model { case, seed: 0, tensors: Vec::new() };
    model.matrix("token_embd.weight", VOCAB, HIDDEN);
    model.vector("output_norm.weight", HIDDEN, 1.0);
    if !flag("tied") {
        model.matrix("output.weight", VOCAB, HIDDEN);
    }
    if flag("factors") {
        let factors: Vec<f32> = (0..HEAD / 2).map(|i| (1 + i % 5) as f32).collect();
        let factors = Array::from_slice(&factors, [HEAD / 2]);
        model.tensors.push(("rope_freqs.weight".to_owned(), Tensor::Dense(factors)));
    }
    for i in 0..LAYERS {
        let at = |name: &str| format!("blk.{i}.{name}");
        model.vector(&at("attn_norm.weight"), HIDDEN, 1.0);
        model.matrix(&at("attn_q.weight"), HEADS * HEAD, HIDDEN);
        model.matrix(&at("attn_k.weight"), KV_HEADS * HEAD, HIDDEN);
        model.matrix(&at("attn_v.weight"), KV_HEADS * HEAD, HIDDEN);
        model.matrix(&at("attn_output.weight"), HIDDEN, HEADS * HEAD);
        if flag("biases") {
            model.vector(&at("attn_q.bias"), HEADS * HEAD, 0.0);
            model.vector(&at("attn_k.bias"), KV_HEADS * HEAD, 0.0);
            model.vector(&at("attn_v.bias"), KV_HEADS * HEAD, 0.0);
        }
        model.vector(&at("ffn_norm.weight"), HIDDEN, 1.0);
        model.matrix(&at("ffn_gate.weight"), INNER, HIDDEN);
        model.matrix(&at("ffn_up.weight"), INNER, HIDDEN);
        model.matrix(&at("ffn_down.weight"), HIDDEN, INNER);
    }
    let n = |n: usize| GgufValue::U32(n as u32);
    let context = case["context"].as_u64().unwrap_or(64) as usize;
    let mut metadata = vec![
        ("general.architecture", text("llama")),
        ("llama.context_length", n(context)),
        ("llama.embedding_length", n(HIDDEN)),
        ("llama.block_count", n(LAYERS)),
        ("llama.feed_forward_length", n(INNER)),
        ("llama.attention.head_count", n(HEADS)),
        ("llama.attention.head_count_kv", n(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
        ("llama.rope.freq_base", GgufValue::F32(10_000.0)),
        ("llama.rope.dimension_count", n(HEAD)),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.bos_token_id", n(1)),
        ("tokenizer.ggml.eos_token_id", n(2)),
    ];
    if let Some(kind) = case["scaling"].as_str() {
        let factor = case["factor"].as_f64().unwrap() as f32;
        metadata.push(("llama.rope.scaling.type", text(kind)));
        metadata.push(("llama.rope.scaling.factor", GgufValue::F32(factor)));
        metadata.push(("llama.rope.scaling.original_context_length", n(32)));
    }
    let letters = ('a'..='z').map(String::from).chain(["A".into(), "B".into()]);
    let words: Vec<String> =
        ["<unk>", "<s>", "</s>", "▁"].map(String::from).into_iter().chain(letters).collect();
    metadata.push(("tokenizer.ggml.tokens", texts(&words)));
    let scores = (0..VOCAB).map(|i| -(i as f32)).collect();
    metadata.push(("tokenizer.ggml.scores", GgufValue::List(GgufList::F32(scores))));
    let types = [2, 3, 3].into_iter().chain([1; VOCAB - 3]).collect();
    metadata.push(("tokenizer.ggml.token_type", GgufValue::List(GgufList::I32(types))));
    save(path, &model.tensors, &metadata);
}

fn save(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, GgufValue)]) {
    let arrays = tensors.iter().map(|(name, tensor)| {
        let array = match tensor {
            Tensor::Dense(array) => GgufArray::Dense(array),
            Tensor::Blocks(matrix) => GgufArray::Blocks(matrix),
        };
        (name, array)
    });
    save_gguf_with(path, arrays, metadata).unwrap();
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    (folder, path)
}

/// Logits with the prompt given in pieces of `chunk`.
fn logits(checkpoint: &Checkpoint, tokens: &[i32], chunk: usize) -> Vec<f32> {
    let mut cache: Vec<KvCache> = checkpoint.model.new_cache();
    let mut all = Vec::new();
    for part in tokens.chunks(chunk) {
        let part = Array::from_slice(part, [1, part.len()]);
        let out = checkpoint.model.forward(&part, &mut cache).unwrap();
        all.extend(out.astype(DType::F32).to_vec::<f32>().unwrap());
    }
    all
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let golden = golden();
    let tokens: Vec<i32> =
        golden["tokens"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap() as i32).collect();
    let (_folder, path) = place();
    for case in golden["models"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        model(&path, case);
        let checkpoint = Checkpoint::open(path.to_str().unwrap()).unwrap();
        let want: Vec<f64> =
            case["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut want.iter().copied());
        // llama.cpp rounds activations to 16 bits, and to 8 where weights are blocks.
        let most = match case["format"].as_str().unwrap() {
            "F32" => 2e-5,
            "F16" => 4e-3,
            _ => 4e-2,
        };
        for chunk in [8, 3, 1] {
            let got = logits(&checkpoint, &tokens, chunk);
            assert_eq!(got.len(), want.len());
            let error = norm(&mut got.iter().zip(&want).map(|(&a, b)| f64::from(a) - b)) / size;
            assert!(error < most, "{name} by {chunk}: {error}");
        }
    }
}

fn shipped() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/rust-docs-lm/tokenizer.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["model"].clone()
}

/// The tokens of the shipped vocabulary, by id.
fn vocabulary(model: &Value) -> Vec<String> {
    let mut tokens: Vec<(u64, String)> = model["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.clone()))
        .collect();
    tokens.sort();
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// A file that has a vocabulary, and a model too small to be of use.
fn tokenizer(path: &Path, more: &[(&str, GgufValue)]) -> Checkpoint {
    let rows = more.iter().find_map(|(key, value)| match value {
        GgufValue::List(list) if *key == "tokenizer.ggml.tokens" => Some(list.len()),
        _ => None,
    });
    let rows = rows.unwrap();
    let zeros = |shape: &[usize]| {
        Tensor::Dense(Array::from_slice(&vec![0f32; shape.iter().product()], shape))
    };
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), zeros(&[rows, 8])),
        ("output_norm.weight".to_owned(), zeros(&[8])),
    ];
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        tensors.push((format!("blk.0.{name}.weight"), zeros(&[8, 8])));
    }
    for name in ["attn_norm", "ffn_norm"] {
        tensors.push((format!("blk.0.{name}.weight"), zeros(&[8])));
    }
    let n = GgufValue::U32;
    let mut metadata = vec![
        ("general.architecture", text("llama")),
        ("llama.embedding_length", n(8)),
        ("llama.block_count", n(1)),
        ("llama.feed_forward_length", n(8)),
        ("llama.attention.head_count", n(1)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
    ];
    metadata.extend(more.iter().cloned());
    save(path, &tensors, &metadata);
    Checkpoint::from_gguf("x", &Gguf::open(path).unwrap()).unwrap()
}

fn compare(golden: &Value, want: &Value, name: &str, checkpoint: &Checkpoint) {
    let tokenizer = checkpoint.text.tokenizer();
    for (input, want) in golden["texts"].as_array().unwrap().iter().zip(want.as_array().unwrap()) {
        let input = input.as_str().unwrap();
        let want: Vec<u32> =
            want.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(input, true).unwrap(), want, "{name}: {input:?}");
    }
}

#[test]
fn byte_level_tokens_are_those_of_llama_cpp() {
    let (golden, part) = (golden(), shipped());
    let tokens = vocabulary(&part);
    let merges: Vec<String> = part["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge {
            Value::String(merge) => merge.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        })
        .collect();
    let types = [3].into_iter().chain(std::iter::repeat_n(1, tokens.len() - 1)).collect();
    let (_folder, path) = place();
    for (pre, want) in golden["bpe"].as_object().unwrap() {
        let checkpoint = tokenizer(
            &path,
            &[
                ("tokenizer.ggml.model", text("gpt2")),
                ("tokenizer.ggml.pre", text(pre)),
                ("tokenizer.ggml.tokens", texts(&tokens)),
                ("tokenizer.ggml.token_type", GgufValue::List(GgufList::I32(Vec::clone(&types)))),
                ("tokenizer.ggml.merges", texts(&merges)),
                ("tokenizer.ggml.bos_token_id", GgufValue::U32(0)),
                ("tokenizer.ggml.eos_token_id", GgufValue::U32(0)),
            ],
        );
        compare(&golden, want, pre, &checkpoint);
        assert_eq!(checkpoint.text.end_tokens().collect::<Vec<_>>(), [0]);
    }
}

/// The byte that a character of a byte-level vocabulary stands for.
fn byte_of(c: char) -> u8 {
    let plain = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    match u8::try_from(u32::from(c)) {
        Ok(b) if plain(b) => b,
        _ => {
            let at = u32::from(c) as usize - 256;
            (0..=255u8).filter(|&b| !plain(b)).nth(at).unwrap()
        }
    }
}

#[test]
fn sentencepiece_tokens_are_those_of_llama_cpp() {
    let golden = golden();
    let mut pieces: Vec<String> = Vec::new();
    for token in vocabulary(&shipped()).iter().skip(1) {
        let bytes: Vec<u8> = token.chars().map(byte_of).collect();
        if let Ok(piece) = String::from_utf8(bytes) {
            pieces.push(piece.replace(' ', "▁"));
        }
    }
    pieces.truncate(4000);
    // As in trained models, each character of a piece is a piece.
    let known: BTreeSet<&str> = pieces.iter().map(String::as_str).collect();
    let letters: BTreeSet<String> =
        pieces.iter().flat_map(|p| p.chars()).map(String::from).collect();
    let more: Vec<String> = letters.into_iter().filter(|c| !known.contains(c.as_str())).collect();
    pieces.extend(more);
    let count = pieces.len();
    let scores = std::iter::repeat_n(0.0, 259).chain((0..count).map(|i| -(i as f32))).collect();
    let special = ["<unk>", "<s>", "</s>"].map(String::from);
    let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
    let tokens: Vec<String> = special.into_iter().chain(bytes).chain(pieces).collect();
    let types =
        [2, 3, 3].into_iter().chain([6; 256]).chain(std::iter::repeat_n(1, count)).collect();
    let (_folder, path) = place();
    for (name, prefix) in [("prefix", true), ("plain", false)] {
        let checkpoint = tokenizer(
            &path,
            &[
                ("tokenizer.ggml.model", text("llama")),
                ("tokenizer.ggml.tokens", texts(&tokens)),
                ("tokenizer.ggml.scores", GgufValue::List(GgufList::F32(Vec::clone(&scores)))),
                ("tokenizer.ggml.token_type", GgufValue::List(GgufList::I32(Vec::clone(&types)))),
                ("tokenizer.ggml.bos_token_id", GgufValue::U32(1)),
                ("tokenizer.ggml.eos_token_id", GgufValue::U32(2)),
                ("tokenizer.ggml.add_space_prefix", GgufValue::Bool(prefix)),
                ("tokenizer.chat_template", text("{{ bos_token }}{{ messages[0].content }}")),
            ],
        );
        compare(&golden, &golden["spm"][name], name, &checkpoint);
        let chat = lazul_lm::text::Chat::new(vec![lazul_lm::text::Message::new("user", "<s>")]);
        let ids = checkpoint.text.encode_chat(&chat).unwrap();
        assert_eq!(
            ids.iter().filter(|&&id| id == 1).count(),
            1,
            "the template's token, not the user's"
        );
    }
}
