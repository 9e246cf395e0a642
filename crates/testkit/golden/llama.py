"""llama/: tiny checkpoints of the Llama family with random weights, and what transformers says of them.

    pip install "mlx[cpu]" mlx-lm numpy torch transformers tokenizers safetensors
    python llama.py

Weights are drawn with a fixed seed and rounded to bfloat16, so that a checkpoint means the same
numbers in float32 and in bfloat16. They are drawn wide (std 0.2 and up), because logits of the
usual 0.02 are so even that rounding alone would pick the greedy token.

The reference is transformers on the CPU in float32 with eager attention, computed from the files as
they lie on disk. Greedy tokens come from recomputing the whole sequence at every step; the script
fails if any step is closer than MARGIN to a tie, or if decoding with a cache gives other tokens.
Where mlx-lm implements the same thing, it must agree as well.
"""

import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx_lm.convert import convert
from mlx_lm.utils import load_model
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from golden import HERE, write_json, write_safetensors

torch.set_num_threads(1)
torch.manual_seed(0)
OUT = os.path.join(HERE, "llama")
VOCAB, PREFILL, STEPS, MARGIN = 128, 40, 64, 1e-2
TENSORS, CASES = {}, []

TEXT = """The quick brown fox jumps over the lazy dog. The dog sleeps; the fox does not.
A model reads tokens and writes tokens. Attention is the mean of the values, weighted by the keys.
"What is the mean?" asked the reader. "The sum over the count," said the writer: 12 / 4 = 3.
"""


def tokenizer():
    """A byte-level BPE of 128 entries: three specials, the printable ASCII bytes, a few merges."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    ascii = [pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(chr(c))[0][0] for c in [10, *range(32, 127)]]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=ascii, show_progress=False)
    t.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert t.get_vocab_size() == VOCAB
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def draw(model, seed, std):
    """Fills the parameters in the order of their names."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        x = torch.randn(p.shape, generator=g)
        if name.endswith("norm.weight"):
            x = 1 + 0.2 * x
        elif name.endswith("bias"):
            x = 0.5 * x
        elif "embed_tokens" in name:
            x = x * (0.4 if model.config.tie_word_embeddings else 1.0)
        elif "lm_head" in name:
            x = x * 0.4
        else:
            x = x * std
        p.data.copy_(x.to(torch.bfloat16).float())
    return model


def old_config(path):
    """The names that published checkpoints use (transformers 5 writes `rope_parameters` and `dtype`)."""
    with open(path) as f:
        c = json.load(f)
    rope = c.pop("rope_parameters")
    c["rope_theta"] = rope.pop("rope_theta")
    c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    c["torch_dtype"] = c.pop("dtype")
    if c["head_dim"] * c["num_attention_heads"] == c["hidden_size"]:
        del c["head_dim"]
    with open(path, "w") as f:
        json.dump(dict(sorted(c.items())), f, indent=2)
        f.write("\n")


def write(model, name, dtype, shard=None, modern=False):
    folder = os.path.join(OUT, name)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard or "1GB")
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    if not modern:
        old_config(os.path.join(folder, "config.json"))
    return folder


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy()


def greedy(model):
    """A prompt of eight tokens whose greedy continuation never comes close to a tie, and that."""
    for seed in range(1000):
        prompt = [1, *np.random.default_rng(seed).integers(3, VOCAB, 7).tolist()]
        ids, least = list(prompt), np.inf
        while len(ids) < len(prompt) + STEPS and least > MARGIN:
            row = logits_of(model, ids)[-1]
            top = np.sort(row)[-2:]
            least = min(least, float(top[1] - top[0]))
            ids.append(int(row.argmax()))
        if least > MARGIN and len(set(ids[len(prompt) :])) > 12:
            break
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=STEPS, do_sample=False, pad_token_id=0
        )
    assert out[0].tolist() == ids, "decoding with a cache gives other tokens"
    return prompt, ids[len(prompt) :], least


def mlx_logits(folder, ids, dtype=mx.float32):
    model, _ = load_model(Path(folder))
    model.update(nn.utils.tree_map(lambda p: p.astype(dtype) if mx.issubdtype(p.dtype, mx.floating) else p, model.parameters()))
    return np.array(model(mx.array([list(map(int, ids))]))[0].astype(mx.float32))


IDS = np.random.default_rng(3).integers(3, VOCAB, PREFILL).astype(np.int32)


