"""Quantizes GGUF files of 16-bit weights by llama.cpp's own quantizer.

    python benches/peers/gguf_quantize.py GGUF tiny 1b [--kinds q8_0 q4_k_m]

GGUF/NAME-bf16.gguf, which gguf_files.py makes, becomes GGUF/NAME-KIND.gguf; needs `pip install llama-cpp-python`.
"""
import argparse
import os

import llama_cpp

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("names", nargs="+")
parser.add_argument("--kinds", nargs="+", default=["q8_0", "q4_k_m"])
args = parser.parse_args()
for name in args.names:
    for kind in args.kinds:
        out = os.path.join(args.folder, f"{name}-{kind}.gguf")
        if os.path.exists(out):
            continue
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
        source = os.path.join(args.folder, f"{name}-bf16.gguf")
        if llama_cpp.llama_model_quantize(source.encode(), out.encode(), params):
            raise SystemExit(f"{out} could not be made")
