"""A repair writes what it says and nothing else, aside, and only when there is something to do."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.checkup import find_repairs, verify_model, write_repaired
from bitnet.checkup.faults import gguf_faults
from bitnet.errors import InvalidArgumentError, InvalidModelError, UnsupportedOperationError
from bitnet.formats.gguf import GGUFFile
from bitnet.quant import i2s
from tests.checkup.conftest import Array, rewrite
from tests.models.conftest import make_tiny, write_tiny_folder

BROKEN = {
    "tokenizer.ggml.pre": None,
    "tokenizer.chat_template": "BITNETAssistant",
    "bitnet-b1.58.attention.head_count_kv": None,
    "double": np.float64(0.1),
    "small": np.uint8(3),
    "nested": [np.array([1, 2], np.int16), ["x"]],
}


def to_arm64(codes: Array) -> Array:
    """Codes as bytes the way an ARM build packs them: 64 in 16 bytes, worked out in a loop."""
    out = []
    for block in codes.reshape(-1, 64):
        out += [sum(int(block[16 * g + j]) << (6 - 2 * g) for g in range(4)) for j in range(16)]
    return np.array(out, np.uint8)


def test_all_that_can_be_mended_is_mended_and_the_rest_is_kept(path: Path, tmp_path: Path) -> None:
    rewrite(path, BROKEN)
    before, out = path.read_bytes(), tmp_path / "out.gguf"
    names = ["missing-pre", "template", "head-count"]
    assert [fault.name for fault in find_repairs(path)] == names
    assert not out.exists()
    assert [fault.name for fault in write_repaired(path, out)] == names
    assert path.read_bytes() == before
    with GGUFFile(path) as old, GGUFFile(out) as new:
        assert gguf_faults(new) == []
        changed = {
            "tokenizer.ggml.pre",
            "tokenizer.chat_template",
            "bitnet-b1.58.attention.head_count_kv",
        }
        kept = {key: repr(v) for key, v in old.metadata.stored.items() if key not in changed}
        assert kept == {
            key: repr(v) for key, v in new.metadata.stored.items() if key not in changed
        }
        assert list(new.tensors) == list(old.tensors)
        for name in old.tensors:
            assert new.data(name).tobytes() == old.data(name).tobytes()
    with bitnet.load(out) as model:
        assert model.config.n_kv_heads == 2
    with pytest.raises(InvalidModelError):
        bitnet.load(path)


def test_i2_s_of_an_arm_build_gets_the_order_of_all_others(path: Path, tmp_path: Path) -> None:
    tiny = make_tiny("bitnet-b1.58")

    def as_arm(name: str, data: Array) -> Array:
        if name not in tiny.codes:
            return data
        return np.concatenate([to_arm64(tiny.codes[name]), data[-32:]])

    right = tmp_path / "right.gguf"
    right.write_bytes(path.read_bytes())
    rewrite(path, {}, as_arm)
    assert verify_model(path).problems == []  # nothing shows it
    with pytest.raises(InvalidArgumentError, match="has nothing that can be repaired"):
        write_repaired(path, tmp_path / "out.gguf")
    (fault,) = write_repaired(path, tmp_path / "out.gguf", "arm64")
    assert fault.name == "arm-layout"
    assert (tmp_path / "out.gguf").read_bytes() == right.read_bytes()


def test_repacking_works_piece_by_piece(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repaired(path, tmp_path / "whole.gguf", "arm64")
    for size in (32, 96, 4096):
        monkeypatch.setattr("bitnet.checkup.repair._BYTES_AT_ONCE", size)
        write_repaired(path, tmp_path / f"{size}.gguf", "arm64")
        assert (tmp_path / f"{size}.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_each_code_of_an_arm_block_has_its_place() -> None:
    for place in range(128):
        codes = np.ones((1, 128), np.uint8)
        codes[0, place] = 2
        assert i2s.from_arm64(to_arm64(codes)).tobytes() == i2s.pack_codes(codes).tobytes()
    with pytest.raises(InvalidArgumentError, match="not 3"):
        i2s.from_arm64(np.full(32, 0xC0, np.uint8))


def test_a_code_3_stops_the_repair_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    rewrite(path, {}, lambda name, data: data | 0x03 if name == "blk.0.attn_q.weight" else data)
    with pytest.raises(InvalidModelError, match=r"blk\.0\.attn_q\.weight: .*not 3"):
        write_repaired(path, tmp_path / "out.gguf", "arm64")
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


def test_nothing_is_written_over_a_file(path: Path, tmp_path: Path) -> None:
    rewrite(path, BROKEN)
    before = path.read_bytes()
    for out in (path, tmp_path):
        with pytest.raises(InvalidArgumentError, match="exists"):
            write_repaired(path, out)
    assert path.read_bytes() == before
    with pytest.raises(InvalidArgumentError, match="cannot write"):
        write_repaired(path, tmp_path / "no" / "out.gguf")


def test_a_big_endian_file_becomes_little_endian(tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack(">Q", len(value)) + value

    pairs = {b"general.architecture": b"llama", b"tokenizer.ggml.model": b"gpt2"}
    header = b"GGUF" + struct.pack(">IQQ", 3, 1, 3)
    header += b"".join(text(k) + struct.pack(">I", 8) + text(v) for k, v in pairs.items())
    header += text(b"tokenizer.ggml.tokens") + struct.pack(">IIQ", 9, 8, 1)
    header += text(b"<|begin_of_text|>")
    header += text(b"w") + struct.pack(">IQIQ", 1, 1, 0, 0)
    content = header.ljust(-(-len(header) // 32) * 32, b"\0") + struct.pack(">f", 1.5)
    (tmp_path / "big.gguf").write_bytes(content)
    write_repaired(tmp_path / "big.gguf", tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert file.order == "little"
        assert file.data("w").view("<f4").tolist() == [1.5]
        assert file.metadata["tokenizer.ggml.pre"] == "llama-bpe"


def test_only_gguf_files_are_repaired(tmp_path: Path, path: Path) -> None:
    folder = write_tiny_folder(make_tiny("llama"), tmp_path / "model")
    with pytest.raises(UnsupportedOperationError, match="is no GGUF file"):
        find_repairs(folder)
    rewrite(path, {}, lambda name, data: None if name.startswith("blk") else data)
    with pytest.raises(InvalidArgumentError, match="has no I2_S tensors"):
        find_repairs(path, "arm64")
