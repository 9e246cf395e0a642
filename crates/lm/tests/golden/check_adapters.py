"""What mlx-lm makes of adapters that `lazul lora` wrote: `python check_adapters.py MODEL ADAPTERS PROMPT`.

Loads them as mlx-lm does, which refuses what does not fit, and prints a greedy continuation, to hold against
`lazul generate --model MODEL --adapter-path ADAPTERS -p PROMPT --temp 0`. All in f32: half precision of MLX's
CPU build is wrong on x86. Needs mlx, mlx-lm and transformers.
"""

import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model
from transformers import AutoTokenizer

folder, adapters, prompt = sys.argv[1:]
model, _ = load_model(Path(folder))
load_adapters(model, adapters)
model.eval()
half = (mx.bfloat16, mx.float16)
wide = tree_map(lambda a: a.astype(mx.float32) if a.dtype in half else a, model.parameters())
model.update(wide)
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer.encode(prompt)
for _ in range(20):
    ids.append(int(mx.argmax(model(mx.array([ids]))[0, -1])))
print(tokenizer.decode(ids))
