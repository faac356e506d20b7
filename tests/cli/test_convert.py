"""`bitnet convert` and `bitnet quantize-embeddings`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitnet.formats.gguf import GGUFFile
from bitnet.quant.tl_config import Blocks, write_config
from tests.cli.conftest import Run
from tests.tiny_model import TEXT


def types(path: Path) -> tuple[str, str, str]:
    """Of the embedding, the head and a linear layer."""
    with GGUFFile(path) as file:
        embedding, head = (file.tensors[f"{n}.weight"].type for n in ("token_embd", "output"))
        return embedding, head, file.tensors["blk.0.attn_q.weight"].type


def test_a_converted_model_says_the_same(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "native.gguf"
    result = run("convert", model, out, "--layout", "2bit")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert run("run", "-m", out, "-p", "hello", "--temperature", "0").stdout.strip() == TEXT.strip()


def test_a_model_is_written_for_other_engines(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    result = run("convert", model, out, "--to", "iq2_bn", "--embed", "q8_0", "--head", "f16")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert types(out) == ("Q8_0", "F16", "IQ2_BN")
    assert run("run", "-m", out, "-p", "hello", "--temperature", "0").stdout.strip() == TEXT.strip()


def test_a_model_is_written_as_a_folder_and_back(run: Run, model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "hf", tmp_path / "out.gguf"
    result = run("convert", model, folder, "--to", "hf")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert run("convert", folder, out, "--to", "i2_s").exit_code == 0
    for path in (folder, out):
        done = run("run", "-m", path, "-p", "hello", "--temperature", "0")
        assert done.stdout.strip() == TEXT.strip()
    assert run("convert", model, folder, "--to", "hf").exit_code == 2
    assert run("convert", model, folder, "--to", "hf", "--force").exit_code == 0


def test_block_sizes_come_from_a_configuration(run: Run, model: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out.gguf", tmp_path / "mine.ini"
    shapes = ((384, 384), (128, 384), (384, 128))
    config.write_text(write_config(dict.fromkeys(shapes, Blocks(128, 64, 32))))
    assert run("convert", model, out, "--to", "tl1", "--tl-config", config).exit_code == 0
    assert types(out)[2] == "TL1"


def test_the_embedding_alone_is_quantised(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    result = run("quantize-embeddings", model, out, "--type", "q8_0")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert types(out) == ("Q8_0", "F32", "I2_S")


def test_how_models_are_run_does_not_tell_how_they_are_written(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITNET_LAYOUT", "i2_s")
    monkeypatch.setenv("BITNET_HEAD", "int8")
    assert run("convert", model, tmp_path / "out.gguf", "--to", "i2_s").exit_code == 0


@pytest.mark.parametrize("command", [("convert",), ("quantize-embeddings", "--type", "f16")])
def test_a_file_is_replaced_only_when_told(
    run: Run, model: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    out = tmp_path / "native.gguf"
    out.write_text("mine")
    result = run(*command, model, out)
    assert result.exit_code == 2
    assert result.stderr == f"error: {out} exists; --force replaces it\n"
    assert out.read_text() == "mine"
    assert run(*command, model, out, "--force").exit_code == 0
    assert out.read_bytes()[:4] == b"GGUF"


def test_a_large_model_is_written_in_parts(run: Run, model: Path, tmp_path: Path) -> None:
    arguments = ("convert", model, tmp_path / "m.gguf", "--to", "i2_s", "--split-size")
    result = run(*arguments, "300K")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    paths = sorted(tmp_path.iterdir())
    count = len(paths)
    assert count > 2
    assert [path.name for path in paths] == [
        f"m-{i + 1:05}-of-{count:05}.gguf" for i in range(count)
    ]
    done = run("run", "-m", paths[1], "-p", "hello", "--temperature", "0")
    assert done.stdout.strip() == TEXT.strip()
    result = run(*arguments, "1G")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {paths[0]} exists; --force replaces it\n"
    assert run(*arguments, "1G", "--force").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--to", "i2_s", "--split-size", "big"), "--split-size: 'big' is no size such as 512M"),
        (("--to", "i2_s", "--split-size", "0"), "files of up to 0 bytes cannot be written"),
        (("--split-size", "2G"), "split_size is for GGUF files for other engines, not for native"),
        (("--to", "hf", "--split-size", "2G"), "split_size is for GGUF files for other engines"),
    ],
)
def test_parts_that_cannot_be_are_refused(
    run: Run, model: Path, tmp_path: Path, options: tuple[str, ...], rule: str
) -> None:
    result = run("convert", model, tmp_path / "m.gguf", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {rule}")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_one_line_on_stderr(run: Run, tmp_path: Path) -> None:
    for source, code in ((Path("no/such.gguf"), 1), (Path(__file__), 8)):
        result = run("convert", source, tmp_path / "out.gguf")
        assert result.exit_code == code
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
