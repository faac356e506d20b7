"""Settings of the command line: from flags, else the environment, else a file, else defaults.

All problems of the file and the environment are reported together, each with where it comes from.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bitnet.errors import InvalidArgumentError
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LayoutName
from bitnet.models.expectations import FormatName, QuantizationName
from bitnet.program.plan import HeadKind
from bitnet.strict_json import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE_BYTES = 1 << 16
MAX_LINE_CHARS = 1 << 12
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"(\d[\d_]*)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def parse_bytes(value: str) -> int:
    """Bytes from text such as "1_000", "512M" or "16 GiB"; units are 1024-based. ValueError."""
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is no size such as 512M or 16GiB")
    return int(match[1].replace("_", "")) << _SHIFTS[match[2].upper()]


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _what_is_said(value: object) -> object:
    return None if value == "auto" else value


def _quantization(value: object) -> object:
    text = value.upper() if isinstance(value, str) else value
    return {"I2S": "I2_S", "AUTO": None}.get(text, text) if isinstance(text, str) else text


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelSettings(_Section):
    """Which model, and what it must be: format and sizes, if given, are compared with the file's.

    path may be a name in the model store.
    """

    path: str | None = None
    format: Annotated[FormatName | None, BeforeValidator(_what_is_said)] = None
    tokenizer: Path | None = None
    chat_template: str | None = None
    context: Count | None = None
    vocab_size: Count | None = None
    hidden_size: Count | None = None
    num_layers: Count | None = None
    num_heads: Count | None = None
    num_key_value_heads: Count | None = None
    intermediate_size: Count | None = None


class InferenceSettings(_Section):
    """How text is generated; see `bitnet.SamplingParams`."""

    max_new_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] | None = None
    stop: list[str] | None = None


class QuantizationSettings(_Section):
    """How weights, the output head and the key/value cache are kept in memory.

    quantization_type is how the file must hold the weights.
    """

    quantization_type: Annotated[QuantizationName | None, BeforeValidator(_quantization)] = None
    layout: LayoutName | None = None
    head: HeadKind | None = None
    kv: KVKind | None = None


class PerformanceSettings(_Section):
    """What of the machine is used."""

    threads: Count | None = None
    target: str | None = None
    numa: bool | None = None
    memory_limit: Bytes | None = None
    use_gpu: Literal[False] | None = None


class Tree(BaseModel):
    """All settings; None is the default of the command."""

    model_config = ConfigDict(extra="forbid")
    model: ModelSettings = ModelSettings()
    inference: InferenceSettings = InferenceSettings()
    quantization: QuantizationSettings = QuantizationSettings()
    performance: PerformanceSettings = PerformanceSettings()


def _unless(*words: str) -> Callable[[str], str | None]:
    return lambda text: None if text.lower() in words else text


def _flag(text: str) -> bool | str:
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    return known.get(text.lower(), text)


_none, _auto = _unless("none"), _unless("auto")

# Variable -> (setting, what turns its text into the value).
VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "BITNET_MODEL_PATH": ("model.path", str),
    "BITNET_MODEL_FORMAT": ("model.format", str),
    "BITNET_TOKENIZER": ("model.tokenizer", str),
    "BITNET_CHAT_TEMPLATE": ("model.chat_template", str),
    "BITNET_CONTEXT": ("model.context", str),
    "BITNET_VOCAB_SIZE": ("model.vocab_size", str),
    "BITNET_HIDDEN_SIZE": ("model.hidden_size", str),
    "BITNET_NUM_LAYERS": ("model.num_layers", str),
    "BITNET_NUM_HEADS": ("model.num_heads", str),
    "BITNET_MAX_NEW_TOKENS": ("inference.max_new_tokens", str),
    "BITNET_TEMPERATURE": ("inference.temperature", str),
    "BITNET_TOP_K": ("inference.top_k", lambda text: _none(text) or 0),
    "BITNET_TOP_P": ("inference.top_p", lambda text: _none(text) or 1.0),
    "BITNET_SEED": ("inference.seed", _none),
    "BITNET_QUANTIZATION_TYPE": ("quantization.quantization_type", str),
    "BITNET_LAYOUT": ("quantization.layout", str),
    "BITNET_HEAD": ("quantization.head", str),
    "BITNET_KV": ("quantization.kv", str),
    "BITNET_THREADS": ("performance.threads", _auto),
    "BITNET_NUM_THREADS": ("performance.threads", _auto),
    "BITNET_CPU_THREADS": ("performance.threads", _auto),
    "BITNET_TARGET": ("performance.target", str),
    "BITNET_NUMA": ("performance.numa", _flag),
    "BITNET_MEMORY_LIMIT": ("performance.memory_limit", _none),
    "BITNET_USE_GPU": ("performance.use_gpu", _flag),
}

# Sizes that a model must have -> the field of `ModelSpec`.
SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "intermediate_size": "ffn_size",
}

# Names that files for other programs have, and ours.
ALIASES = {
    "performance.num_threads": "performance.threads",
    "performance.cpu_threads": "performance.threads",
    "model.max_position_embeddings": "model.context",
}


@dataclass(frozen=True)
class Settings:
    """What the file and the environment say; `origins` tells where each value comes from."""

    tree: Tree
    origins: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """Every setting by its dotted name; None where nothing is said."""
        sections = self.tree.model_dump(mode="json")
        return {f"{s}.{name}": v for s, section in sections.items() for name, v in section.items()}

    def option_defaults(self) -> dict[str, Any]:
        """Names of options -> what they are when they are not given."""
        named = {
            "model" if n == "model.path" else n.split(".")[1]: v for n, v in self.values().items()
        }
        return {name: value for name, value in named.items() if value is not None}

    def expected_sizes(self) -> dict[str, int]:
        """Those of `SIZES` that are said."""
        return {
            n: v for n, v in self.tree.model.model_dump().items() if n in SIZES and v is not None
        }


# Those of the command that is running.
CURRENT: ContextVar[Settings | None] = ContextVar("settings", default=None)


def default_file() -> Path:
    """The user's own file, which need not exist."""
    return Path(typer.get_app_dir("bitnet")) / "config.toml"


