"""The structures of bitnet.h as settings of this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, get_args

from bitnet.errors import InvalidModelError
from bitnet.loading import STEP_TOKENS
from bitnet.model import Options
from bitnet.models import Checkpoint, open_checkpoint
from bitnet.models.expectations import (
    FormatName,
    QuantizationName,
    check_format,
    check_quantization,
)

# The values of bitnet_model_format_t and bitnet_quantization_type_t, from 0; 0 is not meant.
_FORMATS: tuple[FormatName, ...] = get_args(FormatName)
_QUANTIZATIONS: tuple[QuantizationName, ...] = get_args(QuantizationName)
_DEFAULT_POSITIONS = 2048
# Field of bitnet_config_t -> attribute of ModelSpec, value in BITNET_CONFIG_INIT. Programs pass
# these values without meaning them.
_SHAPE = {
    "vocab_size": ("vocab_size", 32000),
    "hidden_size": ("hidden_size", 4096),
    "num_layers": ("n_layers", 32),
    "num_heads": ("n_heads", 32),
    "intermediate_size": ("ffn_size", 11008),
}


class InferenceConfig(Protocol):
    """bitnet_inference_config_t, valid; see bitnet.h."""

    max_length: int
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    do_sample: int


def options(config: InferenceConfig) -> Options:
    """The same as keyword arguments of `Model.generate`."""
    return {
        "max_length": config.max_length,
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature if config.do_sample else 0.0,
        "top_k": config.top_k,
        "top_p": config.top_p or 1.0,
        "repetition_penalty": config.repetition_penalty,
        "frequency_penalty": config.frequency_penalty,
        "presence_penalty": config.presence_penalty,
        "seed": config.seed or None,
    }


class LoadConfig(Protocol):
    """bitnet_config_t, valid; see bitnet.h."""

    model_format: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_position_embeddings: int
    quantization_type: int
    num_threads: int
    batch_size: int
    memory_limit: int


@dataclass(frozen=True)
class LoadSettings:
    """What a program asks of a model that it loads; None where it leaves the choice."""

    threads: int | None = None
    context: int | None = None
    max_requests: int | None = None
    memory_limit: int | None = None


def load_settings(path: str, config: LoadConfig) -> LoadSettings:
    """Raises ModelFileError when the files at `path` are not what `config` expects."""
    positions = config.max_position_embeddings
    context = None if positions in (0, _DEFAULT_POSITIONS) else positions
    if config.model_format:
        check_format(path, _FORMATS[config.model_format], "model_format")
    if context is not None or config.quantization_type or any(_expected_shape(config)):
        with open_checkpoint(path) as checkpoint:
            _check(path, checkpoint, config, context)
    return LoadSettings(
        threads=config.num_threads or None,
        context=context,
        max_requests=min(config.batch_size, STEP_TOKENS) if config.batch_size > 1 else None,
        memory_limit=config.memory_limit or None,
    )


def quantization_type(weight_types: frozenset[str]) -> int:
    """A bitnet_quantization_type_t: what all weights are stored as, or 0."""
    for number, name in enumerate(_QUANTIZATIONS):
        if weight_types == {name}:
            return number
    return 0


def _expected_shape(config: LoadConfig) -> Iterator[tuple[str, str, int]]:
    for field, (attribute, default) in _SHAPE.items():
        value = getattr(config, field)
        if value not in (0, default):
            yield field, attribute, value


def _check(path: str, checkpoint: Checkpoint, config: LoadConfig, context: int | None) -> None:
    spec = checkpoint.spec
    for field, attribute, value in _expected_shape(config):
        found = getattr(spec, attribute)
        if found != value:
            raise InvalidModelError(path, f"has {field} {found}, not {value} as expected")
    if context is not None and context > spec.context_length:
        raise InvalidModelError(
            path,
            f"was made for {spec.context_length} positions, fewer than "
            f"max_position_embeddings {context}",
        )
    if config.quantization_type:
        expected = _QUANTIZATIONS[config.quantization_type]
        check_quantization(path, checkpoint.weight_types, expected, "quantization_type")
