"""Write a GGUF file with random ternary weights in the shape of a published model.

    python benchmarks/random_model.py 2b4t /tmp/2b4t.gguf

Such a file says nothing and takes exactly as long as the real model to say it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.models import ModelSpec
from bitnet.quant import i2s

SHAPES = {
    "2b4t": ModelSpec(
        architecture="bitnet-b1.58",
        n_layers=30,
        hidden_size=2560,
        ffn_size=6912,
        n_heads=20,
        n_kv_heads=5,
        head_dim=128,
        vocab_size=128256,
        context_length=4096,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_pairing="halves",
        activation="relu2",
        sub_norms=True,
        tied_head=True,
    ),
}
_ROWS = 256  # rows generated at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("path")
    parser.add_argument("--layers", type=int, help="instead of the model's own number")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    spec = SHAPES[args.shape]
    write_random_model(args.path, spec, args.layers or spec.n_layers, args.seed)


def write_random_model(path: str, spec: ModelSpec, n_layers: int, seed: int) -> None:
    """The model `spec` with `n_layers` layers of random weights as GGUF, I2_S and F16."""
    rng = np.random.default_rng(seed)
    arch = spec.architecture
    metadata: dict[str, object] = {
        "general.architecture": arch,
        "general.name": "random weights",
        "general.file_type": 40,
        f"{arch}.block_count": n_layers,
        f"{arch}.context_length": spec.context_length,
        f"{arch}.embedding_length": spec.hidden_size,
        f"{arch}.feed_forward_length": spec.ffn_size,
        f"{arch}.attention.head_count": spec.n_heads,
        f"{arch}.attention.head_count_kv": spec.n_kv_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": spec.rms_norm_eps,
        f"{arch}.rope.dimension_count": spec.head_dim,
        f"{arch}.rope.freq_base": spec.rope_theta,
        f"{arch}.vocab_size": spec.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": ["a", "b", "ab", *(f"<{i}>" for i in range(3, spec.vocab_size))],
        "tokenizer.ggml.token_type": np.ones(spec.vocab_size, np.int32),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }
    tensors = []
    for name, shape in spec.dense_shapes().items():
        if _in_layers(name, n_layers):
            kind = "F16" if len(shape) == 2 else "F32"
            tensors.append(TensorData(name, shape, kind, _dense(rng, shape)))
    for name, (rows, columns) in spec.ternary_shapes().items():
        if _in_layers(name, n_layers):
            tensors.append(TensorData(name, (rows, columns), "I2_S", _codes(rng, rows, columns)))
    write_gguf(path, metadata, tensors)


def _in_layers(name: str, n_layers: int) -> bool:
    return not name.startswith("blk.") or int(name.split(".")[1]) < n_layers


def _dense(rng: np.random.Generator, shape: tuple[int, ...]) -> Iterator[bytes]:
    if len(shape) == 1:
        yield rng.uniform(0.5, 1.5, shape).astype(np.float32).tobytes()
        return
    for start in range(0, shape[0], _ROWS):
        part = (min(_ROWS, shape[0] - start), shape[1])
        yield (
            (rng.standard_normal(part, np.float32) * np.float32(0.02)).astype(np.float16).tobytes()
        )


def _codes(rng: np.random.Generator, rows: int, columns: int) -> Iterator[bytes]:
    for start in range(0, rows, _ROWS):
        part = (min(_ROWS, rows - start), columns)
        yield bytes(i2s.pack_codes(rng.integers(0, 3, part, np.uint8)))
    yield i2s.pack_trailer(1.0 / np.sqrt(columns))


if __name__ == "__main__":
    main()
