"""llama.cpp through llama-cpp-python: `llm_llamacpp.py FILE.gguf PROMPT_TOKENS NEW_TOKENS REPETITIONS` prints JSON as `llm` does."""
import json
import os
import resource
import sys
import time

start = time.perf_counter()
from llama_cpp import Llama

path, prompt, new, repetitions = sys.argv[1], *map(int, sys.argv[2:5])
threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
llm = Llama(path, n_ctx=prompt + new + 8, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
loaded = time.perf_counter() - start
vocab = llm.n_vocab()
ids = [(i * 7919 + 13) % (vocab - 10) + 5 for i in range(prompt)]
prefill, decode, first = [], [], None
for _ in range(repetitions):
    llm.reset()
    begin = time.perf_counter()
    llm.eval(ids)
    token = llm.sample(temp=0.0)
    prefill.append(prompt / (time.perf_counter() - begin))
    first = first or time.perf_counter() - start
    begin = time.perf_counter()
    for _ in range(new):
        llm.eval([token])
        token = llm.sample(temp=0.0)
    decode.append(new / (time.perf_counter() - begin))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"load_s": loaded, "ttft_s": first, "prefill_tps": prefill, "decode_tps": decode, "maxrss_mb": peak}))
