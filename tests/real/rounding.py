"""What rounding activations costs, product by product: numpy in float32 on the weights of a GGUF file.

    python rounding.py [-o TABLE.md] [MODEL...]      # where tests/real/real.py runs; MODEL: a part of a name

Decode in 8 bits (kernels/src/ops/quantize) rounds what a product multiplies with, in units of 16 that share a
scale; prefill by matrices rounds it, and the weights, to f16. Here one product at a time rounds, or all but some, or
all in units of another size, and the logits of every position are compared with those of no rounding. The products
of a layer are called by what they read: qkv, o (attention's output), up (gate and up), down; head gives the logits.
Other than in tests/reference/golden_models.py all of it is float32, which is four times as fast and differs by 1e-9
nats.
"""

import argparse
import math
import time
from pathlib import Path

import llama
import numpy as np
from assemble import assemble, folder
from real import MODELS, Weights, divergence, long_ids

POSITIONS = 128
SITES = ["qkv", "o", "up", "down", "head"]


def eight(x, unit=16):
    """x in 8 bits, with a scale for every unit of values."""
    parts = x.reshape(*x.shape[:-1], -1, unit)
    scale = np.abs(parts).max(-1, keepdims=True) / 127
    return (np.round(parts / np.maximum(scale, 1e-30)) * scale).reshape(x.shape).astype(np.float32)


def half(x):
    return x.astype(np.float16).astype(np.float32)


class Forward:
    """A decoder of the architectures llama and qwen2; logits of all positions, with products that round."""

    def __init__(self, path, ids):
        self.weights = Weights(path)
        self.keys, self.ids = {k: v for k, _, v in self.weights.meta}, ids
        self.arch = self.keys["general.architecture"]
        assert self.arch in ("llama", "qwen2"), self.arch

    def key(self, name):
        return self.keys[f"{self.arch}.{name}"]

    def rotate(self, x):
        pairs = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None, None] * self.key("rope.freq_base") ** (-np.arange(pairs) / pairs)
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        halves = (slice(0, pairs), slice(pairs, None))
        a, b = (slice(0, None, 2), slice(1, None, 2)) if self.arch == "llama" else halves
        out = np.empty_like(x)
        out[..., a], out[..., b] = x[..., a] * cos - x[..., b] * sin, x[..., a] * sin + x[..., b] * cos
        return out

    def norm(self, x, name):
        mean = (x * x).mean(-1, keepdims=True) + self.key("attention.layer_norm_rms_epsilon")
        return x / np.sqrt(mean) * self.weights[name]

    def attention(self, q, k, v):
        t, heads, head = q.shape
        k, v = (np.repeat(x, heads // x.shape[1], axis=1) for x in (k, v))
        s = np.einsum("qhd,khd->hqk", q, k, optimize=True) / math.sqrt(head)
        s += np.triu(np.full((t, t), -np.inf, np.float32), 1)
        s = np.exp(s - s.max(-1, keepdims=True))
        s /= s.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", s, v, optimize=True).reshape(t, -1)

    def __call__(self, rounding, of_weights=lambda x: x):
        """`rounding` has for a site how its input is rounded; none is not."""
        w, rounded = self.weights, lambda site, x: rounding.get(site, lambda x: x)(x)
        heads, kv = self.key("attention.head_count"), self.key("attention.head_count_kv")

        def linear(x, name):
            y = x @ of_weights(w[name + ".weight"]).T
            return y + w[name + ".bias"] if name + ".bias" in w else y

        x, t = w["token_embd.weight"][self.ids], len(self.ids)
        for layer in range(self.key("block_count")):
            p = f"blk.{layer}."
            h = rounded("qkv", self.norm(x, p + "attn_norm.weight"))
            q, k, v = (linear(h, p + n).reshape(t, m, -1) for n, m in (("attn_q", heads), ("attn_k", kv), ("attn_v", kv)))
            x = x + linear(rounded("o", self.attention(self.rotate(q), self.rotate(k), v)), p + "attn_output")
            h = rounded("up", self.norm(x, p + "ffn_norm.weight"))
            gate = linear(h, p + "ffn_gate")
            x = x + linear(rounded("down", gate / (1 + np.exp(-gate)) * linear(h, p + "ffn_up")), p + "ffn_down")
        return linear(rounded("head", self.norm(x, "output_norm.weight")), "output" if "output.weight" in w else "token_embd")


def variants(all_sizes):
    """name -> (what rounds, how weights are rounded)."""
    none = lambda x: x  # noqa: E731
    out = {"8 bits everywhere": ({s: eight for s in SITES}, none)}
    out |= {f"8 bits in {s} alone": ({s: eight}, none) for s in SITES}
    out |= {"8 bits, head exact": ({s: eight for s in SITES[:-1]}, none)}
    out |= {"8 bits, qkv, up and head exact": ({s: eight for s in ("o", "down")}, none)}
    for unit in all_sizes:
        out[f"8 bits everywhere, units of {unit}"] = ({s: lambda x, unit=unit: eight(x, unit) for s in SITES}, none)
    out["f16 activations"] = ({s: half for s in SITES}, none)
    out["f16 activations and weights"] = ({s: half for s in SITES}, half)
    return out


def main():
    arguments = argparse.ArgumentParser(usage="rounding.py [-o TABLE.md] [MODEL...]")
    arguments.add_argument("-o")
    arguments.add_argument("models", nargs="*", default=["SmolLM2", "Qwen"])
    args = arguments.parse_intermixed_args()
    lines = ["# What rounding activations costs", "", " ".join(__doc__.split("\n\n")[-1].split()), ""]
    lines += [f"{time.strftime('%Y-%m-%d', time.gmtime())}, {POSITIONS} positions of English; KL divergence in nats."]
    for name, (_, file, _) in MODELS.items():
        if not any(m.lower() in name.lower() for m in args.models):
            continue
        path = assemble(file, folder())
        with llama.Model(path) as model:
            forward = Forward(path, long_ids(model)[:POSITIONS])
        exact = forward({})
        lines += ["", f"## {name}", "", "| | KL divergence | same top token |", "|---|---|---|"]
        for what, how in variants([8, 4]).items():
            got = forward(*how)
            same = (got.argmax(1) == exact.argmax(1)).mean()
            lines.append(f"| {what} | {divergence(got, exact):.1e} | {same:.2%} |")
            print(f"{name:26} {lines[-1]}", flush=True)
    if args.o:
        Path(args.o).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
