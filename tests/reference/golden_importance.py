"""Reference sums of squared activations, written to tests/golden/importance/.

For every case this writes <case>.safetensors: of each matrix the float64 sum over the case's prompt of the
squares of what meets each of its columns, stored as F32 under the tensor's GGUF name; of experts one row each,
and under NAME.counts how many tokens each expert got. The prompt is read in
two halves of 40 tokens, each from an empty cache, as importance matrices are collected. The models are those
of golden_models.py; the activations are taken from transformers in float64 by hooks on its linear layers.

To run it (seconds; torch needs no GPU):
  pip install numpy gguf safetensors torch transformers
  python tests/reference/golden_importance.py [FOLDER]
Made with torch 2.11.0, transformers 5.17.0, gguf 0.19.0.
"""

import sys
from pathlib import Path

import numpy as np

import golden_models as gm

CASES = ["qwen3-q4_k_m", "qwen2-f16", "llama3-f32", "qwen3moe-f32"]
CHUNK = 40
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def by_expert(experts, x, chosen, act):
    """Of each expert the sums of squares of its inputs `[width]` and of what its last matrix reads `[inner]`, and
    how many tokens were sent to it: x `[tokens, width]`, chosen `[tokens, k]`."""
    import torch

    rows = [x[(chosen == e).any(-1)] for e in range(experts.gate_up_proj.shape[0])]
    halves = [(r @ w.T).chunk(2, -1) for r, w in zip(rows, experts.gate_up_proj)]
    inner = [act(gate) * up for gate, up in halves]
    squares = [torch.stack([(r * r).sum(0) for r in part]).detach().numpy() for part in (rows, inner)]
    return squares, np.array([len(r) for r in rows], np.float64)


def sums(case):
    import torch

    arch, *_, vocab, tied, _, _ = gm.CASES[case]
    weights = {t["name"]: gm.dequantised(t, gm.tensor_bytes(case, t)) for t in gm.tensors(case)}
    ids, out = gm.prompt(case, vocab), {}
    with gm.islands(arch, True):
        model = gm.transformers_model(case, weights, True)

        def observe(name):
            def hook(module, args):
                x = args[0][0].detach()
                assert x.dtype == torch.float64 and x.shape[0] == CHUNK
                out[name] = out.get(name, 0) + (x * x).sum(0).numpy()

            return hook

        modules = {f"blk.{i}.{n}.weight": layer.get_submodule(m) for i, layer in enumerate(model.model.layers) for n, m in LAYER.items() if hasattr(layer.mlp, m.split(".")[1]) or "mlp" not in m}
        if not tied:
            modules["output.weight"] = model.lm_head
        mixtures = {i: layer.mlp.experts for i, layer in enumerate(model.model.layers) if hasattr(layer.mlp, "experts")}

        def observe_experts(i):
            def hook(module, args):
                (enter, inner), counts = by_expert(module, args[0].reshape(-1, args[0].shape[-1]), args[1], module.act_fn)
                for part, squares in ("gate", enter), ("up", enter), ("down", inner):
                    name = f"blk.{i}.ffn_{part}_exps.weight"
                    out[name] = out.get(name, 0) + squares
                    out[name + ".counts"] = out.get(name + ".counts", 0) + counts

            return hook

        for i, experts in mixtures.items():
            experts.register_forward_pre_hook(observe_experts(i))
        for name, module in modules.items():
            module.register_forward_pre_hook(observe(name))
        with torch.no_grad():
            for first in range(0, len(ids), CHUNK):
                model(torch.tensor([ids[first : first + CHUNK]]), use_cache=False)
    assert mixtures or out.keys() == modules.keys()
    return {k: v.astype(np.float32) for k, v in out.items()}


def main(args):
    from safetensors.numpy import save_file

    folder = Path(args[0]) if args else gm.GOLDEN / "importance"
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        save_file(sums(case), folder / f"{case}.safetensors")
        print(case, (folder / f"{case}.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
