"""Reference embeddings and scores of small random encoders, written to tests/golden/encoders/.

For every case this writes
  <case>.json         the model's specification (as golden_models.py has it), its sequences of ids and, for
                      pairs, their token types;
  <case>.safetensors  what transformers computes in float64, stored as F32: the hidden states at some tokens,
                      the three poolings of every sequence, and scores where there is a classifier.

Weights follow from names by integer arithmetic (golden_models.py, tests/support/golden_model.rs). The
reference is the transformers class of each family; every sequence runs alone, so that packing is checked
too. Each case is compared here with a second float64 forward in numpy, written from the GGUF layout and
metadata, and shown to change when one of its keys is neglected.

To run it (half a minute; torch needs no GPU):
  pip install numpy gguf safetensors torch transformers
  python tests/reference/golden_encoders.py            # writes every case
  python tests/reference/golden_encoders.py --check    # writes nothing; fails if a stored file would change
Made with torch 2.15.0, transformers 5.24.0, gguf 0.19.0, numpy 2.4.6.
"""

import json
import math
import sys

import numpy as np

import golden_models as gm

FOLDER = gm.GOLDEN / "encoders"
LAYERS, CONTEXT = 3, 64
# One sequence fills the context, and one is a single token.
LENGTHS = [17, 1, CONTEXT, 9, 30]
TOKENS = [0, 16, 17, 18, 81, 82, 120]  # of all sequences one after the other; their hidden states are stored
MEAN, FIRST, LAST, RANK = 1, 2, 3, 4
EPS = {"bert": 1e-12, "xlmr": 1e-5, "nomic": 1e-12}

# family, heads, width, feed-forward, vocabulary, pooling, weight types
CASES = {
    "bert-f32": ("bert", 8, 256, 512, 501, MEAN, gm.one("F32")),
    "bert-q8_0": ("bert", 4, 256, 512, 480, FIRST, gm.one("Q8_0")),
    "bert-q4_k_m": ("bert", 9, 288, 768, 500, MEAN, gm.Q4_K_M),
    "bert-rank-f32": ("bert", 4, 256, 512, 450, RANK, gm.one("F32")),
    "xlmr-f16": ("xlmr", 4, 256, 512, 520, MEAN, gm.one("F16")),
    "xlmr-rank-q8_0": ("xlmr", 8, 256, 512, 470, RANK, gm.one("Q8_0")),
    "nomic-f32": ("nomic", 4, 256, 512, 512, MEAN, gm.one("F32")),
    "nomic-q4_k_m": ("nomic", 4, 256, 768, 512, MEAN, gm.Q4_K_M),
    # Decoders, as golden_models.py has them.
    "qwen3-embedding-f16": ("qwen3", 4, 256, 512, 600, LAST, gm.one("F16")),
    "qwen3-rank-q8_0": ("qwen3", 4, 256, 512, 512, RANK, gm.one("Q8_0")),
}
DECODER = {"qwen3-embedding-f16": 2, "qwen3-rank-q8_0": 4}  # KV heads
ARCH = {"bert": "bert", "xlmr": "bert", "nomic": "nomic-bert", "qwen3": "qwen3"}
MODULE = {"bert": "bert", "xlmr": "xlm_roberta", "nomic": "nomic_bert", "qwen3": "qwen3"}
LABELS = {"bert": ["LABEL_0"], "xlmr": ["LABEL_0"], "qwen3": ["yes", "no"]}


def name_of(case):
    """The name that tensors take their bytes from."""
    return f"encoders/{case}"


def metadata(case):
    family, heads, width, ff, vocab, pooling, _ = CASES[case]
    arch = ARCH[family]
    if family == "qwen3":
        return [*gm.metadata(name_of(case))[:-1], ("qwen3.pooling_type", "u32", pooling), *labels(case)]
    rows = [
        ("general.architecture", "str", arch),
        ("general.name", "str", f"golden {case}"),
        (f"{arch}.block_count", "u32", LAYERS),
        (f"{arch}.context_length", "u32", CONTEXT),
        (f"{arch}.embedding_length", "u32", width),
        (f"{arch}.feed_forward_length", "u32", ff),
        (f"{arch}.attention.head_count", "u32", heads),
        (f"{arch}.attention.layer_norm_epsilon", "f32", EPS[family]),
        (f"{arch}.attention.causal", "bool", False),
        (f"{arch}.pooling_type", "u32", pooling),
        (f"{arch}.vocab_size", "u32", vocab),
        ("tokenizer.ggml.token_type_count", "u32", types_of(family)),
    ]
    if family == "nomic":
        rows.append((f"{arch}.rope.freq_base", "f32", 1000.0))
    return rows + labels(case)


