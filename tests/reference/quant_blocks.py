"""Writes formats/tests/data/quant_blocks.safetensors: blocks of every quantised type that the
`gguf` package decodes, with its values, and formats/src/quant/grids.rs: the code books of the IQ
types, which are in that package as data.

    pip install gguf==0.19.0 && python tests/reference/quant_blocks.py

Each type gets one block of zero bytes, one of 0xff, one of 0x55, and random ones, so that every
bit is seen set and clear; the f16 scales among them are overwritten with finite values: random,
negative, the largest, the smallest normal, a subnormal, zero.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

ROOT = Path(__file__).resolve().parents[2]
# Where the f16 scales of a block are.
F16_AT = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0], T.IQ1_S: [0],
    T.IQ1_M: [], T.IQ4_NL: [0], T.IQ4_XS: [0], T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [],
    T.NVFP4: [], T.F16: [0], T.BF16: [],
}
EDGES = [0x3C00, 0xBC00, 0x7BFF, 0x0400, 0x0001, 0x0000]  # 1, -1, 65504, 2^-14, 2^-24, 0


def blocks_of(ty, rng):
    length, size = GGML_QUANT_SIZES[ty]
    n = max(8, 512 // length) if length > 1 else 64
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    blocks[0], blocks[1], blocks[2] = 0x00, 0xFF, 0x55
    for at in F16_AT[ty]:
        scales = rng.normal(0, 0.05, n).astype(np.float16).view(np.uint16)
        for i, edge in enumerate(EDGES):
            scales[(i + at) % n] = edge
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(n, 2)
    if ty == T.IQ1_M:
        # The f16 scale is the four top nibbles of the last eight bytes; keep it finite.
        blocks[:, 55] = blocks[:, 55] & 0x0F | rng.choice([0x00, 0x20, 0x30, 0xB0, 0x10], n)
    if ty == T.BF16:
        # No NaN: an exponent of ones loses its last bit, but for one infinity.
        nan = (blocks[:, 1] & 0x7F == 0x7F) & (blocks[:, 0] & 0x80 != 0)
        blocks[nan, 0] &= 0x7F
        blocks[3] = [0x80, 0x7F]
    return blocks


def reference():
    rng = np.random.default_rng(20250101)
    arrays = {}
    for ty in F16_AT:
        blocks = blocks_of(ty, rng)
        with np.errstate(over="ignore"):
            values = quants.dequantize(blocks, ty).astype(np.float32)
        assert not np.isnan(values).any(), ty
        arrays[f"{ty.name}.blocks"] = ("U8", blocks)
        arrays[f"{ty.name}.values"] = ("F32", values)
    header, at = {}, 0
    for name, (dtype, a) in arrays.items():
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = ROOT / "formats/tests/data/quant_blocks.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, a in arrays.values():
            f.write(np.ascontiguousarray(a).tobytes())
    print(path, path.stat().st_size, "bytes", file=sys.stderr)


def grids():
    out = [
        "//! The code books of the IQ types, from ggml-common.h by way of the `gguf` package.",
        "//!",
        "//! Written by tests/reference/quant_blocks.py. One u16 is one entry: eight values of two bits",
        "//! (IQ1, IQ2) or four of four (IQ3), first value lowest, each an index into the levels of its",
        "//! type.",
        "",
    ]
    names = {"IQ2_XXS": quants.IQ2_XXS, "IQ2_XS": quants.IQ2_XS, "IQ2_S": quants.IQ2_S,
             "IQ3_XXS": quants.IQ3_XXS, "IQ3_S": quants.IQ3_S, "IQ1_S": quants.IQ1_S}
    for name, cls in names.items():
        entries = np.frombuffer(bytes.fromhex(cls.grid_hex.decode()), dtype="<u2")
        out += ["#[rustfmt::skip]", f"pub(super) const {name}: [u16; {len(entries)}] = ["]
        for i in range(0, len(entries), 12):
            out.append("    " + " ".join(f"0x{e:04x}," for e in entries[i : i + 12]))
        out += ["];", ""]
    (ROOT / "formats/src/quant/grids.rs").write_text("\n".join(out[:-1]) + "\n")


if __name__ == "__main__":
    reference()
    grids()
