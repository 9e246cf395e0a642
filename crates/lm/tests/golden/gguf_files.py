"""What llama.cpp makes of GGUF files: logits of small models of every format, and tokens of texts.

    python crates/lm/tests/golden/gguf_files.py

needs `pip install gguf llama-cpp-python numpy`. The files themselves are not kept: weights come from a
hash of their position, and crates/lm/tests/golden_gguf.rs makes the same files. Writes gguf_files.json.
"""
import json
import os
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama

HERE = os.path.dirname(os.path.abspath(__file__))
HIDDEN, INNER, HEADS, KV_HEADS, HEAD, LAYERS, VOCAB = 256, 512, 4, 2, 64, 2, 32
TOKENS = [1, 5, 9, 30, 7, 7, 12, 3]

# Where a block has its f16 numbers, and what they are, times 1, 2 or 3.
SCALES = {
    "Q4_0": [(0, 2**-8)], "Q4_1": [(0, 2**-8), (2, -(2**-5))], "Q5_0": [(0, 2**-9)],
    "Q5_1": [(0, 2**-9), (2, -(2**-5))], "Q8_0": [(0, 2**-12)], "Q2_K": [(80, 2**-9), (82, 1.5 * 2**-9)],
    "Q3_K": [(108, 2**-11)], "Q4_K": [(0, 2**-14), (2, 7.5 * 2**-14)],
    "Q5_K": [(0, 2**-15), (2, 15.5 * 2**-15)], "Q6_K": [(208, 2**-16)],
}


def noise(seed, n):
    """Bytes from a hash of their position."""
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + seed * 40503) & 0xFFFFFFFF
    x ^= x >> np.uint64(15)
    x = (x * 0x2C1B3C6D) & 0xFFFFFFFF
    x ^= x >> np.uint64(12)
    return (x & 0xFF).astype(np.uint8)


def numbers(seed, shape):
    n = int(np.prod(shape))
    return ((noise(seed, n).astype(np.float32) - 128) / 1024).reshape(shape)


def blocks(seed, rows, columns, name):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    count = rows * columns // elements
    out = noise(seed, count * size).reshape(count, size)
    for at, scale in SCALES[name]:
        values = (scale * (1 + np.arange(count) % 3)).astype(np.float16)
        out[:, at:at + 2] = values.view(np.uint8).reshape(-1, 2)
    return out.reshape(rows, -1)


