#!/usr/bin/env python3
"""Writes formats/tests/data/tokenizer/*.json: two small vocabularies trained here, and the ids
that the reference implementations give for awkward texts.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python tests/reference/tokenizers_vectors.py

byte_bpe.json: one byte-level BPE vocabulary, run under the pre-tokenizer of each family as its
publisher's tokenizer.json has it. wordpiece.json: WordPiece by tokenizers. unigram.json: a unigram model with
a map of characters, by sentencepiece. spm_*.json: SentencePiece BPE with byte fallback, once as
Llama 2 sets it up and once as Gemma does.
"""

import io
import json
import pathlib
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from sentencepiece import sentencepiece_model_pb2
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Digits, Punctuation, Sequence, Split

OUT = pathlib.Path(__file__).resolve().parents[2] / "formats/tests/data/tokenizer"

CORPUS = """\
The train leaves at 12:45 and arrives at 18:07, so the trip takes 5 hours and 22 minutes.
A force of 250 newtons acts on a mass of 12.5 kg; what is the acceleration? It's 20 m/s^2.
I've told them that we'll be late, but they're sure he'd wait and I'm not. DON'T SHOUT, WE'LL GO!
    def area(radius):
        return 3.14159 * radius ** 2

    for n in range(1000, 2025):
        print(n, area(n))   # 100 200 300 1234 5678
\tA tab, two\t\ttabs;  two spaces,   three,    four.\r\nA Windows line.\r\n\r\nAnd another.
Die Äpfel kosten 3,50 € und schmecken süß; müde Grüße aus Köln. Où est le château? Ça va très bien.
Съешь ещё этих мягких французских булок. Η ταχύτητα του φωτός. नमस्ते दुनिया, यह हिन्दी है।
我想在苹果公司工作，因为那里的水果很好吃。今日は天気がいいですね。 안녕하세요 세계
Emoji: 🚀🦙😀 ✅ and math: ∑ x² ≤ ½ → ∞ ``` code ``` ... !!! ??? ------ ======= ''' \"\"\"
https://example.org/path?query=1&other=two#part user@example.org C:\\\\Windows\\\\System32
HelloWorld helloWorld HELLOworld getHTTPResponse snake_case_name kebab-case-name
"""

# Texts where implementations tend to differ.
TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t\n", " \n", "\n ", " \n\n  \n x",
    "a", " a", "a ", "a  b", "a   b", "a\tb", "a\t\tb", "a \t b", "x\u00a0y", "x \u00a0 y", "\u3000全角\u3000", "a\u2003\u2003b",
    "Hello world", "Hello  World!", " Hello, y'all! How're you?", "HelloWorld getHTTPResponse",
    "I've I'VE I'Ve it's IT'S 's 'S 'll 'LL 'd 'D don't DON'T 'tis '' ''' 'x'", "’s ’t", "ſ's 'ſ",
    "1", "12", "123", "1234", "12345", "123456", "1234567", "1,234,567.89", "3.14", "-5", "x1y22z333", "٣٤٥", "½ ² Ⅷ ①②③", "१२३४",
    "über Äpfel naïve", "e\u0301 a\u0300\u0301 n\u0303o", "\u0301", " \u0301x", "नमस्ते दुनिया", "สวัสดี", "កាន់តែពិសេស",
    "我想在苹果公司工作。", "今日は 天気", "안녕하세요 세계", "ａｂｃ１２３", "ﬁﬂ", "Ω≈ç√∫", "Привет, мир!", "مرحبا بالعالم",
    "🚀", "🚀🦙", "👨‍👩‍👧‍👦", "🇩🇪", "✅ ok", "😶\u200d🌫\ufe0f", "a\u200bb", "\ufeffbom", "\u00ad", "\u0000", "\u0001\u0002", "\u007f\u0080\u0085x", "\u2028\u2029",
    "!!!", "...", "a...b", " ...", "!?!?\n\n", "foo();\n", "foo();\r\n\r\n  bar", "x /= 2;/\n/", "`code` ```", "$5 + 3 = <8> ^~|", "a_b __init__", "#%&*@", "«quoted» “x” „y”", "—–-",
    "    indented\n        more\n\n\n    less", "\n =", "\n\n\n\n\n", "a\n\nb", "a \n b", "trailing  ", "trailing\n", "  \n", "   x   ",
    "line one\r\nline two\r\n", "tab\tsep\tvalues\n1\t2\t3", "https://example.org/a?b=c&d=e#f", "C:\\Windows\\System32", "user@example.org",
    "zyzzyva", " zyzzyva", "qqqq", "\U0010ffff", "\U000e0041", "\ue000", "𝐀𝐁", "𐐷x", "ǅ ʰ ª º", "▁", "a▁b", "<0x0A>", "<s>", "</s>", "<unk>",
    "İstanbul ıI", "ß ẞ", "Ⅻⅻ", "C++ C# F#", "50% off", "(a)(b) [c]{d}", "'", "\"", " '", "a'b", "rock'n'roll", "o'clock 'em",
]
SPECIAL_TEXTS = [
    "<|im_start|>user\nHi<|im_end|>\n", "a<|im_end|>b", "<|im_end|><|im_end|>", " <|im_end|> ", "<|im_end", "<tool_call>{}</tool_call>",
    "x <tool_call> y", "<|endoftext|>", "<<|im_end|>>", "<tool_call", "a<tool_call>\n\nb",
]

CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LINES
QWEN35 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + LINES
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LINES
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
HEAD = r"[^\r\n\p{L}\p{N}]?"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + LINES
GPT4O = f"{HEAD}{UPPER}*{LOWER}+{CONTRACTION}?|{HEAD}{UPPER}+{LOWER}*{CONTRACTION}?" + r"|\p{N}{1,3}" + TAIL
TEKKEN = f"{HEAD}{UPPER}*{LOWER}+|{HEAD}{UPPER}+{LOWER}*" + r"|\p{N}" + TAIL
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + LINES
)


def split(pattern):
    return Split(Regex(pattern), "isolated")


def byte_level(use_regex):
    return ByteLevel(add_prefix_space=False, use_regex=use_regex)


FAMILIES = {
    "gpt-2": byte_level(True),
    "smollm": Sequence([Digits(individual_digits=True), byte_level(True)]),
    "qwen2": Sequence([split(QWEN2), byte_level(False)]),
    "qwen35": Sequence([split(QWEN35), byte_level(False)]),
    "llama-bpe": Sequence([split(LLAMA3), byte_level(False)]),
    "smaug-bpe": Sequence([split(LLAMA3), byte_level(False)]),
    # Falcon's own file splits digits after the bytes became letters, so that ³ inside a Chinese
    # character is a digit. Its vocabulary has no merges there, ours has: split first.
    "falcon": Sequence([Punctuation("contiguous"), split(GPT2), split("[0-9][0-9][0-9]"), byte_level(False)]),
    "gpt-4o": Sequence([split(GPT4O), byte_level(False)]),
    "tekken": Sequence([split(TEKKEN), byte_level(False)]),
    "deepseek-v3": Sequence([split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level(False)]),
    "deepseek-coder": Sequence(
        [split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(r"[一-龥ࠀ-一가-퟿]+"), Digits(individual_digits=True), byte_level(False)]
    ),
}
IGNORE_MERGES = {"llama-bpe", "tekken"}
# Not reachable by merges: only a tokenizer that looks whole words up finds them.
WHOLE_WORDS = ["Ġzyzzyva", "qqqq", "ĊĊĊĊĊ"]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>", "</tool_call>"]


def byte_bpe():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = Sequence([split(LLAMA3), byte_level(False)])
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    trained.train_from_iterator(CORPUS.split("\n\n") * 2, trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = dict(model["vocab"])
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    for word in WHOLE_WORDS:
        vocab.setdefault(word, len(vocab))
    tokens = sorted(vocab, key=vocab.get)
    types = [1] * len(tokens) + [3] * len(CONTROL) + [4] * len(USER_DEFINED)
    ids = {}
    for family, pre in FAMILIES.items():
        tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=family in IGNORE_MERGES))
        tok.pre_tokenizer = pre
        plain = [tok.encode(t, add_special_tokens=False).ids for t in TEXTS]
        for text in CONTROL:
            tok.add_special_tokens([AddedToken(text, special=True, normalized=False)])
        for text in USER_DEFINED:
            tok.add_tokens([AddedToken(text, special=False, normalized=False)])
        special = [tok.encode(t, add_special_tokens=False).ids for t in SPECIAL_TEXTS]
        ids[family] = {"plain": plain, "special": special}
    return {
        "metadata": {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": tokens + CONTROL + USER_DEFINED,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.merges": [" ".join(m) for m in merges],
            "tokenizer.ggml.eos_token_id": len(tokens),
        },
        "texts": TEXTS,
        "special_texts": SPECIAL_TEXTS,
        "ids": ids,
    }


