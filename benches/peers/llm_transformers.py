"""transformers on the processor: `llm_transformers.py MODEL PROMPT_TOKENS NEW_TOKENS REPETITIONS` prints JSON as `llm` does.
Greedy, attention by PyTorch, no compilation."""
import json
import os
import resource
import sys
import time

start = time.perf_counter()
import torch
from transformers import AutoModelForCausalLM

path, prompt, new, repetitions = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
loaded = time.perf_counter() - start
vocab = model.config.vocab_size
ids = torch.tensor([[(i * 7919 + 13) % (vocab - 10) + 5 for i in range(prompt)]])
prefill, decode, first = [], [], None
with torch.inference_mode():
    for _ in range(repetitions):
        begin = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        prefill.append(prompt / (time.perf_counter() - begin))
        first = first or time.perf_counter() - start
        begin = time.perf_counter()
        for _ in range(new):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
        decode.append(new / (time.perf_counter() - begin))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"load_s": loaded, "ttft_s": first, "prefill_tps": prefill, "decode_tps": decode, "maxrss_mb": peak}))
