"""Strings, prompts and conversations for the checks: the same on every run, written for their traps."""

import random

PROMPTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the sea,",
    "1, 2, 4, 8, 16,",
]

CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 17 + 25?"}],
    [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "Another one."},
    ],
    [{"role": "user", "content": "  spaces  around \n\n and lines \n"}],
    [{"role": "user", "content": "<|im_end|> is a mark, {{ braces }} are none, \"quotes\" 'too' \\n"}],
    [{"role": "user", "content": "Grüße, 你好, 🙂"}],
    [
        {"role": "system", "content": "You answer in French."},
        {"role": "user", "content": "Good morning"},
        {"role": "assistant", "content": "Bonjour"},
        {"role": "user", "content": "Thank you"},
        {"role": "assistant", "content": "Merci"},
        {"role": "user", "content": "Good night"},
    ],
    [{"role": "user", "content": ""}],
]

PIECES = [
    "Hello world", "The quick brown fox jumps over the lazy dog.", "I'm we'll they've DON'T can't it's o'clock",
    "  two  spaces   three", "\ttab\tand\n\nlines\r\n \n  \n", "trailing space ", " leading", "   ", "\n", "a", "",
    "12345678901234567890", "3.14159 1,000,000 0x1F4A9 1e-12 50% $9.99 #42", "2026-11-28T19:22:51+00:00",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; }",
    "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass", "SELECT * FROM t WHERE a != 'b' AND c >= 10;",
    "<html><body class=\"x\">&amp;</body></html>", "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\"}", "https://example.com/a?b=c&d=%20#e",
    "user@example.org", "C:\\Windows\\System32", "~/.config/weft", "!!!???...---___***", "«guillemets» „quotes“ ‘single’ — – …",
    "Grüße aus München, Straße, ÄÖÜ", "naïve café résumé coöperate", "Ünïcödé Ǆ ﬁ ﬂ ſ ẞ İ ı", "e\u0301 u\u0308 n\u0303 A\u030a", "Český řízek, Łódź, Ørsted, þing",
    "Привет, как дела? Ёлка", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "你好，世界。今天天气很好", "こんにちは世界、カタカナ",
    "안녕하세요 세계", "漢字とかな交じり文 mixed English", "🙂🎉👩‍👩‍👧‍👦🏳️‍🌈👍🏽", "∑∫√∞≠≤≥±×÷αβγ", "x² + y³ = z₁₂", "½ ⅓ ① Ⅳ ㎏ ℃ ™",
    "\u00a0nbsp\u2009thin\u3000wide\u200bzero", "a\u200db\u200cc\ufeffd", "ﬀ ﷺ Å Ω K", "ＦＵＬＬ ｗｉｄｔｈ １２３", "𝓗𝓮𝓵𝓵𝓸 𝟙𝟚𝟛 𐍈",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "WHAT?! No way... (really) [yes] {ok} <hm>", "A.B.C. U.S.A. e.g. i.e. Dr. Mr. etc.", "-5 +3 --x ++y a-b a--b", "'s 't 're 've 'm 'll 'd 'S 'LL",
    "tokenization untokenizable re-tokenize", "\u0000nul\u0007bell\u007fdel", "\ufffd replacement", "line\u2028separator\u2029paragraph\u0085next",
]  # fmt: skip


def strings(n, seed=1):
    """n strings: every piece, then mixtures and cut-outs of them, and random characters of many blocks."""
    rng, out = random.Random(seed), list(PIECES)
    blocks = [(32, 127), (161, 592), (880, 1328), (1424, 1791), (2304, 2432), (3585, 3676), (8192, 8304), (8352, 8592)]
    blocks += [(12288, 12544), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFF01, 0xFFEF), (0x1F300, 0x1F650), (0x20000, 0x20040)]
    while len(out) < n:
        kind = rng.randrange(3)
        if kind == 0:
            text = rng.choice(["", " ", "\n", "  "]).join(rng.choice(PIECES) for _ in range(rng.randrange(2, 5)))
        elif kind == 1:
            text = rng.choice(PIECES)
            start = rng.randrange(len(text) + 1)
            text = text[start : start + rng.randrange(1, 20)] + rng.choice(["", " ", "s", "'", "."])
        else:
            text = "".join(
                chr(rng.randrange(*rng.choice(blocks))) if rng.random() < 0.6 else rng.choice(" \neaE1.")
                for _ in range(rng.randrange(1, 24))
            )
        out.append(text)
    return out[:n]
