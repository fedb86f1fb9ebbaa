"""Compares whole files of `weft quantize` with those of llama.cpp, and each program reading the other's.

    pip install gguf numpy safetensors
    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz     (libllama, prebuilt)
    python tests/reference/llama_cpp_check.py WEFT package/bins/linux-x64 [IMATRIX.gguf [TYPE...]]

weft-mini-f16 is quantised to every type by both, with IMATRIX also with that importance matrix; types that need one
are tried with it alone. Compared are
metadata keys and values, the table of tensors, and of all quantised values the root of the mean square error
(weighted by importance where there is one): ours may be at most 1.02 times theirs. Then 48 tokens of logits:
llama.cpp on our file beside Weft on it, and Weft on llama.cpp's file beside llama.cpp on it. llama.cpp's CPU
code rounds activations to 8 bits, which is what the bound is for; top tokens are counted as well. Last, our
file split by `weft split`, loaded by llama.cpp. Ends with code 1 where something differs.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "models/assets/weft-mini-f16.gguf"
TYPES = {
    "TQ1_0": 36, "TQ2_0": 37, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "IQ4_XS": 30, "MXFP4": 38,
    "IQ4_NL": 25, "Q4_0": 2, "Q4_K_S": 14, "Q4_K_M": 15, "Q4_1": 3, "Q5_0": 8, "Q5_K_S": 16, "Q5_K_M": 17, "Q5_1": 9,
    "Q6_K": 18, "Q8_0": 7, "F16": 1, "BF16": 32, "F32": 0, "IQ3_M": 27, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23,
    "IQ2_M": 29, "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19, "IQ1_M": 31, "IQ1_S": 24,
}  # fmt: skip
NEED = {"IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"}
TEXT = "<|im_start|>user\nA car travels 120 km in 2 hours. What is its speed?<|im_end|>\n<|im_start|>assistant\n<think>\nspeed ="


class Opaque(ctypes.Structure):
    """A struct of parameters of which only the first fields are set: larger than any version's."""

    _fields_ = [("words", ctypes.c_uint32 * 128)]


class Importance(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Quantize(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_int32), ("ftype", ctypes.c_int32), ("output", ctypes.c_int32), ("embedding", ctypes.c_int32)]
    _fields_ += [("flags", ctypes.c_bool * 8), ("imatrix", ctypes.POINTER(Importance)), ("rest", ctypes.c_void_p * 16)]


class Batch(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p)]
    _fields_ += [("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq", ctypes.POINTER(ctypes.c_int32))]
    _fields_ += [("seq", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


class Llama:
    def __init__(self, folder):
        folder = Path(folder)
        ggml = ctypes.CDLL(str(next(folder.glob("libggml.*so"))), mode=ctypes.RTLD_GLOBAL)
        self.lib = lib = ctypes.CDLL(str(next(folder.glob("libllama.*so"))), mode=ctypes.RTLD_GLOBAL)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()
        lib.llama_model_default_params.restype = lib.llama_context_default_params.restype = Opaque
        lib.llama_model_quantize_default_params.restype = Quantize
        lib.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Quantize)]
        lib.llama_model_load_from_file.argtypes, lib.llama_model_load_from_file.restype = [ctypes.c_char_p, Opaque], ctypes.c_void_p
        lib.llama_init_from_model.argtypes, lib.llama_init_from_model.restype = [ctypes.c_void_p, Opaque], ctypes.c_void_p
        lib.llama_batch_init.restype, lib.llama_batch_init.argtypes = Batch, [ctypes.c_int32] * 3
        lib.llama_decode.argtypes, lib.llama_batch_free.argtypes = [ctypes.c_void_p, Batch], [Batch]
        lib.llama_get_logits.argtypes, lib.llama_get_logits.restype = [ctypes.c_void_p], ctypes.POINTER(ctypes.c_float)
        lib.llama_free.argtypes = lib.llama_model_free.argtypes = [ctypes.c_void_p]

    def quantize(self, source, out, ftype, importance):
        p = self.lib.llama_model_quantize_default_params()
        p.threads, p.ftype = 2, ftype
        if importance:
            rows = [Importance(n.encode(), v.ctypes.data, v.size) for n, v in importance.items()] + [Importance()]
            p.imatrix = (Importance * len(rows))(*rows)
        assert self.lib.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(p)) == 0, (source, ftype)

    def logits(self, path, ids, vocabulary):
        model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        assert model, f"llama.cpp does not load {path}"
        p = self.lib.llama_context_default_params()
        p.words[0] = p.words[1] = p.words[2] = 512  # context, batch, micro-batch
        context = self.lib.llama_init_from_model(model, p)
        assert context, path
        b = self.lib.llama_batch_init(len(ids), 0, 1)
        b.n = len(ids)
        for i, id in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq[i], b.logits[i] = id, i, 1, 1
            b.seq[i][0] = 0
        assert self.lib.llama_decode(context, b) == 0
        out = np.ctypeslib.as_array(self.lib.llama_get_logits(context), (len(ids), vocabulary)).astype(np.float64)
        self.lib.llama_batch_free(b), self.lib.llama_free(context), self.lib.llama_model_free(model)
        return out


