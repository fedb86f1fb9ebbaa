"""Trains weft-mini, the on-board model, on the synthetic curriculum. One GPU, minutes.

    python3 train_mini.py --gen GENERATOR --out DIR [--seconds 200] [--init DIR] [--smoke]

GENERATOR is called as `GENERATOR SEED COUNT train|test chat|mcq|document` and prints JSON lines (the
program `weft curriculum` with a shell wrapper, or any program with these arguments). DIR gets
weft-mini.safetensors (F16, GGUF names), tokenizer.json and train_mini.log. `export_mini.py` makes the GGUF.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np

T0 = time.time()
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"] + [f"<|reserved_{i}|>" for i in range(11)]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
VOCAB, ROW = 2048, 1024
LOG = []


def say(text):
    line = f"[{time.time() - T0:6.1f} s] {text}"
    LOG.append(line)
    print(line, flush=True)


def records(gen, seed, count, split, form):
    run = subprocess.run([gen, str(seed), str(count), split, form], stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def train_tokenizer(gen, count):
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    import mini_talk
    texts = []
    for seed, form in [(901, "chat"), (902, "mcq"), (903, "document")]:
        for r in records(gen, seed, count, "train", form):
            texts += [m["content"] for m in r["messages"]] if "messages" in r else [r["text"]]
    # Strands are spelled letter by letter, so no merge may learn them.
    texts = [re.sub(r"\b[ACGTU]{2,}\b", "", t) for t in texts]
    rng = random.Random(5)
    for _ in range(count // 2):
        texts += list(mini_talk.draw(rng))
    texts += mini_talk.SYSTEM * 200 + ["system\nuser\nassistant\ntool\n"] * 200
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, min_frequency=2))
    return tok


# A conversation is a list of (text, trained) segments, cut only where the tokenizer cuts too.

def turn(role, text):
    return (f"<|im_start|>{role}\n{text}<|im_end|>\n", False)


def split_thinking(target):
    work, answer = target.split("</think>\n\n")
    return work.removeprefix("<think>\n").rstrip("\n"), answer


def answer_segments(rng, target, talk):
    """The assistant's turn: reasoning first, or visible steps after the empty block of enable_thinking=false."""
    if talk:
        if rng.random() < 0.5:
            return [("<|im_start|>assistant\n", False), (f"<think>\n\n</think>\n\n{target}<|im_end|>", True), ("\n", False)]
        return [("<|im_start|>assistant\n<think>\n\n</think>\n\n", False), (f"{target}<|im_end|>", True), ("\n", False)]
    if rng.random() < 0.82:
        return [("<|im_start|>assistant\n", False), (f"{target}<|im_end|>", True), ("\n", False)]
    work, answer = split_thinking(target)
    return [("<|im_start|>assistant\n<think>\n\n</think>\n\n", False), (f"{work}\n\n{answer}<|im_end|>", True), ("\n", False)]


def conversation(rng, pairs):
    """pairs: (question, target, is small talk); earlier answers lose their reasoning, as the template does."""
    out = [turn("system", rng.choice(SYSTEM))] if rng.random() < 0.12 else []
    for question, target, talk in pairs[:-1]:
        shown = target if talk else split_thinking(target)[rng.random() < 0.7]
        out += [turn("user", question), turn("assistant", shown)]
    question, target, talk = pairs[-1]
    return out + [turn("user", question)] + answer_segments(rng, target, talk)


