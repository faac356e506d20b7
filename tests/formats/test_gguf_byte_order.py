"""Big-endian GGUF files: metadata and tensors are those of the little-endian file."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from bitnet.errors import UnsupportedModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_byte_order import to_little
from bitnet.models.tensors import DenseTensor
from bitnet.quant import i2s, q6_k, q8_0, tq

RANDOM = np.random.default_rng(5)


def swap_at(data: np.ndarray, *places: int) -> np.ndarray:
    """Blocks (n, bytes) with the bytes of 16-bit numbers turned around."""
    data = data.copy()
    for place in places:
        data[:, [place, place + 1]] = data[:, [place + 1, place]]
    return data


def test_a_file_of_the_gguf_package_is_read_the_same_in_both_orders(tmp_path: Path) -> None:
    files = []
    for order in (gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG):
        path = tmp_path / f"{order.name}.gguf"
        writer = gguf.GGUFWriter(path, "llama", endianess=order)
        writer.add_block_count(3)
        writer.add_rope_freq_base(500000.0)
        writer.add_float64("f64", 0.1)
        writer.add_int64("i64", -(2**40))
        writer.add_token_list(["<s>", "a", "é"])
        writer.add_token_types([3, 1, -1])
        writer.add_add_bos_token(True)
        for dtype in (np.float32, np.float16, np.float64, np.int8, np.int16, np.int32, np.int64):
            writer.add_tensor(dtype.__name__, np.arange(12).reshape(3, 4).astype(dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.append(GGUFFile(path))
    little, big = files
    assert (little.order, big.order) == ("little", "big")
    assert repr(dict(big.metadata.stored)) == repr(dict(little.metadata.stored))
    assert big.tensors == little.tensors
    for name in little.tensors:
        assert big.data(name).tobytes() == little.data(name).tobytes()
        assert not big.data(name).flags.writeable
    assert big.metadata.get_strings("tokenizer.ggml.tokens") == ["<s>", "a", "é"]


@pytest.mark.parametrize("version", [2, 3])
def test_i2_s_of_a_big_endian_file_keeps_its_codes_and_scale(tmp_path: Path, version: int) -> None:
    codes = RANDOM.integers(0, 3, (2, 128), np.uint8)
    header = b"GGUF" + struct.pack(">IQQ", version, 1, 0)
    header += struct.pack(">Q", 1) + b"w" + struct.pack(">IQQIQ", 2, 128, 2, 36, 0)
    content = header.ljust(-(-len(header) // 32) * 32, b"\0")
    content += i2s.pack_codes(codes).tobytes() + struct.pack(">f", 0.375) + bytes(28)
    (tmp_path / "big.gguf").write_bytes(content)
    with GGUFFile(tmp_path / "big.gguf") as file:
        assert file.data("w").tobytes() == i2s.pack(codes, 0.375).tobytes()


def test_the_scales_of_blocks_are_turned_around() -> None:
    x = RANDOM.standard_normal((2, 512)).astype(np.float32)
    ternary = RANDOM.integers(0, 3, (2, 512), np.uint8)
    halves = np.full((2, 2), 0.75, np.float16)
    for kind, data, place in (
        ("Q8_0", q8_0.quantize(x), 0),
        ("Q6_K", q6_k.quantize(x), 208),
        ("TQ1_0", tq.pack("TQ1_0", ternary, halves), 52),
        ("TQ2_0", tq.pack("TQ2_0", ternary, halves), 64),
    ):
        size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
        swapped = swap_at(data.reshape(-1, size), place)
        assert swapped.tobytes() != data.tobytes()
        assert to_little(kind, swapped.reshape(-1)).tobytes() == data.tobytes()


def test_bf16_is_turned_around() -> None:
    bits = np.array([0x3F80, 0xC000], ">u2")
    data = to_little("BF16", bits.view(np.uint8)).view("<u2")
    assert DenseTensor("w", data, "bf16").float32().tolist() == [1, -2]


def test_types_whose_numbers_are_not_known_are_refused(tmp_path: Path) -> None:
    header = b"GGUF" + struct.pack(">IQQ", 3, 1, 0)
    header += struct.pack(">Q", 1) + b"w" + struct.pack(">IQIQ", 1, 256, 10, 0)
    content = header.ljust(-(-len(header) // 32) * 32, b"\0") + bytes(84)
    (tmp_path / "big.gguf").write_bytes(content)
    with (
        GGUFFile(tmp_path / "big.gguf") as file,
        pytest.raises(UnsupportedModelError, match="tensor w: type Q2_K in big-endian files"),
    ):
        file.data("w")
