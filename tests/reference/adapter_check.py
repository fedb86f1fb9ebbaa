"""Checks what `weft finetune` and `weft merge` write against the tools that it is written for.

    pip install numpy safetensors tokenizers                 what makes the models
    pip install torch transformers peft                      to compare with PEFT
    pip install xllamacpp                                    to compare with llama.cpp
    python tests/reference/adapter_check.py WEFT [FOLDER] [LIBLLAMA.so]

Small random models of each family are made as Hugging Face folders, converted, and fine-tuned for some steps.
Then the logits of `weft logits --lora` and of the merged file are compared with those of
  PEFT       transformers with the folder's adapter_model.safetensors,
  llama.cpp  with adapter.gguf, and with the merged file; its C interface is called, of LIBLLAMA.so or of the
             library in pip's xllamacpp.
What is not installed is said to be skipped. Ends with code 1 where an NMSE is over the limit, where the adapter
changes nothing, or where both comparisons were skipped.
"""

import ctypes
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

PEFT_LIMIT = 1e-8
# Its cache is f16.
LLAMA_LIMIT = 1e-5
WIDTH, FF, LAYERS, VOCAB, CONTEXT = 128, 256, 3, 600, 512
# Exact arithmetic, also where the device has something faster.
EXACT = ["--without", "f16,dot,coop"]
# Family, heads, heads of K and V, head size, options of finetune.
CASES = [
    ("qwen3", 4, 2, 64, ["--rank", "8", "--targets", "all"]),
    ("qwen2", 4, 2, 32, ["--rank", "4", "--targets", "q,v,down", "--rslora", "--alpha", "5"]),
    ("llama", 8, 4, 16, ["--rank", "6", "--targets", "attn,gate,up", "--alpha", "9"]),
]


def weft(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def nmse(got, want):
    return float(((got - want) ** 2).sum() / (want**2).sum())


def tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=alphabet, special_tokens=specials, show_progress=False)
    t.train_from_iterator([__doc__] * 20, trainer)
    # The vocabulary is full whatever the text gives.
    t.add_tokens([AddedToken(f"<{i}>", special=False) for i in range(VOCAB - t.get_vocab_size())])
    assert t.get_vocab_size() == VOCAB
    return t


