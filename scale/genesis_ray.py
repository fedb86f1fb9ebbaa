#!/usr/bin/env python3
"""Runs the shards of `weft genesis` under Ray Data, and puts them together.

    pip install "ray[data]==2.60.0"
    python scale/genesis_ray.py --workers 8 -- -d passages.jsonl -o /shared/genesis \\
        --teacher http://big:8080/v1 --student http://small:8080/v1

What follows `--` is what `weft genesis` takes. The folder must be one that all machines see, and so must the passages;
teacher, student and judge are best endpoints (`weft serve`), because each worker opens a model of its own otherwise. A
shard is one task: Ray decides where it runs, and runs it again where a machine is lost, which costs nothing that is in
the folder already. The result is that of one process.
"""

import argparse
import math
import os
import pathlib
import subprocess
import sys

import ray


def shards(arguments):
    """How many shards there are, from the passages and --shard-size."""
    def value(names, default):
        for i, a in enumerate(arguments):
            if a in names:
                return arguments[i + 1]
        return default

    path = pathlib.Path(value(("-d", "--data"), ""))
    size = int(value(("--shard-size",), 100))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        count = pq.ParquetFile(path).metadata.num_rows
    else:
        with open(path) as f:
            count = sum(1 for line in f if line.strip())
    return math.ceil(count / size)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weft", default="weft", help="the program, on every machine")
    parser.add_argument("--workers", type=int, default=2, help="shards at a time")
    parser.add_argument("--address", help="a Ray cluster; without it, a local one")
    parser.add_argument("arguments", nargs="+", help="what `weft genesis` takes, behind --")
    o = parser.parse_args()
    command = [o.weft, "genesis", *o.arguments]
    folder = os.getcwd()

    def work(row):
        done = subprocess.run([*command, "--only", str(row["shard"])], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"shard {row['shard']}: {done.stderr.strip()}")
        return {"shard": row["shard"], "said": done.stderr.strip()}

    ray.init(address=o.address, num_cpus=None if o.address else o.workers, log_to_driver=False)
    data = ray.data.from_items([{"shard": i} for i in range(shards(o.arguments))], override_num_blocks=shards(o.arguments))
    for row in data.map(work, num_cpus=1, concurrency=o.workers).iter_rows():
        print(row["said"], file=sys.stderr)
    return subprocess.run([*command, "--finish"], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
