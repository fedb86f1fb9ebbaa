"""Reference logits and activations of small random models, written to tests/golden/.

For every case this writes
  <case>.json         metadata keys, tensors (name, shape, type, scale), prompt, what is stored;
  <case>.safetensors  what transformers computes for that model, in float64, stored as F32.

No weights are stored. Every tensor's bytes follow from its name by integer arithmetic, here
(`tensor_bytes`) and in tests/support/golden_model.rs, and a checksum per tensor in the JSON
keeps the two in step. The bytes are random but valid blocks: random quants and sub-block
scales, and f16 block scales chosen so that the dequantised values have a given deviation.
The gguf package dequantises them here, so the reference is exact for those weights.

The reference is the transformers class of each family with its float32 islands (RMSNorm,
rotary angles, softmax) widened to float64. Each case is checked here against a second,
independent float64 forward in numpy that works on the GGUF layout and the GGUF metadata
alone, and compared with a float32 run and with an f16 KV cache, to know the noise floor.

To run it (about a minute on two cores; torch needs no GPU):
  python3 -m venv /tmp/golden && /tmp/golden/bin/pip install numpy gguf safetensors torch transformers
  /tmp/golden/bin/python tests/reference/golden_models.py            # writes every case
  /tmp/golden/bin/python tests/reference/golden_models.py qwen3-f32  # only those named
  ... golden_models.py --check         # writes nothing; fails if a stored file would change
  ... golden_models.py --read F.gguf CASE   # compares a file built by the Rust side
Made with torch 2.15.0, transformers 5.23.0 (Gemma 3 and SmolLM3: 5.24.0), gguf 0.19.0, numpy 2.4.6.
"""

import contextlib
import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LAYERS = 4
TOKENS = 80
ROWS = [0, 7, 41, 79]  # positions whose full logits are stored
COLUMNS = 64  # vocabulary entries stored for all positions
POSITIONS = [0, 41, 79]  # positions whose activations are stored

# ---------------------------------------------------------------- deterministic bytes

M64 = (1 << 64) - 1


def fnv1a(data, h=0xCBF29CE484222325):
    """FNV-1a, 64 bits."""
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & M64
    return h


def words(seed, n):
    """n 64-bit words: SplitMix64 of a counter, so that word i needs no other word."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def normal_like(seed, n, offset, scale):
    """offset + scale * (sum of four u16, centred): f32, one multiplication and one addition."""
    parts = words(seed, n).view(np.uint16).reshape(n, 4).astype(np.int64)
    centred = (parts.sum(axis=1) - 2 * 65535).astype(np.float32)  # |value| < 2^18: exact
    return centred * np.float32(scale) + np.float32(offset)


NORMAL_STD = 65536 * math.sqrt(4 / 12)  # deviation of the centred sum above

# type -> elements a block, bytes a block, f16 fields: (byte offset, factor, random sign).
# The offset field of a type with one (m, dmin) gets the factor that centres the values.
BLOCKS = {
    "Q4_0": (32, 18, [(0, 1.0, True)]),
    "Q4_1": (32, 20, [(0, 1.0, False), (2, -7.5, False)]),
    "Q5_0": (32, 22, [(0, 1.0, True)]),
    "Q5_1": (32, 24, [(0, 1.0, False), (2, -15.5, False)]),
    "Q8_0": (32, 34, [(0, 1.0, True)]),
    "Q2_K": (256, 84, [(80, 1.0, False), (82, 1.5, False)]),
    "Q3_K": (256, 110, [(108, 1.0, True)]),
    "Q4_K": (256, 144, [(0, 1.0, False), (2, 7.5, False)]),
    "Q5_K": (256, 176, [(0, 1.0, False), (2, 15.5, False)]),
    "Q6_K": (256, 210, [(208, 1.0, True)]),
    "IQ4_NL": (32, 18, [(0, 1.0, True)]),
    "IQ4_XS": (256, 136, [(0, 1.0, True)]),
}


def tensor_bytes(case, t):
    """The bytes of one tensor of the spec, as rows: uint8 [rows, bytes a row]."""
    cols, rows = t["shape"][0], math.prod(t["shape"][1:])
    if "values" in t:
        return np.array(t["values"], np.float32).view(np.uint8).reshape(rows, -1)
    seed = fnv1a(f"{case}/{t['name']}".encode())
    if t["type"] in ("F32", "F16", "BF16"):
        x = normal_like(seed, cols * rows, t.get("offset", 0.0), t["scale"])
        if t["type"] == "F16":
            x = x.astype(np.float16)
        if t["type"] == "BF16":  # round to nearest, ties to even
            bits = x.view(np.uint32)
            x = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
        return x.view(np.uint8).reshape(rows, -1)
    elements, size, fields = BLOCKS[t["type"]]
    n = cols * rows // elements
    blocks = words(seed, (n * size + 7) // 8).view(np.uint8)[: n * size].reshape(n, size).copy()
    # Real minima follow their scales; without that every sub-block is a constant plus a ripple.
    if t["type"] in ("Q4_K", "Q5_K"):
        blocks[:, 8:12] = blocks[:, 4:8] ^ (blocks[:, 8:12] & 7)
    if t["type"] == "Q2_K":
        low = blocks[:, :16] & 15
        blocks[:, :16] = low | ((low ^ (blocks[:, :16] >> 4 & 3)) << 4)
    w = words(seed ^ M64, n * len(fields)).reshape(n, len(fields))
    for i, (at, factor, signed) in enumerate(fields):
        d = (1536 + (w[:, i] & np.uint64(1023))).astype(np.float32) / np.float32(2048)
        d = d * (np.float32(t["scale"]) * np.float32(factor))
        if signed:
            d = np.where(w[:, i] & np.uint64(1024), -d, d)
        blocks[:, at : at + 2] = d.astype(np.float16).view(np.uint8).reshape(n, 2)
    return blocks.reshape(rows, -1)


def dequantised(t, data):
    """The values of a tensor as the gguf package reads them: float32, outermost dim first."""
    kind = gguf.GGMLQuantizationType[t["type"]]
    if t["type"] in ("F32", "F16"):
        x = data.view({"F32": np.float32, "F16": np.float16}[t["type"]])
    else:
        x = gguf.quants.dequantize(data, kind)
    return x.astype(np.float32).reshape(t["shape"][::-1])


UNIT = {}


def unit_std(kind):
    """The deviation of a block type's values when `scale` is 1."""
    if kind in ("F32", "F16", "BF16"):
        return NORMAL_STD
    if kind not in UNIT:
        probe = {"name": "probe", "type": kind, "shape": [256, 512], "scale": 2.0**-10}
        UNIT[kind] = float(dequantised(probe, tensor_bytes("unit", probe)).std()) * 2**10
    return UNIT[kind]


