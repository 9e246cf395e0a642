"""The steps of benches/src/bin/train.rs by PyTorch (with transformers and PEFT) and by MLX (with mlx-lm).

    python benches/peers/train.py torch|torch-compile|mlx CASE STEPS [MODEL] [--batch N] [--length N]

Prints tokens or examples a second of each step but the first two, the losses and the peak resident memory as JSON.
"""
import argparse
import json
import resource
import time

ap = argparse.ArgumentParser()
ap.add_argument("program", choices=["torch", "torch-compile", "mlx"])
ap.add_argument("case", choices=["lora", "full", "mlp", "conv"])
ap.add_argument("steps", type=int)
ap.add_argument("model", nargs="?")
ap.add_argument("--batch", type=int)
ap.add_argument("--length", type=int, default=256)
args = ap.parse_args()
BATCH = args.batch or {"lora": 4, "full": 8, "mlp": 256, "conv": 64}[args.case]
ITEMS = BATCH * args.length if args.case in ("lora", "full") else BATCH
CONFIG = {"model_type": "llama", "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024,
          "num_hidden_layers": 7, "num_attention_heads": 6, "num_key_value_heads": 2,
          "tie_word_embeddings": True, "rms_norm_eps": 1e-5}
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tokens(vocab):
    return [[(i * 7919 + row * 104729 + 13) % (vocab - 10) + 5 for i in range(args.length + 1)] for row in range(BATCH)]


def timed(step):
    seconds, losses = [], []
    for _ in range(args.steps + 2):
        begin = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - begin)
    return seconds[2:], losses


def by_torch():
    import torch
    from torch import nn

    torch.manual_seed(0)
    if args.case in ("lora", "full"):
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
        if args.case == "lora":
            from peft import LoraConfig, get_peft_model
            base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16)
            last = base.config.num_hidden_layers
            how = LoraConfig(r=8, lora_alpha=160, target_modules=MODULES, layers_to_transform=list(range(max(0, last - 16), last)))
            model, vocab = get_peft_model(base, how), base.config.vocab_size
        else:
            model, vocab = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"})), CONFIG["vocab_size"]
        model.config.use_cache = False
        rows = torch.tensor(tokens(vocab))
        x, y = rows[:, :-1], rows[:, 1:]

        def loss_fn():
            logits = model(input_ids=x).logits
            return nn.functional.cross_entropy(logits.flatten(0, 1).float(), y.flatten())
    else:
        y = torch.arange(BATCH) % 10
        if args.case == "mlp":
            x = torch.randn(BATCH, 784)
            model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
        else:
            x = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
            model = nn.Sequential(
                nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 64, 128), nn.ReLU(), nn.Linear(128, 10))
            model = model.to(memory_format=torch.channels_last)

        def loss_fn():
            return nn.functional.cross_entropy(model(x), y)

    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()
    run = torch.compile(loss_fn) if args.program == "torch-compile" else loss_fn

    def step():
        loss = run()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return timed(step)


def by_mlx():
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as optim
    from mlx.utils import tree_flatten

    mx.random.seed(0)
    if args.case in ("lora", "full"):
        if args.case == "lora":
            from mlx_lm import load
            from mlx_lm.tuner.utils import linear_to_lora_layers
            model, _ = load(args.model)
            model.freeze()
            linear_to_lora_layers(model, 16, {"rank": 8, "dropout": 0.0, "scale": 20.0})
        else:
            from mlx_lm.models.llama import Model, ModelArgs
            model = Model(ModelArgs.from_dict(CONFIG))
        rows = mx.array(tokens(model.args.vocab_size))
        x, y = rows[:, :-1], rows[:, 1:]

        def loss_fn(m):
            return nn.losses.cross_entropy(m(x).astype(mx.float32), y, reduction="mean")
    else:
        y = mx.arange(BATCH) % 10
        if args.case == "mlp":
            x = mx.random.normal((BATCH, 784))
            model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
        else:
            x = mx.random.normal((BATCH, 32, 32, 3))
            model = nn.Sequential(
                nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(2, 2), lambda h: h.reshape(BATCH, -1), nn.Linear(8 * 8 * 64, 128), nn.ReLU(), nn.Linear(128, 10))

        def loss_fn(m):
            return nn.losses.cross_entropy(m(x), y, reduction="mean")

    optimizer = optim.Adam(1e-4)
    optimizer.init(model.trainable_parameters())
    mx.eval(model.parameters(), optimizer.state)
    state = [model.state, optimizer.state]
    grad = nn.value_and_grad(model, loss_fn)

    @lambda f: mx.compile(f, inputs=state, outputs=state)
    def update():
        loss, grads = grad(model)
        optimizer.update(model, grads)
        return loss

    def step():
        loss = update()
        mx.eval(state, loss)
        return loss.item()

    return timed(step)


seconds, losses = by_mlx() if args.program == "mlx" else by_torch()
print(json.dumps({
    "per_second": [ITEMS / s for s in seconds],
    "losses": losses,
    "maxrss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
