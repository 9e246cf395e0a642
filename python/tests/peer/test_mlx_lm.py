"""mlx-lm, unmodified, runs on Lazul after `import lazul.mlx_compat`: generating, quantizing, fine-tuning a tiny random model."""

import importlib.util
import subprocess
import sys
import textwrap

import pytest

if importlib.util.find_spec("mlx_lm") is None:
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

PROGRAM = """
import os, sys, tempfile
if sys.argv[1] == "lazul":
    import lazul.mlx_compat
import mlx.core as mx, mlx.nn as nn, mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.generate import generate_step
from mlx_lm.models import llama
from mlx_lm.sample_utils import make_sampler
from mlx_lm.tuner.trainer import TrainingArgs, TrainingCallback, train
from mlx_lm.tuner.utils import linear_to_lora_layers

assert ("lazul" in repr(mx.float32)) == (sys.argv[1] == "lazul")
rng = np.random.default_rng(0)

def weights(parameters):
    return [(k, mx.array((rng.standard_normal(v.shape) * 0.3).astype(np.float32))) for k, v in sorted(tree_flatten(parameters), key=lambda kv: kv[0])]

args = llama.ModelArgs(model_type="llama", hidden_size=64, num_hidden_layers=2, intermediate_size=128,
                       num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, vocab_size=100)
model = llama.Model(args)
model.load_weights(weights(model.parameters()))
prompt = mx.array([1, 2, 3])
tokens = lambda **k: [int(t) for t, _ in zip((t for t, _ in generate_step(prompt, model, max_tokens=12, **k)), range(12))]
print("greedy", tokens())
mx.random.seed(3)
print("sampled", tokens(sampler=make_sampler(temp=0.9, top_p=0.9)))
nn.quantize(model, group_size=32, bits=4)
print("quantized", tokens())

model = llama.Model(args)
model.load_weights(weights(model.parameters()))
model.freeze()
linear_to_lora_layers(model, 2, {"rank": 4, "scale": 2.0, "dropout": 0.0})
model.load_weights(weights(model.trainable_parameters()), strict=False)

class Data:
    def __init__(self):
        self.rows = [([int(x) for x in rng.integers(0, 100, 17)], 0) for _ in range(4)]
    def __getitem__(self, i):
        return self.rows[i]
    def __len__(self):
        return len(self.rows)
    def itemlen(self, i):
        return 17

class Report(TrainingCallback):
    def on_train_loss_report(self, info):
        print("loss %.3f" % info["train_loss"])

train(model, optim.Adam(1e-3), train_dataset=Data(), val_dataset=Data(), training_callback=Report(),
      args=TrainingArgs(batch_size=4, iters=6, steps_per_report=2, steps_per_eval=100, val_batches=1, max_seq_length=32,
                        adapter_file=os.path.join(tempfile.mkdtemp(), "adapters.safetensors")))
"""


def test_generating_quantizing_and_fine_tuning_are_the_same():
    said = {}
    for place in ("mlx", "lazul"):
        run = [sys.executable, "-c", textwrap.dedent(PROGRAM), place]
        done = subprocess.run(run, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        words = ("greedy", "sampled", "quantized", "loss")
        said[place] = [line for line in done.stdout.splitlines() if line.startswith(words)]
    assert len(said["lazul"]) == 6
    assert said["lazul"] == said["mlx"]
