"""Compares `weft quantize` with libggml's own quantisers: the error of each type, without and with an
importance matrix, and that their recipes agree with the files llama.cpp writes.

    pip install gguf numpy xllamacpp      (or any package whose library has ggml_quantize_chunk)
    python tests/reference/quantize_check.py WEFT LIBGGML_BASE.so [FOLDER [TYPE...]]

A GGUF of weights is made (Gaussian rows of many scales, heavy tails, outliers) with an importance matrix,
quantised by WEFT with every tensor forced to the type, decoded by `gguf` and compared with what
ggml_quantize_chunk makes of the same values. Ends with code 1 where ours has more than 1.02 times the error
of libggml's. The error is the root of the mean square, weighted by importance where there is one.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
         "TQ1_0", "TQ2_0", "MXFP4", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
# Those that weft and llama.cpp refuse without importance: where all columns matter alike they get ones.
ASKS = {"IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"}
ROWS, COLS = 256, 1024


def weights():
    rng = np.random.default_rng(7)
    scale = 0.02 * 1.01 ** np.arange(ROWS)[:, None]
    gauss = rng.normal(0, 1, (ROWS, COLS)) * scale
    tails = rng.standard_t(4, (ROWS, COLS)) * scale
    outliers = gauss.copy()
    outliers.reshape(-1)[rng.integers(0, ROWS * COLS, 1500)] *= 8
    return {"gauss": gauss, "tails": tails, "outliers": outliers}


def write_inputs(folder, tensors, importance):
    w = gguf.GGUFWriter(folder / "in.gguf", "llama")
    for name, x in tensors.items():
        w.add_tensor(f"blk.0.{name}.weight", x)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    for file, values in (("imatrix.gguf", importance), ("ones.gguf", np.ones_like(importance))):
        write_importance(folder / file, tensors, values)


def write_importance(path, tensors, importance):
    m = gguf.GGUFWriter(path, "")
    m.kv_data[0].pop("general.architecture", None)
    m.add_string("general.type", "imatrix")
    m.add_array("imatrix.datasets", ["made.txt"])
    m.add_uint32("imatrix.chunk_count", 3)
    m.add_uint32("imatrix.chunk_size", 512)
    for name in tensors:
        m.add_tensor(f"blk.0.{name}.weight.in_sum2", (importance * 1536)[None, :].astype(np.float32))
        m.add_tensor(f"blk.0.{name}.weight.counts", np.full((1, 1), 1536, dtype=np.float32))
    m.write_header_to_file(), m.write_kv_data_to_file(), m.write_tensors_to_file(), m.close()


def main():
    weft, lib = sys.argv[1], ctypes.CDLL(sys.argv[2])
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    tensors = {n: np.ascontiguousarray(x, dtype=np.float32) for n, x in weights().items()}
    rng = np.random.default_rng(8)
    importance = np.exp(1.5 * rng.normal(0, 1, COLS)).astype(np.float32)
    write_inputs(folder, tensors, importance)
    worst = 0.0
    for name in sys.argv[4:] or TYPES:
        ty = gguf.GGMLQuantizationType[name]
        for use in (False, True):
            out = folder / f"{name}{'-imatrix' if use else ''}.gguf"
            recipe = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}.get(name, name)
            args = [weft, "quantize", folder / "in.gguf", out, recipe, "--tensor", f".={name}"]
            given = importance if use else np.ones(COLS, dtype=np.float32) if name in ASKS else None
            matrix = "imatrix.gguf" if use else "ones.gguf"
            args += [] if given is None else ["--imatrix", folder / matrix]
            subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
            reader = gguf.GGUFReader(out)
            for t in reader.tensors:
                x = tensors[t.name.split(".")[2]]
                assert t.tensor_type == ty, (t.name, t.tensor_type)
                size = gguf.quant_shape_to_byte_shape(x.shape, ty)
                theirs = np.zeros(size, dtype=np.uint8)
                weight = None if given is None else given.ctypes.data
                lib.ggml_quantize_chunk(int(ty), x.ctypes.data, theirs.ctypes.data, 0, ROWS, COLS, weight)
                w = importance if use else np.ones(COLS)
                rmse = lambda b: float(np.sqrt((w * (gguf.dequantize(b, ty).reshape(x.shape) - x) ** 2).mean()))
                ours, ggml = rmse(np.array(t.data)), rmse(theirs)
                same = bool((np.array(t.data).reshape(-1) == theirs.reshape(-1)).all())
                worst = max(worst, ours / ggml)
                print(f"{name:7} {'importance' if use else 'plain':10} {t.name.split('.')[2]:9} ours {ours:.6e} "
                      f"libggml {ggml:.6e} ratio {ours / ggml:.4f}{' identical' if same else ''}")
    print(f"largest ratio {worst:.4f}")
    sys.exit(worst > 1.02)


if __name__ == "__main__":
    main()
