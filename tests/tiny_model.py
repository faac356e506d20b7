"""A real GGUF model of known behaviour: whatever the prompt, it says WORDS in turn and ends.

The ternary layers are zero, so the hidden state is the embedding of the last token, a unit vector
of its own. The output head then says which token follows which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s

WORDS = (" été", " 10€", " 世界", " 🙂", " fin")  # characters of 1 to 4 bytes
TEXT = "".join(WORDS)
CONTEXT = 64
HIDDEN = 384
HEADS = 3
FFN = 128
ZERO_CODE = 1
N_BYTES = 256
EOS = N_BYTES + len(WORDS)


def write_tiny_model(
    path: Path,
    *,
    first_words: Mapping[str, int] | None = None,
    endless: bool = False,
    context: int = CONTEXT,
    chat_template: str | None = None,
) -> Path:
    """Write the model; a token is a byte or a word.

    first_words: ASCII characters that, at the end of a prompt, lead to another of WORDS than the
    first, given by index.
    endless: start again after the last word.
    """
    metadata = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": 1,
        "llama.context_length": context,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": EOS + 1,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": _tokens(),
        "tokenizer.ggml.token_type": np.array([1] * EOS + [3], dtype=np.int32),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": EOS,
    }
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    followers = np.arange(1, EOS + 2)  # who comes after each token; the end follows itself
    followers[:N_BYTES] = N_BYTES
    for character, word in (first_words or {}).items():
        followers[ord(character)] = N_BYTES + word
    followers[EOS - 1] = N_BYTES if endless else EOS
    followers[EOS] = EOS
    write_gguf(path, metadata, [*_ends(followers), *_layer()])
    return path


def _tokens() -> list[str]:
    """The spellings of all tokens in GPT-2's letters for bytes.

    A byte is itself where that is printable, else a letter from U+0100 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(N_BYTES))
    letters = [chr(b) if b in plain else chr(N_BYTES + next(others)) for b in range(N_BYTES)]
    words = ["".join(letters[byte] for byte in word.encode()) for word in WORDS]
    return [*letters, *words, "<eos>"]


def _ends(followers: np.ndarray) -> list[TensorData]:
    """The embedding, the last norm and the head."""
    unit = np.eye(len(followers), HIDDEN, dtype=np.float32)
    head = np.zeros_like(unit)
    head[followers, np.arange(len(followers))] = 1
    return [
        TensorData("token_embd.weight", unit.shape, "F32", unit),
        _norm("output_norm.weight"),
        TensorData("output.weight", head.shape, "F32", head),
    ]


def _layer() -> list[TensorData]:
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (HIDDEN, HIDDEN))
    shapes |= {"ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
    linears = [
        TensorData(
            f"blk.0.{name}.weight",
            shape,
            "I2_S",
            i2s.pack(np.full(shape, ZERO_CODE, dtype=np.uint8), 1.0),
        )
        for name, shape in shapes.items()
    ]
    return [*linears, _norm("blk.0.attn_norm.weight"), _norm("blk.0.ffn_norm.weight")]


def _norm(name: str) -> TensorData:
    return TensorData(name, (HIDDEN,), "F32", np.ones(HIDDEN, dtype=np.float32))
