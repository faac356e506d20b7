"""`bitnet inspect`, `verify` and `repair`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bitnet.formats.gguf import GGUFFile
from bitnet.formats.gguf_writer import TensorData, write_gguf
from tests.cli.conftest import Run
from tests.tiny_model import HIDDEN


@pytest.fixture
def broken(model: Path, tmp_path: Path) -> Path:
    """The tiny model with twice as many heads as it has."""
    path = tmp_path / "broken.gguf"
    with GGUFFile(model) as file:
        tensors = [TensorData(n, i.shape, i.type, file.data(n)) for n, i in file.tensors.items()]
        keys = {
            **file.metadata.stored,
            "llama.attention.head_count": 6,
            "general.name": "a\x1b[31m",
        }
        write_gguf(path, keys, tensors)
    return path


def test_inspect_tells_what_a_model_is(run: Run, model: Path) -> None:
    result = run("inspect", model)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"file       {model}"
    assert lines[2] == "model      tiny, llama, Llama with ternary linear layers"
    assert "1 layers, width 384, feed-forward 128, 3 heads of 128" in lines[3]
    assert "gpt2 gpt-2: 262 tokens, ends with 261, with chat template" in result.stdout
    for layout in ("b3", "2bit", "i2_s"):
        assert f"memory     {layout}: " in result.stdout
    assert "PROBLEM" not in result.stdout
    assert "fault" not in result.stdout


def test_inspect_lists_tensors(run: Run, model: Path) -> None:
    lines = run("inspect", model, "--tensors").stdout.splitlines()
    with GGUFFile(model) as file:
        info = file.tensors["output_norm.weight"]
    expected = (
        f"output_norm.weight  F32  {HIDDEN}  {4 * HIDDEN} bytes at {info.offset} of tiny.gguf"
    )
    assert expected in lines


def test_inspect_writes_json(run: Run, model: Path) -> None:
    found = json.loads(run("inspect", model, "--json").stdout)
    assert (found["loads"], found["faults"], found["problems"]) == (True, [], [])
    assert found["spec"]["hidden_size"] == HIDDEN
    assert found["types"]["I2_S"]["tensors"] == 7
    assert {need["layout"] for need in found["memory"]} == {"b3", "2bit", "i2_s"}
    assert "tensors" not in found
    listed = json.loads(run("inspect", model, "--json", "--tensors").stdout)["tensors"]
    assert {"name": "token_embd.weight", "type": "F32", "shape": [262, HIDDEN]}.items() <= (
        next(t for t in listed if t["name"] == "token_embd.weight").items()
    )


def test_inspect_says_why_a_file_cannot_be_loaded(run: Run, broken: Path) -> None:
    result = run("inspect", broken)
    assert result.exit_code == 0
    assert "PROBLEM    " in result.stdout
    assert "fault      head-count: 6 heads" in result.stdout
    assert "`bitnet repair` mends it" in result.stdout
    assert "\x1b" not in result.stdout
    found = json.loads(run("inspect", broken, "--json").stdout)
    assert (found["loads"], found["spec"], found["memory"]) == (False, None, [])
    assert [(f["name"], f["repairable"]) for f in found["faults"]] == [("head-count", True)]


def test_inspect_of_a_broken_header_still_reports(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF\3\0\0\0")
    for options in ((), ("--json",), ("--tensors",)):
        result = run("inspect", path, *options)
        assert result.exit_code == 0
        assert "tensor count at byte 8" in result.stdout


def test_verify_hashes_and_reads_everything(run: Run, model: Path) -> None:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    result = run("verify", model, "--sha256", digest.upper())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{digest}  {model}\n12 tensors, all sound\n"


def test_verify_fails_for_another_hash(run: Run, model: Path) -> None:
    result = run("verify", model, "--sha256", "0" * 64)
    assert result.exit_code == 8
    assert "PROBLEM: " in result.stdout
    assert "all sound" not in result.stdout


def test_verify_fails_for_what_is_not_sound(run: Run, model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    with GGUFFile(model) as file:
        place = file.tensors["blk.0.ffn_up.weight"].offset
    content[place] = 0xFF
    (tmp_path / "bad.gguf").write_bytes(content)
    result = run("verify", tmp_path / "bad.gguf")
    assert result.exit_code == 8
    assert "PROBLEM: " in result.stdout
    assert "blk.0.ffn_up.weight: an I2_S code" in result.stdout


def test_verify_takes_only_hashes(run: Run, model: Path) -> None:
    for text in ("4221b252", "g" * 64):
        result = run("verify", model, "--sha256", text)
        assert result.exit_code == 2
        assert "64 hexadecimal digits" in result.stderr


def test_repair_tells_before_it_writes(run: Run, broken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    result = run("repair", broken, out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("head-count: 6 heads and 3 of keys and values are announced")
    assert (
        "\n    llama.attention.head_count = 3\nnothing is written without --apply\n"
        in result.stdout
    )
    assert not out.exists()
    result = run("repair", broken, out, "--apply")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(f"wrote {out}\n")
    assert run("verify", out).exit_code == 0


def test_repair_of_a_sound_file_writes_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    assert run("repair", model, out).stdout == "nothing to repair\n"
    result = run("repair", model, out, "--apply")
    assert result.exit_code == 2
    assert "nothing is written" in result.stderr
    assert not out.exists()


def test_repair_repacks_arm_files_when_told(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    result = run("repair", model, out, "--source-layout", "arm64", "--apply")
    assert result.exit_code == 0
    assert result.stdout.startswith("arm-layout: 7 I2_S tensors")
    # All weights are zero, and zeros are the same in both layouts.
    assert out.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("command", ["inspect", "verify", "repair"])
def test_what_is_no_model_is_one_line_on_stderr(run: Run, command: str, tmp_path: Path) -> None:
    for source, code in ((tmp_path / "none.gguf", 1), (Path(__file__), 8)):
        result = run(command, source, *([tmp_path / "out.gguf"] if command == "repair" else []))
        assert result.exit_code == code
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("inspect", "bitnet inspect model.gguf --tensors"),
        ("verify", "bitnet verify model.gguf --sha256 4221b252..."),
        ("repair", "bitnet repair model.gguf repaired.gguf --apply"),
    ],
)
def test_the_help_shows_an_example(run: Run, command: str, example: str) -> None:
    assert example in run(command, "--help").stdout
