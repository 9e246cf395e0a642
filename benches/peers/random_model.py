"""Writes a LLaMA-shaped model folder with random weights: `random_model.py SHAPE BITS FOLDER TOKENIZER_FOLDER`.

SHAPE is 1b (TinyLlama's) or 7b (Llama 2's); BITS is 16 (bfloat16) or 4 (MLX's affine codes, groups of 64).
"""

import json
import pathlib
import shutil
import struct
import sys

import torch

SHAPES = {
    "1b": dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4),
    "7b": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32),
}


def main():
    shape, bits, folder, tokenizer = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(SHAPES[shape], model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=32000,
                  rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=4096, torch_dtype="bfloat16",
                  tie_word_embeddings=False, hidden_act="silu", bos_token_id=1, eos_token_id=2)
    if bits == 4:
        config["quantization"] = dict(group_size=64, bits=4)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(tokenizer / name, folder / name)
    c, m = config["hidden_size"], config["intermediate_size"]
    kv = c // config["num_attention_heads"] * config["num_key_value_heads"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tensors = []  # (name, dtype, shape, bytes): made one at a time when they are written

    def linear(name, rows, columns):
        if bits == 4:
            tensors.append((name + ".weight", "U32", (rows, columns // 8), "codes"))
            tensors.append((name + ".scales", "BF16", (rows, columns // 64), "scales"))
            tensors.append((name + ".biases", "BF16", (rows, columns // 64), "biases"))
        else:
            tensors.append((name + ".weight", "BF16", (rows, columns), "weight"))

    linear("model.embed_tokens", 32000, c)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, rows, columns in [("q_proj", c, c), ("k_proj", kv, c), ("v_proj", kv, c), ("o_proj", c, c)]:
            linear(layer + "self_attn." + name, rows, columns)
        for name, rows, columns in [("gate_proj", m, c), ("up_proj", m, c), ("down_proj", c, m)]:
            linear(layer + "mlp." + name, rows, columns)
        for name in ["input_layernorm", "post_attention_layernorm"]:
            tensors.append((layer + name + ".weight", "BF16", (c,), "ones"))
    tensors.append(("model.norm.weight", "BF16", (c,), "ones"))
    linear("lm_head", 32000, c)

    header, at = {}, 0
    for name, dtype, dims, _ in tensors:
        size = (4 if dtype == "U32" else 2)
        for d in dims:
            size *= d
        header[name] = dict(dtype=dtype, shape=list(dims), data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, dims, kind in tensors:
            if kind == "codes":
                t = torch.randint(-2**31, 2**31, dims, device=device, dtype=torch.int64).to(torch.int32)
                f.write(memoryview(t.cpu().contiguous().numpy()).cast("B"))
                continue
            if kind == "weight":
                t = torch.randn(dims, device=device) * 0.02
            elif kind == "scales":
                t = torch.full(dims, 0.0043, device=device)
            elif kind == "biases":
                t = torch.full(dims, -0.032, device=device)
            else:
                t = torch.ones(dims, device=device)
            f.write(memoryview(t.to(torch.bfloat16).view(torch.int16).cpu().contiguous().numpy()).cast("B"))
    print(folder, at, "bytes")


if __name__ == "__main__":
    main()
