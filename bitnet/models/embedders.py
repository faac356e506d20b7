"""The embedding models: Qwen3 and Gemma 3 with a norm of its own before each ternary linear layer.

They have no output head, whatever their files hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.models.spec import Pooling
from bitnet.strict_json import MAX_CONFIG_BYTES, JSONValue, parse_object, parse_value, read_bounded

EMBEDDERS = ("qwen3", "gemma3")

# Canonical names of the norms that Gemma adds 1 to; those before linear layers are as usual.
_NATIVE_NORMS = frozenset(
    {"attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"}
    | {"output_norm"}
)
_POOLING_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


# Of GGUF files; 0 is none.
POOLING_TYPES: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3}
# Microsoft's converter takes "mean" where a folder has no modules.json.
DOUBT_OF_MEAN = (
    "the file says mean pooling, as converters do that are not told; published BitNet embedding "
    "models take the last token"
)


class Traits(TypedDict):
    """Those of `ModelSpec` that an architecture decides."""

    input_norms: bool
    qk_norms: bool
    post_norms: bool
    scaled_embedding: bool
    has_head: bool


def traits(architecture: str) -> Traits:
    is_embedder, is_gemma = architecture in EMBEDDERS, architecture == "gemma3"
    return Traits(
        input_norms=is_embedder,
        qk_norms=is_embedder,
        post_norms=is_gemma,
        scaled_embedding=is_gemma,
        has_head=not is_embedder,
    )


def stored_minus_one(architecture: str, name: str) -> bool:
    """Whether Hugging Face folders store a float tensor, by its canonical name, less 1.

    In GGUF files that 1 has been added.
    """
    return architecture == "gemma3" and name.split(".")[-2] in _NATIVE_NORMS


def read_pooling(folder: Path) -> Pooling | None:
    """What the files of sentence-transformers in a folder say; None where there are none.

    Raises InvalidModelError for broken ones, UnsupportedModelError for other ways than `Pooling`.
    """
    modules_path = folder / "modules.json"
    if not modules_path.is_file():
        return None
    modules = parse_value(
        modules_path,
        read_bounded(modules_path, MAX_CONFIG_BYTES),
        "the list of modules",
        unique=False,
    )
    for module in modules if isinstance(modules, list) else [None]:
        if not isinstance(module, dict) or not isinstance(kind := module.get("type"), str):
            raise InvalidModelError(modules_path, "must be a list of objects with a type")
        if kind.endswith("Pooling"):
            return _pooling_of(modules_path, module.get("path"))
    return None


def pooling_files(pooling: Pooling, hidden_size: int) -> dict[str, Any]:
    """The names and values of the files of sentence-transformers, see `read_pooling`."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    modes = {key: mode == pooling for key, mode in _POOLING_MODES.items()}
    config = {"word_embedding_dimension": hidden_size, **modes, "include_prompt": True}
    return {"modules.json": modules, "1_Pooling/config.json": config}


def _pooling_of(modules_path: Path, place: JSONValue) -> Pooling:
    """place: the folder of the module, beside modules.json."""
    if not isinstance(place, str) or Path(place).name != place or place == "..":
        raise InvalidModelError(modules_path, f"the path of a module is {place!r}, not a folder")
    path = modules_path.parent / place / "config.json"
    config = parse_object(path, read_bounded(path, MAX_CONFIG_BYTES), "the config", unique=False)
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in _POOLING_MODES:
        raise UnsupportedModelError(
            path, f"must choose one of {', '.join(_POOLING_MODES)}, not {', '.join(chosen) or None}"
        )
    pooling = _POOLING_MODES[chosen[0]]
    if pooling != "last" and not config.get("include_prompt", True):
        raise UnsupportedModelError(path, "pooling without the prompt is not supported")
    return pooling