# ---------------------------------------------------------------- the cases

Q4_K_M = {"*": "Q4_K", "v6": "Q6_K", "down6": "Q6_K", "embd": "Q6_K", "head": "Q6_K"}
Q5_K_M = {"*": "Q5_K", "v6": "Q6_K", "down6": "Q6_K", "embd": "Q5_K", "head": "Q6_K"}
ODD = ["IQ4_XS", "Q2_K", "Q3_K", "Q5_K", "IQ4_NL", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "BF16"]


def one(kind):
    return {"*": kind, "embd": kind, "head": kind}


# arch, heads, kv heads, head size, width, feed-forward, vocabulary, tied, weight types, rope
CASES = {
    "qwen3-f32": ("qwen3", 4, 2, 128, 256, 512, 613, True, one("F32"), {}),
    "qwen3-f16": ("qwen3", 6, 2, 80, 256, 768, 640, False, one("F16"), {}),
    "qwen3-q8_0": ("qwen3", 8, 2, 96, 256, 512, 768, True, one("Q8_0"), {}),
    "qwen3-q4_k_m": ("qwen3", 4, 2, 128, 256, 768, 777, False, Q4_K_M, {}),
    "qwen3-mixed": ("qwen3", 8, 4, 64, 256, 512, 600, True, {"mix": 0, "embd": "BF16"}, {}),
    "qwen3-yarn-f32": ("qwen3", 4, 1, 128, 256, 512, 512, True, one("F32"), {"yarn": 4.0}),
    "qwen2-f16": ("qwen2", 4, 2, 96, 256, 768, 555, False, one("F16"), {}),
    "qwen2-q4_k_m": ("qwen2", 7, 1, 64, 256, 512, 640, True, Q4_K_M, {}),
    "llama3-f32": ("llama", 8, 2, 64, 256, 768, 644, False, one("F32"), {"llama3": 8.0}),
    "llama3-f16": ("llama", 4, 1, 80, 256, 512, 513, True, one("F16"), {"llama3": 32.0}),
    "llama3-q8_0": ("llama", 4, 2, 96, 256, 512, 600, False, one("Q8_0"), {"llama3": 8.0}),
    "llama3-q4_k_m": ("llama", 4, 1, 128, 256, 768, 701, False, Q4_K_M, {"llama3": 8.0}),
    "llama2-f16": ("llama", 4, 4, 64, 256, 768, 576, False, one("F16"), {"keys": "few"}),
    "llama-linear-q5_k_m": ("llama", 8, 4, 64, 256, 512, 520, False, Q5_K_M, {"linear": 4.0}),
    "llama-mixed": (
        "llama", 4, 2, 128, 256, 768, 530, False, {"mix": 5, "embd": "Q4_1", "head": "Q3_K"}, {},
    ),
    "smollm-q4_k_m": ("llama", 9, 3, 32, 288, 768, 580, True, Q4_K_M, {}),
    # Head sizes are not width / heads. The window is shorter than the prompt, and the pattern comes as a
    # number, as an array and not at all.
    "gemma3-f32": (
        "gemma3", 3, 1, 64, 288, 512, 613, True, one("F32"),
        {"layers": 7, "window": 24, "pattern": 6, "swa_base": 3e3, "linear": 8.0},
    ),
    "gemma3-q8_0": ("gemma3", 4, 2, 256, 256, 512, 600, True, one("Q8_0"), {"layers": 7, "window": 16}),
    "gemma3-q4_k_m": (
        "gemma3", 4, 2, 128, 320, 768, 640, True, Q4_K_M,
        {"layers": 6, "window": 33, "pattern": 3, "linear": 8.0, "softcap": 5.0},
    ),
    # The residual stream leaves the range of f16.
    "gemma3-large-f16": (
        "gemma3", 2, 1, 256, 256, 512, 520, True, one("F16"),
        {"layers": 7, "window": 40, "pattern": [True, True, False, True, True, True, False], "growth": 6.0},
    ),
    # The number of experts is no power of two, and such a one; feed-forward widths are those of one expert.
    "qwen3moe-f32": (
        "qwen3moe", 4, 2, 64, 256, 96, 613, False, one("F32"), {"experts": 12, "used": 3},
    ),
    "qwen3moe-q8_0": ("qwen3moe", 4, 1, 128, 256, 128, 600, True, one("Q8_0"), {"experts": 6, "used": 2}),
    "qwen3moe-q4_k_m": ("qwen3moe", 4, 2, 128, 256, 256, 640, False, Q4_K_M, {"experts": 8, "used": 2}),
    "smollm3-f32": ("smollm3", 4, 2, 64, 256, 512, 577, True, one("F32"), {"layers": 5}),
    "smollm3-q4_k_m": ("smollm3", 4, 1, 128, 256, 768, 603, True, Q4_K_M, {"layers": 5}),
}  # fmt: skip

