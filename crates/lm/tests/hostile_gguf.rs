//! GGUF files whose structure is sound and whose model or vocabulary is not: each is refused with an
//! error that says what is wrong, and none ends the process.

use lazul_core::{Array, BlockFormat, DType, Quantization, Quantized};
use lazul_io::gguf::{Gguf, GgufArray, GgufList, GgufValue, save_gguf_with};
use lazul_lm::Checkpoint;
use std::collections::BTreeMap;

const D: usize = 32;
const VOCAB: usize = 6;

/// A sound file to spoil: keys and tensors by name.
#[derive(Clone)]
struct Model {
    keys: BTreeMap<String, GgufValue>,
    tensors: BTreeMap<String, Array>,
    blocks: BTreeMap<String, Quantized>,
}

fn texts(list: &[&str]) -> GgufValue {
    GgufValue::List(GgufList::Text(list.iter().collect()))
}

fn ints(list: &[i32]) -> GgufValue {
    GgufValue::List(GgufList::I32(list.to_vec()))
}

fn zeros(shape: &[usize]) -> Array {
    Array::from_slice(&vec![0f32; shape.iter().product()], shape)
}

fn sound() -> Model {
    let n = GgufValue::U32;
    let keys = [
        ("general.architecture", GgufValue::Text("llama".into())),
        ("llama.context_length", n(16)),
        ("llama.embedding_length", n(D as u32)),
        ("llama.block_count", n(1)),
        ("llama.feed_forward_length", n(D as u32)),
        ("llama.attention.head_count", n(4)),
        ("llama.attention.head_count_kv", n(2)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
        ("tokenizer.ggml.model", GgufValue::Text("llama".into())),
        ("tokenizer.ggml.tokens", texts(&["<unk>", "<s>", "</s>", "a", "b", "ab"])),
        ("tokenizer.ggml.scores", GgufValue::List(GgufList::F32(vec![0.0; VOCAB]))),
        ("tokenizer.ggml.token_type", ints(&[2, 3, 3, 1, 1, 1])),
        ("tokenizer.ggml.bos_token_id", n(1)),
        ("tokenizer.ggml.eos_token_id", n(2)),
    ];
    let tensors = [
        ("token_embd", vec![VOCAB, D]),
        ("output_norm", vec![D]),
        ("output", vec![VOCAB, D]),
        ("blk.0.attn_norm", vec![D]),
        ("blk.0.attn_q", vec![D, D]),
        ("blk.0.attn_k", vec![D / 2, D]),
        ("blk.0.attn_v", vec![D / 2, D]),
        ("blk.0.attn_output", vec![D, D]),
        ("blk.0.ffn_norm", vec![D]),
        ("blk.0.ffn_gate", vec![D, D]),
        ("blk.0.ffn_up", vec![D, D]),
        ("blk.0.ffn_down", vec![D, D]),
    ];
    Model {
        keys: keys.map(|(key, value)| (key.to_owned(), value)).into(),
        tensors: tensors.iter().map(|(name, s)| (format!("{name}.weight"), zeros(s))).collect(),
        blocks: BTreeMap::new(),
    }
}

impl Model {
    fn open(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let keys: Vec<(&str, GgufValue)> =
            self.keys.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let dense = self.tensors.iter().map(|(name, a)| (name, GgufArray::Dense(a)));
        let blocks = self.blocks.iter().map(|(name, q)| (name, GgufArray::Blocks(q)));
        save_gguf_with(&path, dense.chain(blocks), &keys).unwrap();
        let file = Gguf::open(&path).unwrap();
        let checkpoint = Checkpoint::from_gguf("x", &file).map_err(|e| e.to_string())?;
        let mut cache = checkpoint.model.new_cache();
        let tokens = Array::from_slice(&[1, 3], [1, 2]);
        let logits = checkpoint.model.forward(&tokens, &mut cache).map_err(|e| e.to_string())?;
        assert_eq!(
            logits.astype(DType::F32).to_vec::<f32>().map_err(|e| e.to_string())?.len(),
            2 * VOCAB
        );
        Ok(())
    }
}

#[track_caller]
fn bad(says: &str, spoil: impl FnOnce(&mut Model)) {
    let mut model = sound();
    spoil(&mut model);
    let error = model.open().expect_err(says);
    assert!(error.contains(says) && error.len() < 2048, "{says}: {error}");
    assert!(!error.chars().any(char::is_control), "{error}");
}

fn good(spoil: impl FnOnce(&mut Model)) {
    let mut model = sound();
    spoil(&mut model);
    model.open().unwrap();
}

fn put(key: &str, value: GgufValue) -> impl FnOnce(&mut Model) {
    let key = key.to_owned();
    move |model| drop(model.keys.insert(key, value))
}

fn drop_key(key: &str) -> impl FnOnce(&mut Model) {
    let key = key.to_owned();
    move |model| drop(model.keys.remove(&key))
}

#[test]
fn architectures() {
    good(|_| {});
    bad("general.architecture is missing", drop_key("general.architecture"));
    bad(
        "\"mamba\" is not one of llama",
        put("general.architecture", GgufValue::Text("mamba".into())),
    );
    bad("experts", put("llama.expert_count", GgufValue::U32(8)));
    good(put("llama.expert_count", GgufValue::U32(0)));
}

#[test]
fn hyperparameters() {
    let n = GgufValue::U32;
    for key in ["embedding_length", "block_count", "feed_forward_length", "attention.head_count"] {
        let key = format!("llama.{key}");
        bad(&format!("{key} is missing"), drop_key(&key));
        bad("", put(&key, n(0)));
        bad("", put(&key, GgufValue::U64(1 << 63)));
        bad("must be a", put(&key, GgufValue::F32(4.0)));
        bad("must be a", put(&key, GgufValue::I32(-4)));
    }
    bad("", put("llama.block_count", n(1 << 31)));
    bad("checkpoint lacks", put("llama.block_count", n(2)));
    bad("does not divide", put("llama.attention.head_count", n(5)));
    bad("not a multiple", put("llama.attention.head_count_kv", n(8)));
    bad("", put("llama.attention.head_count_kv", n(0)));
    bad("the model needs", put("llama.attention.head_count_kv", n(4)));
    good(put("llama.attention.head_count_kv", ints(&[2])));
    bad("differs between layers", put("llama.attention.head_count_kv", ints(&[2, 4])));
    bad("differs between layers", put("llama.attention.head_count_kv", ints(&[])));
    bad("", put("llama.context_length", GgufValue::U64(1 << 63)));
    bad("only the 8 of a whole head", put("llama.rope.dimension_count", n(7)));
    bad("only the 8 of a whole head", put("llama.attention.value_length", n(16)));
    bad("", put("llama.attention.key_length", n(7)));
    let eps = "llama.attention.layer_norm_rms_epsilon";
    bad("is missing", drop_key(eps));
    for x in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        bad(eps, put(eps, GgufValue::F32(x)));
    }
    for x in [0.0, -1.0, f32::NAN] {
        bad("", put("llama.rope.freq_base", GgufValue::F32(x)));
    }
    let scaling = |kind: &str| put("llama.rope.scaling.type", GgufValue::Text(kind.into()));
    bad("is not known", scaling("sideways"));
    good(scaling("none"));
    bad("must be a finite float", put("llama.rope.scaling.factor", GgufValue::F32(f32::NAN)));
    bad("", |model| {
        scaling("linear")(model);
        put("llama.rope.scaling.factor", GgufValue::F32(-2.0))(model);
    });
    bad("factors above zero", |model| {
        model.tensors.insert("rope_freqs.weight".into(), zeros(&[4]));
    });
}