def model(path, case):
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(case.get("context", 64))
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(HEAD)
    if "scaling" in case:
        w.add_rope_scaling_type(gguf.RopeScalingType(case["scaling"]))
        w.add_rope_scaling_factor(case["factor"])
        w.add_rope_scaling_orig_ctx_len(32)
    w.add_tokenizer_model("llama")
    w.add_token_list([b"<unk>", b"<s>", b"</s>", "▁".encode()] + [bytes([97 + i]) for i in range(26)] + [b"A", b"B"])
    w.add_token_scores([-float(i) for i in range(VOCAB)])
    w.add_token_types([2, 3, 3] + [1] * (VOCAB - 3))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    seed = 0

    def matrix(name, rows, columns):
        nonlocal seed
        seed += 1
        kind = case["format"]
        if kind in SCALES:
            w.add_tensor(name, blocks(seed, rows, columns, kind), raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            kind = gguf.GGMLQuantizationType[kind]
            w.add_tensor(name, gguf.quants.quantize(numbers(seed, (rows, columns)), kind), raw_dtype=kind)

    def vector(name, n, base):
        nonlocal seed
        seed += 1
        w.add_tensor(name, (base + numbers(seed, (n,))).astype(np.float32))

    matrix("token_embd.weight", VOCAB, HIDDEN)
    vector("output_norm.weight", HIDDEN, 1)
    if not case.get("tied"):
        matrix("output.weight", VOCAB, HIDDEN)
    if case.get("factors"):
        w.add_tensor("rope_freqs.weight", np.array([1 + i % 5 for i in range(HEAD // 2)], np.float32))
    for i in range(LAYERS):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", HIDDEN, 1)
        matrix(b + "attn_q.weight", HEADS * HEAD, HIDDEN)
        matrix(b + "attn_k.weight", KV_HEADS * HEAD, HIDDEN)
        matrix(b + "attn_v.weight", KV_HEADS * HEAD, HIDDEN)
        matrix(b + "attn_output.weight", HIDDEN, HEADS * HEAD)
        if case.get("biases"):
            vector(b + "attn_q.bias", HEADS * HEAD, 0)
            vector(b + "attn_k.bias", KV_HEADS * HEAD, 0)
            vector(b + "attn_v.bias", KV_HEADS * HEAD, 0)
        vector(b + "ffn_norm.weight", HIDDEN, 1)
        matrix(b + "ffn_gate.weight", INNER, HIDDEN)
        matrix(b + "ffn_up.weight", INNER, HIDDEN)
        matrix(b + "ffn_down.weight", HIDDEN, INNER)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def logits(path):
    # Keys and values in f32 (type 0).
    llm = Llama(path, n_ctx=64, logits_all=True, n_threads=1, type_k=0, type_v=0, verbose=False)
    llm.eval(TOKENS)
    return [round(float(x), 5) for x in np.array(llm.scores[:len(TOKENS)]).reshape(-1)]


CASES = [{"name": "f32", "format": "F32"}, {"name": "f16", "format": "F16"}, {"name": "bf16", "format": "BF16"},
         {"name": "tied", "format": "F32", "tied": True}, {"name": "biases", "format": "F32", "biases": True},
         {"name": "factors", "format": "F32", "factors": True},
         {"name": "linear", "format": "F32", "scaling": "linear", "factor": 4.0},
         {"name": "yarn", "format": "F32", "scaling": "yarn", "factor": 4.0, "context": 128}]
CASES += [{"name": name.lower(), "format": name} for name in SCALES]

TEXTS = ["", " ", "Hello, world!", "fn main() { println!(\"{}\", 1234567); }", "  two  spaces\n\n\nlines \t tabs ",
         "it's we'll I'M don't", "naïve café — “quoted” … €9.99", "数学 и кириллица עברית 🙂👍🏽", "a\u0301 combining \u200d",
         "0 00 000 0000 3.14159e-10", "CamelCaseWords and snake_case_words", "x" * 40, "<|endoftext|> is text",
         "\r\nwindows\r\n", "tab\tb\n c", "The borrow checker verifies that references are valid."]


def byte_table():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        if b in keep:
            table[chr(b)] = b
        else:
            table[chr(256 + extra)] = b
            extra += 1
    return table


def shipped():
    return json.load(open(os.path.join(HERE, "../../../../assets/rust-docs-lm/tokenizer.json")))["model"]


def bpe(path, pre):
    part = shipped()
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    tokens = sorted(part["vocab"], key=part["vocab"].get)
    w.add_token_list(tokens)
    w.add_token_types([3] + [1] * (len(tokens) - 1))
    w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in part["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    finish(w)


def spm(path, prefix):
    """The shipped vocabulary's tokens that are text, as pieces whose score is their rank."""
    part, table = shipped(), byte_table()
    pieces = []
    for token in sorted(part["vocab"], key=part["vocab"].get)[1:]:
        try:
            text = bytes(table[c] for c in token).decode().replace(" ", "▁")
        except UnicodeDecodeError:
            continue
        pieces.append(text)
    pieces = pieces[:4000]
    # As in trained models, each character of a piece is a piece.
    known = set(pieces)
    pieces += sorted({c for piece in pieces for c in piece if c not in known})
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(pieces))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_space_prefix(prefix)
    finish(w)


def finish(w):
    w.add_context_length(64)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.add_head_count(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def tokens(path):
    llm = Llama(path, vocab_only=True, verbose=False)
    return [llm.tokenize(text.encode(), add_bos=True, special=False) for text in TEXTS]


PRES = ["default", "llama-bpe", "qwen2", "gpt-2", "smollm", "falcon", "tekken", "gpt-4o", "deepseek-v3",
        "deepseek-coder", "bloom", "viking"]

out = {"tokens": TOKENS, "texts": TEXTS, "models": [], "bpe": {}, "spm": {}}
with tempfile.TemporaryDirectory() as place:
    path = os.path.join(place, "x.gguf")
    for case in CASES:
        model(path, case)
        out["models"].append(dict(case, logits=logits(path)))
    for pre in PRES:
        bpe(path, pre)
        out["bpe"][pre] = tokens(path)
    for prefix in [True, False]:
        spm(path, prefix)
        out["spm"]["prefix" if prefix else "plain"] = tokens(path)
with open(os.path.join(HERE, "gguf_files.json"), "w") as file:
    json.dump(out, file, ensure_ascii=False, separators=(",", ":"))
