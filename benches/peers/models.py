"""Random-weight Llama folders in bf16, and the same quantized to 4 bits by mlx-lm.

    python benches/peers/models.py OUT tiny 1b

needs `pip install "mlx[cpu]" mlx-lm numpy safetensors tokenizers transformers`.
"""
import json
import os
import sys

import mlx.core as mx
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SHAPES = {
    # 15 M parameters, and the shape of TinyLlama 1.1 B.
    "tiny": dict(vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=10,
                 num_attention_heads=4, num_key_value_heads=4),
    "1b": dict(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
               num_attention_heads=32, num_key_value_heads=4),
}


def tokenizer(folder, vocab):
    words = {"<unk>": 0, "<s>": 1, "</s>": 2}
    words |= {f"w{i}": i for i in range(3, vocab)}
    t = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=t, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def make(out, name):
    s = SHAPES[name]
    folder = f"{out}/{name}-bf16"
    if not os.path.exists(folder + "/model.safetensors"):
        os.makedirs(folder, exist_ok=True)
        d, inner = s["hidden_size"], s["intermediate_size"]
        head = d // s["num_attention_heads"]
        kv = head * s["num_key_value_heads"]
        mx.random.seed(0)
        normal = lambda *shape: (mx.random.normal(shape) * 0.02).astype(mx.bfloat16)
        w = {"model.embed_tokens.weight": normal(s["vocab_size"], d),
             "lm_head.weight": normal(s["vocab_size"], d),
             "model.norm.weight": mx.ones((d,), mx.bfloat16)}
        for i in range(s["num_hidden_layers"]):
            p = f"model.layers.{i}."
            w |= {p + "self_attn.q_proj.weight": normal(d, d), p + "self_attn.k_proj.weight": normal(kv, d),
                  p + "self_attn.v_proj.weight": normal(kv, d), p + "self_attn.o_proj.weight": normal(d, d),
                  p + "mlp.gate_proj.weight": normal(inner, d), p + "mlp.up_proj.weight": normal(inner, d),
                  p + "mlp.down_proj.weight": normal(d, inner),
                  p + "input_layernorm.weight": mx.ones((d,), mx.bfloat16),
                  p + "post_attention_layernorm.weight": mx.ones((d,), mx.bfloat16)}
        mx.save_safetensors(folder + "/model.safetensors", w, {"format": "mlx"})
        config = dict(model_type="llama", architectures=["LlamaForCausalLM"], max_position_embeddings=2048,
                      rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, hidden_act="silu",
                      torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2, **s)
        json.dump(config, open(folder + "/config.json", "w"), indent=1)
        tokenizer(folder, s["vocab_size"])
    quantized = f"{out}/{name}-4bit"
    if not os.path.exists(quantized):
        from mlx_lm import convert
        convert(folder, quantized, quantize=True, q_bits=4, q_group_size=64)


for name in sys.argv[2:]:
    make(sys.argv[1], name)
