"""Writes a random-weight Llama folder of models.py as GGUF files for llama.cpp: bf16, and Q4_0.

    python benches/peers/gguf_files.py MODELS OUT tiny 1b

needs `pip install gguf safetensors numpy`. MODELS/NAME-bf16 becomes OUT/NAME-bf16.gguf and
OUT/NAME-q4_0.gguf; as llama.cpp's own converter does, the rows of q and k are put in the order in which
it turns pairs of features, and embeddings of the quantized file are Q4_0 too.
"""
import json
import os
import sys

import gguf
import numpy as np

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def tensors(path):
    """Names and f32 arrays of a safetensors file of bfloat16."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        base = file.tell()
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            file.seek(base + begin)
            words = np.frombuffer(file.read(end - begin), dtype=np.uint16).astype(np.uint32) << 16
            yield name, words.view(np.float32).reshape(entry["shape"])


def pairs(w, heads):
    rows, columns = w.shape
    return w.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(folder, out, kind):
    config = json.load(open(os.path.join(folder, "config.json")))
    writer = gguf.GGUFWriter(out, "llama")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("llama")
    words = [b"<unk>", b"<s>", b"</s>"] + [b"w%d" % i for i in range(3, config["vocab_size"])]
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * len(words))
    writer.add_token_types([2, 3, 3] + [1] * (len(words) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, w in tensors(os.path.join(folder, "model.safetensors")):
        name = name.removesuffix(".weight")
        prefix = ""
        if name.startswith("model.layers."):
            _, _, layer, name = name.split(".", 3)
            prefix = f"blk.{layer}."
        if name.endswith("q_proj"):
            w = pairs(w, heads)
        if name.endswith("k_proj"):
            w = pairs(w, kv_heads)
        if w.ndim == 1:
            writer.add_tensor(f"{prefix}{NAMES[name]}.weight", w)
            continue
        packed = gguf.quants.quantize(w, kind)
        writer.add_tensor(f"{prefix}{NAMES[name]}.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


models, out, *names = sys.argv[1:]
os.makedirs(out, exist_ok=True)
for name in names:
    folder = os.path.join(models, f"{name}-bf16")
    for kind, label in [(gguf.GGMLQuantizationType.BF16, "bf16"), (gguf.GGMLQuantizationType.Q4_0, "q4_0")]:
        write(folder, os.path.join(out, f"{name}-{label}.gguf"), kind)
