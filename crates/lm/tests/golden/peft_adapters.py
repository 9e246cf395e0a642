"""Adapters by PEFT, to be read here, and a check of those that are written here.

    python peft_adapters.py               writes peft_adapters/NAME/ (adapters of random numbers) and peft_adapters.json (logits with them)
    python peft_adapters.py check FOLDER  prints the logits of the adapters in FOLDER, for the test that wrote them

The model is ../../../testkit/golden/llama/llama2 in f32. Needs torch, transformers, peft and safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
FOLDER = HERE / "../../../testkit/golden/llama/llama2"
TOKENS = torch.tensor([[(i * 7 + 3) % 128 for i in range(12)]])
PROJECTIONS = ["q_proj", "v_proj", "down_proj"]
CASES = {
    "lora": dict(r=4, lora_alpha=6, target_modules=PROJECTIONS + ["embed_tokens"]),
    "dora": dict(r=2, lora_alpha=8, target_modules=PROJECTIONS, use_dora=True, use_rslora=True),
    "patterns": dict(r=2, lora_alpha=4, target_modules=PROJECTIONS, layers_to_transform=[1], rank_pattern={"v_proj": 3},
                     alpha_pattern={"v_proj": 12}),
}


def base():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model):
    return model(input_ids=TOKENS).logits[0, -1].tolist()


if sys.argv[1:2] == ["check"]:
    print(json.dumps(logits(PeftModel.from_pretrained(base(), sys.argv[2]).eval())))
    sys.exit()
out = {"tokens": TOKENS[0].tolist(), "base": logits(base())}
for seed, (name, how) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **how))
    with torch.no_grad():
        for path, p in model.named_parameters():
            if "lora_magnitude" in path:
                p.mul_(1 + 0.2 * torch.randn_like(p))
            elif "lora_" in path:
                p.copy_(torch.randn_like(p) * 0.2)
    model.eval()
    out[name] = logits(model)
    model.save_pretrained(HERE / "peft_adapters" / name)
    (HERE / "peft_adapters" / name / "README.md").unlink(missing_ok=True)
    # The same bytes every time, and no path of this machine.
    file = HERE / "peft_adapters" / name / "adapter_config.json"
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": "llama2", "target_modules": sorted(config["target_modules"])}
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
(HERE / "peft_adapters.json").write_text(json.dumps(out) + "\n")
