"""Small embedding models with random weights in the layouts that are published.

A Hugging Face folder holds latent bfloat16 weights, a GGUF file what Microsoft's converter makes of
them. The numbers are such that both mean the same, bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s
from tests.models.conftest import as_type, bf16, rounded, write_safetensors
from tests.tokenizers.conftest import PUBLISHED_SPLITS

Array = npt.NDArray[Any]
Kind = Literal["qwen3", "gemma3"]

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM = 2, 128, 256, 4, 2, 64
VOCAB, CONTEXT = 300, 512
END = 256  # Qwen3's token after the 256 bytes
GEMMA_PIECES = ("<pad>", "<eos>", "<bos>", "<unk>")
GEMMA_BYTES = len(GEMMA_PIECES)

LINEARS = {
    "self_attn.q_proj": ("attn_q", HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": ("ffn_gate", FFN, HIDDEN),
    "mlp.up_proj": ("ffn_up", FFN, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, FFN),
}
NATIVE_NORMS: dict[Kind, dict[str, tuple[str, int]]] = {
    "qwen3": {
        "input_layernorm": ("attn_norm", HIDDEN),
        "post_attention_layernorm": ("ffn_norm", HIDDEN),
        "self_attn.q_norm": ("attn_q_norm", HEAD_DIM),
        "self_attn.k_norm": ("attn_k_norm", HEAD_DIM),
    },
    "gemma3": {
        "input_layernorm": ("attn_norm", HIDDEN),
        "post_attention_layernorm": ("post_attention_norm", HIDDEN),
        "pre_feedforward_layernorm": ("ffn_norm", HIDDEN),
        "post_feedforward_layernorm": ("post_ffw_norm", HIDDEN),
        "self_attn.q_norm": ("attn_q_norm", HEAD_DIM),
        "self_attn.k_norm": ("attn_k_norm", HEAD_DIM),
    },
}


class Embedder:
    """tensors: by the names that they have in a folder, as float32."""

    def __init__(self, kind: Kind, n_layers: int = LAYERS) -> None:
        self.kind = kind
        self.n_layers = n_layers
        rng = np.random.default_rng(5)
        self.tensors = {"embed_tokens.weight": rounded(rng.normal(0, 0.5, (VOCAB, HIDDEN)))}
        self.names = {"embed_tokens.weight": "token_embd.weight"}
        for n in range(n_layers):
            for module, (name, rows, columns) in LINEARS.items():
                self._add(n, f"{module}.weight", f"{name}.weight", _latent(rng, rows, columns))
                norm = 1 + rng.integers(-60, 60, columns) / np.float32(128)
                self._add(n, f"{module}.norm.weight", f"{name}_norm_in.weight", norm)
            for module, (name, width) in NATIVE_NORMS[kind].items():
                self._add(n, f"{module}.weight", f"{name}.weight", self._native_norm(rng, width))
        self.tensors["norm.weight"] = self._native_norm(rng, HIDDEN)
        self.names["norm.weight"] = "output_norm.weight"

    def _add(self, layer: int, module: str, name: str, values: Array) -> None:
        self.tensors[f"layers.{layer}.{module}"] = values.astype(np.float32)
        self.names[f"layers.{layer}.{module}"] = f"blk.{layer}.{name}"

    def _native_norm(self, rng: np.random.Generator, width: int) -> Array:
        """Gemma's are stored less 1."""
        values = rng.integers(-60, 60, width) / np.float32(128)
        return (values if self.kind == "gemma3" else values + 1).astype(np.float32)

    @property
    def config(self) -> dict[str, Any]:
        config = {
            "model_type": "qwen3",
            "architectures": ["Qwen3Model"],
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "intermediate_size": FFN,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "vocab_size": VOCAB,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000,
            "rope_scaling": None,
            "attention_bias": False,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
        }
        if self.kind == "qwen3":
            return config
        del config["hidden_act"], config["use_sliding_window"]
        return config | {
            "model_type": "gemma3_text",
            "architectures": ["Gemma3TextModel"],
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": HEAD_DIM,
            "rope_theta": 10000.0,
            "rope_local_base_freq": 10000.0,
            "layer_types": ["sliding_attention"] * (self.n_layers - 1) + ["full_attention"],
            "sliding_window": CONTEXT,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        }

    def write_folder(
        self,
        folder: Path,
        *,
        prefix: str = "",
        pooling: str | None = "lasttoken",
        config: dict[str, Any] | None = None,
    ) -> Path:
        """config: changes of config.json; None takes a key out."""
        folder.mkdir(exist_ok=True)
        values = self.config | (config or {})
        values = {key: value for key, value in values.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(values))
        stored = {f"{prefix}{name}": ("BF16", bf16(v)) for name, v in self.tensors.items()}
        write_safetensors(folder / "model.safetensors", stored)
        if pooling is not None:
            write_pooling(folder, {f"pooling_mode_{pooling}": True})
        return folder

    def write_gguf(
        self,
        path: Path,
        *,
        pooling: int | None = 3,
        linear_type: str = "I2_S",
        metadata: dict[str, Any] | None = None,
        changed: tuple[TensorData, ...] = (),
    ) -> Path:
        """metadata: changes of the keys; None takes a key out. changed: in the place of others."""
        arch = self.kind
        keys: dict[str, Any] = {
            "general.architecture": arch,
            "general.name": f"bitnet-embedding-{arch}",
            f"{arch}.block_count": self.n_layers,
            f"{arch}.context_length": CONTEXT,
            f"{arch}.embedding_length": HIDDEN,
            f"{arch}.feed_forward_length": FFN,
            f"{arch}.attention.head_count": HEADS,
            f"{arch}.attention.head_count_kv": KV_HEADS,
            f"{arch}.vocab_size": VOCAB,
            f"{arch}.rope.dimension_count": HEAD_DIM,
            f"{arch}.attention.key_length": HEAD_DIM,
            f"{arch}.attention.value_length": HEAD_DIM,
            f"{arch}.rope.freq_base": 1e6 if arch == "qwen3" else 1e4,
            f"{arch}.attention.layer_norm_rms_epsilon": 1e-6,
            "general.file_type": 40,
            f"{arch}.pooling_type": pooling,
            **(_qwen_tokens() if arch == "qwen3" else _gemma_tokens()),
            **(metadata or {}),
        }
        tensors = []
        for name, values in self.tensors.items():
            kind, data = "F16", self._converted(name, values)
            if name.endswith("_proj.weight") and linear_type != "I2_S":
                kind, data = linear_type, as_type(data, linear_type)
            elif name.endswith("_proj.weight"):
                kind = linear_type
                codes = (np.sign(data) + 1).astype(np.uint8)
                data = i2s.pack(codes, float(np.abs(values).mean()))
            tensors.append(TensorData(self.names[name], values.shape, kind, data))
        by_name = {tensor.name: tensor for tensor in (*tensors, *changed)}
        write_gguf(path, {k: v for k, v in keys.items() if v is not None}, [*by_name.values()])
        return path

    def _converted(self, name: str, values: Array) -> Array:
        """Of linears -1, 0, +1 times the scale."""
        if name.endswith("_proj.weight"):
            mean = np.abs(values).mean()
            return np.clip(np.rint(values / mean), -1, 1) * mean
        native = name.endswith("norm.weight") and not name.endswith("_proj.norm.weight")
        return (values + (self.kind == "gemma3" and native)).astype(np.float16)


