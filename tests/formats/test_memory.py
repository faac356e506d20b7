"""What opening a file takes: at most ten times the file and a fixed amount, in a few seconds.

The files have a quarter of what the limits allow, and so may take a quarter of 64 MB besides.
"""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet.errors import InvalidModelError
from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_header import MAX_KEYS, MAX_TENSORS
from bitnet.formats.gguf_values import MAX_ARRAYS
from bitnet.formats.safetensors import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from bitnet.strict_json import MAX_VALUES

FIXED_BYTES = 1 << 24
SECONDS = 1.5
KEYS, TENSORS, ARRAYS, VALUES = (n // 4 for n in (MAX_KEYS, MAX_TENSORS, MAX_ARRAYS, MAX_VALUES))

U8, STRING, ARRAY = 0, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(pairs: list[bytes], tensors: list[bytes] | None = None, data: int = 0) -> bytes:
    entries = tensors or []
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(pairs))
    head += b"".join([*pairs, *entries])
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(data)


def array(kind: int, count: int, items: bytes) -> bytes:
    return text(b"k") + struct.pack("<IIQ", ARRAY, kind, count) + items


def tensor(number: int) -> bytes:
    return text(b"%x" % number) + struct.pack("<IQIQ", 1, 1, 24, 32 * number)


GGUF: dict[str, Callable[[], bytes]] = {
    "many keys": lambda: gguf([text(b"%x" % n) + b"\0\0\0\0\1" for n in range(KEYS)]),
    "many tensors": lambda: gguf([], [tensor(n) for n in range(TENSORS)], 32 * TENSORS),
    "short texts": lambda: gguf([array(STRING, 1 << 18, text(b"ab") * (1 << 18))]),
    "one text": lambda: gguf([text(b"k") + struct.pack("<I", STRING) + text(b"a" * (1 << 22))]),
    "wide letters": lambda: gguf([array(STRING, 1 << 16, text("🙂".encode()) * (1 << 16))]),
    "numbers": lambda: gguf([array(U8, 1 << 22, bytes(1 << 22))]),
    "arrays": lambda: gguf([array(ARRAY, ARRAYS, struct.pack("<IQ", U8, 0) * ARRAYS)]),
}


def peak_of(read: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check(read: Callable[[], None], size: int) -> None:
    start = time.thread_time()
    read()
    assert time.thread_time() - start < SECONDS
    assert peak_of(read) <= 10 * size + FIXED_BYTES


@pytest.mark.parametrize("name", GGUF)
def test_gguf_headers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    content = GGUF[name]()
    path.write_bytes(content)
    check(lambda: GGUFFile(path).close(), len(content))


def test_more_arrays_than_any_model_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf([array(ARRAY, MAX_ARRAYS, struct.pack("<IQ", U8, 0) * MAX_ARRAYS)]))
    with pytest.raises(InvalidModelError, match="more than 65536 arrays"):
        GGUFFile(path)


def packed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def entries(count: int) -> bytes:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return packed(json.dumps({f"{n:x}": entry for n in range(count)}).encode())


SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "many tensors": lambda: entries(VALUES // 8),
    "one name": lambda: packed(
        b'{"%s":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' % (b"a" * (1 << 22))
    ),
    "metadata": lambda: packed(b'{"__metadata__":{"a":"%s"}}' % (b"b" * (1 << 22))),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_headers(tmp_path: Path, name: str) -> None:
    content = SAFETENSORS[name]()
    (tmp_path / SINGLE_FILE).write_bytes(content)
    check(lambda: SafetensorsFolder(tmp_path).close(), len(content))


def test_safetensors_indexes(tmp_path: Path) -> None:
    names = {f"{n:x}": "a.safetensors" for n in range(VALUES)}
    content = json.dumps({"weight_map": names}).encode()
    (tmp_path / INDEX_FILE).write_bytes(content)
    (tmp_path / "a.safetensors").write_bytes(entries(1))

    def read() -> None:
        with pytest.raises(InvalidModelError, match="is in the index but not in this file"):
            SafetensorsFolder(tmp_path)

    check(read, len(content))