#[test]
fn tensors() {
    for name in ["token_embd", "output_norm", "blk.0.attn_q", "blk.0.ffn_norm"] {
        let name = format!("{name}.weight");
        bad("", |model| drop(model.tensors.remove(&name)));
        bad("", |model| drop(model.tensors.insert(name, zeros(&[3]))));
    }
    good(|model| drop(model.tensors.remove("output.weight")));
    good(|model| drop(model.tensors.insert("more.weight".into(), zeros(&[3]))));
    bad("the model needs", |model| {
        drop(model.tensors.insert("blk.0.ffn_up.weight".into(), zeros(&[D, D / 2])));
    });
    let blocks = |rows: usize, format: BlockFormat| Quantized {
        codes: Array::from_slice(&vec![0u8; rows * format.bytes()], [rows, format.bytes()]),
        scales: None,
        biases: None,
        global_scale: None,
        form: Quantization::Blocks(format),
    };
    let swap = |model: &mut Model, name: &str, q: Quantized| {
        model.tensors.remove(name);
        model.blocks.insert(name.to_owned(), q);
    };
    good(|model| swap(model, "blk.0.ffn_up.weight", blocks(D, BlockFormat::Q4_0)));
    good(|model| swap(model, "token_embd.weight", blocks(VOCAB, BlockFormat::Q8_0)));
    bad("the model needs", |model| swap(model, "blk.0.ffn_up.weight", blocks(D, BlockFormat::Q4K)));
    bad("the model needs", |model| {
        swap(model, "blk.0.ffn_up.weight", blocks(D - 1, BlockFormat::Q4_0))
    });
    // A norm in blocks.
    bad("", |model| swap(model, "blk.0.ffn_norm.weight", blocks(1, BlockFormat::Q4_0)));
}