def write_pooling(folder: Path, modes: dict[str, Any]) -> None:
    """The files of sentence-transformers, with these keys of the pooling's config.json."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    config = {
        "word_embedding_dimension": HIDDEN,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
        **modes,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


def write_tokenizer(folder: Path, kind: Kind) -> None:
    """The one of the GGUF file, but that Qwen3 composes letters and accents, as published."""
    encoder = _qwen_encoder() if kind == "qwen3" else _gemma_encoder()
    encoder.save(str(folder / "tokenizer.json"))


def _qwen_encoder() -> Tokenizer:
    """No merges: a token for each byte, and the end of text after them."""
    tokens = {letter: id for id, letter in enumerate(byte_letters())}
    encoder = Tokenizer(models.BPE(tokens, []))
    encoder.normalizer = normalizers.NFC()
    pattern = Regex(PUBLISHED_SPLITS["qwen2"])
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    encoder.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    encoder.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, END)])
    return encoder


def _gemma_encoder() -> Tokenizer:
    pieces = _gemma_tokens()["tokenizer.ggml.tokens"]
    tokens = {piece: id for id, piece in enumerate(pieces)}
    options: dict[str, Any] = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    encoder = Tokenizer(models.BPE(tokens, [], **options))
    encoder.normalizer = normalizers.Replace(" ", "▁")
    encoder.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    encoder.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    encoder.add_special_tokens([AddedToken(p, special=True) for p in GEMMA_PIECES])
    encoder.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return encoder


def _latent(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Weights whose mean magnitude is exactly a power of two, s: three of four are 1.25 s."""
    scale = np.float32(2.0 ** -int(rng.integers(4, 6)))
    values = np.full(rows * columns, 1.25, np.float32)
    values[: values.size // 4] = 0.25
    rng.shuffle(values)
    signs = rng.choice(np.array([-1, 1], np.float32), values.size)
    return (values * signs * scale).reshape(rows, columns)


def _qwen_tokens() -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*byte_letters(), "<|endoftext|>"],
        "tokenizer.ggml.token_type": np.array([1] * 256 + [3], np.int32),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.add_eos_token": True,
    }


def _gemma_tokens() -> dict[str, Any]:
    pieces = [*GEMMA_PIECES, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b"]
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * 3
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": np.zeros(len(pieces), np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }


def byte_letters() -> list[str]:
    """GPT-2's letter for each byte: itself where printable, else from U+0100 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]
