"""GGUF files that break a rule are refused with an error that names file, tensor and rule."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet.errors import InvalidModelError, ModelFileError, UnsupportedModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_header import parse_header
from bitnet.formats.gguf_writer import TensorData, write_gguf
from bitnet.quant import i2s

U8, BOOL, STRING, ARRAY, U32 = 0, 7, 8, 9, 4


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def entry(name: bytes, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def build(
    pairs: list[bytes],
    entries: list[bytes],
    data: int = 0,
    *,
    version: int = 3,
    align: int = 32,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(entries) if n_tensors is None else n_tensors,
        len(pairs) if n_pairs is None else n_pairs,
    )
    head += b"".join(pairs + entries)
    return head.ljust(-(-len(head) // align) * align, b"\0") + bytes(data)


BROKEN: dict[str, tuple[bytes, str]] = {
    "magic": (b"GGML" + bytes(60), "magic"),
    "only a magic": (b"GGUF", "version at byte 4 needs 4 bytes"),
    "cut counts": (b"GGUF" + struct.pack("<IQ", 3, 0), "key count"),
    "many tensors": (build([], [], n_tensors=2**63), "tensor count .* exceeds the limit"),
    "more tensors than bytes": (build([], [], n_tensors=1000), "tensor count 1000 needs"),
    "many keys": (build([], [], n_pairs=2**64 - 1), "key count .* exceeds the limit"),
    "more keys than bytes": (build([], [], n_pairs=1000), "key count 1000 needs"),
    "huge key": (build([struct.pack("<Q", 2**40) + bytes(99)], []), "length of metadata key 0"),
    "key longer than the file": (
        build([struct.pack("<Q", 500) + bytes(99)], []),
        "length of metadata key 0",
    ),
    "empty key": (build([pair(b"", U8, b"\1")], []), "key 0 is empty"),
    "key twice": (build([pair(b"k", U8, b"\1")] * 2, []), "'k' appears twice"),
    "key not UTF-8": (build([pair(b"\xff", U8, b"\1")], []), "not UTF-8"),
    "string not UTF-8": (build([pair(b"k", STRING, text(b"\xc3("))], []), "'k' is not UTF-8"),
    "huge string": (
        build([pair(b"k", STRING, struct.pack("<Q", 2**64 - 1))], []),
        "length of value of metadata key 'k'",
    ),
    "value type": (build([pair(b"k", 13, b"\1")], []), "unknown type 13"),
    "boolean 2": (build([pair(b"k", BOOL, b"\2")], []), "boolean but holds 2"),
    "cut value": (build([pair(b"k", 12, b"")], [])[:40], "needs 8 bytes"),
    "array type": (build([pair(b"k", ARRAY, array(13, 1, b"\1"))], []), "unknown type 13"),
    "array of many": (
        build([pair(b"k", ARRAY, array(U8, 2**62))], []),
        "array length of .* exceeds the limit",
    ),
    "array longer than the file": (
        build([pair(b"k", ARRAY, array(U32, 1000))], []),
        "array length of .* needs at least 4000",
    ),
    "array of boolean 2": (
        build([pair(b"k", ARRAY, array(BOOL, 3, b"\0\2\1"))], []),
        "booleans but holds 2",
    ),
    "array of strings longer than the file": (
        build([pair(b"k", ARRAY, array(STRING, 1000))], []),
        "array length of .* needs at least 8000",
    ),
    "array string past the end": (
        build([pair(b"k", ARRAY, array(STRING, 2, text(b"a") + struct.pack("<Q", 2**64 - 1)))], []),
        "item 1 of .* has 18446744073709551615 bytes",
    ),
    "array string starts past the end": (
        build([pair(b"k", ARRAY, array(STRING, 2, text(bytes(39))))], []),
        "item 1 of .* starts past the end",
    ),
    "array string not UTF-8": (
        build([pair(b"k", ARRAY, array(STRING, 2, text(b"a") + text(b"\x80")))], []),
        "item 1 of .* not UTF-8",
    ),
    "deep arrays": (
        build([pair(b"k", ARRAY, array(ARRAY, 1) * 9 + array(U8, 0))], []),
        "deeper than 4",
    ),
    **{
        f"alignment {value}": (
            build([pair(b"general.alignment", U32, struct.pack("<I", value))], []),
            "general.alignment is",
        )
        for value in (0, 1, 4, 24, 33, 2**31)
    },
    "alignment of another type": (
        build([pair(b"general.alignment", STRING, text(b"32"))], []),
        "general.alignment is '32'",
    ),
    "empty tensor name": (build([], [entry(b"", (1,))], 32), "name of tensor 0 is empty"),
    "long tensor name": (build([], [entry(b"n" * 257, (1,))], 32), "length of name of tensor 0"),
    "tensor name not UTF-8": (build([], [entry(b"\xff", (1,))], 32), "not UTF-8"),
    "tensor twice": (build([], [entry(b"w", (1,))] * 2, 64), "tensor w: appears twice"),
    "no dimensions": (build([], [entry(b"w", ())], 32), "tensor w: has 0 dimensions"),
    "five dimensions": (build([], [entry(b"w", (1,) * 5)], 32), "tensor w: has 5 dimensions"),
    "a dimension of 0": (build([], [entry(b"w", (4, 0))], 32), r"tensor w: shape \(0, 4\)"),
    "product that wraps to 0": (
        build([], [entry(b"w", (2**32, 2**32))], 32),
        "tensor w: shape .* elements",
    ),
    "product that wraps to 1": (
        build([], [entry(b"w", (2**64 - 1, 2**64 - 1))], 32),
        "tensor w: shape .* elements",
    ),
    "cut block": (build([], [entry(b"w", (33,), 8)], 64), "tensor w: .*multiple of 32"),
    "cut I2_S block": (build([], [entry(b"w", (64,), 36)], 64), "tensor w: .*multiple of 128"),
    "cut TL1": (build([], [entry(b"w", (3,), 38)], 64), "tensor w: .*multiple of 4"),
    "neither TL2 nor MXFP4": (build([], [entry(b"w", (256, 3), 39)], 64), "tensor w: .*neither"),
    "cut IQ2_BN block": (build([], [entry(b"w", (96,), 135)], 64), "tensor w: .*multiple of 64"),
    "IQ1_BN without a row's scale": (
        build([], [entry(b"w", (64, 2), 134)], 28),
        "tensor w: .* takes 30 bytes",
    ),
    "unaligned offset": (build([], [entry(b"w", (1,), 0, 4)], 64), "tensor w: offset 4 is not"),
    "offset past the end": (
        build([], [entry(b"w", (1,), 0, 96)], 64),
        "tensor w: starts at byte 96",
    ),
    "offset near 2**64": (
        build([], [entry(b"w", (1,), 0, 2**64 - 32)], 64),
        "tensor w: starts at byte",
    ),
    "data cut short": (build([], [entry(b"w", (9,))], 35), "tensor w: .* the end of the file"),
    "no data": (build([], [entry(b"w", (1,))])[:-1], "tensor w: .* takes 4 bytes"),
    "I2_S without its scale": (build([], [entry(b"w", (128, 2), 36)], 64), "tensor w: .* 96 bytes"),
    "overlap": (
        build([], [entry(b"v", (9,), 0, 0), entry(b"w", (1,), 0, 32)], 64),
        "tensor v: .* the next tensor is 32 bytes on",
    ),
    "same place": (
        build([], [entry(b"v", (1,)), entry(b"w", (1,))], 64),
        "the next tensor is 0 bytes on",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    content, rule = BROKEN[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(InvalidModelError, match=rule) as caught:
        GGUFFile(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (build([], [], version=1), "version 1"),
        (build([], [], version=4), "version 4"),
        (build([], [], version=1 << 24), "version 1"),
        (build([], [], version=4 << 24), "version 67108864"),
        (build([], [], version=0x03000003), "version 50331651"),
        (build([], [entry(b"w", (32,), 37)], 32), "tensor w: tensor type 37 is not known"),
        (build([], [entry(b"w", (32,), 2**32 - 1)], 32), "tensor w: tensor type 4294967295"),
    ],
)
def test_files_of_other_versions_and_types_are_unsupported(
    tmp_path: Path, content: bytes, rule: str
) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=rule):
        GGUFFile(tmp_path / "model.gguf")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(InvalidModelError, match="is empty"):
        GGUFFile(tmp_path / "model.gguf")


@pytest.mark.parametrize("version", [2, 3])
def test_the_parts_of_the_broken_files_make_a_good_one(tmp_path: Path, version: int) -> None:
    pairs = [
        pair(b"general.alignment", U32, struct.pack("<I", 8)),
        pair(b"nested", ARRAY, array(ARRAY, 2, array(U8, 1, b"\7") + array(STRING, 1, text(b"x")))),
    ]
    entries = [entry(b"v", (3, 2), 0, 32), entry(b"w", (128,), 36, 64), entry(b"x", (2,))]
    head = build(pairs, entries, version=version, align=8)
    path = tmp_path / "model.gguf"
    path.write_bytes(head + bytes(32) + b"\5" * 24 + bytes(8) + b"\6" * 64)
    with GGUFFile(path) as file:
        assert file.metadata["nested"] == [np.array([7]), ["x"]]
        assert file.tensors["v"].shape == (2, 3)
        assert file.data("v").tobytes() == b"\5" * 24
        assert file.data("w").tobytes() == b"\6" * 64
        assert file.data("x").tobytes() == bytes(8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small good files that the tests below damage."""
    folder = tmp_path_factory.mktemp("fuzz")
    metadata = {
        "general.architecture": "bitnet",
        "general.alignment": np.uint32(32),
        "count": 7,
        "ratio": 0.5,
        "flag": True,
        "tokens": ["a", "bc", "é"],
        "types": np.array([1, 2, 3], np.int32),
        "flags": np.array([True, False]),
    }
    tensors = [
        TensorData("a", (2, 2), "F32", bytes(16)),
        TensorData("b", (1, 128), "I2_S", i2s.pack(np.ones((1, 128), np.uint8), 1.0)),
        TensorData("c", (1, 32), "MXFP4", bytes(17)),
    ]
    write_gguf(folder / "whole.gguf", metadata, tensors)
    big = gguf.GGUFWriter(folder / "big.gguf", "bitnet", endianess=gguf.GGUFEndian.BIG)
    big.add_float64("ratio", 0.5)
    big.add_array("tokens", ["a", "bc"])
    big.add_array("types", [1, 2, 3])
    big.add_tensor("a", np.ones((2, 2), np.float32))
    big.add_tensor("b", np.ones(3, np.int16))
    big.write_header_to_file()
    big.write_kv_data_to_file()
    big.write_tensors_to_file()
    big.close()
    return folder


def use(path: Path) -> None:
    with GGUFFile(path) as file:
        for name, info in file.tensors.items():
            assert len(file.data(name).tobytes()) == info.nbytes
        repr(dict(file.metadata))


@pytest.mark.parametrize(("name", "last_bytes"), [("whole.gguf", 17), ("big.gguf", 6)])
def test_every_truncation_is_refused(folder: Path, name: str, last_bytes: int) -> None:
    content = (folder / name).read_bytes()
    use(folder / name)
    last_padding = 32 - last_bytes
    for size in range(len(content) - last_padding):
        with pytest.raises(ModelFileError):
            parse_header("cut.gguf", memoryview(content[:size]))


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["whole.gguf", "big.gguf"]),
    changes=st.lists(st.tuples(st.integers(0, 999), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 999),
)
def test_changed_bytes_give_a_model_or_a_model_file_error(
    folder: Path, name: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray((folder / name).read_bytes())
    assert len(content) < 999
    for place, bits in changes:
        content[place % len(content)] ^= bits
    path = folder / "changed.gguf"
    path.write_bytes(content[:cut])
    with suppress(ModelFileError):
        use(path)
