"""transformers on a CUDA device: `llm_torch.py SHAPE PROMPT_TOKENS NEW_TOKENS REPETITIONS` prints tokens a second of prefill
and decode of a model with random bfloat16 weights, as JSON. Greedy, attention by PyTorch, no compilation."""

import json
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from random_model import SHAPES


def main():
    shape, prompt, new, repetitions = sys.argv[1], *map(int, sys.argv[2:5])
    config = LlamaConfig(vocab_size=32000, rms_norm_eps=1e-5, max_position_embeddings=4096, **SHAPES[shape])
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config).eval()
    ids = torch.tensor([[(i * 7919 + 13) % 31990 + 5 for i in range(prompt)]], device="cuda")
    prefill, decode = [], []
    with torch.inference_mode():
        for _ in range(repetitions):
            torch.cuda.synchronize()
            start = time.perf_counter()
            out = model(ids, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1:].argmax(-1)
            torch.cuda.synchronize()
            prefill.append(prompt / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(new):
                out = model(token, past_key_values=out.past_key_values, use_cache=True)
                token = out.logits[:, -1:].argmax(-1)
            torch.cuda.synchronize()
            decode.append(new / (time.perf_counter() - start))
    print(json.dumps({"torch": torch.__version__, "prefill_tps": prefill, "decode_tps": decode}))


main()
