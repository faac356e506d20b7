"""Texts that tokenizers get wrong."""

from __future__ import annotations

import random
import sys

ZWJ, VS16, ACUTE = "\u200d", "\ufe0f", "\u0301"

TEXTS = {
    "empty": "",
    "space": " ",
    "spaces": "a b  c   d    e     f" + " " * 40 + "g  ",
    "only spaces": " " * 100,
    "tabs": "\ta\t\tb \t c\t \n\t",
    "line ends": "a\nb\r\nc\rd\n\n\ne\r\n\r\n\r\nf \n g\n \n",
    "other spaces": "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u200bh\ufeffi\x0bj\x0ck\x1fl",
    "controls": "".join(map(chr, range(32))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "contractions": "it's IT'S We'Ve you'll 'tis rock'n'roll 's 'RE ''ll '\u017f \u2019s d'd 'M",
    "digits": "0 12 123 1234 12345 1234567890 3.14159 1,000 0x1F 1e-5 \u0663\u0664 \u00b2 \u2163",
    "punctuation": '...!!!??? --==++ ((a)) [b] {c} <d> "e" `f` #g @h $i %j ^k &l *m _n_ |o~ a/b\\c',
    "code": 'def f(x: int) -> str:\n    """Doc."""\n    return f"{x!r:>10}\\n"  # ok\n\n'
    "\tif a&&b{c++;}\r\n",
    "accents": f"na\u00efve nai\u0308ve \u00e9 e{ACUTE} Z{ACUTE * 30} \u0150\u1e9e\u00df",
    "scripts": "Ёжик в тумане. 東京は大きい。 안녕하세요 שלום مرحبا नमस्ते ไทย កាន់តែ 😀 ქართული",
    "emoji": "🙂👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳" + VS16 + ZWJ + "🌈 🇩🇪🇫🇷 1" + VS16 + "\u20e3 ☝🏿",
    "joiners": ZWJ * 5 + "a" + ZWJ + "b" + VS16 * 3 + "\u2060\u00ad\u202e\u2066abc\u2069",
    "long word": "supercalifragilistic" * 60,
    "one letter": "a" * 3000,
    "long number": "7" * 500,
    "one ideogram": "東" * 300,
    "specials": "<|begin_of_text|>a<|eot_id|> <|eot_id|>b <s></s><unk> <|eot_id <|endoftext|>|>",
    "spelled": "▁ ▁▁a▁ Ġa Ċ <0x41> <0x0A> <0xZZ> user defined é user defined e",
    "edges": "\x00a\x00 \U0010ffff \ufffe \uffff \ue000 \ufffd \U000e0041",
    "unassigned": "\u0378\u0530 \U0001fbff \U0003fffe",
    "case": "ǅ ŉ ﬁ ﬃ İ \u0131 \u017f K Å Ω ϴ ẞ",
}


def random_texts(count: int = 200) -> list[str]:
    """Characters from everywhere, assigned or not, and pieces of the texts above."""
    rng = random.Random(0)
    pieces = [*TEXTS.values()]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 8)):
            at = rng.randrange(max(1, len(piece := rng.choice(pieces))))
            parts += [piece[at : at + rng.randrange(1, 12)], chr(_code_point(rng))]
        texts.append("".join(parts))
    return texts


def _code_point(rng: random.Random) -> int:
    while True:
        code = int(rng.choice([0x80, 0x800, 0x10000, sys.maxunicode]) * rng.random())
        if not 0xD800 <= code < 0xE000:
            return code


def every_character(count: int = 512) -> list[str]:
    """Planes 0, 1 and 14 without surrogates, `count` code points a text, letters between them.

    The other planes hold ideographs, private characters and nothing.
    """
    planes = (range(0xD800), range(0xE000, 0x20000), range(0xE0000, 0xE0200))
    codes = [code for plane in planes for code in plane]
    between = ["", " ", "a", "1", "  "]
    return [
        "".join(chr(code) + between[code * 7 % 5] for code in codes[at : at + count])
        for at in range(0, len(codes), count)
    ]


ALL = [*TEXTS.values(), *random_texts()]
