"""Write the well-formed files of `corpus`: `python -m tests.fuzz.make_corpus`.

Files in it whose names start with "found" are inputs that were bugs; this leaves them alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from bitnet.conversion import convert
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s, iq_bn, q6_k, q8_0, tl1, tl2, tq
from bitnet.quant.tl_config import Blocks, write_config
from bitnet.tokenizers.spelling import spell_bytes
from bitnet.tokenizers.templates import TEMPLATES
from tests.fuzz.targets import SEPARATOR
from tests.models.conftest import TinyModel, make_tiny, write_tiny_folder, write_tiny_gguf

CORPUS = Path(__file__).parent / "corpus"
# The smallest that the types of tensors allow.
FLOATS = {"n_layers": 1, "hidden_size": 16, "ffn_size": 16, "n_heads": 2, "n_kv_heads": 1}
FLOATS |= {"head_dim": 8, "vocab_size": 12, "context_length": 16}
I2_S = {**FLOATS, "hidden_size": 128, "ffn_size": 128, "head_dim": 64}
BLOCKS = {**FLOATS, "hidden_size": 256, "ffn_size": 64, "n_kv_heads": 2}
TL1_BLOCKS, TL2_BLOCKS = Blocks(32, 64, 32), Blocks(32, 96, 32)
PIECES = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab", "<0x0A>", "<0xE2>", "l", "o"]
KINDS = [2, 3, 3, 1, 1, 1, 1, 1, 6, 6, 1, 1]
SCORES = [0, 0, 0, -4, -5, -6, -1, -2, 0, 0, -7, -8]
SPACE = spell_bytes(b" ")
LETTERS = ["a", "b", SPACE, "H", "e", "l", "o", "ab", f"{SPACE}ab", "<|end_of_text|>"]


def main() -> None:
    """Write them all."""
    for target, make in MAKERS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found"):
                old.unlink()
        for name, data in make():
            (folder / name).write_bytes(data)


def gguf() -> Iterator[tuple[str, bytes]]:
    """Models of every type of tensor, vocabulary and file."""
    with TemporaryDirectory() as name:
        path, out = Path(name) / "m.gguf", Path(name) / "out.gguf"
        write_tiny_gguf(make_tiny("bitnet-b1.58", **I2_S), path, metadata=byte_level_keys())
        yield "i2_s", path.read_bytes()
        for kind, keys in (("F16", sentencepiece_keys()), ("BF16", byte_level_keys())):
            model = make_tiny("llama", **FLOATS)
            write_tiny_gguf(model, path, linear_type=kind, dense_type=kind, metadata=keys)
            yield kind, path.read_bytes()
        write_blocks(make_tiny("bitnet", **BLOCKS), path)
        yield "blocks", path.read_bytes()
        write_tiny_gguf(make_tiny("llama", **I2_S), path)
        convert(path, out)
        yield "native", out.read_bytes()
        write_gguf(path, every_kind_of_value(), [])
        yield "values", path.read_bytes()
        write_gguf(path, {"split.no": 0, "split.count": 2, "split.tensors.count": 1}, [])
        yield "part", path.read_bytes()


def write_blocks(model: TinyModel, path: Path) -> None:
    """A model with a type of its own in each matrix."""

    def packed(tensor: TensorData) -> TensorData:
        rows, columns = (*tensor.shape, 1)[:2]
        codes = model.codes.get(tensor.name)
        kinds: dict[str, tuple[str, Any]] = {}
        if codes is not None:
            ones = np.ones((rows, columns // 256), np.float16)
            kinds = {
                "attn_q": ("I2_S", lambda: i2s.pack(codes, 0.5)),
                "attn_k": ("TQ1_0", lambda: tq.pack("TQ1_0", codes, ones)),
                "attn_v": ("TQ2_0", lambda: tq.pack("TQ2_0", codes, ones)),
                "ffn_gate": ("TL1", lambda: tl1.pack(codes, 0.5, TL1_BLOCKS)),
                "ffn_up": ("TL2", lambda: tl2.pack(codes, 0.5, TL2_BLOCKS)),
                "ffn_down": ("IQ2_BN", lambda: iq_bn.pack("IQ2_BN", codes, np.ones(rows, "f4"))),
            }
        kinds["token_embd"] = ("Q6_K", lambda: q6_k.quantize(model.dense[tensor.name]))
        kind, data = kinds.get(tensor.name.split(".")[-2], (tensor.type, lambda: tensor.data))
        return TensorData(tensor.name, tensor.shape, kind, data())

    keys = {
        f"bitnet.tl.blk.0.{name}.weight.{size}": getattr(blocks, size)
        for name, blocks in (("ffn_gate", TL1_BLOCKS), ("ffn_up", TL2_BLOCKS))
        for size in ("bm", "bk", "bmm")
    }
    keys |= {"bitnet.attention.key_length": 8, "bitnet.attention.value_length": 8}
    head = TensorData("output.weight", (12, 256), "Q8_0", q8_0.quantize(np.ones((12, 256), "f4")))
    scale = TensorData("blk.0.attn_q.scale", (1,), "F32", np.ones(1, np.float32))
    write_tiny_gguf(
        model,
        path,
        linear_type="F16",
        metadata=keys,
        change=lambda tensors: [*map(packed, tensors), head, scale],
    )


def every_kind_of_value() -> dict[str, Any]:
    """Metadata with each type of the format."""
    numbers = {f"number.{t.__name__}": t(1) for t in NUMBERS}
    arrays = {f"array.{t.__name__}": np.ones(3, t) for t in NUMBERS}
    return {
        "general.architecture": "other",
        "general.alignment": 64,
        **numbers,
        **arrays,
        "flag": True,
        "flags": np.array([True, False]),
        "text": "été",
        "texts": ["a", "", "b\n"],
        "nested": [[np.ones(2, np.uint8)], [["x"], ["y", "z"]]],
    }


NUMBERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64)
NUMBERS += (np.float32, np.float64)  # type: ignore[assignment]


def sentencepiece_keys() -> dict[str, Any]:
    """A vocabulary of pieces with scores."""
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": PIECES,
        "tokenizer.ggml.scores": np.array(SCORES, np.float32),
        "tokenizer.ggml.token_type": np.array(KINDS, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.chat_template": TEMPLATES["chatml"].source,
    }


def byte_level_keys() -> dict[str, Any]:
    """A vocabulary of letters for bytes with merges."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": LETTERS,
        "tokenizer.ggml.token_type": np.array([1] * 9 + [3], np.int32),
        "tokenizer.ggml.merges": ["a b", f"{SPACE} ab"],
        "tokenizer.ggml.eos_token_id": 9,
        "tokenizer.chat_templates": ["tools"],
        "tokenizer.chat_template.tools": TEMPLATES["raw"].source,
    }


