#!/usr/bin/env python3
"""Shows that `weft genesis` under a local Ray makes what one process makes: the same files, byte for byte.

    pip install "ray[data]==2.60.0"
    python scale/check_ray.py target/release/weft [--passages 10] [--workers 2] [--timeout 900]

The first passages of evals/data are a shard for every three. Teacher is `rules`; the student is weft-mini behind one
`weft serve`, which both runs ask. Ends with code 1 where a file differs, and with what the processes said where one of
them does not end in time.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def files(folder):
    """What may not differ: documents, and what became of every question. Costs have seconds."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != "costs.jsonl"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def served(weft):
    process = subprocess.Popen([weft, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.match(r"listening at (http://[0-9.:]+)", line):
            return process, found[1] + "/v1"
    raise SystemExit("weft serve did not start")


def timed(what, command, limit):
    began = time.time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        said = (late.stderr or b"").decode()
        raise SystemExit(f"{what} did not end within {limit} s; it said:\n{said}") from None
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout}{done.stderr}")
    print(f"{what}: {time.time() - began:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("--passages", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=900, help="seconds for either run")
    o = parser.parse_args()
    weft = str(pathlib.Path(o.weft).resolve())
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        with open(ROOT / "evals/data/passages.jsonl") as source:
            (scratch / "passages.jsonl").write_text("".join(next(source) for _ in range(o.passages)))
        process, url = served(weft)
        try:
            asked = ["-d", str(scratch / "passages.jsonl"), "--teacher", "rules", "--student", url + "#weft-mini"]
            asked += ["--shard-size", "3", "-n", "64", "--test", str(ROOT / "evals/data/questions.jsonl")]
            timed("one process", [weft, "genesis", *asked, "-o", str(scratch / "one")], o.timeout)
            ray = [sys.executable, str(ROOT / "scale/genesis_ray.py"), "--weft", weft, "--workers", str(o.workers), "--"]
            timed(f"Ray, {o.workers} workers", [*ray, *asked, "-o", str(scratch / "ray")], o.timeout)
        finally:
            process.terminate()
            process.wait(30)
        one, ray = files(scratch / "one"), files(scratch / "ray")
    differing = sorted(name for name in one | ray if one.get(name) != ray.get(name))
    documents = sum(data.count(b"\n") for name, data in one.items() if name.startswith("data/") and name.endswith(".jsonl"))
    print(f"{o.passages} passages, {documents} documents, {len(one)} files: {'differ: ' + ', '.join(differing) if differing else 'all equal'}")
    return 1 if differing or documents == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
