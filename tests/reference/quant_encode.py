"""Writes formats/tests/data/quant_encode.safetensors: values, and their blocks as the `gguf` package
quantises them, for every type that it can.

    pip install gguf==0.19.0 && python tests/reference/quant_encode.py

Eight rows of 256: Gaussian at several scales, outliers, halves that round either way, one value
repeated, zeros, values too small for an f16 scale, large ones.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T, quants

ROOT = Path(__file__).resolve().parents[2]


def rows():
    rng = np.random.default_rng(20250102)
    x = np.zeros((8, 256), dtype=np.float32)
    x[0] = rng.normal(0, 0.02, 256)
    x[1] = rng.normal(0, 1, 256)
    x[1, ::37] *= 11
    x[2] = rng.integers(-16, 17, 256) / 8  # ties, and both signs of the largest magnitude
    x[3] = 0.37
    x[3, 128:] = -1.25
    x[5] = rng.normal(0, 3e-9, 256)
    x[6] = rng.uniform(-60000, 60000, 256)
    x[7] = rng.normal(0, 0.3, 256) ** 3
    return x


def main():
    x = rows()
    arrays = {"values": ("F32", x)}
    for ty in T:
        try:
            blocks = quants.quantize(x, ty)
        except (NotImplementedError, KeyError):
            continue
        if ty not in (T.F32,):
            arrays[ty.name] = ("U8", np.ascontiguousarray(blocks).view(np.uint8))
    header, at = {}, 0
    for name, (dtype, a) in arrays.items():
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = ROOT / "formats/tests/data/quant_encode.safetensors"
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, a in arrays.values():
            f.write(np.ascontiguousarray(a).tobytes())
    print(path, path.stat().st_size, "bytes:", " ".join(arrays), file=sys.stderr)


if __name__ == "__main__":
    main()
