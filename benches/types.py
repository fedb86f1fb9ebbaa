#!/usr/bin/env python3
"""What each type that `weft quantize` makes costs weft-mini: the table in models/assets/TYPES.md.

    cargo build --release
    python3 benches/types.py measure types.jsonl [--questions 300] [--positions 4096] [--only Q4_K_M,Q2_K] [--imatrix FILE]
    python3 benches/types.py table types.jsonl [-o FILE]

`measure` quantises models/assets/weft-mini-f16.gguf to every type, without and with an importance matrix
from questions of the train split, and runs `weft eval` on each file: beside F16 on text of the test split,
and on questions. A line of types.jsonl is a file measured; types that are there already are not measured again.
`table` writes the tables anew in front of the first "## " of FILE (models/assets/TYPES.md unless given), and
keeps the sections from there on, whose figures are of other devices and texts.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "models/assets/weft-mini-f16.gguf"
# These are made with an importance matrix or not at all.
NEED = {"IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"}

INTRODUCTION = """# weft-mini at every type

Made by `benches/types.py` on {device}. Each file is what `weft quantize` makes of weft-mini-f16.gguf. Beside F16, on
{positions} positions of conversations of the curriculum's test split (`weft eval --suite divergence`): the normalised mean
squared error of the logits, the mean Kullback-Leibler divergence with its standard error, and how often the likeliest token
is the same. On questions of the test split, the same for all files (`weft eval`): {total} asked openly and {total} with
options, percent right; points lost are of both together, beside F16.