#[test]
fn vocabularies() {
    let n = GgufValue::U32;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    bad("there is no tokenizer", drop_key(&key("model")));
    bad("\"bert\"", put(&key("model"), GgufValue::Text("bert".into())));
    bad("there are none", drop_key(&key("tokens")));
    bad("must be a list of texts", put(&key("tokens"), n(5)));
    bad("must be a list of f32", put(&key("scores"), ints(&[0; VOCAB])));
    bad("scores", put(&key("scores"), GgufValue::List(GgufList::F32(vec![0.0; 5]))));
    bad("token_type", put(&key("token_type"), ints(&[1; 7])));
    bad("must be integers", put(&key("token_type"), texts(&["1"; VOCAB])));
    for name in
        ["bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "eot_token_id"]
    {
        bad("", put(&key(name), n(VOCAB as u32)));
        bad("", put(&key(name), GgufValue::U64(1 << 32)));
        bad("must be a count", put(&key(name), GgufValue::I32(-1)));
    }
    good(put(&key("padding_token_id"), n(u32::MAX)));
    bad("empty token", put(&key("tokens"), texts(&["<unk>", "<s>", "</s>", "", "b", "ab"])));
    bad("given twice", put(&key("tokens"), texts(&["<unk>", "<s>", "</s>", "b", "b", "ab"])));
    let more = texts(&["<unk>", "<s>", "</s>", "a", "b", "ab", "abc"]);
    bad("more than the 6 rows", |model| {
        put(&key("tokens"), more)(model);
        drop_key(&key("scores"))(model);
        drop_key(&key("token_type"))(model);
    });
    bad("must be a truth value", put(&key("add_bos_token"), n(1)));
    bad("pre-tokenizer", |model| {
        put(&key("model"), GgufValue::Text("gpt2".into()))(model);
        put(&key("pre"), GgufValue::Text("\u{1b}[31m".into()))(model);
    });
}

#[test]
fn chat_templates() {
    let template = |text: String| put("tokenizer.chat_template", GgufValue::Text(text));
    good(template("{{ messages[0].content }}".into()));
    bad("must be a text", put("tokenizer.chat_template", GgufValue::U8(1)));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(6000), ")".repeat(6000));
    bad("template", template(deep));
    bad("template", template("{% for x in y %}".into()));
    let long = format!("{{# {} #}}", "x".repeat(10 << 20));
    bad("too large", template(long));
}