def labels(case):
    family, pooling = CASES[case][0], CASES[case][5]
    rows = [("tokenizer.ggml.model", "str", "none")]
    if pooling == RANK:
        rows.insert(0, (f"{ARCH[family]}.classifier.output_labels", "strs", LABELS[family]))
    return rows


def types_of(family):
    return 1 if family == "xlmr" else 2


def tensors(case):
    family, _, width, ff, vocab, pooling, types = CASES[case]
    out = []

    def weight(name, cols, rows, gain, kind, bias=0.0):
        if kind in gm.BLOCKS and cols % gm.BLOCKS[kind][0]:
            kind = gm.FALLBACK[kind]
        scale = gain / math.sqrt(cols) / gm.unit_std(kind)
        shape = [cols, rows] if rows else [cols]
        out.append({"name": name + ".weight", "type": kind, "shape": shape, "scale": float(f"{scale:.4g}")})
        if bias:
            vector(name + ".bias", rows, 0.0, bias)

    def vector(name, n, offset, std):
        scale = float(f"{std / gm.NORMAL_STD:.4g}")
        out.append({"name": name, "type": "F32", "shape": [n], "offset": offset, "scale": scale})

    def norm(name):
        vector(name + ".weight", width, 1.0, 0.25)
        vector(name + ".bias", width, 0.0, 0.1)

    if family == "qwen3":
        out += gm.tensors(name_of(case))
    else:
        root = math.sqrt(width)
        weight("token_embd", width, vocab, root, types["embd"])
        if family != "nomic":
            weight("position_embd", width, CONTEXT, root, "F32")
        # A file of a model with one type has a vector here.
        weight("token_types", width, types_of(family) if types_of(family) > 1 else 0, 0.5 * root, "F32")
        norm("token_embd_norm")
        for layer in range(LAYERS):
            p = f"blk.{layer}."
            more = layer == LAYERS - 1
            v, down = (types.get(k, types["*"]) if more else types["*"] for k in ("v6", "down6"))
            biased = 0.0 if family == "nomic" else 0.15
            if family == "nomic":
                weight(p + "attn_qkv", width, 3 * width, 1.5, types["*"])
            else:
                weight(p + "attn_q", width, width, 1.8, types["*"], biased)
                weight(p + "attn_k", width, width, 1.8, types["*"], biased)
                weight(p + "attn_v", width, width, 1.0, v, biased)
            weight(p + "attn_output", width, width, 1.0, types["*"], biased)
            norm(p + "attn_output_norm")
            if family == "nomic":
                weight(p + "ffn_gate", width, ff, 1.3, types["*"])
            weight(p + "ffn_up", width, ff, 1.2, types["*"], biased)
            weight(p + "ffn_down", ff, width, 0.9, down, biased)
            norm(p + "layer_output_norm")
    if pooling == RANK:
        kind = "F32" if family == "qwen3" else types["*"]
        if family != "qwen3":
            weight("cls", width, width, 1.2, kind, 0.3)
        weight("cls.output", width, len(LABELS[family]), 1.0, kind, 0.0 if family == "qwen3" else 0.3)
    return out


def sequences(case):
    vocab, out = CASES[case][4], []
    for i, n in enumerate(LENGTHS):
        seed = gm.fnv1a(f"{name_of(case)}/sequence{i}".encode())
        # 0 and 1 are ids of padding in one family or the other: no sequence holds them.
        out.append([2 + int(x) for x in gm.words(seed, n) % np.uint64(vocab - 2)])
    out[2][5] = vocab - 1
    return out


