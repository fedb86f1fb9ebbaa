#!/usr/bin/env python3
"""How much of the engine's speed `weft eval` keeps: log-likelihoods beside prefill, answers beside the engine's own.

    benches/evaluation.py WEFT [--synthetic qwen3-4b:q4_k_m | --model FILE] [--questions 1000] [--tokens 300]
                          [--answer 128] [--slots 32] [--words FILE] [--only letter,option,answers] [-- FLAG ...]

Questions of about so many tokens, with four options each, are put in three ways: the likeliest letter (one place a
question), the likeliest option (an ending an option), and answers that are written out. Beside them, in the same call
on the same device: `weft bench` of prompts of that length and of 512 tokens, and the engine's own rate with as many
requests of the same length and the same slots, all there at once. Tokens that count are those that have to be computed:
a question's once, and its endings. Times are without loading and with the kernels of a first run. What stands behind
`--` goes to every command. Needs nothing but Python; a made-up model has the tokens of --words, or weft-mini's.
"""
import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = ("the of a with and in by was after which no more than patient cell blood protein enzyme acid rate pressure "
         "level disease treatment kidney liver heart muscle nerve signal receptor membrane oxygen glucose increases "
         "falls remains shows causes prevents binds carries").split()
COLUMNS = "id=id,question=question,options=a+b+c+d,answer=answer:letter"


class Weft:
    def __init__(self, program, flags):
        self.program, self.flags = program, flags

    def __call__(self, *args, stdin=None, flags=True):
        command = [self.program, *map(str, args), *(self.flags if flags else [])]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout

    def count(self, words, texts):
        lines = self("tokenize", *words, "--json", "--batch", "-", stdin=json.dumps(texts), flags=False).splitlines()
        return [len(json.loads(line)) for line in lines]


def question(rng, i, words):
    text = " ".join(rng.choice(WORDS) for _ in range(words))
    options = {key: " ".join(rng.choice(WORDS) for _ in range(6)) for key in "abcd"}
    return {"id": str(i), "question": f"Case {i}: {text}. What follows?", **options, "answer": "ABCD"[i % 4]}


def plain(q):
    """As the template `plain` puts it."""
    listed = "\n".join(f"{key.upper()}. {q[key]}" for key in "abcd")
    return f"{q['question']}\n{listed}\nAnswer:"


def questions(weft, words, count, tokens):
    """Questions of so many tokens on average, whatever the vocabulary."""
    each = 100
    for _ in range(4):
        rng = random.Random(7)
        sample = weft.count(words, [plain(question(rng, i, each)) for i in range(50)])
        each = max(5, round(each + (tokens - sum(sample) / len(sample)) * each / (sum(sample) / len(sample))))
    rng = random.Random(7)
    return [question(rng, i, each) for i in range(count)]


def main():
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("--synthetic", default="qwen3-4b:q4_k_m")
    parser.add_argument("--model", help="a GGUF file in place of made-up weights")
    parser.add_argument("--words", help="a GGUF file whose tokens a made-up model has")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--only", default="letter,option,answers", help="which of the three ways")
    a = parser.parse_args(own.split())
    only = a.only.split(",")
    weft = Weft(a.weft, flags.split())
    words = ["-m", a.model or a.words] if a.model or a.words else []
    who = ["-m", a.model] if a.model else ["--synthetic", a.synthetic]
    asked = who if a.model else [*who, *words]
    made = questions(weft, words, a.questions, a.tokens)
    lengths = weft.count(words, [plain(q) for q in made])
    mean = round(sum(lengths) / len(lengths))
    print(f"{a.model or a.synthetic}: {a.questions} questions of {mean} tokens ({min(lengths)} to {max(lengths)}), {a.slots} slots")

    def bench(*args):
        return json.loads(weft("bench", *who, *args, "-o", "json"))

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "questions.jsonl"

        def score(*how, count=a.questions):
            data.write_text("".join(json.dumps(q) + "\n" for q in made[:count]))
            result = Path(folder) / f"run-{len(list(Path(folder).iterdir()))}"
            told = weft("eval", *asked, "--suite", "file", "--data", data, "--columns", COLUMNS, "--slots", a.slots,
                        "--output", result, "--json", *how)
            lines = [json.loads(line) for line in (result / "answers.jsonl").read_text().splitlines()]
            assert len(lines) == count, (len(lines), count)
            return json.loads(told)["answering_seconds"], lines

        prefill = {n: bench("-p", n, "-n", 0, "-r", 3)[0]["avg_ts"] for n in (mean, 512)}
        for n, rate in prefill.items():
            print(f"bench, a prompt of {n}: {rate:.0f} tokens/s", flush=True)
        for mode in [m for m in ("letter", "option") if m in only]:
            # Kernels compile in a first run.
            score("--mode", mode, count=min(a.questions, 2 * a.slots))
            seconds, lines = score("--mode", mode)
            tokens = sum(line["tokens"] for line in lines)
            parts = ", ".join(f"{tokens / seconds / rate:.1%} of pp{n}" for n, rate in prefill.items())
            print(f"eval, likeliest {mode}: {tokens} tokens in {seconds:.2f} s, {tokens / seconds:.0f} tokens/s: {parts}", flush=True)

        if "answers" not in only:
            return
        how = ("--mode", "generate", "--temp", 0, "--runs", 1, "-n", a.answer)
        score(*how, count=min(a.questions, 2 * a.slots))
        seconds, lines = score(*how)
        tokens, prompt = (sum(line[key] for line in lines) for key in ("tokens", "prompt_tokens"))
        engine = bench("--arrivals", "inf", "--requests", a.questions, "-b", a.slots, "-p", round(prompt / len(lines)), "-n", a.answer)
        alone = bench("-p", 0, "-n", a.answer, "-b", a.slots, "-d", mean, "-r", 3)[0]["avg_ts"]
        rate = tokens / seconds
        print(f"bench, the engine with prompts of {engine['prompt_tokens']} and answers of {a.answer}: {engine['tokens_per_s']:.0f} tokens/s")
        print(f"bench, {a.slots} slots that decode alone behind {mean}: {alone:.0f} tokens/s")
        print(f"eval, answers: {tokens} tokens in {seconds:.2f} s, {rate:.0f} tokens/s: "
              f"{rate / engine['tokens_per_s']:.1%} of the engine's")


if __name__ == "__main__":
    main()
