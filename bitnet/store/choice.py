"""Which files of a repository make a model. Pickled weights are never among them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf_parts import part_names
from bitnet.formats.safetensors import INDEX_FILE, SINGLE_FILE

# What is read beside weights in safetensors files, if it is there.
_BESIDE_SAFETENSORS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_TEMPLATES = "additional_chat_templates/"
_BESIDE_GGUF = "kernel_config.ini"  # of TL1 and TL2


def choose_files(repo: str, files: Collection[str], wanted: str | None = None) -> list[str]:
    """The files to fetch; the first is the one to load, or model.safetensors or its index.

    wanted: a GGUF file, or a safetensors file for those of Hugging Face; None is the only GGUF
    model, or else safetensors. Raises InvalidArgumentError when there is a choice to make or
    `wanted` is no such file, UnsupportedModelError when there is no model, InvalidModelError when
    a part of one is missing.
    """
    ggufs = gguf_models(files)
    if wanted is None:
        if len(ggufs) > 1:
            raise InvalidArgumentError(f"{repo} holds several models; {_offers(repo, ggufs)}")
        return _gguf(repo, files, next(iter(ggufs))) if ggufs else _safetensors(repo, files)
    if wanted not in files:
        offers = f"; {_offers(repo, ggufs)}" if ggufs else ""
        raise InvalidArgumentError(f"{repo} has no file {wanted}{offers}")
    if wanted.endswith(".gguf"):
        return _gguf(repo, files, wanted)
    if wanted.endswith(".safetensors") and "/" not in wanted:
        return _safetensors(repo, files)
    raise InvalidArgumentError(f"{repo}:{wanted} is no model: neither GGUF nor safetensors")


def gguf_models(files: Collection[str]) -> list[str]:
    """The GGUF files, of those in several parts the first, sorted."""
    firsts = {path for path in files if path.endswith(".gguf") and gguf_parts(path)[0] == path}
    return sorted(firsts)


def gguf_parts(path: str) -> list[str]:
    """All files of the GGUF model that this file is of, in order."""
    pure = PurePosixPath(path)
    return [str(pure.with_name(name)) for name in part_names(pure.name)]


def has_safetensors(files: Collection[str]) -> bool:
    """Whether these are the files of a model in Hugging Face's form."""
    return "config.json" in files and (SINGLE_FILE in files or INDEX_FILE in files)


def _offers(repo: str, ggufs: list[str]) -> str:
    return "choose one: " + ", ".join(f"{repo}:{path}" for path in ggufs)


def _gguf(repo: str, files: Collection[str], path: str) -> list[str]:
    parts = gguf_parts(path)
    for part in parts:
        if part not in files:
            raise InvalidModelError(repo, f"{part} is missing, one of {len(parts)} parts")
    beside = str(PurePosixPath(path).with_name(_BESIDE_GGUF))
    return parts + [file for file in (beside,) if file in files]


def _safetensors(repo: str, files: Collection[str]) -> list[str]:
    if not has_safetensors(files):
        raise UnsupportedModelError(
            repo,
            f"holds no model that can be loaded: neither GGUF nor config.json and {SINGLE_FILE} "
            f"or {INDEX_FILE}; pickled weights are not read",
        )
    weights = [SINGLE_FILE]
    if SINGLE_FILE not in files:
        shards = {f for f in files if f.endswith(".safetensors") and "/" not in f}
        weights = [INDEX_FILE, *sorted(shards)]
    beside = {f for f in files if f in _BESIDE_SAFETENSORS or f.startswith(_TEMPLATES)}
    return weights + sorted(beside)
