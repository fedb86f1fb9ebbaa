#!/usr/bin/env python3
"""Answers with guesses and without, of the same prompts at temperature 0: are they equal, and which takes less time?

    benches/drafts.py WEFT [--prompts 200] [--tokens 96] [-- SERVE_FLAG ...]

`weft serve` runs with one slot, once plainly and once with `--draft ngram`; what stands behind `--` goes to both.
Half of the prompts are questions of `weft curriculum`, half ask for a text that repeats one in the prompt.
"""
import argparse
import json
import subprocess
import sys
import time
import urllib.request

PORT = 8093


def prompts(weft, count):
    made = subprocess.run([weft, "curriculum", "--count", str(count), "--seed", "7", "--split", "test"],
                          capture_output=True, text=True, check=True).stdout
    questions = [json.loads(line)["messages"][0]["content"] for line in made.splitlines()]
    half = count // 2
    names = ["total", "price", "count", "width", "speed", "level"]
    code = "def {0}(items):\n    {0} = 0\n    for item in items:\n        {0} += item.{0}\n    return {0}\n"
    copies = [f"Write this again, word by word:\n{code.format(names[i % 6] + str(i))}" for i in range(count - half)]
    return questions[:half] + copies


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


def run(weft, flags, texts, tokens):
    server = subprocess.Popen([weft, "serve", "--port", str(PORT), "--slots", "1", *flags],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        # Kernels are compiled and steps are timed by these.
        for text in texts[:4] + texts[-4:]:
            ask(text, tokens)
        answers, took, made = [], [], 0
        for text in texts:
            began = time.monotonic()
            answer = ask(text, tokens)
            took.append(time.monotonic() - began)
            message = answer["choices"][0]["message"]
            answers.append((message.get("reasoning_content"), message.get("content")))
            made += answer["usage"]["completion_tokens"]
        return answers, took, made, answer["usage"]
    finally:
        server.terminate()
        server.wait()


def main():
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=96)
    a = parser.parse_args(own.split())
    texts, flags = prompts(a.weft, a.prompts), flags.split()
    plain, before, made, _ = run(a.weft, flags, texts, a.tokens)
    drafted, after, _, usage = run(a.weft, ["--draft", "ngram", *flags], texts, a.tokens)
    equal = sum(p == d for p, d in zip(plain, drafted))
    half = a.prompts // 2
    print(f"{equal} of {a.prompts} answers are equal; {made} tokens")
    for name, part in [("questions", slice(0, half)), ("repeated text", slice(half, None))]:
        print(f"{name}: {sum(before[part]):.2f} s plainly, {sum(after[part]):.2f} s with guesses")
    print(f"the last usage: {json.dumps(usage)}")
    return 0 if equal == a.prompts else 1


if __name__ == "__main__":
    sys.exit(main())
