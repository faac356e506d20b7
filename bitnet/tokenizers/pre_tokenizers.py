"""How byte-level BPE cuts text into words: what the names in `tokenizer.ggml.pre` stand for.

The names come from llama.cpp; these are its patterns, or those of the models it took them from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The patterns that cut and `whole_words`: see `pieces.byte_level_encoder`."""

    splits: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = _CL100K.format(digits="{1,3}")
_LLAMA3 = PreTokenizer((LLAMA3_SPLIT,), whole_words=True, add_bos=True)
_QWEN2 = PreTokenizer((_CL100K.format(digits=""),))
_PUNCTUATION = r"[\p{P}$+<=>^~|`]+"
_THREE_DIGITS = r"[0-9][0-9][0-9]"
_EAST_ASIAN = "[\u0800-\u9fa5\uac00-\ud7ff]+"
_CHINESE_JAPANESE = "[\u4e00-\u9fa5\u3040-\u30ff]+"
_DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PRE_TOKENIZERS = {
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "falcon3": _LLAMA3,
    "falcon_e": _LLAMA3,
    "smaug-bpe": PreTokenizer((LLAMA3_SPLIT,)),
    "falcon": PreTokenizer((_PUNCTUATION, _GPT2, _THREE_DIGITS)),
    "gpt-2": PreTokenizer((_GPT2,)),
    "smollm": PreTokenizer((r"\p{N}", _GPT2)),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}")),
    "deepseek-v3": PreTokenizer((r"\p{N}{1,3}", _CHINESE_JAPANESE, _DEEPSEEK_V3)),
    "default": PreTokenizer((r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", _THREE_DIGITS)),
}

# As tokenizer.json files have them, where that is not how they are spelled here.
_PUBLISHED_SPLITS = {
    "[一-龥ࠀ-一가-\ud7ff]+": _EAST_ASIAN,
    "[一-龥\u3040-ゟ\u30a0-\u30ff]+": _CHINESE_JAPANESE,
}


def name_of_steps(steps: Sequence[Mapping[str, Any]], *, whole_words: bool) -> str | None:
    """The name of the pre-tokenizer that a tokenizer.json has as these steps; None for others.

    It is the first of several with the same meaning.
    """
    kinds = [step["type"] for step in steps]
    if kinds.count("ByteLevel") != 1:
        return None
    splits = tuple(split for split in map(_split_of_step, steps) if split != "")
    # What comes after it meets letters for bytes; only these digits are spelled by themselves.
    later = map(_split_of_step, steps[kinds.index("ByteLevel") + 1 :])
    if not set(later) <= {_THREE_DIGITS}:
        return None
    found = (
        name
        for name, known in PRE_TOKENIZERS.items()
        if known.splits == splits and known.whole_words == whole_words
    )
    return next(found, None)


def _split_of_step(step: Mapping[str, Any]) -> str | None:
    """The pattern that cuts as a step does, "" if it does not cut, None if it is not known."""
    settings = {key: value for key, value in step.items() if key not in ("type", "trim_offsets")}
    match step["type"], settings:
        case "Split", {"pattern": {"Regex": str(split)}, "behavior": "Isolated", "invert": False}:
            return _PUBLISHED_SPLITS.get(split, split)
        case "ByteLevel", {"add_prefix_space": False, "use_regex": use_regex}:
            return _GPT2 if use_regex else ""
        case "Digits", {"individual_digits": True}:
            return r"\p{N}"
        case "Punctuation", {"behavior": "Contiguous"}:
            return _PUNCTUATION
    return None
