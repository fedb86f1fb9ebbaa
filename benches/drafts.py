#!/usr/bin/env python3
"""Answers with guesses and without, of the same prompts at temperature 0: are they equal, and which takes less time?

    benches/drafts.py WEFT [--code] [--prompts 200] [--tokens 96] [-- SERVE_FLAG ...]

`weft serve` runs with one slot, once plainly and once with `--draft ngram`; what stands behind `--` goes to both.
Half of the prompts are questions of `weft curriculum`, half ask for a text that repeats one in the prompt. With
`--code` they are edits of functions of this repository's scripts, and lists whose records become JSON, for a real model
(`-- -m FILE`). A step is one that gives tokens: an answer has as many as it has tokens that no right guess gave.
Needs nothing but Python. Ends with code 1 where answers differ, or where guesses cost a kind of prompt over 3 %.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

PORT = 8093
ROOT = pathlib.Path(__file__).resolve().parent.parent

EDIT = "Change this code so that {}. Answer with the whole code and nothing else.\n\n```python\n{}```"
EDITS = ["every function has a docstring of one line", "every `assert` becomes an `if` that raises ValueError",
         "every parameter has a type hint", "the first local variable is called `result`"]
LIST = "Write these lines as a JSON array of objects with the keys {}. Answer with the JSON alone.\n\n{}"
FIRST = ["Anna", "Tomás", "Mei", "Olu", "Ingrid", "Rahul", "Sofia", "Peter", "Amina", "Jonas", "Lucía"]
LAST = ["Berg", "Ruiz", "Chen", "Adeyemi", "Larsen", "Mehta", "Rossi", "Novak", "Diallo", "Weber", "Ortega", "Kim", "Silva"]
JOBS = ["engineer", "designer", "analyst", "nurse", "teacher", "electrician", "translator"]
CITIES = ["Oslo", "Madrid", "Singapore", "Lagos", "Bergen", "Pune", "Milan", "Brno", "Dakar"]
PARTS = ["bearing", "gear", "valve", "filter", "pump", "belt", "nozzle"]


def repeats(weft, count):
    made = subprocess.run([weft, "curriculum", "--count", str(count), "--seed", "7", "--split", "test"],
                          capture_output=True, text=True, check=True).stdout
    questions = [json.loads(line)["messages"][0]["content"] for line in made.splitlines()]
    half = count // 2
    names = ["total", "price", "count", "width", "speed", "level"]
    text = "def {0}(items):\n    {0} = 0\n    for item in items:\n        {0} += item.{0}\n    return {0}\n"
    copies = [f"Write this again, word by word:\n{text.format(names[i % 6] + str(i))}" for i in range(count - half)]
    return {"questions": questions[:half], "repeated text": copies}


def person(i):
    first, last = FIRST[i % len(FIRST)], LAST[i % len(LAST)]
    born = f"{1960 + i % 41}-{1 + i % 12:02}-{1 + i % 28:02}"
    return f"{first} {last}, {JOBS[i % len(JOBS)]}, {CITIES[i % len(CITIES)]}, born {born}, {first.lower()}.{last.lower()}@example.com"


def order(i):
    return f"order {10_000 + 37 * i}: {2 + i % 9} x {PARTS[i % len(PARTS)]} at {3 + i % 40}.{i % 10}0 EUR for {LAST[i % len(LAST)]}"


def code(count):
    """Edits of functions, and lists of eight records each."""
    scripts = sorted([*ROOT.glob("benches/*.py"), *ROOT.glob("tests/real/*.py")])
    functions = [f"def {part.split(chr(10) * 3)[0].rstrip()}\n" for path in scripts
                 for part in path.read_text().split("\ndef ")[1:]]
    functions = [f for f in functions if 300 < len(f) < 1200]
    half = count // 2
    edits = [EDIT.format(EDITS[i % len(EDITS)], functions[i % len(functions)]) for i in range(half)]
    kinds = [("name, job, city, born and email", person), ("order, pieces, part, price and customer", order)]
    lists = []
    for i in range(count - half):
        keys, record = kinds[i % 2]
        lists.append(LIST.format(keys, "\n".join(record(8 * i + n) for n in range(8))))
    return {"code edits": edits, "JSON lists": lists}


def model():
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=60) as answer:
        return json.load(answer)["data"][0]["id"]


def ask(text, tokens):
    message = {"role": "user", "content": text}
    body = {"model": model(), "messages": [message], "temperature": 0, "max_tokens": tokens}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/chat/completions", json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def wait(server, said):
    """Until the server answers: a model of several GB takes a while to come."""
    for _ in range(3000):
        if server.poll() is not None:
            said.seek(0)
            sys.exit(f"weft serve ended with code {server.returncode}: {said.read()}")
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).read()
        except OSError:
            time.sleep(0.1)
    sys.exit("weft serve does not answer")


def run(weft, flags, kinds, tokens):
    """For each kind: (text, seconds, tokens, steps) of every answer."""
    said = tempfile.TemporaryFile("w+")
    command = [weft, "serve", "--port", str(PORT), "--slots", "1", *flags]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
    try:
        wait(server, said)
        # Kernels are compiled and steps are timed by these.
        for texts in kinds.values():
            for text in texts[:4]:
                ask(text, tokens)
        answers = {}
        for kind, texts in kinds.items():
            answers[kind] = []
            for text in texts:
                began = time.monotonic()
                answer = ask(text, tokens)
                took = time.monotonic() - began
                message, usage = answer["choices"][0]["message"], answer["usage"]
                made = usage["completion_tokens"]
                said = message.get("reasoning_content"), message.get("content")
                answers[kind].append((said, took, made, made - usage["x_weft"].get("draft_n_accepted", 0)))
        return answers
    finally:
        server.terminate()
        server.wait()


def main():
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("--code", action="store_true", help="edits and lists in place of questions and copies")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--show", action="store_true", help="print the first answer of each kind")
    a = parser.parse_args(own.split())
    kinds, flags = code(a.prompts) if a.code else repeats(a.weft, a.prompts), flags.split()
    plain = run(a.weft, flags, kinds, a.tokens)
    drafted = run(a.weft, ["--draft", "ngram", *flags], kinds, a.tokens)
    wrong = False
    print("| prompts | equal answers | tokens | steps | tokens a step | plainly, s | with guesses, s | ms a token |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        before, after = plain[kind], drafted[kind]
        equal = sum(p[0] == d[0] for p, d in zip(before, after))
        made, steps = (sum(d[i] for d in after) for i in (2, 3))
        took = [sum(x[1] for x in answers) for answers in (before, after)]
        # Answers that differ may be of another length.
        each = [1e3 * t / sum(x[2] for x in answers) for t, answers in zip(took, (before, after))]
        wrong |= equal < len(after) or each[1] > 1.03 * each[0]
        print(f"| {kind} | {equal} of {len(after)} | {made} | {steps} | {made / steps:.2f} | {took[0]:.2f} | {took[1]:.2f} "
              f"| {each[0]:.2f}, {each[1]:.2f} |")
        if a.show:
            print(after[0][0][1], file=sys.stderr)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