BASE = {"qwen3": 1e6, "qwen2": 1e6, "llama": 1e4, "llama3": 5e5, "gemma3": 1e6, "smollm3": 5e6, "qwen3moe": 1e6}
# Families whose files hold Q and K for adjacent rotary pairs, and those with norms behind a half layer.
ADJACENT = ("llama", "smollm3")
SANDWICH = ("gemma3",)
MIXTURES = ("qwen3moe",)
# What transformers calls them.
CLASS = {"gemma3": "gemma3_text", "qwen3moe": "qwen3_moe"}
# What a 256-element block type becomes when a row is no multiple of 256 (llama.cpp's fallback).
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


# An epsilon large enough that reading another one than the file's shows.
LARGE_EPS = ("qwen3-f32", "qwen2-q4_k_m", "llama3-f32", "llama2-f16", "gemma3-f32", "qwen3moe-f32")


def layers_of(case):
    return CASES[case][9].get("layers", LAYERS)


def is_local(case, layer):
    """Whether a layer of Gemma 3 sees a window only: five of six, unless the case has another pattern."""
    pattern = CASES[case][9].get("pattern", 6)
    return pattern[layer] if isinstance(pattern, list) else layer % pattern < pattern - 1


def eps_of(case):
    return 1e-3 if case in LARGE_EPS else 1e-5 if CASES[case][0] == "llama" else 1e-6


def base_of(arch, rope):
    return BASE["llama3" if "llama3" in rope else arch]


def llama3_rope(factor):
    """transformers' parameters; the original context is short so that they matter here."""
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }


def rope_factors(base, head, p):
    """rope_freqs.weight as llama.cpp's converter writes it (its LlamaModel)."""
    old, out = p["original_max_position_embeddings"], []
    for i in range(head // 2):
        wavelength = 2 * math.pi * base ** (2 * i / head)
        if wavelength < old / p["high_freq_factor"]:
            out.append(1.0)
        elif wavelength > old / p["low_freq_factor"]:
            out.append(p["factor"])
        else:
            s = (old / wavelength - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])
            out.append(1 / ((1 - s) / p["factor"] + s))
    return [float(np.float32(x)) for x in out]


