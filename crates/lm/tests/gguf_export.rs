//! Models as GGUF files: what is written is what is read, to the token and nearly to the logit.

use lazul_core::prelude::*;
use lazul_io::ModelFolder;
use lazul_lm::text::{TextFiles, TextModel};
use lazul_lm::{Checkpoint, Error, export_gguf, pretrain};
use serde_json::{Value, json};
use std::path::PathBuf;

fn shipped() -> ModelFolder {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/rust-docs-lm");
    ModelFolder::open_dir(root).unwrap()
}

const TEXT: &str = "The `Vec<T>` type: a  contiguous growable array, written as `Vec<T>`;\n\n it's 1234 ölçü 漢字 ok.";

#[test]
fn the_shipped_model_comes_back() {
    let folder = shipped();
    let before = Checkpoint::from_folder("shipped", &folder).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.gguf");
    let file = |name: &str| Ok(folder.bytes(name)?);
    export_gguf(&*before.model, &before.config, &before.text, &file, &path).unwrap();
    let after = Checkpoint::open(path.to_str().unwrap()).unwrap();
    for key in
        ["hidden_size", "num_hidden_layers", "num_key_value_heads", "max_position_embeddings"]
    {
        assert_eq!(before.config[key], after.config[key], "{key}");
    }
    let tokens = before.text.tokenizer().encode(TEXT, true).unwrap();
    assert_eq!(tokens, after.text.tokenizer().encode(TEXT, true).unwrap());
    let special = |c: &Checkpoint| c.text.tokenizer().special_ids();
    assert_eq!(
        (special(&before).bos, special(&before).eos),
        (special(&after).bos, special(&after).eos)
    );
    let logits = |c: &Checkpoint| {
        let ids = Array::from_slice(&tokens, [1, tokens.len()]);
        let logits = c.model.forward(&ids, &mut c.model.new_cache()).unwrap();
        logits.astype(DType::F32)
    };
    let (a, b) = (logits(&before), logits(&after));
    // bf16 there, f16 here.
    let far = (&a - &b).abs().mean(..).item::<f32>().unwrap();
    let size = a.abs().mean(..).item::<f32>().unwrap();
    assert!(far < 0.02 * size, "{far} of {size}");
}

/// Byte pairs over pieces, as Llama 2 has them.
#[test]
fn pieces_are_scored_by_their_merges() {
    let mut vocab = serde_json::Map::new();
    for token in ["<unk>", "<s>", "</s>"] {
        vocab.insert(token.to_string(), vocab.len().into());
    }
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), vocab.len().into());
    }
    for piece in ["▁", "a", "b", "c", "ab", "▁ab", "abc", "▁c"] {
        vocab.insert(piece.to_string(), vocab.len().into());
    }
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false })
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": ["a b", "▁ ab", "ab c", "▁ c"],
        },
    })
    .to_string();
    let settings =
        json!({ "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>" }).to_string();
    let files = TextFiles {
        tokenizer_json: Some(tokenizer.as_bytes()),
        tokenizer_config: Some(settings.as_bytes()),
        ..Default::default()
    };
    let text = TextModel::load(&files).unwrap();
    let mut config = json!({
        "model_type": "llama", "vocab_size": 272, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "rms_norm_eps": 1e-5,
    });
    let model = pretrain::init(&config, 0).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.gguf");
    let file = |name: &str| Ok((name == "tokenizer.json").then(|| tokenizer.clone().into_bytes()));
    export_gguf(&*model, &config, &text, &file, &path).unwrap();
    let after = Checkpoint::open(path.to_str().unwrap()).unwrap();
    for words in ["abc ab c", "cab  bca", "é\n"] {
        let ids = |text: &TextModel| text.tokenizer().encode(words, false).unwrap();
        assert_eq!(ids(&text), ids(&after.text), "{words:?}");
    }
    // What the format has no form for.
    let refused = |config: &Value, file: &dyn Fn(&str) -> lazul_lm::Result<Option<Vec<u8>>>| {
        match export_gguf(&*model, config, &text, file, &path) {
            Err(Error::Argument(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&config, &|_| Ok(None)).contains("tokenizer.json"));
    config["rope_scaling"] = json!({ "rope_type": "llama3", "factor": 8.0 });
    assert!(refused(&config, &file).contains("llama3"));
    config["model_type"] = "gpt2".into();
    assert!(refused(&config, &file).contains("gpt2"));
}
