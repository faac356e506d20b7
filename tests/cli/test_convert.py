"""`bitnet convert`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.tiny_model import TEXT


def test_a_converted_model_says_the_same(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.gguf"
    result = run("convert", model, out, "--layout", "2bit")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert run("run", "-m", out, "-p", "hello", "--temperature", "0").stdout.strip() == TEXT.strip()


def test_a_file_is_replaced_only_when_told(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.gguf"
    out.write_text("mine")
    result = run("convert", model, out)
    assert result.exit_code == 2
    assert result.stderr == f"error: {out} exists; --force replaces it\n"
    assert out.read_text() == "mine"
    assert run("convert", model, out, "--force").exit_code == 0
    assert out.read_bytes()[:4] == b"GGUF"


def test_what_cannot_be_converted_is_one_line_on_stderr(run: Run, tmp_path: Path) -> None:
    for source, code in ((Path("no/such.gguf"), 1), (Path(__file__), 8)):
        result = run("convert", source, tmp_path / "out.gguf")
        assert result.exit_code == code
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
