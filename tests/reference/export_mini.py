"""Makes the F16 GGUF of weft-mini from train_mini.py's folder, with pip's `gguf`.

    python3 export_mini.py DIR OUT.gguf
"""
import json
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

import mini_config as c

# Short, and of Qwen3's behaviour: earlier answers lose their reasoning, enable_thinking=false opens with an
# empty block.
TEMPLATE = (
    "{%- set ns = namespace(last=-1) %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}"
    "{%- set text = m.content %}"
    "{%- if m.role == 'assistant' and loop.index0 < ns.last and '</think>' in text %}"
    "{%- set text = text.split('</think>')[-1].lstrip('\\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def main():
    folder, out = sys.argv[1:3]
    tensors = load_file(f"{folder}/weft-mini.safetensors")
    tokenizer = json.load(open(f"{folder}/tokenizer.json", encoding="utf-8"))
    vocab, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    special = {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
    tokens = [None] * len(vocab)
    for text, i in vocab.items():
        tokens[i] = text
    assert len(tokens) == c.VOCAB and None not in tokens
    # <think> and </think> are text that a reader sees; reserved tokens never appear.
    kinds = []
    for i in range(len(tokens)):
        name = special.get(i)
        if name is None:
            kinds.append(gguf.TokenType.NORMAL)
        else:
            kinds.append(gguf.TokenType.USER_DEFINED if "think" in name else gguf.TokenType.CONTROL)
    merges = [m if isinstance(m, str) else " ".join(m) for m in merges]

    w = gguf.GGUFWriter(out, "qwen3")
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("weft-mini")
    w.add_basename("weft-mini")
    w.add_size_label("8M")
    w.add_license("mit or apache-2.0")
    w.add_description("A very small model for worked STEM questions, trained on the curriculum of weft.")
    w.add_context_length(c.CONTEXT)
    w.add_embedding_length(c.D)
    w.add_block_count(c.LAYERS)
    w.add_feed_forward_length(c.FFN)
    w.add_head_count(c.HEADS)
    w.add_head_count_kv(c.KV_HEADS)
    w.add_key_length(c.HEAD)
    w.add_value_length(c.HEAD)
    w.add_layer_norm_rms_eps(c.EPS)
    w.add_rope_freq_base(c.ROPE_BASE)
    w.add_vocab_size(c.VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(merges)
    ids = {text: i for i, text in special.items()}
    w.add_eos_token_id(ids["<|im_end|>"])
    w.add_bos_token_id(ids["<|endoftext|>"])
    w.add_pad_token_id(ids["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    for name, tensor in tensors.items():
        w.add_tensor(name, tensor.astype(np.float32) if tensor.ndim == 1 else tensor)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