def weft(program, *args):
    done = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def importance_of(path):
    tensors = {t.name: np.array(t.data, dtype=np.float32) for t in gguf.GGUFReader(path).tensors}
    sums = {n.removesuffix(".in_sum2"): v for n, v in tensors.items() if n.endswith(".in_sum2")}
    return {n: np.ascontiguousarray(v.reshape(-1) / tensors[n + ".counts"].reshape(-1)[0]) for n, v in sums.items()}


def read(path):
    reader = gguf.GGUFReader(path)
    keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    table = [(t.name, t.tensor_type.name, tuple(int(d) for d in t.shape)) for t in reader.tensors]
    return keys, table, {t.name: gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}


def rmse(values, source, importance):
    error = weight = 0.0
    for name, x in source.items():
        if x.ndim == 2:
            w = importance.get(name, np.ones(x.shape[1])) if importance else np.ones(x.shape[1])
            error += float((w * (values[name].astype(np.float64) - x) ** 2).sum())
            weight += float(w.sum()) * len(x)
    return (error / weight) ** 0.5


def main():
    program, llama = sys.argv[1], Llama(sys.argv[2])
    imatrix = sys.argv[3] if len(sys.argv) > 3 else None
    folder, wrong = Path(tempfile.mkdtemp()), []
    ids = json.loads(weft(program, "tokenize", "-m", SOURCE, "--special", "--json", TEXT))[:48]
    (folder / "ids.json").write_text(json.dumps(ids))
    source_keys, _, source = read(SOURCE)
    vocabulary = len(source_keys["tokenizer.ggml.tokens"])

    def ours_of(path):
        weft(program, "logits", "-m", path, "--tokens", folder / "ids.json", "-o", folder / "logits.safetensors")
        return load_file(folder / "logits.safetensors")["logits"].astype(np.float64)

    for name, ftype in TYPES.items():
        if sys.argv[4:] and name not in sys.argv[4:]:
            continue
        for used in [None] * (name not in NEED) + [imatrix] * (imatrix is not None and ftype not in (0, 1, 32)):
            ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
            importance = importance_of(used) if used else None
            weft(program, "quantize", SOURCE, ours, name, *(["--imatrix", used] if used else []))
            llama.quantize(SOURCE, theirs, ftype, importance)
            (keys, table, values), (their_keys, their_table, their_values) = read(ours), read(theirs)
            keys = {k: v for k, v in keys.items() if not k.startswith("quantize.imatrix.")}
            label = f"{name}{' with importance' if used else ''}"
            if keys != their_keys:
                differing = sorted(k for k in keys | their_keys if keys.get(k) != their_keys.get(k))
                wrong.append(f"{label}: keys {differing}")
            if sorted(table) != sorted(their_table) and name != "MXFP4":
                wrong.append(f"{label}: tensors {sorted(set(table) ^ set(their_table))[:6]}")
            same = sum(bool((values[n] == their_values[n]).all()) for n in values)
            errors = [rmse(v, source, importance) for v in (values, their_values)]
            ratio = errors[0] / errors[1] if errors[1] else float(errors[0] == 0)
            line = f"{label:24} RMSE ours {errors[0]:.4e} llama.cpp {errors[1]:.4e} ratio {ratio:.4f}, {same} of {len(values)} tensors equal"
            # Of a dense model llama.cpp makes MXFP4 in name only: its matrices are Q8_0.
            if ratio > 1.02 and name != "MXFP4":
                wrong.append(line)
            if not used or name in NEED:
                for what, path in (("our file", ours), ("its file", theirs)):
                    got, want = ours_of(path), llama.logits(path, ids, vocabulary)
                    nmse = ((got - want) ** 2).sum() / (want**2).sum()
                    top = int((got.argmax(1) == want.argmax(1)).sum())
                    line += f"; {what}: logits NMSE {nmse:.1e}, top token {top} of {len(ids)}"
                    if not nmse < (1e-5 if ftype in (0, 1, 32) else 5e-3):
                        wrong.append(f"{label}: {what}: logits NMSE {nmse:.1e}")
            print(line, flush=True)
    weft(program, "split", SOURCE, folder / "part", "--max-size", "4M")
    parts = sorted(folder.glob("part-*.gguf"))
    same = bool((llama.logits(parts[0], ids, vocabulary) == llama.logits(SOURCE, ids, vocabulary)).all())
    print(f"split in {len(parts)} parts, loaded by llama.cpp: logits {'equal' if same else 'differ'}")
    print("\n".join(wrong) if wrong or not same else "nothing differs")
    sys.exit(bool(wrong) or not same)


if __name__ == "__main__":
    main()