def spm(prefix, user_defined):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in CORPUS.split("\n") if line] * 3),
        model_writer=out,
        model_type="bpe",
        vocab_size=680,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        user_defined_symbols=user_defined,
        minloglevel=2,
    )
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    n = sp.get_piece_size()
    kinds = []
    for i in range(n):
        piece = sp.id_to_piece(i)
        kind = 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 4 if piece in user_defined else 1
        kinds.append(kind)
    # A GGUF holds user-defined tokens with plain spaces.
    tokens = [sp.id_to_piece(i).replace("▁", " ") if kinds[i] == 4 else sp.id_to_piece(i) for i in range(n)]
    # User-defined tokens next to a prefix space are where llama.cpp and sentencepiece part ways.
    texts = [t for t in TEXTS if "\0" not in t]
    return {
        "metadata": {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.scores": [sp.get_score(i) for i in range(n)],
            "tokenizer.ggml.bos_token_id": sp.bos_id(),
            "tokenizer.ggml.eos_token_id": sp.eos_id(),
            "tokenizer.ggml.unknown_token_id": sp.unk_id(),
            "tokenizer.ggml.add_space_prefix": prefix,
        },
        "texts": texts,
        "ids": [sp.encode(t) for t in texts],
    }


# What SentencePiece's normaliser replaces in the small vocabulary: source and target code points in hex.
RULES = """\
9\t20
A\t20
D\t20
A0\t20
3000\t20
FB01\t66 69
2461\t32
FF41\t61
65 301\tE9
65 301 301\t45
200B\t
"""


def unigram():
    out = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(RULES)
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line for line in CORPUS.split("\n") if line] * 3), model_writer=out, model_type="unigram", vocab_size=262,
            character_coverage=0.98, normalization_rule_tsv=rules.name, remove_extra_whitespaces=True, add_dummy_prefix=True, minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(out.getvalue())
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    n = sp.get_piece_size()
    # The mark of a space in the text itself is where llama.cpp and sentencepiece part ways.
    texts = [t for t in TEXTS if "\0" not in t and t != "\u2581"] + ["e\u0301e\u0301\u0301x", "\ufb01\u2461", "  a  \u3000 b "]
    return {
        "metadata": {
            "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.tokens": [sp.id_to_piece(i) for i in range(n)],
            "tokenizer.ggml.token_type": [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 1 for i in range(n)],
            "tokenizer.ggml.scores": [sp.get_score(i) for i in range(n)],
            "tokenizer.ggml.precompiled_charsmap": list(proto.normalizer_spec.precompiled_charsmap),
            "tokenizer.ggml.bos_token_id": sp.bos_id(),
            "tokenizer.ggml.eos_token_id": sp.eos_id(),
            "tokenizer.ggml.seperator_token_id": sp.eos_id(),
            "tokenizer.ggml.unknown_token_id": sp.unk_id(),
            "tokenizer.ggml.add_space_prefix": True,
            "tokenizer.ggml.remove_extra_whitespaces": True,
        },
        "texts": texts,
        "ids": [sp.encode(t) for t in texts],
    }


def wordpiece():
    """One vocabulary under every setting of the normaliser."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = BertNormalizer(lowercase=False)
    trained.pre_tokenizer = BertPreTokenizer()
    trained.train_from_iterator((CORPUS + CORPUS.lower()).split("\n"), trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    tokens = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    texts = TEXTS + ["x" * n for n in (99, 100, 101)] + ["\u00c5NGSTR\u00d6M", "a\u0323\u0307", "q\u200bz"]
    ids = {}
    for lowercase in (True, False):
        for accents in (True, False, None):
            trained.normalizer = BertNormalizer(lowercase=lowercase, strip_accents=accents)
            ids[f"{lowercase} {accents}".lower()] = [trained.encode(t, add_special_tokens=False).ids for t in texts]
    return {
        "metadata": {
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": [t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens],
            "tokenizer.ggml.token_type": [3 if t in special else 1 for t in tokens],
            "tokenizer.ggml.unknown_token_id": 1,
            "tokenizer.ggml.cls_token_id": 2,
            "tokenizer.ggml.seperator_token_id": 3,
        },
        "texts": texts,
        "ids": ids,
    }


def write(name, data):
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    (OUT / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes", file=sys.stderr)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("byte_bpe.json", byte_bpe())
    write("spm_prefix.json", spm(True, []))
    write("spm_user_defined.json", spm(False, ["\n", "\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<start>", "<stop>"]))
    write("wordpiece.json", wordpiece())
    write("unigram.json", unigram())
