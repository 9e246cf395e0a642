"""The block formats of GGUF files: random blocks, and what ggml's own package makes of them.

    python crates/testkit/golden/blocks.py

needs `pip install gguf numpy safetensors`. Writes blocks.safetensors: for each format NAME the bytes
`NAME.bytes (3, b) u8` and the numbers `NAME.numbers (3, 512) f32`.
"""
import os

import gguf
import numpy as np
from safetensors.numpy import save_file

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# Where a block has its f16 numbers.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
ROWS, COLUMNS = 3, 512

rng = np.random.default_rng(5)
tensors = {}
for name in FORMATS:
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLUMNS // elements, size), dtype=np.uint8)
    for at in SCALES[name]:
        scales = rng.normal(0, 0.01, len(blocks)).astype(np.float16)
        scales[0] = np.float16(3e-7)  # subnormal
        blocks[:, at:at + 2] = scales.view(np.uint8).reshape(-1, 2)
    rows = blocks.reshape(ROWS, -1)
    tensors[f"{name}.bytes"] = rows
    tensors[f"{name}.numbers"] = gguf.quants.dequantize(rows, kind).astype(np.float32)
save_file(tensors, os.path.join(os.path.dirname(os.path.abspath(__file__)), "blocks.safetensors"))
