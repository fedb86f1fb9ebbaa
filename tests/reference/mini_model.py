"""weft-mini in PyTorch: a Qwen3 decoder as plain functions on a dict of tensors named as in GGUF.

Shapes: x [B, T, D]; weights [out, in]. Norms and the residual stream are F32, matmuls run in `DTYPE`.
"""
import math

import torch
import torch.nn.functional as F

from mini_config import CONTEXT, D, EPS, FFN, HEAD, HEADS, KV_HEADS, LAYERS, ROPE_BASE, VOCAB

DTYPE = torch.bfloat16
NAMES = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "attn_q_norm", "attn_k_norm",
         "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]


def shapes():
    out = {"token_embd.weight": (VOCAB, D), "output_norm.weight": (D,)}
    layer = {"attn_norm": (D,), "attn_q": (HEADS * HEAD, D), "attn_k": (KV_HEADS * HEAD, D),
             "attn_v": (KV_HEADS * HEAD, D), "attn_output": (D, HEADS * HEAD), "attn_q_norm": (HEAD,),
             "attn_k_norm": (HEAD,), "ffn_norm": (D,), "ffn_gate": (FFN, D), "ffn_up": (FFN, D), "ffn_down": (D, FFN)}
    for i in range(LAYERS):
        for name in NAMES:
            out[f"blk.{i}.{name}.weight"] = layer[name]
    return out


def init(device, seed=0):
    g = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in shapes().items():
        if len(shape) == 1:
            w = torch.ones(shape)
        else:
            w = torch.randn(shape, generator=g) * 0.02
            if "attn_output" in name or "ffn_down" in name:
                w /= math.sqrt(2 * LAYERS)
        params[name] = w.to(device).requires_grad_()
    return params


def rms(x, w):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


def rope_tables(positions):
    """positions [..., T] -> cos, sin [..., T, HEAD/2]."""
    freq = ROPE_BASE ** (-torch.arange(0, HEAD, 2, device=positions.device, dtype=torch.float32) / HEAD)
    angle = positions.float()[..., None] * freq
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """x [B, H, T, HEAD], half-split pairs (i, i + HEAD/2)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def linear(x, w):
    return F.linear(x.to(DTYPE), w.to(DTYPE))


def qkv(x, p, cos, sin):
    b, t, _ = x.shape
    h = rms(x, p[0])
    q = linear(h, p[1]).view(b, t, HEADS, HEAD).transpose(1, 2)
    k = linear(h, p[2]).view(b, t, KV_HEADS, HEAD).transpose(1, 2)
    v = linear(h, p[3]).view(b, t, KV_HEADS, HEAD).transpose(1, 2)
    return rope(rms(q, p[5]), cos, sin).to(DTYPE), rope(rms(k, p[6]), cos, sin).to(DTYPE), v


def rest(x, a, p):
    """What follows attention: output projection and SwiGLU. a [B, HEADS, T, HEAD]."""
    b, _, t, _ = a.shape
    x = x + linear(a.transpose(1, 2).reshape(b, t, HEADS * HEAD), p[4])
    h = rms(x, p[7])
    return x + linear(F.silu(linear(h, p[8])) * linear(h, p[9]), p[10])


def layer_params(params, i):
    return tuple(params[f"blk.{i}.{name}.weight"] for name in NAMES)


def head(x, params):
    return linear(rms(x, params["output_norm.weight"]), params["token_embd.weight"]).float()


@torch.no_grad()
def generate(params, prompts, limit, stop, device):
    """Greedy decoding of all prompts at once with a KV cache; left-padded. Returns lists of ids."""
    b, longest = len(prompts), max(map(len, prompts))
    total = min(longest + limit, CONTEXT)
    ids = torch.zeros(b, total, dtype=torch.long)
    pad = torch.zeros(b, dtype=torch.long)
    for i, p in enumerate(prompts):
        pad[i] = longest - len(p)
        ids[i, longest - len(p):longest] = torch.tensor(p)
    ids, pad = ids.to(device), pad.to(device)
    column = torch.arange(total, device=device)
    cos, sin = rope_tables((column[None] - pad[:, None]).clamp(min=0)[:, None])  # [B, 1, T, HEAD/2]
    cache = [torch.zeros(2, b, KV_HEADS, total, HEAD, dtype=DTYPE, device=device) for _ in range(LAYERS)]
    done = torch.zeros(b, dtype=torch.bool, device=device)
    finished, rows = [None] * b, torch.arange(b)
    start, end = 0, longest
    while True:
        x = params["token_embd.weight"][ids[:, start:end]].float()
        mask = (column[None, None, :end] <= column[None, start:end, None]) & (column[None, None, :end] >= pad[:, None, None])
        mask = mask | (column[None, None, :end] == column[None, start:end, None])  # padding rows see themselves
        for i in range(LAYERS):
            p = layer_params(params, i)
            q, k, v = qkv(x, p, cos[:, :, start:end], sin[:, :, start:end])
            cache[i][0, :, :, start:end], cache[i][1, :, :, start:end] = k, v
            keys, values = cache[i][0, :, :, :end], cache[i][1, :, :, :end]
            a = F.scaled_dot_product_attention(q, keys.repeat_interleave(HEADS // KV_HEADS, 1),
                                               values.repeat_interleave(HEADS // KV_HEADS, 1), attn_mask=mask[:, None])
            x = rest(x, a, p)
        if end == total:
            break
        token = head(x[:, -1:], params).argmax(-1)[:, 0]
        ids[:, end] = torch.where(done, stop, token)
        done |= token == stop
        start, end = end, end + 1
        if end % 16 == 0 and int(done.sum()) * 4 > len(rows):
            # Finished rows leave the batch.
            keep = (~done).nonzero()[:, 0]
            for i in done.nonzero()[:, 0].tolist():
                finished[rows[i]] = ids[i, longest:].tolist()
            rows, ids, pad, done, cos, sin = rows[keep.cpu()], ids[keep], pad[keep], done[keep], cos[keep], sin[keep]
            cache = [c[:, keep] for c in cache]
            if len(rows) == 0:
                break
    for i, row in zip(rows.tolist(), ids[:, longest:].tolist()):
        finished[i] = row
    return [row[:row.index(stop)] if stop in row else row for row in finished]
