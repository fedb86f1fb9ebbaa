"""Writes formats/tests/data/iq_errors.json: what libggml's encoders of the types with code books come to on the
values of formats/tests/quant_encode.rs, without and with importance.

    pip install gguf numpy xllamacpp      (any library with ggml_quantize_chunk will do)
    python tests/reference/quantize_bounds.py LIBRARY.so

The error is the root of the mean square over that of the values, both weighted by importance where there is one.
Some types need importance in libggml. Without any, the better of two results counts: none, and ones.
"""

import ctypes
import json
import sys
from pathlib import Path

import gguf
import numpy as np

TYPES = ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
ROWS, COLS = 32, 1024


class Random:
    """SplitMix64, as the tests have it."""

    def __init__(self, seed):
        self.state = np.uint64(seed)

    def next(self, n):
        with np.errstate(over="ignore"):
            z = self.state + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            self.state = z[-1]
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

    def gaussian(self, n):
        u = ((self.next(2 * n) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
        return (np.sqrt(-2 * np.log(u[::2])) * np.cos(2 * np.pi * u[1::2])).astype(np.float32)


def rows(seed, outliers):
    r = Random(seed)
    scale = (np.float32(0.02) * np.float32(1.1) ** np.arange(ROWS, dtype=np.float32)).astype(np.float32)
    x = (scale[:, None] * r.gaussian(ROWS * COLS).reshape(ROWS, COLS)).astype(np.float32)
    if outliers:
        for at in r.next(200):
            x.reshape(-1)[int(at) % x.size] *= 8
    return x


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    importance = np.exp(2 * Random(5).gaussian(COLS)).astype(np.float32)
    ones = np.ones(COLS, dtype=np.float32)

    def error(ty, x, given, weight):
        made = np.zeros(gguf.quant_shape_to_byte_shape(x.shape, ty), dtype=np.uint8)
        pointer = None if given is None else given.ctypes.data
        lib.ggml_quantize_chunk(int(ty), x.ctypes.data, made.ctypes.data, 0, ROWS, COLS, pointer)
        y, w = gguf.dequantize(made, ty).astype(np.float64), weight.astype(np.float64)
        return float(np.sqrt((w * (y - x) ** 2).sum() / (w * x.astype(np.float64) ** 2).sum()))

    table = {}
    for name in TYPES:
        ty = gguf.GGMLQuantizationType[name]
        plain = [ones] if lib.ggml_quantize_requires_imatrix(int(ty)) else [ones, None]
        table[name] = {
            data: {
                "plain": round(min(error(ty, x, given, ones) for given in plain), 6),
                "importance": round(error(ty, x, importance, importance), 6),
            }
            for data, x in (("gaussian", rows(1, False)), ("outliers", rows(2, True)))
        }
        print(name, table[name])
    out = Path(__file__).parents[2] / "formats/tests/data/iq_errors.json"
    out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