def hugging_face(folder, family, heads, kv, head):
    """A random model as transformers saves one."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(family) + heads)
    config = {
        "architectures": [{"qwen3": "Qwen3", "qwen2": "Qwen2", "llama": "Llama"}[family] + "ForCausalLM"],
        "model_type": family, "hidden_size": WIDTH, "intermediate_size": FF, "num_hidden_layers": LAYERS,
        "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": head, "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": False, "torch_dtype": "float32", "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    sizes = {"q_proj": heads * head, "k_proj": kv * head, "v_proj": kv * head}
    tensors = {"model.embed_tokens.weight": (VOCAB, WIDTH), "lm_head.weight": (VOCAB, WIDTH), "model.norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for name, rows in sizes.items():
            tensors[f"{layer}self_attn.{name}.weight"] = (rows, WIDTH)
            if family == "qwen2":
                tensors[f"{layer}self_attn.{name}.bias"] = (rows,)
        tensors[f"{layer}self_attn.o_proj.weight"] = (WIDTH, heads * head)
        if family == "qwen3":
            tensors |= {f"{layer}self_attn.{n}_norm.weight": (head,) for n in "qk"}
        tensors |= {f"{layer}mlp.{n}_proj.weight": (FF, WIDTH) for n in ("gate", "up")}
        tensors[f"{layer}mlp.down_proj.weight"] = (WIDTH, FF)
        tensors |= {f"{layer}{n}_layernorm.weight": (WIDTH,) for n in ("input", "post_attention")}
    values = {n: rng.normal(0, 0.08, s) + (1.0 if "norm" in n else 0.0) for n, s in tensors.items()}
    save_file({n: v.astype(np.float32) for n, v in values.items()}, folder / "model.safetensors", {"format": "pt"})
    tokenizer().save(str(folder / "tokenizer.json"))
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": template}))


def peft_logits(folder, adapter, ids):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


class Params(ctypes.Structure):
    """Settings of one of llama.cpp's calls, larger than any version has them, taken and given as they are."""

    _fields_ = [("bytes", ctypes.c_byte * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


class Llama:
    """The few functions of llama.h that this needs."""

    def __init__(self, path):
        lib = self.lib = ctypes.CDLL(str(path))
        handle = ctypes.c_void_p
        for name, result, arguments in [
            ("llama_model_default_params", Params, []),
            ("llama_context_default_params", Params, []),
            ("llama_model_load_from_file", handle, [ctypes.c_char_p, Params]),
            ("llama_init_from_model", handle, [handle, Params]),
            ("llama_adapter_lora_init", handle, [handle, ctypes.c_char_p]),
            ("llama_set_adapters_lora", ctypes.c_int32, [handle, handle, ctypes.c_size_t, handle]),
            ("llama_batch_init", Batch, [ctypes.c_int32] * 3),
            ("llama_decode", ctypes.c_int32, [handle, Batch]),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [handle]),
            ("llama_free", None, [handle]),
            ("llama_model_free", None, [handle]),
        ]:
            f = getattr(lib, name)
            f.restype, f.argtypes = result, arguments
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()

    def logits(self, model, ids, adapter=None):
        lib = self.lib
        model = lib.llama_model_load_from_file(str(model).encode(), lib.llama_model_default_params())
        assert model, "llama.cpp does not load the model"
        context = lib.llama_init_from_model(model, lib.llama_context_default_params())
        assert context, "llama.cpp makes no context"
        if adapter:
            adapter = lib.llama_adapter_lora_init(model, str(adapter).encode())
            assert adapter, "llama.cpp does not load the adapter"
            one, scale = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(1.0)
            assert lib.llama_set_adapters_lora(context, one, 1, scale) == 0
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, id in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = id, i, 1, 1
            batch.seq_id[i][0] = 0
        assert lib.llama_decode(context, batch) == 0
        out = np.ctypeslib.as_array(lib.llama_get_logits(context), (len(ids), VOCAB)).astype(np.float64)
        lib.llama_free(context)
        lib.llama_model_free(model)
        return out


def llama(path):
    if path is None:
        found = importlib.util.find_spec("xllamacpp")
        path = found and next(Path(found.origin).parent.glob("*.so"), None)
    return path and Llama(path)


def main():
    program = Path(sys.argv[1]).absolute()
    root = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    has_peft = importlib.util.find_spec("torch") and importlib.util.find_spec("peft")
    has_llama = llama(sys.argv[3] if len(sys.argv) > 3 else None)
    for name, here in (("PEFT", has_peft), ("llama.cpp", has_llama)):
        print(f"{name}: {'compared' if here else 'skipped, not installed'}")
    failed = not (has_peft or has_llama)
    ids = np.random.default_rng(3).integers(3, VOCAB, 48).tolist()
    root.mkdir(parents=True, exist_ok=True)
    (root / "ids.json").write_text(json.dumps(ids))
    lines = [{"prompt": f"{i} plus {i}?", "completion": f"It is {2 * i}, as {i} was."} for i in range(16)]
    (root / "data.jsonl").write_text("".join(json.dumps(l) + "\n" for l in lines))

    def ours(model, *more):
        out = root / "logits.safetensors"
        weft(program, "logits", "-m", model, "--tokens", root / "ids.json", "-o", out, *EXACT, *more)
        return load_file(out)["logits"].astype(np.float64)

    for family, heads, kv, head, options in CASES:
        folder, file, tuned, merged = (root / f"{family}{end}" for end in ("", ".gguf", "-tuned", "-merged.gguf"))
        hugging_face(folder, family, heads, kv, head)
        weft(program, "convert", folder, file, "--type", "F32")
        weft(program, "finetune", "-m", file, "-d", root / "data.jsonl", "-o", tuned, "--steps", 6, "--lr", "2e-2", *options, *EXACT)
        adapter = tuned / "adapter.gguf"
        weft(program, "merge", "-m", file, "--lora", adapter, "-o", merged)
        want = ours(file, "--lora", adapter)
        changed = nmse(want, ours(file))
        results = [("PEFT's files in weft", nmse(ours(file, "--lora", tuned), want), PEFT_LIMIT)]
        results += [("merged, in weft", nmse(ours(merged), want), PEFT_LIMIT)]
        if has_peft:
            results += [("adapter_model.safetensors in PEFT", nmse(peft_logits(folder, tuned, ids), want), PEFT_LIMIT)]
        if has_llama:
            base = nmse(has_llama.logits(file, ids), ours(file))
            results += [("base model in llama.cpp", base, LLAMA_LIMIT)]
            results += [("adapter.gguf in llama.cpp", nmse(has_llama.logits(file, ids, adapter), want), LLAMA_LIMIT)]
            results += [("merged, in llama.cpp", nmse(has_llama.logits(merged, ids), want), LLAMA_LIMIT)]
        print(f"{family}, {' '.join(options)}: the adapter changes the logits by an NMSE of {changed:.1e}")
        failed |= changed < 1e-2
        for name, value, limit in results:
            print(f"  {name:36} NMSE {value:.1e}{'' if value <= limit else f'  over {limit:.0e}'}")
            failed |= not value <= limit
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
