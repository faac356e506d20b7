"""Ternary models in GGUF files, as bitnet.cpp, llama.cpp and their forks write them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.formats.gguf import GGUFFile, TensorInfo
from bitnet.models.block_tensors import BlockTensor, TernaryBlockKind
from bitnet.models.embedders import POOLING_TYPES, traits
from bitnet.models.native import LAYOUT_KEY, NativeTensors
from bitnet.models.spec import Activation, ModelSpec, Pooling, RopePairing
from bitnet.models.tensors import (
    FLOAT_DTYPES,
    BlockKind,
    DenseTensor,
    FloatKind,
    TernaryTensor,
)
from bitnet.models.ternary_tensors import FloatTensor, I2STensor, TLTensor
from bitnet.models.tl_blocks import BlockSizes
from bitnet.quant.tl_config import PRESETS, Blocks, TLName
from bitnet.tokenizers.gguf_vocabulary import MODEL_KEY, tokenizer_from_gguf
from bitnet.tokenizers.tokenizer import Tokenizer

# general.architecture -> ModelSpec.architecture, activation, sub-norms, rope pairing
_ARCHITECTURES: dict[str, tuple[str, Activation, bool, RopePairing]] = {
    "bitnet-b1.58": ("bitnet-b1.58", "relu2", True, "halves"),
    "bitnet-25": ("bitnet-b1.58", "relu2", True, "halves"),  # early files of the same model
    "bitnet": ("bitnet", "silu", True, "halves"),
    "llama": ("llama", "silu", False, "interleaved"),
    "qwen3": ("qwen3", "silu", False, "halves"),
    "gemma3": ("gemma3", "gelu", False, "halves"),
}
_FLOAT_KINDS: dict[str, FloatKind] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_BLOCK_KINDS: dict[str, BlockKind] = {"Q8_0": "q8_0", "Q6_K": "q6_k"}
_TERNARY_BLOCK_KINDS: dict[str, TernaryBlockKind] = {
    "TQ1_0": "TQ1_0",
    "TQ2_0": "TQ2_0",
    "IQ1_BN": "IQ1_BN",
    "IQ2_BN": "IQ2_BN",
}
_TABLES = ("token_embd.weight", "output.weight")
_ANY = 2**31  # ModelSpec knows the real limits


class GGUFSource:
    """An open GGUF file; see `bitnet.models.checkpoint.Source`."""

    def __init__(self, path: Path) -> None:
        self._file = GGUFFile(path)
        self.path = path
        self.size_bytes = self._file.size_bytes
        self.name = self._file.metadata.get_str("general.name", default=path.stem) or path.stem
        self.version = self._file.metadata.get_str("general.version", default="")
        self._architecture = self._file.metadata.get_str("general.architecture")
        self.spec = _read_spec(self._file, self._architecture)
        self._ternary_shapes = self.spec.ternary_shapes()
        keys = self._file.metadata
        self._native = NativeTensors(self._file, self.spec) if LAYOUT_KEY in keys else None
        self.layout = None if self._native is None else self._native.layout
        self._check_tensors()
        self.weight_types = (
            frozenset(self._file.tensors[name].type for name in self._ternary_shapes)
            if self._native is None
            else frozenset([self._native.layout])
        )
        self._blocks = self._find_blocks()

    def ternary(self, name: str) -> TernaryTensor:
        if self._native is not None:
            return self._native.ternary(name, self._ternary_shapes[name])
        info = self._file.tensors[name]
        rows, cols = info.shape
        factor = self._factor(name)
        if info.type == "I2_S":
            return I2STensor(self.path, name, (rows, cols), lambda: self._file.data(name), factor)
        if name in self._blocks:
            tl, blocks = self._blocks[name]
            return TLTensor(
                self.path,
                name,
                (rows, cols),
                lambda: self._file.data(name),
                factor,
                kind=tl,
                blocks=blocks,
            )
        if info.type in _TERNARY_BLOCK_KINDS:
            return BlockTensor(
                self.path,
                name,
                (rows, cols),
                lambda: self._file.data(name),
                factor,
                kind=_TERNARY_BLOCK_KINDS[info.type],
            )
        kind = _FLOAT_KINDS[info.type]
        return FloatTensor(
            self.path, name, (rows, cols), lambda: self._floats(info), factor, kind=kind
        )

    def dense(self, name: str) -> DenseTensor:
        info = self._file.tensors[name]
        if info.type in _BLOCK_KINDS:
            blocks = self._file.data(name).reshape(info.shape[0], -1)
            return DenseTensor(name, blocks, _BLOCK_KINDS[info.type])
        return DenseTensor(name, self._floats(info), _FLOAT_KINDS[info.type])

    def packed(self, name: str) -> npt.NDArray[Any] | None:
        return None if self._native is None else self._native.packed(name)

    def tokenizer(self) -> Tokenizer | None:
        if MODEL_KEY not in self._file.metadata:
            return None
        return tokenizer_from_gguf(self.path, self._file.metadata, self._architecture)

    def release(self) -> None:
        self._file.release()

    def close(self) -> None:
        self._file.close()

    def _floats(self, info: TensorInfo) -> npt.NDArray[Any]:
        dtype = FLOAT_DTYPES[_FLOAT_KINDS[info.type]]
        return self._file.data(info.name).view(dtype).reshape(info.shape)

    def _factor(self, name: str) -> float:
        """The number in a ``.scale`` tensor, which some older files keep beside the weights."""
        info = self._file.tensors.get(_scale_name(name))
        if info is None:
            return 1.0
        return float(self.dense(info.name).float32().reshape(()))

    def _find_blocks(self) -> dict[str, tuple[TLName, Blocks]]:
        """The block sizes of all TL1 and TL2 tensors."""
        sizes, found = BlockSizes(self.path, self._file.metadata), {}
        for name, (rows, columns) in self._ternary_shapes.items():
            info = self._file.tensors.get(name)
            for tl in PRESETS:
                if info is not None and info.type == tl:
                    found[name] = (tl, sizes.find(name, tl, (rows, columns)))
        return found

    def _check_tensors(self) -> None:
        ternary, dense = self._ternary_shapes, self.spec.dense_shapes()
        known = [*dense]
        if self._native is None:
            known += ternary
        else:
            known += self._native.names
            ternary = {}
        for name, shape in (*ternary.items(), *dense.items()):
            info = self._file.tensors.get(name)
            if info is None:
                raise InvalidModelError(self.path, "is missing", tensor=name)
            if info.shape != shape:
                raise InvalidModelError(
                    self.path, f"has shape {info.shape}, not {shape}", tensor=name
                )
            if not _supported(info.type, name, name in ternary):
                raise UnsupportedModelError(
                    self.path, f"type {info.type} is not supported here", tensor=name
                )
        for name in map(_scale_name, ternary):
            info = self._file.tensors.get(name)
            if info is not None:
                known.append(name)
                if info.type not in _FLOAT_KINDS or info.shape != (1,):
                    raise InvalidModelError(
                        self.path, f"must be one float, not {info.type} {info.shape}", tensor=name
                    )
        for name in self._file.tensors.keys() - known:
            raise UnsupportedModelError(
                self.path,
                f"is not a part of architecture {self._architecture!r} known here",
                tensor=name,
            )


def _supported(type_name: str, name: str, is_ternary: bool) -> bool:
    """Whether a tensor of the model may have this type."""
    if type_name in _BLOCK_KINDS:
        return name in _TABLES
    if type_name in ("I2_S", *PRESETS) or type_name in _TERNARY_BLOCK_KINDS:
        return is_ternary
    return type_name in _FLOAT_KINDS


def _scale_name(weight: str) -> str:
    return weight.removesuffix("weight") + "scale"


def _read_spec(file: GGUFFile, arch: str) -> ModelSpec:
    path, keys = file.path, file.metadata
    if arch not in _ARCHITECTURES:
        raise UnsupportedModelError(
            path, f"architecture {arch!r} is not one of {', '.join(_ARCHITECTURES)}"
        )
    architecture, activation, sub_norms, rope_pairing = _ARCHITECTURES[arch]
    _refuse_rope_scaling(file, arch)
    own = traits(architecture)

    def integer(key: str, default: int | None = None) -> int:
        return keys.get_int(f"{arch}.{key}", 1, _ANY, default=default)

    hidden_size, n_heads = integer("embedding_length"), integer("attention.head_count")
    if f"{arch}.attention.key_length" not in keys and hidden_size % n_heads:
        raise InvalidModelError(path, f"width {hidden_size} is not a multiple of {n_heads} heads")
    head_dim = integer("attention.key_length", hidden_size // n_heads)
    _refuse_other_attention(file, arch, head_dim)
    for key in ("attention.value_length", "rope.dimension_count"):
        if integer(key, head_dim) != head_dim:
            raise UnsupportedModelError(
                path, f"{arch}.{key} is {integer(key)}, not the head size {head_dim}"
            )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise InvalidModelError(path, "is missing", tensor="token_embd.weight")
    try:
        return ModelSpec(
            architecture=architecture,
            n_layers=integer("block_count"),
            hidden_size=hidden_size,
            ffn_size=integer("feed_forward_length"),
            n_heads=n_heads,
            n_kv_heads=integer("attention.head_count_kv", n_heads),
            head_dim=head_dim,
            vocab_size=integer("vocab_size", embedding.shape[0]),
            context_length=integer("context_length"),
            rms_norm_eps=keys.get_float(f"{arch}.attention.layer_norm_rms_epsilon", 0.0, 1.0),
            rope_theta=keys.get_float(f"{arch}.rope.freq_base", 0.0, 1e12, default=10000.0),
            rope_pairing=rope_pairing,
            activation=activation,
            sub_norms=sub_norms,
            tied_head=not own["has_head"] or "output.weight" not in file.tensors,
            pooling=_read_pooling(file, arch),
            **own,
        )
    except InvalidArgumentError as error:
        raise InvalidModelError(path, str(error)) from error


def _refuse_rope_scaling(file: GGUFFile, arch: str) -> None:
    keys = file.metadata
    kind = keys.get_str(f"{arch}.rope.scaling.type", default="none")
    linear = keys.get_float(f"{arch}.rope.scale_linear", 0.0, 1e12, default=1.0)
    if kind != "none" or linear != 1.0:
        raise UnsupportedModelError(
            file.path, f"rope scaling ({kind}, {linear:g}) is not supported"
        )
    if f"{arch}.attention.sliding_window" in keys:
        raise UnsupportedModelError(file.path, "sliding-window attention is not supported")


def _refuse_other_attention(file: GGUFFile, arch: str, head_dim: int) -> None:
    keys = file.metadata
    if not keys.get_bool(f"{arch}.attention.causal", default=True):
        raise UnsupportedModelError(file.path, "attention to later tokens is not supported")
    usual = head_dim**-0.5
    scale = keys.get_float(f"{arch}.attention.scale", 0.0, 1e6, default=usual)
    if not math.isclose(scale, usual, rel_tol=1e-6):
        raise UnsupportedModelError(
            file.path, f"attention.scale {scale:g} is not supported, only {usual:g}"
        )


def _read_pooling(file: GGUFFile, arch: str) -> Pooling | None:
    key = f"{arch}.pooling_type"
    if key not in file.metadata:
        return None
    number = file.metadata.get_int(key, 0, _ANY)
    known = {0: None, **{number: pooling for pooling, number in POOLING_TYPES.items()}}
    if number not in known:
        raise UnsupportedModelError(file.path, f"{key} {number} is not supported")
    return known[number]
