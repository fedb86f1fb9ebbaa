"""Checks `weft convert` against transformers: small random models with tokenizers of every kind are saved as
Hugging Face folders, converted, and compared in logits (`weft logits`) and token ids (`weft tokenize`).

    pip install torch transformers tokenizers safetensors gguf
    python tests/reference/convert_check.py WEFT [FOLDER]

Ends with code 1 where the NMSE of F32 logits is over 1e-6, or a token differs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEXTS = [
    "What is 17 + 25?", "It's 1234567 o'clock,\n\n  isn't IT?", "naïve café: 你好 world — ½",
    "def f(x):\n\treturn x**2  # square\n", "The quick brown fox jumps over the lazy dog. " * 3, " leading and trailing ",
]
CORPUS = TEXTS * 20 + [open(__file__, encoding="utf-8").read()]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(steps, vocab, bos=False):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(steps)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIALS)
    t.train_from_iterator(CORPUS, trainer)
    t.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    if bos:
        t.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", t.token_to_id("<|endoftext|>"))]),
        ])
    return t, dict(bos_token="<|endoftext|>" if bos else None, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def split(pattern):
    return [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def sentencepiece(vocab):
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    t.train_from_iterator([w for text in CORPUS for w in text.replace("\n", " ").split()], trainer)
    # The byte tokens are plain entries of the vocabulary, not added ones.
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if a["id"] < 3]
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")


COMMON = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=512, vocab_size=640)


def cases():
    ll3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=64)
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128)
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    yield "qwen3", Qwen3Config(**COMMON, head_dim=64, tie_word_embeddings=True), byte_level(split(QWEN2), 600), {}
    yield "qwen3-yarn", Qwen3Config(**COMMON, head_dim=32, rope_parameters=yarn), byte_level(split(QWEN2), 600), {}
    yield "qwen2", Qwen2Config(**COMMON, tie_word_embeddings=False), byte_level(split(QWEN2), 600), {}
    yield "llama3", LlamaConfig(**COMMON, rope_parameters=ll3), byte_level(split(LLAMA3), 600, bos=True), dict(max_shard_size="200KB")
    yield "llama-bias", LlamaConfig(**COMMON, tie_word_embeddings=True), byte_level([pre_tokenizers.ByteLevel(add_prefix_space=False)], 600), {}
    yield "smollm", LlamaConfig(**COMMON | dict(num_attention_heads=8), tie_word_embeddings=True), byte_level(digits, 600), {}
    yield "llama2", LlamaConfig(**COMMON | dict(num_key_value_heads=4), tie_word_embeddings=False), sentencepiece(600), {}


def weft(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stderr)
    return done.stdout


def main():
    program = sys.argv[1]
    root = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    classes = {LlamaConfig: LlamaForCausalLM, Qwen2Config: Qwen2ForCausalLM, Qwen3Config: Qwen3ForCausalLM}
    failed = 0
    for name, config, (tokenizer, tokens), how in cases():
        torch.manual_seed(11)
        model = classes[type(config)](config).float().eval()
        with torch.no_grad():
            for n, p in model.named_parameters():
                # Norms and biases away from 1 and 0, so that forgetting one shows.
                p.copy_(torch.randn_like(p) * 0.05 + (1.0 if "norm" in n else 0.0))
        folder = root / name
        model.save_pretrained(folder, **how)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{k: v for k, v in tokens.items() if v})
        fast.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        fast.save_pretrained(folder)
        gguf = root / f"{name}.gguf"
        weft(program, "convert", folder, gguf, "--type", "F32")
        ids = np.random.default_rng(3).integers(0, len(tokenizer.get_vocab()), 48).tolist()
        (root / "ids.json").write_text(json.dumps(ids))
        weft(program, "logits", "-m", gguf, "--tokens", root / "ids.json", "-o", root / "logits.safetensors")
        ours = load_file(root / "logits.safetensors")["logits"].astype(np.float64)
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].double().numpy()
        nmse = ((ours - theirs) ** 2).sum() / (theirs**2).sum()
        wrong = []
        for text in TEXTS + ["a <think> b<|im_end|>c"]:
            got = json.loads(weft(program, "tokenize", "-m", gguf, "--special", "--json", text))
            if got != fast(text)["input_ids"]:
                wrong.append((text, got, fast(text)["input_ids"]))
        failed += bool(wrong) or nmse > 1e-6
        shards = len(list(folder.glob("*.safetensors")))
        print(f"{name:11} logits NMSE {nmse:.2e}, {len(TEXTS) + 1 - len(wrong)} of {len(TEXTS) + 1} texts, {shards} safetensors")
        for text, got, expected in wrong[:2]:
            print("   ", repr(text[:60]), "weft", got[:24], "transformers", expected[:24])
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