Questions hardly notice what divergence shows: the model is sure of nearly every token of an answer (the median divergence of
Q4_K_M is {median:.0e} nats), so its digits survive until 2 bits. Weights of three values (TQ1_0, TQ2_0) are for models that
were trained for them; this one was not. An importance matrix changes little here, for better or worse by about what the
standard errors allow: activations of a model this small have no columns that stand out.
"""


def known(weft):
    """The types, from the error that lists them."""
    done = subprocess.run([weft, "quantize", SOURCE, "/dev/null", "?"], capture_output=True, text=True)
    return [t.strip() for t in done.stderr.split("known: ")[1].split(",")]


def run(weft, *args):
    done = subprocess.run([weft, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"weft {args[0]}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.lstrip().startswith("{") else None


def calibration(weft, folder, questions, template):
    """Conversations of the train split as one text."""
    run(weft, "curriculum", "--split", "train", "--seed", 99, "--count", questions, "--format", "chat", "-o", folder / "train.jsonl")
    with open(folder / "train.jsonl") as lines, open(folder / "train.txt", "w") as out:
        for line in lines:
            for m in json.loads(line)["messages"]:
                out.write(template.format(**m))
    return folder / "train.txt"


def one(args, imatrix, folder, name, with_imatrix):
    """A file measured, or None where the type makes no use of importance."""
    weft, out = args.weft, folder / f"{name}-{with_imatrix}.gguf"
    q = run(weft, "quantize", SOURCE, out, name, "--json", *(["--imatrix", imatrix] if with_imatrix else []))
    if with_imatrix and not q["importance_used"]:
        return None
    near = run(weft, "eval", "-m", out, "--suite", "divergence", "--against", SOURCE, "--positions", args.positions, "--json")
    row = {
        "type": name, "imatrix": with_imatrix, "bytes": q["bytes_after"], "bits": q["bits_per_weight_after"],
        "kl": near["kl"], "same_top": near["same_top"], "nmse": near["nmse"], "positions": near["positions"],
        "perplexity": near["perplexity"], "device": near["device"]["name"],
    }  # fmt: skip
    scored = run(weft, "eval", "-m", out, "--limit", args.questions, "--json")
    row |= {"generation": scored["generation"], "multiple_choice": scored["multiple_choice"], "seconds": scored["seconds"]}
    for kind in ("generation", "multiple_choice"):
        row[kind].pop("families")
    out.unlink()
    return row


def measure(args):
    weft, done = args.weft, set()
    if args.file.exists():
        done = {(r["type"], r["imatrix"]) for r in map(json.loads, args.file.read_text().splitlines())}
    folder = Path(tempfile.mkdtemp())
    types = args.only.split(",") if args.only else known(weft)
    imatrix = args.imatrix
    if not imatrix:
        text = calibration(weft, folder, args.calibration, "<|im_start|>{role}\n{content}<|im_end|>\n")
        imatrix = folder / "imatrix.gguf"
        made = run(weft, "imatrix", "-m", SOURCE, "-f", text, "-o", imatrix, "--parse-special", "--json")
        print(f"importance matrix of {made['tokens']} tokens in {made['seconds']:.1f} s", file=sys.stderr)
    never = lambda t, i: t in ("F32", "F16", "BF16") if i else t in NEED
    tasks = [(t, i) for i in (False, True) for t in types if (t, i) not in done and not never(t, i)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda task: one(args, imatrix, folder, *task), tasks):
            if row is None:
                continue
            with open(args.file, "a") as f:
                f.write(json.dumps(row) + "\n")
            how = "imatrix" if row["imatrix"] else "plain"
            print(f"{row['type']:8} {how:8} KL {row['kl']['mean']:.5f} open {row['generation']['share']:.3f} in {row['seconds']:.1f} s", file=sys.stderr, flush=True)


def table(args):
    out = args.output or ROOT / "models/assets/TYPES.md"
    there = out.read_text() if out.exists() else ""
    _, heading, sections = there.partition("\n## ")
    with contextlib.redirect_stdout(io.StringIO()) as text:
        tables(args)
    out.write_text(text.getvalue() + heading + sections)


def tables(args):
    rows = [json.loads(line) for line in args.file.read_text().splitlines()]
    f16 = next(r for r in rows if r["type"] == "F16" and not r["imatrix"])
    score = lambda r: 100 * (r["generation"]["right"] + r["multiple_choice"]["right"]) / (r["generation"]["total"] + r["multiple_choice"]["total"])
    kinds = lambda r: f"{100 * r['generation']['share']:.1f} | {100 * r['multiple_choice']['share']:.1f}"

    usual = next(r for r in rows if r["type"] == "Q4_K_M" and not r["imatrix"])
    facts = {"total": f16["generation"]["total"], "median": usual["kl"]["median"]}
    print(INTRODUCTION.format(**facts, positions=f16["positions"], device=f16["device"]))
    print("| type | MiB | % of F16 | bits a weight | NMSE of logits | KL divergence, nats | same top token, % | score: open | score: options | points lost |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for r in sorted((r for r in rows if r["type"] in NEED or not r["imatrix"]), key=lambda r: r["bytes"]):
        print(
            f"| {r['type']}{'*' * r['imatrix']} | {r['bytes'] / 2**20:.2f} | {100 * r['bytes'] / f16['bytes']:.1f} | {r['bits']:.2f} | {r['nmse']:.1e} | "
            f"{r['kl']['mean']:.1e} ± {r['kl']['standard_error']:.0e} | {100 * r['same_top']['share']:.2f} | {kinds(r)} | {score(f16) - score(r):.1f} |"
        )
    plain = {r["type"]: r for r in rows if not r["imatrix"]}
    if any(r["imatrix"] and r["type"] in NEED for r in rows):
        print("\n\\* With an importance matrix, without which the type is not made.")
    both = [r for r in rows if r["imatrix"] and r["type"] in plain]
    if not both:
        return
    print("\n| type, with an importance matrix | KL divergence | without | same top token, % | without | score: open | score: options | points lost | without |")
    print("|---|---|---|---|---|---|---|---|---|")
    for r in sorted(both, key=lambda r: r["bytes"]):
        p = plain[r["type"]]
        print(
            f"| {r['type']} | {r['kl']['mean']:.1e} | {p['kl']['mean']:.1e} | {100 * r['same_top']['share']:.2f} | "
            f"{100 * p['same_top']['share']:.2f} | {kinds(r)} | {score(f16) - score(r):.1f} | {score(f16) - score(p):.1f} |"
        )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["measure", "table"])
    p.add_argument("file", type=Path)
    p.add_argument("--weft", default=str(ROOT / "target/release/weft"))
    p.add_argument("--questions", type=int, default=300, help="of each kind")
    p.add_argument("--positions", type=int, default=4096)
    p.add_argument("--calibration", type=int, default=1000, help="conversations for the importance matrix")
    p.add_argument("--imatrix", type=Path, help="an importance matrix that is there already")
    p.add_argument("--jobs", type=int, default=1, help="files at a time")
    p.add_argument("--only", help="types, by comma")
    p.add_argument("-o", "--output", type=Path, help="where the table goes [default: models/assets/TYPES.md]")
    args = p.parse_args()
    {"measure": measure, "table": table}[args.what](args)


if __name__ == "__main__":
    main()
