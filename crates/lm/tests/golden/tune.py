"""Fine-tunings by mlx-lm, to hold ours against: `python tune.py` writes tune.json and tune.safetensors.

The model is ../../../testkit/golden/llama/llama3 in f32 (half precision of MLX's CPU build is wrong on x86).
Every case has the loss of 50 steps, the adapters before the first, those after the last, and logits then.
Needs mlx and mlx-lm.
"""

import json
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from mlx_lm.tuner.trainer import TrainingArgs, TrainingCallback, train
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers
import numpy as np

HERE = Path(__file__).parent
FOLDER = HERE / "../../../testkit/golden/llama/llama3"
STEPS = 50

mx.disable_compile()


def model(quantize):
    config = json.loads((FOLDER / "config.json").read_text())
    model = llama.Model(llama.ModelArgs.from_dict(config))
    weights = mx.load(str(FOLDER / "model.safetensors"))
    model.load_weights([(k, v.astype(mx.float32)) for k, v in weights.items()], strict=False)
    if quantize:
        nn.quantize(model, group_size=64, bits=4)
    mx.eval(model.parameters())
    return model


def rows():
    """Token sequences that have something to learn: the Rust test makes the same."""
    return [
        ([(i * 7 + row * 13 + (i * i) % 5) % 128 for i in range(10 + row % 9 * 5)], row % 4)
        for row in range(24)
    ]


class Losses(TrainingCallback):
    def __init__(self):
        self.losses = []

    def on_train_loss_report(self, info):
        self.losses.append(info["train_loss"])


CASES = [
    dict(name="lora", lora_parameters=dict(rank=4, scale=10.0, dropout=0.0)),
    dict(name="dora", fine_tune_type="dora", lora_parameters=dict(rank=4, scale=10.0, dropout=0.0)),
    dict(name="qlora", quantize=True, lora_parameters=dict(rank=4, scale=10.0, dropout=0.0)),
    dict(
        name="accumulated",
        grad_accumulation_steps=2,
        num_layers=1,
        optimizer="adamw",
        lora_parameters=dict(
            rank=8,
            scale=20.0,
            dropout=0.0,
            keys=["self_attn.q_proj", "mlp.down_proj", "model.embed_tokens"],
        ),
        lr_schedule=dict(name="cosine_decay", warmup=5, warmup_init=1e-5, arguments=[2e-3, 20, 1e-4]),
    ),
    dict(name="full", fine_tune_type="full", num_layers=1),
]


def main():
    out, cases = {}, []
    for case in CASES:
        kind = case.get("fine_tune_type", "lora")
        layers = case.get("num_layers", -1)
        m = model(case.get("quantize", False))
        m.freeze()
        mx.random.seed(1)
        np.random.seed(3)
        if kind == "full":
            for layer in m.layers[-max(layers, 0) :]:
                layer.unfreeze()
        else:
            linear_to_lora_layers(m, layers, case["lora_parameters"], use_dora=kind == "dora")
            for key, value in tree_flatten(m.trainable_parameters()):
                out[f"{case['name']}/first/{key}"] = value
        schedule = case.get("lr_schedule")
        rate = build_schedule(schedule) if schedule else 1e-3
        optimizer = dict(adam=optim.Adam, adamw=optim.AdamW)[case.get("optimizer", "adam")](rate)
        seen = Losses()
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArgs(
                batch_size=4,
                iters=STEPS,
                steps_per_report=1,
                steps_per_save=1000,
                max_seq_length=48,
                adapter_file=str(Path(folder) / "adapters.safetensors"),
                grad_accumulation_steps=case.get("grad_accumulation_steps", 1),
            )
            train(m, optimizer, rows(), None, args, training_callback=seen)
        m.eval()
        for key, value in tree_flatten(m.trainable_parameters()):
            out[f"{case['name']}/last/{key}"] = value
        out[f"{case['name']}/logits"] = m(mx.array([rows()[5][0][:12]]))
        config = {k: v for k, v in case.items() if k not in ("name", "quantize")}
        cases.append(
            dict(
                name=case["name"],
                quantize=case.get("quantize", False),
                config=dict(num_layers=-1, learning_rate=1e-3) | config,
                losses=seen.losses,
            )
        )
        print(case["name"], seen.losses[0], seen.losses[-1])
    if "full" in {c["name"] for c in cases}:
        # The weights of a whole layer are no small file; what they give is enough.
        out = {k: v for k, v in out.items() if not k.startswith("full/last/")}
    mx.save_safetensors(str(HERE / "tune.safetensors"), out)
    (HERE / "tune.json").write_text(json.dumps(cases, indent=1) + "\n")


main()
