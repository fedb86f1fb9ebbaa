"""Scores a GGUF of weft-mini on the curriculum's test split with PyTorch on the CPU, weights dequantised by
pip's `gguf`: an independent check of the files under models/assets.

    python3 eval_mini.py FILE.gguf TOKENIZER.json GENERATOR [COUNT]
"""
import sys

import gguf
import torch
from tokenizers import Tokenizer

import mini_model
import train_mini

if __name__ == "__main__":
    path, tokenizer, gen = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    mini_model.DTYPE = torch.float32
    params = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()).float()
              for t in gguf.GGUFReader(path).tensors}
    assert {n: tuple(p.shape) for n, p in params.items()} == mini_model.shapes()
    tok = Tokenizer.from_file(tokenizer)
    with torch.no_grad():
        print(train_mini.evaluate(tok, params, gen, count, "cpu", batch=100))