def reference(id, folder, config="config.json", ids=IDS, decode=True, mlx=True, note=None):
    """Float32 logits for every position of `ids` and, if `decode`, a greedy continuation."""
    with tempfile.TemporaryDirectory() as tmp:
        model = os.path.join(OUT, folder)
        here = os.path.join(tmp, "model")
        shutil.copytree(model, here)
        if config != "config.json":
            shutil.copy(os.path.join(model, config), os.path.join(here, "config.json"))
        hf = load(here)
        logits = logits_of(hf, ids)
        TENSORS[f"{id}.ids"], TENSORS[f"{id}.logits"] = ids, logits
        c = {"id": id, "folder": folder, "config": config, "compute": "float32", "source": "transformers"}
        c |= {"ids": f"{id}.ids", "logits": f"{id}.logits", "rtol": 1e-4, "atol": 1e-3}
        if decode:
            prompt, tokens, least = greedy(hf)
            c |= {"prompt": prompt, "greedy": tokens, "least_margin": round(least, 4)}
        if mlx:
            off = np.abs(mlx_logits(here, ids) - logits).max()
            assert off < 2e-4, (id, off)
        if note:
            c["note"] = note
        CASES.append(c)
        print(f"{id}: |logits| up to {np.abs(logits).max():.1f}, margin {c.get('least_margin')}, {len(set(c.get('greedy', [])))} tokens")


def reference_bf16(id, folder):
    """The same weights with every activation in bfloat16: good to a few per cent only."""
    logits = logits_of(load(os.path.join(OUT, folder), torch.bfloat16), IDS)
    full = TENSORS[f"{id}.logits"]
    TENSORS[f"{id}.bf16.logits"] = logits
    worst = float(np.abs(logits - full).max())
    c = {"id": f"{id}.bf16", "folder": folder, "config": "config.json", "compute": "bfloat16", "source": "transformers"}
    c |= {"ids": f"{id}.ids", "logits": f"{id}.bf16.logits", "float32_logits": f"{id}.logits", "max_difference": round(worst, 3)}
    c |= {"rms_difference": round(float(np.sqrt(((logits - full) ** 2).mean())), 4)}
    c["note"] = "max and rms_difference are transformers' bf16 from float32; another bf16 should be about as near to float32"
    CASES.append(c)


