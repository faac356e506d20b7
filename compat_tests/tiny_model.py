"""A real GGUF model of known behaviour: whatever the prompt, it says TEXT and ends.

The ternary layers are zero, so the hidden state is the embedding of the last token, a unit vector
of its own. The output head then says which token follows which.
"""

from __future__ import annotations

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


def write_tiny_model(path: Path) -> None:
    tokens = [letter for letter, _ in sorted(_byte_letters().items(), key=lambda item: item[1])]
    words = [_spelling(word) for word in WORDS]
    eos = len(tokens) + len(words)
    tokens = [*tokens, *words, "<eos>"]
    metadata = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": 1,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([1] * eos + [3], dtype=np.int32),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": eos,
    }
    write_gguf(path, metadata, [_embedding(len(tokens)), *_layer(), *_head(len(tokens))])


def _embedding(vocab: int) -> TensorData:
    unit = np.eye(vocab, HIDDEN, dtype=np.float32)
    return TensorData("token_embd.weight", unit.shape, "F32", unit)


def _layer() -> list[TensorData]:
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (HIDDEN, HIDDEN))
    shapes |= {"ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
    linear = [
        TensorData(
            f"blk.0.{name}.weight",
            shape,
            "I2_S",
            i2s.pack(np.full(shape, ZERO_CODE, dtype=np.uint8), 1.0),
        )
        for name, shape in shapes.items()
    ]
    return [*linear, _norm("blk.0.attn_norm.weight"), _norm("blk.0.ffn_norm.weight")]


def _norm(name: str) -> TensorData:
    return TensorData(name, (HIDDEN,), "F32", np.ones(HIDDEN, dtype=np.float32))


def _head(vocab: int) -> list[TensorData]:
    """Every byte is followed by the first word, each word by the next, the last one by the end."""
    first = vocab - len(WORDS) - 1
    head = np.zeros((vocab, HIDDEN), dtype=np.float32)
    head[first, :first] = 1
    for token in range(first, vocab - 1):
        head[token + 1, token] = 1
    head[vocab - 1, vocab - 1] = 1
    return [_norm("output_norm.weight"), TensorData("output.weight", head.shape, "F32", head)]


def _byte_letters() -> dict[str, int]:
    """GPT-2's spelling of bytes: itself where printable, else a letter from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}


def _spelling(word: str) -> str:
    letters = {byte: letter for letter, byte in _byte_letters().items()}
    return "".join(letters[byte] for byte in word.encode())
