"""mlx-lm: `llm_mlx.py MODEL PROMPT_TOKENS NEW_TOKENS REPETITIONS` prints JSON as `llm` does."""
import json
import resource
import sys
import time

start = time.perf_counter()
import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step

path, prompt, new, repetitions = sys.argv[1], *map(int, sys.argv[2:5])
model, _ = load(path)
mx.eval(model.parameters())
loaded = time.perf_counter() - start
vocab = json.load(open(path + "/config.json"))["vocab_size"]
ids = mx.array([(i * 7919 + 13) % (vocab - 10) + 5 for i in range(prompt)])
prefill, decode, first = [], [], None
for _ in range(repetitions):
    begin, n = time.perf_counter(), 0
    for _token, _ in generate_step(ids, model, max_tokens=new + 1):
        if n == 0:
            prefill.append(prompt / (time.perf_counter() - begin))
            first = first or time.perf_counter() - start
            begin = time.perf_counter()
        n += 1
    decode.append((n - 1) / (time.perf_counter() - begin))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"load_s": loaded, "ttft_s": first, "prefill_tps": prefill, "decode_tps": decode, "maxrss_mb": peak}))
