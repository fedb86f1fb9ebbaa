#!/usr/bin/env python3
"""Log-likelihoods and scores of real weights by `weft eval`, beside llama.cpp on the same prompts.

    ./dev real                       (fetches the weights and the packages)
    ~/.cache/weft-real/venv/bin/python tests/real/likelihoods.py target/release/weft [-o TABLE.md] [--limit N]

llama.cpp rounds activations to 8 bits where weights are quantised, so it reads each model written as F32; Weft reads the
file as it came, whose weights have the same values. Caches are F32 in both and llama.cpp's flash attention is off, since
each rounds to F16, which costs up to 2e-2 nats (float64 sides with Weft to 1e-4). The prompts, endings and ids are those of
`weft eval`; llama.cpp tokenises them by itself. A difference of more than 1e-3 nats, or of a token, is a failure.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")
import llama  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
SET = ROOT / "evals" / "data" / "science.jsonl"
HOME = pathlib.Path(os.environ.get("WEFT_REAL", pathlib.Path.home() / ".cache" / "weft-real"))
MODELS = ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
MOST = 1e-3


def weft(program, model, mode, folder, limit, *more):
    out = pathlib.Path(folder) / f"{pathlib.Path(model).stem}-{mode}"
    command = [program, "eval", "-m", str(model), "--suite", "arc-easy", "--data", str(SET), "--mode", mode]
    command += ["-o", str(out), "--json", "--limit", str(limit), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    return json.loads(done.stdout), lines


def likelihoods(model, line):
    """What llama.cpp gives each ending of a line, in nats."""
    prompt, out, read = model.tokenize(line["prompt"], False), [], {}
    for ending in line["endings"]:
        ids = model.tokenize(line["prompt"] + ending, False)
        # Endings of one token have all that they need of one reading.
        before = tuple(ids[:-1])
        if before not in read:
            read = {before: model.logits(ids[:-1], **llama.WIDE)}
        rows = read[before].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        start = min(len(prompt), len(ids) - 1)
        out.append(sum(rows[i - 1, ids[i]] for i in range(max(start, 1), len(ids))))
    return out


def interval(result):
    s = result["score"]
    return f"{100 * s['mean']:.1f} [{100 * s['low']:.1f}, {100 * s['high']:.1f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--limit", type=int, default=20, help="questions whose log-likelihoods are compared")
    parser.add_argument("--score", type=int, default=60, help="questions that are scored by likelihood")
    parser.add_argument("--generate", type=int, default=60, help="questions that are scored by generation")
    parser.add_argument("--only", default="", help="a part of a model's name")
    o = parser.parse_args()
    rows, worst = [], 0.0
    for name in (name for name in MODELS if o.only in name):
        path = HOME / name
        if not path.exists():
            print(f"skipped: {path} is missing; ./dev real fetches it")
            continue
        with tempfile.TemporaryDirectory() as folder:
            wide = pathlib.Path(folder) / "f32.gguf"
            subprocess.run([o.weft, "quantize", str(path), str(wide), "F32", "--requantize"], check=True, capture_output=True)
            for mode in ("letter", "option"):
                score, lines = weft(o.weft, path, mode, folder, o.score, "--cache-type", "f32")
                lines = lines[: o.limit]
                with llama.Model(wide) as model:
                    gaps = [abs(a - b) for l in lines for a, b in zip(l["loglikelihoods"], likelihoods(model, l))]
                worst = max(worst, max(gaps))
                rows.append((name, mode, str(o.score), interval(score), "", f"{max(gaps):.1e} over {len(gaps)}"))
                print(*rows[-1], sep=" | ", flush=True)
            score, _ = weft(o.weft, path, "normalised", folder, o.score)
            rows.append((name, "normalised", str(o.score), interval(score), "", ""))
            score, _ = weft(o.weft, path, "generate", folder, o.generate, "--temp", "0", "-n", "256")
            rows.append((name, "generate", str(o.generate), interval(score), f"{100 * score['readable']['mean']:.1f} %", ""))
            print(*rows[-1], sep=" | ", flush=True)
    table = "# `weft eval` on real weights\n\nQuestions of ours with ARC's columns (`evals/data/science.jsonl`) by likelihood and by "
    table += "generation (greedy, 256 tokens at most), with 95 % bootstrap intervals. The last column is the largest difference "
    table += f"of a log-likelihood, in nats, from llama.cpp's (xllamacpp {llama.VERSION}, on the CPU) on the same weights written "
    table += "as F32; Weft reads the file as it came, on lavapipe. Caches are F32 in both, and llama.cpp's flash attention, which "
    table += "rounds to F16, is off.\n\n"
    table += "| weights | mode | questions | score, % | answers that name one option | largest difference, endings |\n"
    table += "|---|---|---:|---:|---:|---:|\n"
    table += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    if o.output:
        o.output.write_text(table)
    print(table)
    return 0 if worst <= MOST else f"a log-likelihood differs by {worst}"


if __name__ == "__main__":
    sys.exit(main())
