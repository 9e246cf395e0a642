//! Small tokenizers for tests, made on the spot.
#![allow(dead_code)]

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::unigram::{Unigram, UnigramTrainerBuilder};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainerBuilder};
use tokenizers::normalizers::{BertNormalizer, NFC, NFKC};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// What the tokenizers learn from: several scripts, code, numbers, spaces.
pub(crate) fn corpus() -> Vec<String> {
    let mut out: Vec<String> =
        include_str!("../text_templates.rs").lines().map(String::from).collect();
    out.extend(include_str!("../golden/templates.py").lines().map(String::from));
    for line in TEXTS {
        out.push((*line).to_owned());
    }
    out
}

/// Texts with edges.
pub(crate) const TEXTS: [&str; 24] = [
    "",
    " ",
    "Hello, world!",
    "  leading and trailing  ",
    "It's the end of the world as we know it, and I'm fine; they'd've said 'so'.",
    "Zürich, Ærøskøbing, naïve café, ﬁne ½ ①",
    "漢字仮名交じり文。한국어 텍스트입니다.",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇨🇭 e\u{301} n\u{303}",
    "def f(x):\n    return x ** 2\n\n\n\tprint(f(3))\r\n",
    "1234567890 3.14159 1,000,000 0x1F",
    "a\u{0}b\u{7f}\u{80}\u{fffe}\u{e000}\u{10ffff}",
    "<s> </s> <unk> [CLS] [SEP] [MASK]",
    "<|im_start|>user\nhi<|im_end|>",
    "\u{200b}\u{200d}\u{feff}zero\u{ad}width",
    "tabs\t\tand\t spaces   and\n\n\nnewlines \n \n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u{fdfa}\u{fdfa} ﷺ",
    "x<s>y</s>z",
    "   ",
    "\n",
    "▁already ▁marked▁",
    "Mixed 漢字and latin123абв",
    "!?!?...---===~~~///\\\\\\",
];

fn special(content: &str) -> AddedToken {
    AddedToken::from(content, true)
}

/// GPT-2-like: byte-level BPE, NFC, two control tokens and one plain added token.
pub(crate) fn byte_level_bpe() -> String {
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_normalizer(Some(NFC)).unwrap();
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(600)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, corpus().into_iter()).unwrap();
    tokenizer.add_special_tokens([special("<|im_start|>"), special("<|im_end|>")]).unwrap();
    tokenizer.add_tokens([AddedToken::from("<tool>", false).normalized(false)]).unwrap();
    tokenizer.to_string(false).unwrap()
}

/// Llama-2-like: SentencePiece BPE with byte fallback, as its tokenizer.json spells it.
pub(crate) fn sentencepiece_bpe() -> String {
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    let trainer = BpeTrainerBuilder::new().vocab_size(500).show_progress(false).build();
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, corpus().into_iter().filter(|s| s.is_ascii())).unwrap();
    let trained: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let mut vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2});
    for byte in 0..256 {
        vocab[format!("<0x{byte:02X}>")] = json!(byte + 3);
    }
    let mut tokens: Vec<(&String, u64)> = trained["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (token, id.as_u64().unwrap()))
        .collect();
    tokens.sort_by_key(|(_, id)| *id);
    for (i, (token, _)) in tokens.iter().enumerate() {
        vocab[token.as_str()] = json!(i + 259);
    }
    let added: Vec<Value> = ["<unk>", "<s>", "</s>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": trained["model"]["merges"]},
    })
    .to_string()
}

/// T5-like: Unigram with NFKC and Metaspace.
pub(crate) fn unigram() -> String {
    let mut tokenizer = Tokenizer::new(Unigram::default());
    tokenizer.with_normalizer(Some(NFKC)).unwrap();
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    tokenizer.with_decoder(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    let trainer = UnigramTrainerBuilder::default()
        .vocab_size(400)
        .show_progress(false)
        .unk_token(Some("<unk>".into()))
        .special_tokens(vec![special("<unk>"), special("</s>")])
        .build()
        .unwrap();
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, corpus().into_iter()).unwrap();
    let post = TemplateProcessing::builder()
        .try_single("$A </s>")
        .unwrap()
        .special_tokens(vec![("</s>", tokenizer.token_to_id("</s>").unwrap())])
        .build()
        .unwrap();
    tokenizer.with_post_processor(Some(post));
    tokenizer.to_string(false).unwrap()
}

/// BERT-like: WordPiece.
pub(crate) fn wordpiece() -> String {
    let mut tokenizer =
        Tokenizer::new(WordPiece::builder().unk_token("[UNK]".into()).build().unwrap());
    tokenizer.with_normalizer(Some(BertNormalizer::default())).unwrap();
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let tokens = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let trainer = WordPieceTrainerBuilder::new()
        .vocab_size(500)
        .show_progress(false)
        .special_tokens(tokens.iter().map(|token| special(token)).collect())
        .build();
    let mut trainer = tokenizers::models::TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, corpus().into_iter()).unwrap();
    let id = |token: &str| tokenizer.token_to_id(token).unwrap();
    let post = tokenizers::processors::bert::BertProcessing::new(
        ("[SEP]".into(), id("[SEP]")),
        ("[CLS]".into(), id("[CLS]")),
    );
    tokenizer.with_post_processor(Some(post));
    tokenizer.to_string(false).unwrap()
}

/// All four.
pub(crate) fn all() -> [(&'static str, String); 4] {
    [
        ("byte-level BPE", byte_level_bpe()),
        ("SentencePiece BPE", sentencepiece_bpe()),
        ("Unigram", unigram()),
        ("WordPiece", wordpiece()),
    ]
}