def chosen_file(path: Path | None) -> Path | None:
    """The file to read: the given one, that of BITNET_CONFIG_FILE, the user's own, or none."""
    if path is None and os.environ.get("BITNET_CONFIG_FILE"):
        path = Path(os.environ["BITNET_CONFIG_FILE"])
    if path is None:
        return default_file() if default_file().is_file() else None
    return path


def read(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the chosen file and the environment.

    Raises InvalidArgumentError that names every problem and where it is.
    """
    file = chosen_file(path)
    layers = [] if file is None else [(str(file), _from_file(file))]
    layers += [
        (variable, {setting: parse(environment[variable])})
        for variable, (setting, parse) in VARIABLES.items()
        if environment.get(variable)
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            values[name], origins[name] = value, origin
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    try:
        return Settings(Tree.model_validate(nested), origins)
    except ValidationError as error:
        raise InvalidArgumentError(_explain(error, origins)) from error


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    problems = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"][:2])
        origin = next(o for n, o in origins.items() if n == name or n.startswith(f"{name}."))
        problems.append(f"{origin}: {name}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(dict.fromkeys(problems))


def _from_file(path: Path) -> dict[str, Any]:
    """Dotted names -> values of a TOML or JSON file."""
    try:
        data = _read(path)
        tree: Any = parse(data) if path.suffix == ".json" else _parse_toml(data.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{path}: cannot be read: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(part, dict) for part in tree.values()):
        raise InvalidArgumentError(f"{path}: all settings are in sections, such as [inference]")
    names = {f"{section}.{key}": value for section in tree for key, value in tree[section].items()}
    return {ALIASES.get(name, name): value for name, value in names.items()}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    return data


def _parse_toml(text: str) -> dict[str, Any]:
    # The time that a name of many parts takes grows with the square of their number.
    if max(map(len, text.splitlines()), default=0) > MAX_LINE_CHARS:
        raise ValueError(f"a line has more than {MAX_LINE_CHARS} characters")
    return tomllib.loads(text)