def worker(job):
    """Generates, renders, tokenises and packs one shard: tokens, document numbers and loss mask, [rows, ROW]."""
    gen, tokenizer, index, count = job
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer
    import mini_talk
    global SYSTEM
    SYSTEM = mini_talk.SYSTEM
    tok = Tokenizer.from_file(tokenizer)
    rng = random.Random(1000 + index)
    chat = records(gen, 10_000 + index, count * 64 // 100, "train", "chat")
    mcq = records(gen, 20_000 + index, count * 28 // 100, "train", "mcq")
    documents = records(gen, 30_000 + index, count * 5 // 100, "train", "document")
    pool = [(r["messages"][0]["content"], r["messages"][1]["content"], False) for r in chat + mcq]
    pool += [(*mini_talk.draw(rng), True) for _ in range(count * 3 // 100)]
    rng.shuffle(pool)
    samples, i = [], 0
    while i < len(pool):
        n = 1 if rng.random() < 0.9 else rng.randint(2, 4)
        samples.append(conversation(rng, pool[i:i + n]))
        i += n
    samples += [[("<|endoftext|>", False), (r["text"] + "<|endoftext|>", True)] for r in documents]
    rng.shuffle(samples)
    flat = [text for sample in samples for text, _ in sample]
    ids = []
    for at in range(0, len(flat), 20_000):
        ids += [e.ids for e in tok.encode_batch_fast(flat[at:at + 20_000], add_special_tokens=False)]
    rows, open_rows, at, dropped = [], [], 0, 0
    for sample in samples:
        tokens, mask = [], []
        for _, trained in sample:
            part = ids[at]
            at += 1
            tokens += part
            mask += [trained] * len(part)
        if len(tokens) > ROW:
            dropped += 1
            continue
        # The fullest open row that still has room.
        best = max((r for r in open_rows if len(r[0]) + len(tokens) <= ROW), key=lambda r: len(r[0]), default=None)
        if best is None:
            if len(open_rows) == 12:
                open_rows.sort(key=lambda r: len(r[0]))
                rows.append(open_rows.pop())
            best = ([], [], [])
            open_rows.append(best)
        number = best[1][-1] + 1 if best[1] else 1
        best[0].extend(tokens)
        best[1].extend([number] * len(tokens))
        best[2].extend(mask)
    rows += open_rows
    out = np.zeros((3, len(rows), ROW), dtype=np.uint16)
    for i, row in enumerate(rows):
        for j in range(3):
            out[j, i, :len(row[0])] = row[j]
    return out, dropped, len(samples)


def correct(record, text):
    """Stricter than the harness's scorer: the very words."""
    if "correct" in record:
        return text.rstrip().endswith(f"Answer: {record['correct']}")
    return text.rstrip().endswith(f"The answer is {record['answer']}.")


def evaluate(tok, params, gen, count, device, forms=("chat", "mcq"), limit=720, batch=1024, think=True, show=6):
    import mini_model
    stop = tok.token_to_id("<|im_end|>")
    tail = "<|im_start|>assistant\n" + ("" if think else "<think>\n\n</think>\n\n")
    totals = {}
    for form in forms:
        tests = records(gen, 77, count, "test", form)
        right, seen, wrong = Counter(), Counter(), []
        for at in range(0, len(tests), batch):
            part = tests[at:at + batch]
            prompts = [tok.encode(f"<|im_start|>user\n{r['messages'][0]['content']}<|im_end|>\n{tail}").ids for r in part]
            for r, ids in zip(part, mini_model.generate(params, prompts, limit, stop, device)):
                text = tok.decode(ids, skip_special_tokens=False)
                ok = correct(r, text)
                for key in (r["domain"], f"{r['domain']}/{r['family']}", "all"):
                    right[key] += ok
                    seen[key] += 1
                if not ok:
                    wrong.append((r, text))
        name = form if think else f"{form}, no thinking"
        for key in sorted(seen):
            say(f"  {name:18} {key:34} {100 * right[key] / seen[key]:6.2f} %  ({right[key]}/{seen[key]})")
        for r, text in wrong[:show]:
            say(f"  WRONG {r['family']}: {r['messages'][0]['content']!r}\n    model  {text!r}\n    target {r['messages'][1]['content']!r}")
        totals[name] = right["all"] / seen["all"]
    return totals


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gen", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=200, help="training time, without compilation")
    parser.add_argument("--samples", type=int, default=1_600_000)
    parser.add_argument("--rows", type=int, default=64, help="rows of 1,024 tokens a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--init", help="a folder with weft-mini.safetensors and tokenizer.json to go on from")
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--smoke", action="store_true", help="a few steps on the CPU")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    try:
        train(args)
    finally:
        with open(f"{args.out}/train_mini.log", "w") as f:
            f.write("\n".join(LOG) + "\n")


def train(args):
    from tokenizers import Tokenizer
    tokenizer_file = f"{args.out}/tokenizer.json"
    if args.init:
        tok = Tokenizer.from_file(f"{args.init}/tokenizer.json")
    else:
        tok = train_tokenizer(args.gen, 300 if args.smoke else 12_000)
    tok.save(tokenizer_file)
    say(f"tokenizer: {tok.get_vocab_size()} tokens")
    cores = 2 if args.smoke else len(os.sched_getaffinity(0))
    jobs = [(args.gen, tokenizer_file, i + (100 if args.init else 0), args.samples // cores) for i in range(cores)]
    with mp.get_context("fork").Pool(cores) as pool:
        shards = pool.map(worker, jobs)
    data = np.concatenate([s[0] for s in shards], axis=1)
    used = (data[1] > 0).sum()
    say(f"data: {sum(s[2] for s in shards):,} conversations and documents, {data.shape[1]:,} rows, {used:,} tokens "
        f"({100 * used / data[1].size:.1f} % full), {(data[2] > 0).sum():,} trained, {sum(s[1] for s in shards)} too long")
    assert data[0].max() < VOCAB

    import torch
    import torch.nn.functional as F
    import mini_model as m
    device = "cpu" if args.smoke else "cuda"
    if args.smoke:
        m.DTYPE = torch.float32
    torch.manual_seed(0)
    params = m.init(device)
    if args.init:
        from safetensors.torch import load_file
        for name, w in load_file(f"{args.init}/weft-mini.safetensors").items():
            params[name].data.copy_(w.to(device).float())
    say(f"model: {sum(p.numel() for p in params.values()):,} parameters")
    tokens = torch.from_numpy(data[0].astype(np.int16)).to(device)
    docs = torch.from_numpy(data[1].astype(np.uint8)).to(device)
    mask = torch.from_numpy(data[2].astype(np.bool_)).to(device)
    del data, shards
    count, rows = tokens.shape[0], args.rows
    cos, sin = m.rope_tables(torch.arange(ROW, device=device))

    # Attention within each packed document: FlexAttention skips the blocks between them; a dense mask stands
    # in where it does not work.
    document = torch.zeros(rows, ROW, dtype=torch.int32, device=device)
    flex = not args.smoke
    if flex:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def same_document(b, h, q, k):
            return (q >= k) & (document[b, q] == document[b, k])

        def make_mask():
            return create_block_mask(same_document, rows, None, ROW, ROW, device=device)

        try:
            compiled_mask = torch.compile(make_mask)
            compiled_mask()
            make_mask = compiled_mask
        except Exception as error:
            say(f"the block mask is made without compilation: {str(error)[:200]}")

        def attend(q, k, v, mask):
            return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
    causal = torch.ones(ROW, ROW, dtype=torch.bool, device=device).tril()

    def dense_mask():
        return (causal & (document[:, None] == document[:, :, None]))[:, None]

    def dense_attend(q, k, v, mask):
        g = m.HEADS // m.KV_HEADS
        return F.scaled_dot_product_attention(q, k.repeat_interleave(g, 1), v.repeat_interleave(g, 1), attn_mask=mask)

    def build(attend):
        def block(x, p, cos, sin, mask):
            q, k, v = m.qkv(x, p, cos, sin)
            return m.rest(x, attend(q, k, v, mask), p)

        def loss_of(x, norm, table, labels):
            logits = m.linear(m.rms(x, norm), table).float()
            return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        if args.smoke:
            return block, loss_of
        return torch.compile(block, dynamic=False), torch.compile(loss_of, dynamic=False)

    def step_loss(block, loss_of, make_mask, pick):
        t, d, w = tokens[pick].long(), docs[pick], mask[pick]
        document.copy_(d)
        blocks = make_mask()
        x = F.embedding(t, params["token_embd.weight"])
        for i in range(m.LAYERS):
            x = block(x, m.layer_params(params, i), cos, sin, blocks)
        labels = torch.full_like(t, -100)
        # The next token, where it is trained and of the same document.
        labels[:, :-1] = torch.where(w[:, 1:] & (d[:, 1:] == d[:, :-1]), t[:, 1:], -100)
        return loss_of(x, params["output_norm.weight"], params["token_embd.weight"], labels)

    first = torch.arange(rows, device=device) % count
    make = dense_mask
    if flex:
        try:
            block, loss_of = build(attend)
            make = make_mask
            for _ in range(3):
                step_loss(block, loss_of, make, first).backward()
            torch.cuda.synchronize()
            say("FlexAttention compiled")
        except Exception as error:  # any failure of the compiler: go on with the dense mask
            say(f"FlexAttention failed, dense mask instead: {str(error)[:300]}")
            flex = False
    if not flex:
        block, loss_of = build(dense_attend)
        make = dense_mask
        step_loss(block, loss_of, make, first).backward()

    decay = [p for p in params.values() if p.ndim == 2]
    plain = [p for p in params.values() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.95), fused=not args.smoke)
    for p in params.values():
        p.grad = None
    begin, step, shown, order, total = time.time(), 0, time.time(), None, 0
    limit = 6 if args.smoke else 10**9
    lr, losses = 0.0, []
    while True:
        done = min((time.time() - begin) / args.seconds, 1.0)
        if done >= 1.0 or step >= limit:
            break
        if order is None or len(order) < rows:
            order = torch.randperm(count, device=device)
        pick, order = order[:rows], order[rows:]
        if len(pick) < rows:
            pick = first
        lr = args.lr * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = step_loss(block, loss_of, make, pick)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(params.values()), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        step += 1
        if step % 10 == 0 and time.time() - shown > 10 or step == limit:
            value = torch.stack(losses).mean().item()
            now = time.time()
            say(f"step {step:6} loss {value:.4f} lr {lr:.2e} {rows * ROW * len(losses) / (now - shown) / 1e6:.2f} M tokens/s "
                f"epoch {step * rows / count:.2f}")
            losses, shown = [], now
    if device == "cuda":
        torch.cuda.synchronize()
    say(f"trained {step} steps of {rows * ROW:,} tokens in {time.time() - begin:.1f} s")

    from safetensors.torch import save_file
    half = {name: p.detach().half().cpu() for name, p in params.items()}
    save_file(half, f"{args.out}/weft-mini.safetensors")
    say("saved")
    with torch.no_grad():
        # What ships is F16: that is what is scored.
        params = {name: w.to(device).float() for name, w in half.items()}
        if device == "cuda":
            m.DTYPE = torch.float16
        try:
            evaluate(tok, params, args.gen, 8 if args.smoke else args.tests, device, limit=24 if args.smoke else 720)
            evaluate(tok, params, args.gen, 8 if args.smoke else args.tests // 2, device, ("chat",), think=False,
                     limit=24 if args.smoke else 720, show=0)
            for question in ["What is 17 + 25?", "Who are you?", "What is the capital of Peru?",
                             "A car travels 180 km in 3 hours. What is its average speed?"]:
                ids = tok.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n").ids
                out = m.generate(params, [ids], 24 if args.smoke else 300, tok.token_to_id("<|im_end|>"), device)[0]
                say(f"{question} -> {tok.decode(out, skip_special_tokens=False)!r}")
        except Exception as error:
            say(f"evaluation failed: {error!r}")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
