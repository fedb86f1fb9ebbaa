"""Reference gradients and loss curves of LoRA fine-tuning, written to tests/golden/training/.

For every case this writes
  <case>.json         the model's specification (as golden_models.py has it), the adapter's shape, the
                      batches, the settings of AdamW, and of each of ten steps the loss, the gradient's
                      norm and the correct tokens;
  <case>.safetensors  the gradient of every adapter tensor at step 1, and every third value of the
                      adapter after the last step, in GGUF's order of rows.

The model and the adapter are random and follow from names by integer arithmetic (golden_models.py,
tests/support/golden_model.rs). The reference is transformers with peft in float64; each sequence of a
packed batch runs alone, so that packing is checked too. A run in float32 measures the noise.

To run it (a minute on two cores; torch needs no GPU):
  pip install numpy gguf safetensors torch transformers peft
  python tests/reference/golden_training.py            # writes every case
  python tests/reference/golden_training.py --dry      # without torch: specifications and sizes only
"""

import json
import math
import sys

import numpy as np

import golden_models as gm

FOLDER = gm.GOLDEN / "training"
STEPS, BATCHES = 10, 4
ALL = ["q", "k", "v", "o", "gate", "up", "down"]
GGUF = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
PEFT = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
ADAMW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.05, "clip": 1.0}

gm.LAYERS = 2
gm.CASES.update({
    "training/qwen3-f32": ("qwen3", 4, 2, 64, 256, 512, 613, True, gm.one("F32"), {}),
    "training/qwen3-q4_k_m": ("qwen3", 4, 2, 128, 256, 768, 555, True, gm.Q4_K_M, {}),
    "training/qwen2-q8_0": ("qwen2", 4, 1, 64, 256, 512, 640, False, gm.one("Q8_0"), {}),
    "training/llama3-f32": ("llama", 4, 2, 64, 256, 512, 644, False, gm.one("F32"), {"llama3": 8.0}),
    "training/llama-mixed": (
        "llama", 8, 4, 64, 256, 512, 530, False, {"mix": 5, "embd": "Q4_1", "head": "Q5_K"}, {},
    ),
    # Layers 0 and 2 see a window shorter than most sequences, layer 1 everything.
    "training/gemma3-f32": (
        "gemma3", 3, 1, 64, 288, 512, 601, True, gm.one("F32"),
        {"layers": 3, "window": 9, "pattern": 2, "linear": 8.0, "embd": 1.0},
    ),
    "training/gemma3-q8_0": (
        "gemma3", 2, 1, 256, 256, 512, 520, True, gm.one("Q8_0"),
        {"layers": 2, "window": 16, "pattern": 2, "embd": 1.0},
    ),
    "training/smollm3-f32": ("smollm3", 4, 2, 64, 256, 512, 577, True, gm.one("F32"), {"layers": 4}),
    "training/qwen3moe-f32": (
        "qwen3moe", 4, 2, 64, 256, 96, 597, True, gm.one("F32"), {"layers": 3, "experts": 6, "used": 2},
    ),
    "training/qwen3moe-q4_k_m": (
        "qwen3moe", 4, 2, 64, 256, 256, 540, False, gm.Q4_K_M, {"layers": 2, "experts": 8, "used": 3},
    ),
})  # fmt: skip

# rank, alpha, rslora, (layer, target) of each pair, lengths of the sequences of each batch
CASES = {
    "training/qwen3-f32": (4, 8.0, False, [(l, t) for l in (0, 1) for t in ALL], [17, 5, 30, 1, 11]),
    "training/qwen3-q4_k_m": (4, 16.0, False, [(l, t) for l in (0, 1) for t in ALL], [40, 56]),
    "training/qwen2-q8_0": (8, 8.0, True, [(l, t) for l in (0, 1) for t in ("q", "v")], [23, 9, 2]),
    # Nothing below the second layer's gate is trained.
    "training/llama3-f32": (3, 6.0, False, [(1, "gate"), (1, "down")], [33, 31]),
    "training/llama-mixed": (4, 8.0, False, [(l, t) for l in (0, 1) for t in ALL], [64]),
    "training/gemma3-f32": (4, 8.0, False, [(l, t) for l in (0, 1) for t in ALL], [17, 5, 30, 1, 11]),
    "training/gemma3-q8_0": (4, 16.0, False, [(l, t) for l in (0, 1) for t in ALL], [40, 24]),
    # The last layer has no rope.
    "training/smollm3-f32": (4, 8.0, False, [(l, t) for l in (2, 3) for t in ("q", "k", "v", "o")], [23, 41]),
    # Attention alone: gradients of the first layers pass through experts and routers.
    "training/qwen3moe-f32": (
        4, 8.0, False, [(l, t) for l in (0, 1, 2) for t in ("q", "k", "v", "o")], [17, 5, 30, 1, 11],
    ),
    "training/qwen3moe-q4_k_m": (4, 16.0, False, [(l, t) for l in (0, 1) for t in ("q", "v")], [40, 24]),
}


