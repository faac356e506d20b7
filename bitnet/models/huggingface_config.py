"""config.json of a Hugging Face folder: which ternary model it is and how its weights are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedModelError
from bitnet.models.embedders import EMBEDDERS, read_pooling, traits
from bitnet.models.spec import Activation, ModelSpec
from bitnet.strict_json import MAX_CONFIG_BYTES, JSONValue, parse_object, read_bounded

_GELU = "gelu_pytorch_tanh"

LinearClass = Literal["bitlinear", "autobitlinear", "latent"]


@dataclass(frozen=True, slots=True)
class WeightConvention:
    """How linear layers are stored.

    `bitlinear`: packed, divided by weight_scale. `autobitlinear`: packed, multiplied by it.
    `latent`: as trained, quantised when loading.
    """

    linear_class: LinearClass
    kept_float: tuple[str, ...] | None
    """modules_to_not_convert; None means the output head."""

    def converts(self, module: str) -> bool:
        """Whether the linear layer `module`, such as ``model.layers.0.mlp.up_proj``, is ternary."""
        if self.kept_float is None:
            return module != "lm_head"
        return not any(
            module.endswith(name) or f"{module}.".startswith(f"{name.removesuffix('.')}.")
            for name in self.kept_float
        )


class ModelConfig:
    """The checked content of config.json.

    Raises InvalidModelError for what is missing or of the wrong kind, UnsupportedModelError for
    models that are not ternary or not of an architecture known here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "config.json"
        # Those of Llama3-8B-1.58 have quantization_config twice.
        raw = read_bounded(self.path, MAX_CONFIG_BYTES)
        self._values = parse_object(self.path, raw, "the config", unique=False)

    def spec(self, *, has_head: bool) -> ModelSpec:
        """The model's numbers; `has_head` says whether the files hold lm_head.weight."""
        architecture, activation = self._architecture()
        own = traits(architecture)
        for key in ("attention_bias", "mlp_bias"):
            if self._values.get(key):
                raise UnsupportedModelError(self.path, f"{key} is set; biases are not supported")
        hidden_size = self._integer("hidden_size")
        n_heads = self._integer("num_attention_heads")
        context_length = self._integer("max_position_embeddings")
        if architecture in EMBEDDERS:
            self._refuse_other_attention(self._integer("head_dim", hidden_size // n_heads))
            if "sliding_attention" in self._layer_kinds(architecture):
                # Up to there no token is out of sight of a later one.
                context_length = min(context_length, self._integer("sliding_window", 4096))
        if self._values.get("head_dim") is None and hidden_size % n_heads:
            raise InvalidModelError(
                self.path, f"hidden_size {hidden_size} is not a multiple of {n_heads} heads"
            )
        try:
            return ModelSpec(
                architecture=architecture,
                n_layers=self._integer("num_hidden_layers"),
                hidden_size=hidden_size,
                ffn_size=self._integer("intermediate_size"),
                n_heads=n_heads,
                n_kv_heads=self._integer("num_key_value_heads", n_heads),
                head_dim=self._integer("head_dim", hidden_size // n_heads),
                vocab_size=self._integer("vocab_size"),
                context_length=context_length,
                rms_norm_eps=self._float32("rms_norm_eps"),
                rope_theta=self._gemma_rope_theta()
                if architecture == "gemma3"
                else self._rope_theta(500000.0 if activation == "relu2" else 10000.0),
                rope_pairing="halves",
                activation=activation,
                sub_norms=architecture.startswith("bitnet"),
                tied_head=not own["has_head"] or self._flag("tie_word_embeddings", not has_head),
                pooling=None if own["has_head"] else read_pooling(self._folder),
                **own,
            )
        except InvalidArgumentError as error:
            raise InvalidModelError(self.path, str(error)) from error

    def weights(self) -> WeightConvention:
        """How the linear layers are stored."""
        settings = self._values.get("quantization_config")
        if settings is None:
            # The checkpoints of 1bitLLM, older than quantization_config for BitNet.
            if self._values.get("weight_bits") == 1 and self._values.get("input_bits", 8) == 8:
                return WeightConvention("latent", None)
            if self._architecture()[0] in EMBEDDERS:  # whose files do not say
                return WeightConvention("latent", None)
            raise UnsupportedModelError(
                self.path, "has neither quantization_config nor weight_bits 1: not a ternary model"
            )
        if not isinstance(settings, dict) or settings.get("quant_method") != "bitnet":
            raise UnsupportedModelError(self.path, "quantization_config is not of method 'bitnet'")
        self._check_input_norms(settings)
        linear_class = settings.get("linear_class", "bitlinear")
        mode = settings.get("quantization_mode", "offline")
        kept = _kept_float(self.path, settings.get("modules_to_not_convert"))
        if linear_class == "bitlinear":
            return WeightConvention("bitlinear", kept)
        if linear_class == "autobitlinear" and mode in ("online", "offline"):
            weights = WeightConvention("latent" if mode == "online" else "autobitlinear", kept)
            # Trained weights do not show whether the head is to be quantised as well.
            if weights.linear_class == "latent" and weights.converts("lm_head"):
                raise UnsupportedModelError(
                    self.path, "the output head is not in modules_to_not_convert; it must be float"
                )
            return weights
        raise InvalidModelError(
            self.path, f"linear_class {linear_class!r} in mode {mode!r} is not known"
        )

    def _check_input_norms(self, settings: dict[str, JSONValue]) -> None:
        architecture, _ = self._architecture()
        is_embedder = architecture in EMBEDDERS
        if bool(settings.get("use_rms_norm")) != is_embedder:
            raise UnsupportedModelError(
                self.path,
                f"{architecture} is supported only {'with' if is_embedder else 'without'} "
                "use_rms_norm (norms inside linear layers)",
            )
        if not is_embedder:
            return
        eps = np.float32(self._number(settings, "rms_norm_eps", 1e-6))
        if eps != self._float32("rms_norm_eps"):
            raise UnsupportedModelError(
                self.path, f"rms_norm_eps {eps:g} of linear layers is not that of the other norms"
            )

    def _architecture(self) -> tuple[str, Activation]:
        if self._values.get("model_type") == "qwen3" and self._values.get("hidden_act") == "silu":
            return "qwen3", "silu"
        if (
            self._values.get("model_type") == "gemma3_text"
            and self._values.get("hidden_activation", _GELU) == _GELU
        ):
            return "gemma3", "gelu"
        names = self._values.get("architectures")
        name = names[0] if isinstance(names, list) and len(names) == 1 else None
        activation = self._values.get("hidden_act")
        if name in ("BitNetForCausalLM", "BitnetForCausalLM"):
            if activation == "relu2":
                return "bitnet-b1.58", "relu2"
            if activation == "silu":
                return "bitnet", "silu"
        elif name == "LlamaForCausalLM" and activation == "silu":
            return "llama", "silu"
        raise UnsupportedModelError(
            self.path, f"architectures {names!r} with hidden_act {activation!r} is not supported"
        )

    def _rope_theta(self, default: float) -> float:
        # rope_scaling is the name before transformers 5, where it held no rope_theta.
        theta = self._number(self._values, "rope_theta", default)
        for key in ("rope_parameters", "rope_scaling"):
            settings = self._values.get(key)
            if settings is None:
                continue
            if not isinstance(settings, dict):
                raise InvalidModelError(self.path, f"{key} must be an object")
            self._refuse_rope_scaling(settings)
            theta = self._number(settings, "rope_theta", theta)
        self._refuse_partial_rotation(self._values)
        return theta

    def _refuse_rope_scaling(self, settings: dict[str, JSONValue]) -> None:
        kind = settings.get("rope_type", settings.get("type", "default"))
        if kind != "default":
            raise UnsupportedModelError(self.path, f"rope scaling {kind!r} is not supported")
        self._refuse_partial_rotation(settings)

    def _gemma_rope_theta(self) -> float:
        """That of all layers, whose kinds may each have their own in the file."""
        by_kind = self._values.get("rope_parameters")
        found = set()
        for kind in self._layer_kinds("gemma3"):
            if isinstance(by_kind, dict) and isinstance(settings := by_kind.get(kind), dict):
                self._refuse_rope_scaling(settings)
                found.add(self._number(settings, "rope_theta", None))
            elif kind == "full_attention":
                found.add(self._rope_theta(1000000.0))
            else:
                found.add(self._number(self._values, "rope_local_base_freq", 10000.0))
        if len(found) != 1:
            raise UnsupportedModelError(
                self.path, f"layers with different rope_theta are not supported: {sorted(found)}"
            )
        return found.pop()

    def _layer_kinds(self, architecture: str) -> set[str]:
        """The kinds of attention that layers have."""
        known = {"full_attention"} | ({"sliding_attention"} if architecture == "gemma3" else set())
        n_layers, kinds = self._integer("num_hidden_layers"), self._values.get("layer_types")
        if kinds is None:
            every = self._integer("sliding_window_pattern", 6) if architecture == "gemma3" else 1
            is_full = {(n + 1) % every == 0 for n in range(min(n_layers, every))}
            return {"full_attention" if full else "sliding_attention" for full in is_full}
        if not isinstance(kinds, list) or len(kinds) != n_layers:
            raise InvalidModelError(self.path, f"layer_types must be a list of {n_layers} names")
        found = {str(kind) for kind in kinds}
        if not found <= known:
            raise UnsupportedModelError(
                self.path, f"layer_types {', '.join(sorted(found - known))} are not supported"
            )
        return found

    def _refuse_other_attention(self, head_dim: int) -> None:
        for key in ("use_bidirectional_attention", "use_sliding_window", "attn_logit_softcapping"):
            if self._values.get(key):
                raise UnsupportedModelError(self.path, f"{key} is set; it is not supported")
        scalar = self._number(self._values, "query_pre_attn_scalar", float(head_dim))
        if scalar != head_dim:
            raise UnsupportedModelError(
                self.path,
                f"query_pre_attn_scalar {scalar:g} is not supported, only head_dim {head_dim}",
            )

    def _refuse_partial_rotation(self, settings: dict[str, JSONValue]) -> None:
        if self._number(settings, "partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModelError(self.path, "partial_rotary_factor is not supported")

    def _integer(self, key: str, default: int | None = None) -> int:
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidModelError(self.path, f"{key} must be a positive integer, not {value!r}")
        return value

    def _number(self, values: dict[str, JSONValue], key: str, default: float | None) -> float:
        value = values.get(key)
        value = default if value is None else value
        # Integers with thousands of digits are valid JSON, but not floats.
        if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > 1e300:
            raise InvalidModelError(self.path, f"{key} must be a number, not {value!r}")
        return float(value)

    def _float32(self, key: str) -> float:
        """A number that is used as float32, which is also what GGUF files hold."""
        with np.errstate(over="ignore"):  # infinity is refused like other numbers
            return float(np.float32(self._number(self._values, key, None)))

    def _flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise InvalidModelError(self.path, f"{key} must be true or false, not {value!r}")
        return value


def _kept_float(path: Path, names: JSONValue) -> tuple[str, ...] | None:
    if names is None:
        return None
    kept: list[str] = []
    for name in names if isinstance(names, list) else [None]:
        # transformers also takes regular expressions; no published model uses them.
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise UnsupportedModelError(
                path, f"modules_to_not_convert must be a list of module names, not {names!r}"
            )
        kept.append(name)
    return tuple(kept)