def quantized(id, folder, tok, bits, group, keep, predicate=None, mode="affine"):
    """mlx-lm's conversion in float32 and its logits: the last 8 positions, or all of a kept folder."""
    with tempfile.TemporaryDirectory() as tmp:
        src, dst = os.path.join(tmp, "src"), os.path.join(tmp, "dst")
        shutil.copytree(os.path.join(OUT, folder), src)
        tok.save_pretrained(src)
        convert(src, dst, quantize=True, q_group_size=group, q_bits=bits, q_mode=mode, dtype="float32", quant_predicate=predicate)
        logits = mlx_logits(dst, IDS)
        # The same weights, dequantized, through transformers: the product itself is not off
        dense, tensors = load(src), load_file(os.path.join(dst, "model.safetensors"))
        with open(os.path.join(dst, "config.json")) as f:
            rules = json.load(f)["quantization"]
        state = dense.state_dict()
        for name in [n[: -len(".scales")] for n in tensors if n.endswith(".scales")]:
            q = {"mode": mode} | rules.get(name, {"bits": bits, "group_size": group})
            parts = [mx.array(tensors[f"{name}.{p}"]) for p in ("weight", "scales", "biases") if f"{name}.{p}" in tensors]
            state[f"{name}.weight"].copy_(torch.from_numpy(np.array(mx.dequantize(*parts, **q, dtype=mx.float32))))
        check = logits_of(dense, IDS)
        assert np.abs(check - logits).max() < 2e-4, (id, np.abs(check - logits).max())
        c = {"id": id, "base": folder, "bits": bits, "group_size": group, "compute": "float32", "source": "mlx-lm"}
        c |= {"ids": "llama2.ids", "rtol": 1e-4, "atol": 1e-3}
        if keep:
            kept = os.path.join(OUT, id)
            os.makedirs(kept)
            for name in ("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"):
                shutil.copy(os.path.join(dst, name), kept)
            prompt, tokens, least = greedy(dense)
            c |= {"folder": id, "prompt": prompt, "greedy": tokens, "least_margin": round(least, 4)}
        else:
            logits = logits[-8:]
            c |= {"last": 8, "note": "quantize every matrix of `base` whose rows the group size divides, embeddings and head included"}
            name = "model.layers.1.self_attn.k_proj"
            for part in ("weight", "scales", "biases"):
                TENSORS[f"{id}.{name}.{part}"] = tensors[f"{name}.{part}"]
            TENSORS[f"{id}.{name}.dequantized"] = state[f"{name}.weight"][:8].numpy().copy()
            c |= {"tensor": name, "dequantized_rows": 8}
        TENSORS[f"{id}.logits"] = logits
        c["logits"] = f"{id}.logits"
        CASES.append(c)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    tok = tokenizer()
    tok.save_pretrained(OUT)
    common = dict(vocab_size=VOCAB, num_hidden_layers=2, bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5)

    # Multi-head attention, separate output head, as in Llama 2
    c = LlamaConfig(
        **common, hidden_size=64, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512
    )
    write(draw(LlamaForCausalLM(c), 1, 0.2), "llama2", torch.bfloat16)
    reference("llama2", "llama2")
    reference_bf16("llama2", "llama2")

    # Grouped queries, scaled rope, tied embeddings, as in Llama 3.1 and 3.2
    rope = {
        "rope_theta": 500000.0,
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    c = LlamaConfig(
        **common,
        hidden_size=64,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters=rope,
    )
    write(draw(LlamaForCausalLM(c), 2, 0.2), "llama3", torch.bfloat16)
    reference("llama3", "llama3")
    reference_bf16("llama3", "llama3")

    # A window smaller than the sequence; heads that are not hidden_size / heads wide. mlx-lm ignores the window.
    c = MistralConfig(
        **common,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=12,
        max_position_embeddings=512,
    )
    write(draw(MistralForCausalLM(c), 3, 0.25), "mistral", torch.float32)
    reference("mistral", "mistral", mlx=False, note="a query sees itself and the 11 keys before it")

    # Biases in attention and MLP; three shards and an index
    c = LlamaConfig(
        **common,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_bias=True,
        mlp_bias=True,
    )
    write(draw(LlamaForCausalLM(c), 4, 0.25), "biases", torch.float32, shard="40KB")
    reference("biases", "biases")

    # One set of weights under several ropes. config.json is as transformers 5 writes it.
    shape = dict(
        common,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    model = draw(LlamaForCausalLM(LlamaConfig(**shape)), 5, 0.25)
    folder = write(model, "rope", torch.float32, modern=True)
    for name, rope in (
        ("linear", {"rope_type": "linear", "factor": 2.5}),
        ("dynamic", {"rope_type": "dynamic", "factor": 3.0}),
        ("yarn", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
        (
            "yarn-options",
            {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 32,
                "beta_fast": 4.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 0.5,
            },
        ),
    ):
        longer = dict(shape, max_position_embeddings=32 if name == "dynamic" else 128)
        LlamaConfig(
            **longer, architectures=["LlamaForCausalLM"], dtype="float32", rope_parameters={"rope_theta": 10000.0} | rope
        ).to_json_file(os.path.join(folder, f"config-{name}.json"), use_diff=False)
        shutil.copy(os.path.join(folder, f"config-{name}.json"), os.path.join(folder, f"config-{name}-modern.json"))
        old_config(os.path.join(folder, f"config-{name}.json"))
    reference("rope.default", "rope", note="config as transformers 5 writes it: rope_parameters, dtype")
    reference("rope.linear", "rope", "config-linear.json")
    reference("rope.yarn", "rope", "config-yarn.json")
    reference("rope.yarn-options", "rope", "config-yarn-options.json")
    reference("rope.dynamic", "rope", "config-dynamic.json", decode=False)
    reference(
        "rope.dynamic.short",
        "rope",
        "config-dynamic.json",
        ids=IDS[:20],
        decode=False,
        note="within max_position_embeddings nothing is scaled",
    )

    for bits in (2, 3, 4, 5, 6, 8):
        if bits != 4:
            quantized(f"llama2-{bits}bit", "llama2", tok, bits, 64, keep=False)
            quantized(f"llama3-{bits}bit-g32", "llama3", tok, bits, 32, keep=False)
    quantized("llama3-4bit", "llama3", tok, 4, 64, keep=True)

    def mixed(path, module):
        if path == "lm_head":
            return False
        if "down_proj" in path:
            return {"group_size": 32, "bits": 6}
        return True

    quantized("llama2-mixed", "llama2", tok, 4, 64, keep=True, predicate=mixed)

    # Every mode in one model. The table stays dense: rows of small floats are bfloat16 in MLX.
    def modes(path, module):
        if "embed_tokens" in path:
            return False
        if "q_proj" in path:
            return {"group_size": 32, "bits": 8, "mode": "mxfp8"}
        if "k_proj" in path:
            return {"group_size": 16, "bits": 4, "mode": "nvfp4"}
        if "v_proj" in path:
            return {"group_size": 64, "bits": 8, "mode": "affine"}
        return True

    quantized("llama2-modes", "llama2", tok, 4, 32, keep=True, predicate=modes, mode="mxfp4")

    head = {
        "versions": {p: version(p) for p in ("transformers", "torch", "mlx", "mlx-lm", "tokenizers")},
        "tensors": "llama/reference.safetensors",
    }
    write_safetensors("llama/reference.safetensors", TENSORS)
    write_json("llama/reference.json", head, CASES)


if __name__ == "__main__":
    main()