def shape(case, target):
    """Inputs and outputs of a matrix."""
    _, heads, kv, head, width, ff, *_ = gm.CASES[case]
    q, k = heads * head, kv * head
    return {
        "q": (width, q), "k": (width, k), "v": (width, k), "o": (q, width),
        "gate": (width, ff), "up": (width, ff), "down": (ff, width),
    }[target]  # fmt: skip


def adapter(case):
    """name -> f32: `blk.0.attn_q.a` [rank, in] and `.b` [out, rank], rows as GGUF has them."""
    rank, _, _, sites, _ = CASES[case]
    out = {}
    for layer, target in sites:
        inputs, outputs = shape(case, target)
        name = f"blk.{layer}.{GGUF[target]}"
        for part, dims, std in (("a", (rank, inputs), inputs**-0.5), ("b", (outputs, rank), 0.1)):
            scale = float(f"{std / gm.NORMAL_STD:.4g}")
            seed = gm.fnv1a(f"{case}/{name}.{part}".encode())
            out[f"{name}.{part}"] = (gm.normal_like(seed, math.prod(dims), 0.0, scale).reshape(dims), scale)
    return out


def batches(case):
    """Ids, labels (-1: not learnt) and lengths: the first third of each sequence is a prompt."""
    lengths, vocab = CASES[case][4], gm.CASES[case][6]
    out = []
    for i in range(BATCHES):
        n = sum(lengths)
        ids = [int(x) for x in gm.words(gm.fnv1a(f"{case}/batch{i}".encode()), n) % np.uint64(vocab)]
        labels, at = [], 0
        # Another order of the sequences in each batch.
        order = lengths[i % len(lengths) :] + lengths[: i % len(lengths)]
        for length in order:
            for j in range(length):
                last = j + 1 == length
                labels.append(-1 if last or j < length // 3 else ids[at + j + 1])
            at += length
        out.append({"ids": ids, "labels": labels, "sequences": order})
    return out


def permute(w, heads):
    """transformers rows to GGUF rows: the inverse of gm.unpermute."""
    return w.reshape(heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def run(case, weights, double):
    """Gradients of step 1, final adapter, and (loss, norm, correct) of each step."""
    import torch
    from peft import LoraConfig, get_peft_model

    rank, alpha, rslora, sites, _ = CASES[case]
    arch, heads, kv, *_ = gm.CASES[case]
    dtype = torch.float64 if double else torch.float32
    with gm.islands(arch, double):
        model = gm.transformers_model(case, weights, double)
        if double:
            ids = batches(case)[0]["ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
            agree = gm.nmse(logits, gm.numpy_run(gm.metadata(case), weights, ids)["logits"])
            assert agree < 1e-12, (case, agree)
            print(f"{case}: forward against numpy {agree:.1e}")
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            use_rslora=rslora,
            lora_dropout=0.0,
            bias="none",
            target_modules=[f"model.layers.{l}.{PEFT[t]}" for l, t in sites],
        )
        model = get_peft_model(model, config)
        model = model.double() if double else model.float()
        parameters = {}
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            for layer, target in sites:
                for part in "ab":
                    if f"layers.{layer}.{PEFT[target]}.lora_{part.upper()}." in name:
                        parameters[f"blk.{layer}.{GGUF[target]}.{part}"] = p
        start = adapter(case)
        assert set(parameters) == set(start), (set(parameters) ^ set(start))

        def rows(name, x, f):
            """Applies f to the rows of B where the file has another order of them."""
            if arch in gm.ADJACENT and name.endswith(".b") and (".attn_q." in name or ".attn_k." in name):
                return f(x, heads if ".attn_q." in name else kv)
            return x

        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(torch.tensor(rows(name, start[name][0], gm.unpermute).copy()).to(dtype))
        assert all(p.dtype == dtype for p in model.parameters())
        order = [parameters[name] for name in start]
        betas = (ADAMW["beta1"], ADAMW["beta2"])
        optimiser = torch.optim.AdamW(
            order, lr=ADAMW["lr"], betas=betas, eps=ADAMW["eps"], weight_decay=ADAMW["weight_decay"]
        )
        model.eval()
        steps, gradients = [], None
        for step in range(STEPS):
            batch = batches(case)[step % BATCHES]
            supervised = sum(x >= 0 for x in batch["labels"])
            total, correct, at = 0.0, 0, 0
            for length in batch["sequences"]:
                ids = torch.tensor([batch["ids"][at : at + length]])
                labels = torch.tensor(batch["labels"][at : at + length])
                at += length
                logits = model(ids, use_cache=False).logits[0]
                keep = labels >= 0
                if keep.any():
                    loss = torch.nn.functional.cross_entropy(logits[keep], labels[keep], reduction="sum")
                    (loss / supervised).backward()
                    total += float(loss.detach())
                    correct += int((logits[keep].argmax(-1) == labels[keep]).sum())
            if step == 0:
                gradients = {n: rows(n, p.grad.double().numpy().copy(), permute) for n, p in parameters.items()}
            norm = float(torch.nn.utils.clip_grad_norm_(order, ADAMW["clip"]))
            optimiser.step()
            optimiser.zero_grad()
            steps.append({"loss": total / supervised, "norm": norm, "correct": correct, "supervised": supervised})
        final = {n: rows(n, p.detach().double().numpy(), permute) for n, p in parameters.items()}
    return gradients, final, steps


def make(case, dry):
    rank, alpha, rslora, sites, _ = CASES[case]
    spec, weights = gm.tensors(case), {}
    for t in spec:
        data = gm.tensor_bytes(case, t)
        t["fnv"] = f"{gm.fnv1a(data.tobytes()):016x}"
        weights[t["name"]] = gm.dequantised(t, data)
    start = adapter(case)
    head = {
        "case": case,
        "rank": rank,
        "alpha": alpha,
        "rslora": rslora,
        "pairs": [
            {"layer": l, "target": t, "a": start[f"blk.{l}.{GGUF[t]}.a"][1], "b": start[f"blk.{l}.{GGUF[t]}.b"][1]}
            for l, t in sites
        ],
        "adamw": ADAMW,
        "batches": batches(case),
    }
    store = {}
    if dry:
        logits = gm.numpy_run(gm.metadata(case), weights, head["batches"][0]["ids"])["logits"]
        print(f"{case}: {sum(x.size for x, _ in start.values())} parameters, logits std {logits.std():.2f}")
    else:
        gradients, final, steps = run(case, weights, True)
        single = run(case, weights, False)
        worst = lambda a, b: max(gm.nmse(a[k], b[k]) for k in b)  # noqa: E731
        head["steps"] = steps
        head["noise"] = {
            "gradients": gm.number(worst(single[0], gradients)),
            "final": gm.number(worst(single[1], final)),
            "loss": gm.number(max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(single[2], steps))),
        }
        print(f"{case}: {[round(s['loss'], 4) for s in steps]} norms {[round(s['norm'], 3) for s in steps]}")
        print(f"{case}: float32 is off by {head['noise']}", flush=True)
        for name in start:
            store[f"gradient.{name}"] = np.ascontiguousarray(gradients[name], np.float32)
            store[f"final.{name}"] = np.ascontiguousarray(final[name].reshape(-1)[::3], np.float32)
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    for key, items in (("metadata", [list(m) for m in gm.metadata(case)]), ("tensors", spec)):
        lines.append(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(x) for x in items) + "\n ],")
    return "{\n" + "\n".join(lines).rstrip(",") + "\n}\n", store


def main(args):
    from safetensors.numpy import save_file

    dry = args[:1] == ["--dry"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    total = 0
    for case in args[int(dry) :] or CASES:
        text, store = make(case, dry)
        path = gm.GOLDEN / f"{case}.json"
        if not dry:
            path.write_text(text)
            save_file(store, path.with_suffix(".safetensors"))
            total += path.with_suffix(".safetensors").stat().st_size
        total += len(text)
    print(f"{total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