def metadata(case):
    arch, heads, kv, head, width, ff, vocab, _, types, rope = CASES[case]
    rows = [
        ("general.architecture", "str", arch),
        ("general.name", "str", f"golden {case}"),
        ("general.quantization_version", "u32", 2),
        (f"{arch}.block_count", "u32", layers_of(case)),
        (f"{arch}.context_length", "u32", 256),
        (f"{arch}.embedding_length", "u32", width),
        (f"{arch}.feed_forward_length", "u32", ff),
        (f"{arch}.attention.head_count", "u32", heads),
        (f"{arch}.attention.head_count_kv", "u32", kv),
        (f"{arch}.attention.layer_norm_rms_epsilon", "f32", eps_of(case)),
        (f"{arch}.vocab_size", "u32", vocab),
    ]
    if rope.get("keys") != "few":  # old files: head size, rotary size and base are defaults
        rows += [
            (f"{arch}.attention.key_length", "u32", head),
            (f"{arch}.attention.value_length", "u32", head),
            (f"{arch}.rope.freq_base", "f32", base_of(arch, rope)),
        ]
        if arch in ADJACENT:
            rows.append((f"{arch}.rope.dimension_count", "u32", head))
    if "experts" in rope:
        rows += [
            (f"{arch}.expert_count", "u32", rope["experts"]),
            (f"{arch}.expert_used_count", "u32", rope["used"]),
            (f"{arch}.expert_feed_forward_length", "u32", ff),
        ]
    if "window" in rope:
        rows.append((f"{arch}.attention.sliding_window", "u32", rope["window"]))
    if "pattern" in rope:
        kind = "bools" if isinstance(rope["pattern"], list) else "u32"
        rows.append((f"{arch}.attention.sliding_window_pattern", kind, rope["pattern"]))
    if "swa_base" in rope:
        rows.append((f"{arch}.rope.freq_base_swa", "f32", rope["swa_base"]))
    if "softcap" in rope:
        rows.append((f"{arch}.final_logit_softcapping", "f32", rope["softcap"]))
    if "linear" in rope:
        rows += [
            (f"{arch}.rope.scaling.type", "str", "linear"),
            (f"{arch}.rope.scaling.factor", "f32", rope["linear"]),
        ]
    if "yarn" in rope:
        rows += [
            (f"{arch}.rope.scaling.type", "str", "yarn"),
            (f"{arch}.rope.scaling.factor", "f32", rope["yarn"]),
            (f"{arch}.rope.scaling.original_context_length", "u32", 64),
        ]
    rows.append(("tokenizer.ggml.model", "str", "none"))
    return rows