def safetensors() -> Iterator[tuple[str, bytes]]:
    """Headers of all element types, small and empty shapes, and metadata."""
    yield "types", packed_safetensors({f"t{i}": (d, [2, 1], n) for i, (d, n) in enumerate(SIZES)})
    yield "shapes", packed_safetensors({"a": ("F32", [], 1), "b": ("U8", [0, 7], 0)})
    yield "metadata", packed_safetensors({"a": ("BF16", [3], 3)}, {"__metadata__": {"k": "v\\n"}})
    yield "empty", packed_safetensors({})


SIZES = [("BOOL", 2), ("U8", 2), ("I8", 2), ("U16", 2), ("I16", 2), ("F16", 2), ("BF16", 2)]
SIZES += [("U32", 2), ("I32", 2), ("F32", 2), ("U64", 2), ("I64", 2), ("F64", 2)]
WIDTHS = {"16": 2, "32": 4, "64": 8}


def packed_safetensors(
    tensors: Mapping[str, tuple[str, list[int], int]],
    extra: Mapping[str, Any] = {},
) -> bytes:
    header, end = dict(extra), 0
    for name, (dtype, shape, count) in tensors.items():
        start, end = end, end + count * WIDTHS.get(dtype[-2:], 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def huggingface() -> Iterator[tuple[str, bytes]]:
    """A folder of each convention, and one in two files."""
    for convention in ("bitlinear", "autobitlinear", "online", "1bitllm"):
        arch = "bitnet" if convention == "1bitllm" else "bitnet-b1.58"
        kept = {"modules_to_not_convert": ["lm_head"]} if convention == "online" else None
        with TemporaryDirectory() as name:
            model = make_tiny(arch, **FLOATS)
            folder = write_tiny_folder(model, Path(name), convention, kind="F32", quantization=kept)
            config = (folder / "config.json").read_bytes()
            weights = (folder / "model.safetensors").read_bytes()
        yield convention, SEPARATOR.join([config, weights])
    one, two = (packed_safetensors({name: ("U8", [2], 2)}) for name in "ab")
    index = {"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    yield "shards", SEPARATOR.join([config, json.dumps(index).encode(), one, two])


def tokenizer_json() -> Iterator[tuple[str, bytes]]:
    """One of each spelling, with the files beside it."""
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": True}
    settings |= {"chat_template": [{"name": "default", "template": TEMPLATES["gemma"].source}]}
    ends = {"eos_token_id": [2, 1], "bos_token_id": 1}
    texts = [json.dumps(values).encode() for values in (settings, ends)]
    encoder = Encoder(
        models.BPE(
            vocab={piece: id for id, piece in enumerate(PIECES)},
            merges=[("a", "b"), ("▁", "ab")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    encoder.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    encoder.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    encoder.add_special_tokens([AddedToken(t, normalized=False) for t in ("<s>", "</s>")])
    yield "sentencepiece", SEPARATOR.join([encoder.to_str().encode(), *texts])
    encoder = Encoder(models.BPE(vocab={t: i for i, t in enumerate(LETTERS)}, merges=[("a", "b")]))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken(LETTERS[-1], normalized=False)])
    yield "byte-level", encoder.to_str().encode()


def tokenizer_model() -> Iterator[tuple[str, bytes]]:
    """SentencePiece models with and without a space in front, and a rank file."""

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    pieces = b"".join(
        field(1, field(1, piece.encode()) + b"\x15" + np.float32(score).tobytes() + field(3, kind))
        for piece, score, kind in zip(PIECES, SCORES, KINDS, strict=True)
    )
    trainer = field(2, field(3, 2) + field(41, 1) + field(42, 2))
    for name, space in (("space", 1), ("no-space", 0)):
        yield name, pieces + trainer + field(3, field(3, space) + field(4, 0))
    tokens = [*(bytes([i]) for i in range(256)), b"ab", b" ab"]
    yield (
        "ranks",
        b"".join(b"%s %d\n" % (base64.b64encode(t), i) for i, t in enumerate(tokens)),
    )


def varint(value: int) -> bytes:
    more, low = value >> 7, value & 0x7F
    return bytes([low | 0x80]) + varint(more) if more else bytes([low])


def chat_template() -> Iterator[tuple[str, bytes]]:
    """The named ones, and one with what templates can use."""
    for name, template in TEMPLATES.items():
        yield name, template.source.encode()
    yield "everything", EVERYTHING.encode()


EVERYTHING = """
{%- macro say(who, text='') -%}{{ who | title ~ ': ' ~ text | trim }}{%- endmacro -%}
{%- set ns = namespace(n=0, seen=[]) -%}
{%- for message in messages[1:] | reverse if message.role in ['user', 'assistant'] -%}
{%- set ns.n = ns.n + 1 -%}{%- set ns.seen = ns.seen + [message.role] -%}
{%- if loop.first and not loop.last -%}{{ say(message['role'], text=message.content) }}
{%- elif message is mapping and message.content is string -%}{{ message | tojson(indent=2) }}
{%- else -%}{% continue %}{%- endif -%}{%- endfor -%}
{{ ns.seen | unique | join(', ') }} {{ ns.n * 2 ** 3 // 5 % 7 - 1 / 2 }} {{ 'a,b'.split(',') }}
{%- set text %}{{ messages[0].content.replace('B', 'b') | replace('e', 'f') }}{% endset -%}
{{ text[::-1] if text else none }} {{ {'a': 1, 'b': [2, (3, 4)]} | dictsort }} {{ 1.5 | round }}
{{ range(3) | map('string') | list }} {{ strftime_now('%d %b') | length }} {{ '5' | int + 1 }}
{%- if messages | length > 99 -%}{{ raise_exception('too many') }}{%- endif -%}
{% macro twice(x) %}{{ caller(x) ~ caller(x) }}{% endmacro %}
{% call(x) twice('a') %}{{ x }}{% endcall %}{% filter upper %}b{% endfilter %}
"""


def settings() -> Iterator[tuple[str, bytes]]:
    """All sections, and some sizes of blocks."""
    tree = {
        "model": {"path": "m.gguf", "context": 64, "vocab_size": 12},
        "inference": {"temperature": 0.5, "top_k": 3, "seed": 1, "stop": ["a", "b"]},
        "quantization": {"layout": "b3", "kv": "f16"},
        "performance": {"threads": 2, "memory_limit": "16 GiB", "numa": False},
    }
    lines = []
    for section, values in tree.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items())]
    blocks = write_config({(128, 128): TL1_BLOCKS, (64, 288): TL2_BLOCKS})
    parts = ["\n".join(lines), json.dumps(tree), blocks]
    yield "all", SEPARATOR.join(part.encode() for part in parts)


MAKERS = {
    "gguf": gguf,
    "safetensors": safetensors,
    "huggingface": huggingface,
    "tokenizer_json": tokenizer_json,
    "tokenizer_model": tokenizer_model,
    "chat_template": chat_template,
    "settings": settings,
}

if __name__ == "__main__":
    main()
