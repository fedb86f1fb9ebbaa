#!/usr/bin/env python3
"""How far this device's fast kernels are from the f32 baseline on weft-mini: KL divergence and likeliest token.

    cargo build --release
    python3 benches/fast_path.py [--positions 2048] [--weft target/release/weft] [--model FILE]

The same conversations of the curriculum's test split go through `weft logits` twice: as this device runs them by
default, and with `--without f16,subgroups,dot,coop`; in prefill batches, and one token at a time as generation does.
Needs numpy.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ["--without", "f16,subgroups,dot,coop"]
CONTEXT = 512


def tokens(weft, model, positions):
    """Conversations of the test split, as the model was trained on them, cut into contexts."""
    lines = run(weft, "curriculum", "--split", "test", "--count", positions // 40, "--format", "chat").splitlines()
    turns = (m for line in lines for m in json.loads(line)["messages"])
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in turns)
    ids = json.loads(run(weft, "tokenize", *model, "--special", "--json", "-", stdin=text))
    assert len(ids) >= positions, f"{len(ids)} tokens only"
    return [ids[i : i + CONTEXT] for i in range(0, positions, CONTEXT)]


def run(weft, *args, stdin=None):
    done = subprocess.run([weft, *map(str, args)], input=stdin, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def logits(weft, model, ids, folder, *flags):
    """`[positions, vocabulary]`, f64."""
    (folder / "ids.json").write_text(json.dumps(ids))
    run(weft, "logits", *model, "--tokens", folder / "ids.json", "-o", folder / "logits.safetensors", *flags)
    data = (folder / "logits.safetensors").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    shape = json.loads(data[8:header])["logits"]["shape"]
    return np.frombuffer(data, np.float32, offset=header).reshape(shape).astype(np.float64)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weft", default=str(ROOT / "target/release/weft"))
    p.add_argument("--model", help="a GGUF file; without it, weft-mini")
    p.add_argument("--positions", type=int, default=2048)
    args = p.parse_args()
    model = ["-m", args.model] if args.model else []
    print(run(args.weft, "devices").splitlines()[0])
    contexts = tokens(args.weft, model, args.positions)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for how in ([], ["--decode"]):
            kl, same, error, power = [], 0, 0.0, 0.0
            for ids in contexts:
                fast = logits(args.weft, model, ids, folder, *how)
                slow = logits(args.weft, model, ids, folder, *how, *BASELINE)
                a, b = log_softmax(slow), log_softmax(fast)
                kl.append((np.exp(a) * (a - b)).sum(axis=1))
                same += (slow.argmax(axis=1) == fast.argmax(axis=1)).sum()
                error, power = error + ((slow - fast) ** 2).sum(), power + (slow**2).sum()
            kl = np.concatenate(kl)
            print(
                f"{'decode' if how else 'prefill':8} {len(kl)} positions: mean KL divergence {kl.mean():.2e} nats (largest {kl.max():.2e}), "
                f"same likeliest token {100 * same / len(kl):.2f} %, NMSE of logits {error / power:.1e}"
            )


if __name__ == "__main__":
    main()