def tensors(case):
    arch, heads, kv, head, width, ff, vocab, tied, types, rope = CASES[case]
    out = []

    def weight(name, cols, rows, gain, kind, *experts):
        if kind in BLOCKS and cols % BLOCKS[kind][0]:
            kind = FALLBACK[kind]
        scale = gain / math.sqrt(cols) / unit_std(kind)
        t = {"name": name + ".weight", "type": kind, "shape": [cols, rows, *experts], "scale": float(f"{scale:.4g}")}
        out.append(t)

    def vector(name, n, offset, std):
        scale = float(f"{std / NORMAL_STD:.4g}")
        out.append({"name": name, "type": "F32", "shape": [n], "offset": offset, "scale": scale})

    # Gains are in units of 1/sqrt(columns): a row times a vector of unit RMS has that deviation.
    # They make each half layer about as large as the residual, attention far from uniform, and
    # logits of deviation 2 to 4.
    weight("token_embd", width, vocab, rope.get("embd", 2.5 if tied else 6.0), types["embd"])
    if "llama3" in rope:
        values = rope_factors(base_of(arch, rope), head, llama3_rope(rope["llama3"]))
        out.append({"name": "rope_freqs.weight", "type": "F32", "shape": [head // 2], "values": values})
    qk = 1.0 if arch in ("qwen3", "gemma3", *MIXTURES) else 1.1
    plan = [
        ("attn_q", width, heads * head, qk),
        ("attn_k", width, kv * head, qk),
        ("attn_v", width, kv * head, 1.0),
        ("attn_output", heads * head, width, 1.0),
        ("ffn_gate", width, ff, 1.3),
        ("ffn_up", width, ff, 1.1),
        ("ffn_down", ff, width, 0.7),
    ]
    layers = layers_of(case)
    for layer in range(layers):
        p = f"blk.{layer}."
        # llama.cpp's use_more_bits
        more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
        size = rope.get("growth", 1.0) ** layer
        vector(p + "attn_norm.weight", width, 1.0, 0.25)
        for i, (name, cols, rows, gain) in enumerate(plan):
            if "mix" in types:
                kind = ODD[(types["mix"] + layer * len(plan) + i) % len(ODD)]
            elif more and name in ("attn_v", "ffn_down"):
                kind = types.get({"attn_v": "v6", "ffn_down": "down6"}[name], types["*"])
            else:
                kind = types["*"]
            if name == "ffn_gate":
                if arch in SANDWICH:
                    vector(p + "post_attention_norm.weight", width, size, 0.25 * size)
                vector(p + "ffn_norm.weight", width, 1.0, 0.25)
            if arch in MIXTURES and name.startswith("ffn_"):
                # Weights add up to less than one. What is chosen is far from what is not.
                gain *= 1.7 if name == "ffn_down" else 1.0
                if name == "ffn_gate":
                    weight(p + "ffn_gate_inp", width, rope["experts"], 3.0, "F32")
                weight(p + name + "_exps", cols, rows, gain, kind, rope["experts"])
                continue
            weight(p + name, cols, rows, gain, kind)
            if arch == "qwen2" and i < 3:
                vector(p + name + ".bias", rows, 0.0, 0.6)
            if arch in ("qwen3", "gemma3", *MIXTURES) and i < 2:
                vector(p + name + "_norm.weight", head, 0.95, 0.25)
        if arch in SANDWICH:
            vector(p + "post_ffw_norm.weight", width, size, 0.25 * size)
    vector("output_norm.weight", width, 1.0, 0.25)
    if not tied:
        weight("output", width, vocab, 3.0, types["head"])
    return out


def prompt(case, vocab):
    """80 ids, the first and the last of the vocabulary among them, one repeated."""
    ids = [int(x) for x in words(fnv1a(f"{case}/prompt".encode()), TOKENS) % np.uint64(vocab)]
    ids[3], ids[5], ids[40] = 0, vocab - 1, ids[12]
    return ids


def columns(case, vocab):
    order = np.argsort(words(fnv1a(f"{case}/columns".encode()), vocab), kind="stable")
    picked = {0, vocab - 1}
    for i in order:
        if len(picked) == COLUMNS:
            break
        picked.add(int(i))
    return sorted(picked)


# ---------------------------------------------------------------- transformers


class Float64Torch:
    """Stands in for `torch` inside a modelling module: its float32 casts become float64."""

    def __init__(self, torch):
        self._torch = torch
        self.float = self.float32 = torch.float64

    def __getattr__(self, name):
        return getattr(self._torch, name)


def unpermute(w, heads):
    """GGUF rows (adjacent rotary pairs) to transformers rows (half-split pairs)."""
    return w.reshape(heads, -1, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def state_dict(case, weights):
    arch, heads, kv, *_ = CASES[case]
    name_map = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    parts = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate",
    }  # fmt: skip
    if arch in SANDWICH:
        parts |= {
            "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }  # fmt: skip
    out = {}
    for name, w in weights.items():
        if name == "rope_freqs.weight":
            continue  # transformers computes its own from the configuration
        if arch == "gemma3" and name.endswith("norm.weight"):
            w = w.astype(np.float64) - 1  # files hold what transformers adds 1 to
        if name.startswith("blk."):
            _, layer, part, kind = name.split(".")
            if arch in ADJACENT and part in ("attn_q", "attn_k"):
                w = unpermute(w, heads if part == "attn_q" else kv)
            if part.endswith("_exps"):  # gate and up are one tensor there
                both = [weights[f"blk.{layer}.ffn_{p}_exps.weight"] for p in ("gate", "up")]
                names = {"ffn_gate_exps": "gate_up_proj", "ffn_down_exps": "down_proj"}
                if part in names:
                    w = w if part == "ffn_down_exps" else np.concatenate(both, axis=1)
                    out[f"model.layers.{layer}.mlp.experts.{names[part]}"] = w
                continue
            out[f"model.layers.{layer}.{parts[part]}.{kind}"] = w
        else:
            out[name_map[name]] = w
    return out


@contextlib.contextmanager
def islands(arch, double):
    """Widens the float32 islands of a family's modelling code while it is open, if `double`."""
    import importlib

    import torch
    from transformers import modeling_rope_utils

    name = {"qwen3moe": "qwen3_moe"}.get(arch, arch)
    patched = [importlib.import_module(f"transformers.models.{name}.modeling_{name}"), modeling_rope_utils]
    narrow = torch.Tensor.float
    for module in patched:
        module.torch = Float64Torch(torch) if double else torch
    if double:
        torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = narrow
        for module in patched:
            module.torch = torch


def transformers_model(case, weights, double):
    """The family's class with these weights; only inside of `islands`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    arch, heads, kv, head, width, ff, vocab, tied, _, rope = CASES[case]
    parameters = {"rope_type": "default"}
    if "llama3" in rope:
        parameters = llama3_rope(rope["llama3"])
    if "linear" in rope:
        parameters = {"rope_type": "linear", "factor": rope["linear"]}
    if "yarn" in rope:
        parameters = {"rope_type": "yarn", "factor": rope["yarn"], "original_max_position_embeddings": 64}
    parameters["rope_theta"] = base_of(arch, rope)
    more = {}
    if arch == "gemma3":
        local = {"rope_type": "default", "rope_theta": rope.get("swa_base", 1e4)}
        parameters = {"full_attention": parameters, "sliding_attention": local}
        kinds = ["full_attention", "sliding_attention"]
        more = {
            "layer_types": [kinds[is_local(case, i)] for i in range(layers_of(case))],
            "sliding_window": rope["window"],
            "query_pre_attn_scalar": head,
            "final_logit_softcapping": rope.get("softcap"),
        }
    if arch == "smollm3":
        more = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    if arch in MIXTURES:
        more = {
            "num_experts": rope["experts"],
            "num_experts_per_tok": rope["used"],
            "norm_topk_prob": True,
            "moe_intermediate_size": ff,
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": None,
        }
    config = AutoConfig.for_model(
        CLASS.get(arch, arch),
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=ff,
        num_hidden_layers=layers_of(case),
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=head,
        max_position_embeddings=256,
        # the f32 of the metadata, so that both sides see the same number
        rms_norm_eps=float(np.float32(eps_of(case))),
        tie_word_embeddings=tied,
        rope_parameters=parameters,
        **more,
    )
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model = model.double() if double else model.float()
    dtype = torch.float64 if double else torch.float32
    state = {k: torch.tensor(v).to(dtype) for k, v in state_dict(case, weights).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) == ({"lm_head.weight"} if tied else set()), (missing, unexpected)
    if tied:
        model.tie_weights()
        assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(p.dtype == dtype for p in model.parameters())
    if arch == "gemma3" and double:
        # made in float32, whose root of the width is rounded
        model.model.embed_tokens.embed_scale = torch.tensor(width, dtype=dtype) ** 0.5
    return model


def transformers_run(case, weights, ids, double):
    """logits [T,V], residual [L+1,T,d], mid [L,T,d] (after attention), final [T,d]."""
    import torch

    dtype = torch.float64 if double else torch.float32
    with islands(CASES[case][0], double):
        model = transformers_model(case, weights, double)
        seen = {}

        def keep(name, value):
            assert value.dtype == dtype
            seen[name] = value[0].detach().double().numpy()

        body = model.model
        hooks = [body.embed_tokens.register_forward_hook(lambda m, a, o: keep("r0", o))]
        hooks.append(body.norm.register_forward_hook(lambda m, a, o: keep("final", o)))
        before_ffn = "pre_feedforward_layernorm" if CASES[case][0] in SANDWICH else "post_attention_layernorm"
        for i, layer in enumerate(body.layers):
            hooks.append(layer.register_forward_hook(lambda m, a, o, i=i: keep(f"r{i + 1}", o)))
            norm = getattr(layer, before_ffn)
            hooks.append(norm.register_forward_hook(lambda m, a, o, i=i: keep(f"m{i}", a[0])))
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0].double().numpy()
        for hook in hooks:
            hook.remove()
    residual = np.stack([seen[f"r{i}"] for i in range(layers_of(case) + 1)])
    mid = np.stack([seen[f"m{i}"] for i in range(layers_of(case))])
    return {"logits": logits, "residual": residual, "mid": mid, "final": seen["final"]}


# ---------------------------------------------------------------- a second forward, in numpy


class Wide:
    """name -> float64 of weights that may be read from a file when they are asked for."""

    def __init__(self, weights):
        self.weights = weights

    def __contains__(self, name):
        return name in self.weights

    def __getitem__(self, name):
        return self.weights[name].astype(np.float64)

    def get(self, name, default):
        return self[name] if name in self else default


def numpy_run(meta, weights, ids, cache=np.float64):
    """The same model from GGUF metadata and GGUF layout alone, in float64.

    `cache` is the type keys (after rotation) and values are rounded to.
    """
    keys = {k: (float(np.float32(v)) if kind == "f32" else v) for k, kind, v in meta}
    arch = keys["general.architecture"]
    get = lambda k, default=None: keys.get(f"{arch}.{k}", default)  # noqa: E731
    w = Wide(weights)
    heads, kv, width = get("attention.head_count"), get("attention.head_count_kv"), get("embedding_length")
    head = get("attention.key_length", width // heads)
    eps, base = get("attention.layer_norm_rms_epsilon"), get("rope.freq_base", 1e4)
    rms = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * g  # noqa: E731

    i, t = np.arange(head // 2), len(ids)

    def tables(base, scaled):
        """Cosines and sines, [T, 1, head / 2]."""
        freq, magnitude = base ** (-2.0 * i / head), 1.0
        if "rope_freqs.weight" in w:
            freq = freq / w["rope_freqs.weight"]
        scaling, factor = get("rope.scaling.type", "none"), get("rope.scaling.factor", 1.0)
        if scaling == "linear" and scaled:
            freq = freq / factor
        if scaling == "yarn":
            original = get("rope.scaling.original_context_length")
            turn = lambda beta: head * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(base))  # noqa: E731
            low, high = max(math.floor(turn(32)), 0), min(math.ceil(turn(1)), head - 1)
            keep = 1 - np.clip((i - low) / max(0.001, high - low), 0, 1)
            freq = freq / factor * (1 - keep) + freq * keep
            magnitude = 1 + 0.1 * math.log(factor)
        angle = np.arange(t)[:, None, None] * freq
        return np.cos(angle) * magnitude, np.sin(angle) * magnitude

    def rotate(x, table):  # [T, heads, head]
        if table is None:
            return x
        (cos, sin), out = table, np.empty_like(x)
        halves = (slice(0, head // 2), slice(head // 2, None))
        a, b = (slice(0, None, 2), slice(1, None, 2)) if arch in ADJACENT else halves
        out[..., a] = x[..., a] * cos - x[..., b] * sin
        out[..., b] = x[..., a] * sin + x[..., b] * cos
        return out

    full, near = tables(base, True), tables(get("rope.freq_base_swa", 1e4), False)
    window, pattern = get("attention.sliding_window", t), get("attention.sliding_window_pattern", 6)
    distance = np.arange(t)[:, None] - np.arange(t)
    gelu = lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))  # noqa: E731
    act = gelu if arch == "gemma3" else lambda x: x / (1 + np.exp(-x))
    # The norm behind a half layer, where there is one.
    after = lambda x, n: rms(x, w[n]) if n in w else x  # noqa: E731
    x = w["token_embd.weight"][ids] * (math.sqrt(width) if arch == "gemma3" else 1)
    residual, mid, entropy, closest = [x], [], [], []

    def experts(h, p, count, used):
        """The mixture's output, and how far the last chosen logit is from the first that is not."""
        scores = h @ w[p + "ffn_gate_inp.weight"].T
        order = np.argsort(-scores, axis=-1, kind="stable")[:, : used + 1]
        ranked = np.take_along_axis(scores, order, -1)
        probabilities = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        out = np.zeros_like(h)
        for row, chosen in enumerate(order[:, :used]):
            weights = probabilities[row, chosen] / probabilities[row, chosen].sum()
            for e, weight in zip(chosen, weights):
                gate, up, down = (w[f"{p}ffn_{n}_exps.weight"][e] for n in ("gate", "up", "down"))
                out[row] += weight * (down @ (act(gate @ h[row]) * (up @ h[row])))
        return out, (ranked[:, used - 1] - ranked[:, used]).min()

    for layer in range(get("block_count")):
        p = f"blk.{layer}."
        local = False
        if arch == "gemma3":
            local = pattern[layer] if isinstance(pattern, list) else layer % pattern < pattern - 1
        table = near if local else full
        if arch == "smollm3" and layer % 4 == 3:
            table = None
        mask = np.where((distance >= 0) & ((distance < window) | (not local)), 0.0, -np.inf)
        linear = lambda h, n: h @ w[p + n + ".weight"].T + w.get(p + n + ".bias", 0.0)  # noqa: E731
        h = rms(x, w[p + "attn_norm.weight"])
        q = linear(h, "attn_q").reshape(t, heads, head)
        k = linear(h, "attn_k").reshape(t, kv, head)
        v = linear(h, "attn_v").reshape(t, kv, head).astype(cache).astype(np.float64)
        if p + "attn_q_norm.weight" in w:
            q, k = rms(q, w[p + "attn_q_norm.weight"]), rms(k, w[p + "attn_k_norm.weight"])
        q, k = rotate(q, table), rotate(k, table).astype(cache).astype(np.float64)
        k, v = np.repeat(k, heads // kv, axis=1), np.repeat(v, heads // kv, axis=1)
        s = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(head) + mask
        s = np.exp(s - s.max(-1, keepdims=True))
        s /= s.sum(-1, keepdims=True)
        entropy.append(float(-(s * np.log(s + 1e-300)).sum(-1)[:, -1].mean()))
        a = linear(np.einsum("hqk,khd->qhd", s, v).reshape(t, -1), "attn_output")
        x = x + after(a, p + "post_attention_norm.weight")
        mid.append(x)
        h = rms(x, w[p + "ffn_norm.weight"])
        if count := get("expert_count"):
            f, gaps = experts(h, p, count, get("expert_used_count"))
            closest.append(gaps)
        else:
            f = linear(act(linear(h, "ffn_gate")) * linear(h, "ffn_up"), "ffn_down")
        x = x + after(f, p + "post_ffw_norm.weight")
        residual.append(x)
    final = rms(x, w["output_norm.weight"])
    logits = final @ w["output.weight" if "output.weight" in w else "token_embd.weight"].T
    if cap := get("final_logit_softcapping"):
        logits = cap * np.tanh(logits / cap)
    return {
        "logits": logits, "residual": np.stack(residual), "mid": np.stack(mid), "final": final,
        "effective_keys": math.exp(sum(entropy) / len(entropy)), "closest": min(closest, default=None),
    }  # fmt: skip


def nmse(got, want):
    return float(((got - want) ** 2).sum() / (want**2).sum())


# Keys whose neglect a case has to show: what a reader without that key would take in its place.
NEGLECT = {
    "attention.sliding_window": 10**6,
    "attention.sliding_window_pattern": 6,
    "rope.freq_base_swa": 1e4,
    "rope.freq_base": 1e4,
    "rope.scaling.type": "none",
    "final_logit_softcapping": 0.0,
}


def check_sensitivity(case, meta, weights, ids, want):
    """A case that would pass without one of its keys is no test of that key."""
    for at, (key, kind, value) in enumerate(meta):
        default = NEGLECT.get(key.split(".", 1)[1], value)
        if CASES[case][0] not in ("gemma3", "smollm3") or default == value:
            continue
        other = numpy_run([*meta[:at], (key, kind, default), *meta[at + 1 :]], weights, ids)["logits"]
        error = nmse(other, want["logits"])
        assert error > 1e-4, (case, key, error)
        print(f"{case:20s} without {key}: NMSE {error:.1e}")


# ---------------------------------------------------------------- writing


def number(x):
    """One short decimal for a measured ratio."""
    return float(f"{x:.2g}")


def make(case):
    """The JSON text and the stored arrays of a case."""
    arch, heads, kv, head, width, ff, vocab, *_ = CASES[case]
    meta, spec, ids, cols = metadata(case), tensors(case), prompt(case, CASES[case][6]), columns(case, vocab)
    weights = {}
    for t in spec:
        data = tensor_bytes(case, t)
        t["fnv"] = f"{fnv1a(data.tobytes()):016x}"
        weights[t["name"]] = dequantised(t, data)
        assert np.isfinite(weights[t["name"]]).all()
    want = transformers_run(case, weights, ids, double=True)
    mine = numpy_run(meta, weights, ids)
    agree = max(nmse(mine[k], want[k]) for k in want)
    # rope_freqs.weight is rounded to f32 in the file and not in transformers; nothing else is.
    assert agree < (1e-13 if "rope_freqs.weight" in weights else 1e-20), (case, agree)
    check_sensitivity(case, meta, weights, ids, want)
    single = nmse(transformers_run(case, weights, ids, double=False)["logits"], want["logits"])
    half = nmse(numpy_run(meta, weights, ids, np.float16)["logits"], want["logits"])
    assert single < 1e-9, (case, single)
    r = want["residual"]
    print(
        f"{case:20s} numpy-f64 {agree:8.1e}  torch-f32 {single:8.1e}  f16-cache {half:8.1e}  "
        f"logits std {want['logits'].std():.2f} max {abs(want['logits']).max():.1f}  "
        f"rms " + " ".join(f"{math.sqrt((x * x).mean()):.2f}" for x in r)
        + f"  effective keys {mine['effective_keys']:.0f}/{TOKENS}"
        + (f"  closest routes {mine['closest']:.4f}" if mine["closest"] else ""),
        flush=True,
    )  # fmt: skip
    head_json = {
        "case": case,
        "tokens": ids,
        "columns": cols,
        "rows": ROWS,
        "positions": POSITIONS,
        # NMSE of the logits of a float32 run by torch, and of one with keys and values
        # rounded to f16, for judging a tolerance.
        "noise": {"f32": number(single), "f16_cache": number(half)},
    }
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head_json.items()]
    for key, rows in (("metadata", [list(m) for m in meta]), ("tensors", spec)):
        lines.append(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(x) for x in rows) + "\n ],")
    text = "{\n" + "\n".join(lines).rstrip(",") + "\n}\n"
    store = {
        "logits.columns": want["logits"][:, cols],  # [80, 64]
        "logits.rows": want["logits"][ROWS],  # [4, vocabulary]
        "residual": want["residual"][:, POSITIONS],  # [layers + 1, 3, width]: embedding, each layer
        "mid": want["mid"][:, POSITIONS],  # [layers, 3, width]: after attention, before the FFN
        "final": want["final"][POSITIONS],  # [3, width]: after the output norm
    }
    return text, {k: np.ascontiguousarray(v, np.float32) for k, v in store.items()}


def read_back(path, case):
    """Compares a GGUF file, read by the gguf package, with the case's metadata and bytes."""
    reader = gguf.GGUFReader(path)
    spec, meta = tensors(case), metadata(case)
    assert [t.name for t in reader.tensors] == [t["name"] for t in spec]
    for got, t in zip(reader.tensors, spec):
        assert got.tensor_type.name == t["type"] and [int(x) for x in got.shape] == t["shape"], t
        assert got.data.tobytes() == tensor_bytes(case, t).tobytes(), t["name"]
    for key, kind, value in meta:
        got = reader.get_field(key).contents()
        assert got == (float(np.float32(value)) if kind == "f32" else value), (key, got, value)
    print(f"{path}: {len(spec)} tensors and {len(meta)} keys as in {case}")


def main(args):
    from safetensors.numpy import load_file, save_file

    if args[:1] == ["--read"]:
        return read_back(args[1], args[2])
    check = args[:1] == ["--check"]
    GOLDEN.mkdir(exist_ok=True)
    total = 0
    for case in args[1 if check else 0 :] or CASES:
        text, store = make(case)
        json_path, data_path = GOLDEN / f"{case}.json", GOLDEN / f"{case}.safetensors"
        if check:
            # measured noise may differ in its last digit from one machine to the next
            old, new = json.loads(json_path.read_text()), json.loads(text)
            assert {**old, "noise": 0} == {**new, "noise": 0}, f"{json_path} differs"
            stored = load_file(data_path)
            assert all(nmse(stored[k].astype(float), v.astype(float)) < 1e-13 for k, v in store.items()), case
        else:
            json_path.write_text(text)
            save_file(store, data_path)
        total += json_path.stat().st_size + data_path.stat().st_size
    print(f"{total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
