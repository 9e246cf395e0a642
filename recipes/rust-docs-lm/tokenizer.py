#!/usr/bin/env python3
"""Train the byte-level BPE and encode the splits.

    python tokenizer.py --data build --assets ../../assets/rust-docs-lm

Writes `tokenizer.json` and `tokenizer_config.json` to the assets and
`tokens.npz` (one uint16 stream a split and group, documents separated by
`<|endoftext|>`) to the data folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

EOT = "<|endoftext|>"
VOCAB = 8192
# How often the tokenizer sees a group: merges should favour prose too.
WEIGHT = {"prose": 2, "std-prose": 2, "api": 1}


def load(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--data", type=Path, default=Path("build"))
    args.add_argument("--assets", type=Path, default=Path("../../assets/rust-docs-lm"))
    args = args.parse_args()
    train = load(args.data / "train.jsonl")

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[EOT], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator((d["text"][:-1] for d in train for _ in range(WEIGHT[d["group"]])), trainer)
    assert tok.get_vocab_size() == VOCAB and tok.token_to_id(EOT) == 0
    args.assets.mkdir(parents=True, exist_ok=True)
    tok.save(str(args.assets / "tokenizer.json"), pretty=False)
    (args.assets / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": EOT,
        "eos_token": EOT,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
    }, indent=2) + "\n")

    out = {}
    for split in ("train", "valid", "heldout"):
        docs = train if split == "train" else load(args.data / f"{split}.jsonl")
        groups = {}
        for doc, enc in zip(docs, tok.encode_batch([d["text"] for d in docs])):
            key = split if split != "train" else f"train/{doc['group']}"
            groups.setdefault(key, []).extend([0] + enc.ids)
        for key, ids in groups.items():
            out[key] = np.array(ids, dtype=np.uint16)
        nbytes = sum(len(d["text"].encode()) for d in docs)
        ntok = sum(len(v) for v in groups.values())
        print(f"{split}: {len(docs)} documents, {nbytes} bytes, {ntok} tokens, {nbytes / ntok:.2f} bytes a token")
        out[f"bytes/{split}"] = np.array(nbytes)
    text = (args.data / "heldout.txt").read_text(encoding="utf-8")
    assert tok.encode(text).ids == out["heldout"].tolist(), "heldout.txt must encode to the held-out stream"
    assert tok.decode(tok.encode(text).ids, skip_special_tokens=False) == text
    np.savez_compressed(args.data / "tokens.npz", **out)
    for key in sorted(out):
        print(key, out[key].shape or int(out[key]))


if __name__ == "__main__":
    main()
