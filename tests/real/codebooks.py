"""SmolLM2-135M in the types with code books, as `weft quantize` writes them, loaded by llama.cpp on the CPU.

    python codebooks.py WEFT [-o TABLE.md] [TYPE...]      # where tests/real/real.py runs

The model is Q4_1 when it comes, the smallest of real weights that an index has, and is quantised once more from there,
with an importance matrix that `weft imatrix` collects from the second half of text.txt. On its first half the logits of
Weft are compared with those of llama.cpp on the same file, which rounds activations to 8 bits, and with llama.cpp on that
file written as F32, which rounds less. Most matrices have rows of 576 values, which no block of 256 fits, and are in other
types, as llama.cpp has them; weft-mini, whose rows fit, is for tests/reference/llama_cpp_check.py. Ends with code 1 where
Weft is further from F32 than tests/real/real.py allows.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import llama
from assemble import assemble, folder
from real import HERE, KL_PREFILL, Weft, commit, divergence, perplexity, where

TYPES = ["Q4_1", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
FILE = "smollm2-135m-instruct-q4_1.gguf"
POSITIONS = 256


def logits(path, ids):
    with llama.Model(path) as model:
        return model.logits(ids)


def measured(weft, path, ids, wide):
    """What Weft and llama.cpp make of a file, and how far each is from F32."""
    weft("quantize", path, wide, "F32", "--requantize")
    truth, theirs, ours = logits(wide, ids), logits(path, ids), weft.logits(path, ids)
    wide.unlink()
    tops = [float((x.argmax(1) == truth.argmax(1)).mean()) for x in (ours, theirs)]
    return [perplexity(x, ids) for x in (ours, theirs, truth)], tops, [divergence(x, truth) for x in (ours, theirs)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("weft")
    arguments.add_argument("-o", type=Path)
    arguments.add_argument("types", nargs="*", default=TYPES)
    args = arguments.parse_intermixed_args()
    start, built, source, wrong = time.time(), commit(), assemble(FILE, folder()), []
    rows = "| type | MiB | perplexity: Weft | llama.cpp | on F32 | KL divergence from F32, nats: Weft | llama.cpp | same top token: Weft | llama.cpp |\n"
    rows += "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    with tempfile.TemporaryDirectory() as scratch:
        weft, scratch = Weft(args.weft, scratch), Path(scratch)
        whole, second = (HERE / "text.txt").read_text(), scratch / "second.txt"
        second.write_text(whole[len(whole) // 2 :])
        with llama.Model(source) as model:
            ids = model.tokenize(whole[: len(whole) // 2])[:POSITIONS]
        assert len(ids) == POSITIONS
        weft("imatrix", "-m", source, "-f", second, "-o", scratch / "imatrix.gguf", "-c", 256)
        for name in args.types:
            path = source
            if name != "Q4_1":
                path = scratch / f"{name}.gguf"
                weft("quantize", source, path, name, "--requantize", "--imatrix", scratch / "imatrix.gguf")
            perplexities, tops, kl = measured(weft, path, ids, scratch / "wide.gguf")
            figures = [f"{p:.3f}" for p in perplexities] + [f"{k:.1e}" for k in kl] + [f"{t:.1%}" for t in tops]
            rows += f"| {name} | {path.stat().st_size / 2**20:.1f} | {' | '.join(figures)} |\n"
            print(rows.splitlines()[-1], flush=True)
            if not kl[0] <= KL_PREFILL or abs(perplexities[0] / perplexities[2] - 1) > 1e-3:
                wrong.append(name)
            if path != source:
                path.unlink()
        head = "# SmolLM2-135M in types with code books\n\nWhat `tests/real/codebooks.py -o` wrote. "
        head += where(weft, built, llama.VERSION, time.time() - start) + "\n\n"
        head += f"Each file is written by `weft quantize` from Q4_1 with an importance matrix and loaded by both programs; {POSITIONS} positions "
        head += "of text.txt. F32 is llama.cpp on the same weights in F32, which it multiplies without rounding. Most matrices have rows of 576 values, which no block of 256 fits, and are in other types.\n\n"
    if args.o:
        args.o.write_text(head + rows)
    print(f"further from F32 than {KL_PREFILL}: {wrong}" if wrong else "all as near to F32 as asked")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
