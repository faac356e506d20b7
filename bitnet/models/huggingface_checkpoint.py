"""Ternary models in Hugging Face folders: config.json and safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitnet.errors import InvalidModelError, UnsupportedModelError
from bitnet.formats.safetensors import SafetensorsFolder, TensorInfo
from bitnet.models.embedders import stored_minus_one
from bitnet.models.huggingface_config import LinearClass, ModelConfig
from bitnet.models.tensors import DenseTensor, FloatKind, TernaryTensor
from bitnet.models.ternary_tensors import FloatTensor, QuartersTensor
from bitnet.tokenizers.huggingface_files import find_tokenizer, tokenizer_from_file
from bitnet.tokenizers.tokenizer import Tokenizer

_FLOAT_KINDS: dict[str, FloatKind] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_STORED_AS: dict[LinearClass, tuple[str, ...]] = {
    "bitlinear": ("U8",),
    "autobitlinear": ("U8", *_FLOAT_KINDS),
    "latent": tuple(_FLOAT_KINDS),
}

# Models without an output head may be stored without the first.
_PREFIXES = ("model.", "")
# Canonical name -> the names it can have in a checkpoint, that of transformers first. 1bitLLM calls
# the sub-norms otherwise, and Microsoft's embedding models the norms before linear layers.
_TOP_NAMES = {"token_embd": "embed_tokens", "output_norm": "norm"}
_LAYER_NAMES = {
    "attn_norm": ("input_layernorm",),
    "attn_q": ("self_attn.q_proj",),
    "attn_k": ("self_attn.k_proj",),
    "attn_v": ("self_attn.v_proj",),
    "attn_output": ("self_attn.o_proj",),
    "attn_sub_norm": ("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"),
    "ffn_norm": ("post_attention_layernorm",),
    "ffn_gate": ("mlp.gate_proj",),
    "ffn_up": ("mlp.up_proj",),
    "ffn_down": ("mlp.down_proj",),
    "ffn_sub_norm": ("mlp.ffn_sub_norm", "mlp.ffn_layernorm"),
    "attn_q_norm": ("self_attn.q_norm",),
    "attn_k_norm": ("self_attn.k_norm",),
    "attn_q_norm_in": ("self_attn.q_proj.rms_norm", "self_attn.q_proj.norm"),
    "attn_k_norm_in": ("self_attn.k_proj.rms_norm", "self_attn.k_proj.norm"),
    "attn_v_norm_in": ("self_attn.v_proj.rms_norm", "self_attn.v_proj.norm"),
    "attn_output_norm_in": ("self_attn.o_proj.rms_norm", "self_attn.o_proj.norm"),
    "ffn_gate_norm_in": ("mlp.gate_proj.rms_norm", "mlp.gate_proj.norm"),
    "ffn_up_norm_in": ("mlp.up_proj.rms_norm", "mlp.up_proj.norm"),
    "ffn_down_norm_in": ("mlp.down_proj.rms_norm", "mlp.down_proj.norm"),
}
_GEMMA_NAMES = _LAYER_NAMES | {
    "post_attention_norm": ("post_attention_layernorm",),
    "ffn_norm": ("pre_feedforward_layernorm",),
    "post_ffw_norm": ("post_feedforward_layernorm",),
}


def module_names(name: str, architecture: str) -> list[str]:
    """The modules whose weight the canonical tensor `name` can be, that of transformers first."""
    stem = name.removesuffix(".weight")
    if stem == "output":
        return ["lm_head"]
    if stem in _TOP_NAMES:
        return [f"{prefix}{_TOP_NAMES[stem]}" for prefix in _PREFIXES]
    _, layer, part = stem.split(".")
    names = _GEMMA_NAMES if architecture == "gemma3" else _LAYER_NAMES
    paths = [f"layers.{layer}.{module}" for module in names[part]]
    return [f"{prefix}{path}" for prefix in _PREFIXES for path in paths]


class HuggingFaceSource:
    """An open folder; see `bitnet.models.checkpoint.Source`."""

    layout = None
    version = ""

    def __init__(self, folder: Path) -> None:
        config = ModelConfig(folder)
        self._weights = config.weights()
        self._files = SafetensorsFolder(folder)
        self.path = folder
        self.name = folder.resolve().name
        self.size_bytes = self._files.size_bytes
        self.spec = config.spec(has_head="lm_head.weight" in self._files.tensors)
        self._ternary_shapes = self.spec.ternary_shapes()
        self._modules = {
            name: self._find_module(name)
            for name in (*self._ternary_shapes, *self.spec.dense_shapes())
        }
        for name, shape in self._ternary_shapes.items():
            self._check_ternary(self._modules[name], shape)
        for name, dense_shape in self.spec.dense_shapes().items():
            self._check_dense(self._modules[name], dense_shape)
        self._check_others()
        self.weight_types = frozenset(
            self._files.tensors[f"{self._modules[name]}.weight"].dtype
            for name in self._ternary_shapes
        )

    def ternary(self, name: str) -> TernaryTensor:
        module = self._modules[name]
        info = self._files.tensors[f"{module}.weight"]
        shape = self._ternary_shapes[name]
        factor = self._factor(module)
        if info.dtype == "U8":
            return QuartersTensor(
                info.file, info.name, shape, lambda: self._files.data(info.name), factor
            )
        return FloatTensor(
            info.file,
            info.name,
            shape,
            lambda: self._files.data(info.name),
            factor,
            kind=_FLOAT_KINDS[info.dtype],
            latent=self._weights.linear_class == "latent",
        )

    def dense(self, name: str) -> DenseTensor:
        info = self._files.tensors[f"{self._modules[name]}.weight"]
        stored = DenseTensor(name, self._files.data(info.name), _FLOAT_KINDS[info.dtype])
        if stored_minus_one(self.spec.architecture, name):
            return DenseTensor(name, stored.float32() + np.float32(1), "f32")
        return stored

    def packed(self, name: str) -> None:
        """There are no native files of this kind."""

    def tokenizer(self) -> Tokenizer | None:
        file = find_tokenizer(self.path)
        return None if file is None else tokenizer_from_file(file, self.spec.architecture)

    def release(self) -> None:
        self._files.release()

    def close(self) -> None:
        self._files.close()

    def _find_module(self, name: str) -> str:
        """The module whose weight is the canonical tensor `name`."""
        choices = module_names(name, self.spec.architecture)
        for module in choices:
            if f"{module}.weight" in self._files.tensors:
                return module
        raise InvalidModelError(self.path, "is missing", tensor=f"{choices[0]}.weight")

    def _check_ternary(self, module: str, shape: tuple[int, int]) -> None:
        info = self._files.tensors[f"{module}.weight"]
        if not self._weights.converts(module):
            raise UnsupportedModelError(
                info.file, "is not ternary (it is in modules_to_not_convert)", tensor=info.name
            )
        packed = info.dtype == "U8"
        if packed and shape[0] % 4:
            raise UnsupportedModelError(
                info.file, f"{shape[0]} rows cannot be packed by four", tensor=info.name
            )
        self._check_shape(info, (shape[0] // 4, shape[1]) if packed else shape)
        latent = self._weights.linear_class == "latent"
        allowed = _STORED_AS[self._weights.linear_class]
        if info.dtype not in allowed:
            raise UnsupportedModelError(
                info.file,
                f"type {info.dtype} is not one of {', '.join(allowed)} "
                f"that {self._weights.linear_class} weights can have",
                tensor=info.name,
            )
        if not latent:
            self._check_scale(f"{module}.weight_scale")

    def _check_scale(self, name: str) -> None:
        info = self._files.tensors.get(name)
        if info is None:
            raise InvalidModelError(self.path, "is missing", tensor=name)
        if info.dtype not in _FLOAT_KINDS or info.shape not in ((), (1,)):
            raise InvalidModelError(
                info.file, f"must be one float, not {info.dtype} {info.shape}", tensor=name
            )

    def _check_dense(self, module: str, shape: tuple[int, ...]) -> None:
        info = self._files.tensors[f"{module}.weight"]
        self._check_shape(info, shape)
        if info.dtype not in _FLOAT_KINDS:
            raise UnsupportedModelError(
                info.file, f"type {info.dtype} is not supported here", tensor=info.name
            )

    def _check_shape(self, info: TensorInfo, shape: tuple[int, ...]) -> None:
        if info.shape != shape:
            raise InvalidModelError(
                info.file, f"has shape {info.shape}, not {shape}", tensor=info.name
            )

    def _check_others(self) -> None:
        """Refuse tensors that would change the result and that nothing here would use."""
        used = {f"{module}.weight" for module in self._modules.values()}
        if self._weights.linear_class != "latent":
            used |= {f"{self._modules[name]}.weight_scale" for name in self._ternary_shapes}
        if self.spec.tied_head:
            used.add("lm_head.weight")
        for name in sorted(self._files.tensors.keys() - used):
            if not name.endswith(".rotary_emb.inv_freq"):  # derived from rope_theta
                raise UnsupportedModelError(
                    self._files.tensors[name].file,
                    f"is not a part of architecture {self.spec.architecture!r} known here",
                    tensor=name,
                )

    def _factor(self, module: str) -> float:
        """What multiplies the stored weights, from weight_scale."""
        if self._weights.linear_class == "latent":
            return 1.0
        info = self._files.tensors[f"{module}.weight_scale"]
        data = self._files.data(info.name)
        value = DenseTensor(info.name, data, _FLOAT_KINDS[info.dtype]).float32().reshape(())[()]
        with np.errstate(over="ignore", divide="ignore"):
            factor = value if self._weights.linear_class == "autobitlinear" else 1 / value
        if not (value > 0 and 0 < factor < np.inf):
            raise InvalidModelError(
                info.file, f"must be finite and positive, not {value}", tensor=info.name
            )
        return float(factor)
