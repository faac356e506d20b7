"""A tokenizer as the files that transformers reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bitnet.tokenizers.tokenizer import Tokenizer

_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_STRIPPING = ("Strip", "Metaspace")


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """The names and texts of the files: tokenizer.json and tokenizer_config.json."""
    values = json.loads(tokenizer.to_json())
    values["post_processor"] = _post_processor(tokenizer)
    if tokenizer._vocabulary.adds_space:
        values["decoder"] = _stripping(values["decoder"])
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": tokenizer.add_bos,
        "add_eos_token": tokenizer.add_eos,
    }
    for name, id in (("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id)):
        if id is not None:
            settings[f"{name}_token"] = tokenizer.piece(id)
    if values["model"]["unk_token"] is not None:
        settings["unk_token"] = values["model"]["unk_token"]
    templates = tokenizer.chat_templates
    if {*templates} == {"default"}:
        settings["chat_template"] = templates["default"]
    elif templates:
        settings["chat_template"] = [{"name": n, "template": t} for n, t in templates.items()]
    return {
        "tokenizer.json": json.dumps(values, ensure_ascii=False),
        "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
    }


def _post_processor(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What puts tokens before and after a text, if any are."""
    before = _special(tokenizer, tokenizer.bos_id if tokenizer.add_bos else None)
    after = _special(tokenizer, tokenizer.eos_id if tokenizer.add_eos else None)
    if not before and not after:
        return None

    def whole(name: str, type_id: int) -> Iterator[dict[str, Any]]:
        yield from ({"SpecialToken": {"id": token, "type_id": type_id}} for token in before)
        yield {"Sequence": {"id": name, "type_id": type_id}}
        yield from ({"SpecialToken": {"id": token, "type_id": type_id}} for token in after)

    return {
        "type": "TemplateProcessing",
        "single": [*whole("A", 0)],
        "pair": [*whole("A", 0), *whole("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [id], "tokens": [token]}
            for token, id in (before | after).items()
        },
    }


def _special(tokenizer: Tokenizer, id: int | None) -> dict[str, int]:
    return {} if id is None else {tokenizer.piece(id): id}


def _stripping(decoder: dict[str, Any]) -> dict[str, Any]:
    """The decoder that also takes off the space that encoding puts before a text."""
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if any(step["type"] in _STRIPPING for step in steps):
        return decoder
    return {"type": "Sequence", "decoders": [*steps, _STRIP]}