def token_types(case):
    """The second half of each sequence of a BERT pair has type 1."""
    pair = CASES[case][0] == "bert" and CASES[case][5] == RANK
    return [[int(pair and i >= (n + 1) // 2) for i in range(n)] for n in LENGTHS]


# ---------------------------------------------------------------- transformers


def state_dict(case, weights):
    family, _, width, *_ = CASES[case]
    if family == "qwen3":
        plain = {k: v for k, v in weights.items() if not k.startswith("cls.")}
        return gm.state_dict(name_of(case), plain)
    nomic = family == "nomic"
    parts = {
        "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
        "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
    }  # fmt: skip
    if nomic:
        parts = {
            "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "attn_output_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
            "layer_output_norm": "post_mlp_layernorm",
        }  # fmt: skip
    names = {
        "token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
        "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm",
    }  # fmt: skip
    heads = {"cls": "bert.pooler.dense", "cls.output": "classifier"}
    if family == "xlmr":
        heads = {"cls": "classifier.dense", "cls.output": "classifier.out_proj"}
    body = {"bert": "bert.", "xlmr": "roberta.", "nomic": ""}[family] if CASES[case][5] == RANK else ""
    out = {}
    for name, w in weights.items():
        stem, kind = name.rsplit(".", 1)
        if stem in heads:
            out[f"{heads[stem]}.{kind}"] = w
            continue
        if stem == "position_embd" and family == "xlmr":
            w = np.concatenate([np.zeros((2, width), np.float32), w])  # positions there begin at 2
        if stem == "token_types":
            w = w.reshape(-1, width)
        if not stem.startswith("blk."):
            out[f"{body}{names[stem]}.{kind}"] = w
            continue
        _, layer, part = stem.split(".")
        prefix = f"layers.{layer}." if nomic else f"{body}encoder.layer.{layer}."
        split = zip(("attn_q", "attn_k", "attn_v"), np.split(w, 3)) if part == "attn_qkv" else [(part, w)]
        out.update({f"{prefix}{parts[p]}.{kind}": x for p, x in split})
    return out


def transformers_model(case, double):
    """The family's class; only inside of `islands`."""
    from transformers import (
        BertConfig, BertForSequenceClassification, BertModel, NomicBertConfig, NomicBertModel,
        XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaModel,
    )  # fmt: skip

    family, heads, width, ff, vocab, pooling, _ = CASES[case]
    common = {
        "vocab_size": vocab, "hidden_size": width, "num_hidden_layers": LAYERS, "num_attention_heads": heads,
        "intermediate_size": ff, "layer_norm_eps": float(np.float32(EPS[family])),
        "type_vocab_size": types_of(family), "max_position_embeddings": CONTEXT + 2 * (family == "xlmr"),
        "attn_implementation": "eager",
    }  # fmt: skip
    if family == "nomic":
        rope = {"rope_type": "default", "rope_theta": 1000.0}
        return NomicBertModel(NomicBertConfig(**common, rope_parameters=rope))
    config, body, classifier = {
        "bert": (BertConfig, BertModel, BertForSequenceClassification),
        "xlmr": (XLMRobertaConfig, XLMRobertaModel, XLMRobertaForSequenceClassification),
    }[family]
    common |= {"hidden_act": "gelu", "pad_token_id": 1 if family == "xlmr" else 0}
    if pooling == RANK:
        return classifier(config(**common, num_labels=1))
    return body(config(**common), add_pooling_layer=False)


def transformers_run(case, weights, double):
    """hidden: [L + 1] of [T, d], the last layer's again behind an output norm for decoders; scores [S]."""
    import torch

    family, pooling = CASES[case][0], CASES[case][5]
    dtype = torch.float64 if double else torch.float32
    hidden, last, scores = [[] for _ in range(LAYERS + 1)], [], []
    with gm.islands(MODULE[family], double), torch.no_grad():
        if family == "qwen3":
            model = gm.transformers_model(name_of(case), {k: v for k, v in weights.items() if "cls." not in k}, double)
            embeddings, layers, norm = model.model.embed_tokens, model.model.layers, model.model.norm
        else:
            model = transformers_model(case, double).eval()
            model = model.double() if double else model.float()
            state = {k: torch.tensor(v).to(dtype) for k, v in state_dict(case, weights).items()}
            missing, unexpected = model.load_state_dict(state, strict=False)
            assert not unexpected and not missing, (missing, unexpected)
            body = getattr(model, {"bert": "bert", "xlmr": "roberta"}.get(family, ""), model)
            embeddings, norm = body.embeddings, None
            layers = body.layers if family == "nomic" else body.encoder.layer
        seen = {}

        def keep(i, o):
            o = o[0] if isinstance(o, tuple) else o
            assert o.dtype == dtype
            seen[i] = o[0].detach().double().numpy()

        for i, module in enumerate([embeddings, *layers, *([norm] if norm is not None else [])]):
            module.register_forward_hook(lambda m, a, o, i=i: keep(i, o))
        for ids, types in zip(sequences(case), token_types(case)):
            if family == "qwen3":
                model.model(torch.tensor([ids]), use_cache=False)
            else:
                out = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
            for i in range(LAYERS + 1):
                hidden[i].append(seen[i])
            last.append(seen[max(seen)])
            if pooling == RANK and family == "qwen3":
                yes, no = (weights["cls.output.weight"].astype(np.float64) @ last[-1][-1]).tolist()
                scores.append(1 / (1 + math.exp(no - yes)))
            elif pooling == RANK:
                scores.append(float(out.logits[0, 0]))
    return result(hidden, last, scores)


def result(hidden, last, scores):
    """What is stored, from lists of [tokens, d] a sequence."""
    out = {"hidden": np.stack([np.concatenate(h) for h in hidden]), "last": np.concatenate(last)}
    out["mean"] = np.stack([x.mean(0) for x in last])
    out["first"] = np.stack([x[0] for x in last])
    out["final"] = np.stack([x[-1] for x in last])
    return out | ({"scores": np.array(scores)} if scores else {})


# ---------------------------------------------------------------- a second forward, in numpy


def numpy_run(case, meta, weights):
    """The same from GGUF metadata and layout alone, in float64; decoders by golden_models.py."""
    keys = {k: (float(np.float32(v)) if kind == "f32" else v) for k, kind, v in meta}
    arch = keys["general.architecture"]
    w = {k: v.astype(np.float64) for k, v in weights.items()}
    get = lambda k, default=None: keys.get(f"{arch}.{k}", default)  # noqa: E731
    layers, heads, width = get("block_count"), get("attention.head_count"), get("embedding_length")
    rank = get("pooling_type") == RANK
    if arch == "qwen3":
        runs = [gm.numpy_run(meta, weights, ids) for ids in sequences(case)]
        finals = [r["final"] for r in runs]
        pairs = [x[-1] @ w["cls.output.weight"].T for x in finals] if rank else []
        scores = [np.exp(p[0] - np.logaddexp(*p)) for p in pairs]
        return result([[r["residual"][i] for r in runs] for i in range(layers + 1)], finals, scores)
    eps, head = get("attention.layer_norm_epsilon"), width // heads
    erf = np.vectorize(math.erf)

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]

    def rotate(x):  # [T, heads, head]
        angle = np.arange(len(x))[:, None, None] * get("rope.freq_base") ** (-2.0 * np.arange(head // 2) / head)
        a, b = x[..., : head // 2], x[..., head // 2 :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)

    hidden, last, scores = [[] for _ in range(layers + 1)], [], []
    for ids, types in zip(sequences(case), token_types(case)):
        t = len(ids)
        x = w["token_embd.weight"][ids] + w["token_types.weight"].reshape(-1, width)[types]
        if "position_embd.weight" in w:
            x = x + w["position_embd.weight"][:t]
        x = norm(x, "token_embd_norm")
        hidden[0].append(x)
        for layer in range(layers):
            p = f"blk.{layer}."
            linear = lambda h, n: h @ w[p + n + ".weight"].T + w.get(p + n + ".bias", 0.0)  # noqa: E731
            if p + "attn_qkv.weight" in w:
                q, k, v = np.split(linear(x, "attn_qkv"), 3, axis=1)
            else:
                q, k, v = (linear(x, n) for n in ("attn_q", "attn_k", "attn_v"))
            q, k, v = (y.reshape(t, heads, head) for y in (q, k, v))
            if arch == "nomic-bert":
                q, k = rotate(q), rotate(k)
            s = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(head)
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            x = norm(x + linear(np.einsum("hqk,khd->qhd", s, v).reshape(t, -1), "attn_output"), p + "attn_output_norm")
            up = linear(x, "ffn_up")
            if arch == "nomic-bert":
                g = linear(x, "ffn_gate")
                up = g / (1 + np.exp(-g)) * up
            else:
                up = 0.5 * up * (1 + erf(up / math.sqrt(2)))
            x = norm(x + linear(up, "ffn_down"), p + "layer_output_norm")
            hidden[layer + 1].append(x)
        last.append(x)
        if rank:
            h = np.tanh(w["cls.weight"] @ x[0] + w["cls.bias"])
            scores.append(float((w["cls.output.weight"] @ h + w["cls.output.bias"])[0]))
    return result(hidden, last, scores)


# ---------------------------------------------------------------- writing


def make(case):
    meta, spec, weights = metadata(case), tensors(case), {}
    for t in spec:
        data = gm.tensor_bytes(name_of(case), t)
        t["fnv"] = f"{gm.fnv1a(data.tobytes()):016x}"
        weights[t["name"]] = gm.dequantised(t, data)
    want, mine = transformers_run(case, weights, True), numpy_run(case, meta, weights)
    agree = max(gm.nmse(mine[k], want[k]) for k in want)
    assert agree < 1e-20, (case, agree)
    single = transformers_run(case, weights, False)
    noise = max(gm.nmse(single[k], want[k]) for k in want)
    assert noise < 1e-9, (case, noise)
    # A table of positions or types of which nothing depended would be no test of it.
    for name in ("position_embd.weight", "token_types.weight"):
        if name in weights and (name == "position_embd.weight" or "bert-rank" in case):
            other = {**weights, name: weights[name][::-1].copy()}
            assert gm.nmse(numpy_run(case, meta, other)["last"], want["last"]) > 1e-3, (case, name)
    spread = want["mean"] / np.linalg.norm(want["mean"], axis=1, keepdims=True)
    cosine = (spread @ spread.T)[np.triu_indices(len(LENGTHS), 1)]
    print(
        f"{case:20s} numpy-f64 {agree:8.1e}  torch-f32 {noise:8.1e}  cosines {cosine.min():.2f}..{cosine.max():.2f}"
        + (f"  scores {np.round(want['scores'], 3)}" if "scores" in want else ""),
        flush=True,
    )
    head = {"case": name_of(case), "sequences": sequences(case), "tokens": TOKENS}
    if any(any(t) for t in token_types(case)):
        head["types"] = token_types(case)
    head["noise"] = {"f32": gm.number(noise)}
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    for key, rows in (("metadata", [list(m) for m in meta]), ("tensors", spec)):
        lines.append(f' "{key}": [\n  ' + ",\n  ".join(json.dumps(x) for x in rows) + "\n ],")
    store = {
        "hidden": want["hidden"][:, TOKENS],  # [layers + 1, 7, width]: behind the embedding and each layer
        "mean": want["mean"],  # [sequences, width], not normalised
        "first": want["first"],
        "last": want["final"],
    }
    if "scores" in want:
        store["scores"] = want["scores"]  # [sequences]
    return "{\n" + "\n".join(lines).rstrip(",") + "\n}\n", {
        k: np.ascontiguousarray(v, np.float32) for k, v in store.items()
    }


# golden_models.py writes the decoders among these.
gm.LAYERS = LAYERS
gm.CASES.update({
    name_of(case): ("qwen3", CASES[case][1], kv, 64, *CASES[case][2:5], True, CASES[case][6], {})
    for case, kv in DECODER.items()
})  # fmt: skip


def main(args):
    from safetensors.numpy import load_file, save_file

    check = args[:1] == ["--check"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    total = 0
    for case in args[1 if check else 0 :] or CASES:
        text, store = make(case)
        path = FOLDER / f"{case}.json"
        data = path.with_suffix(".safetensors")
        if check:
            old, new = json.loads(path.read_text()), json.loads(text)
            assert {**old, "noise": 0} == {**new, "noise": 0}, f"{path} differs"
            stored = load_file(data)
            assert all(gm.nmse(stored[k].astype(float), v.astype(float)) < 1e-13 for k, v in store.items()), case
        else:
            path.write_text(text)
            save_file(store, data)
        total += path.stat().st_size + data.stat().st_size
    print(f"{total / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
