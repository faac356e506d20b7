"""`bitnet tune-tl`: what it writes is what models of TL1 and TL2 tensors need."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bitnet
from bitnet.codegen import find_target
from bitnet.quant.tl_config import CONFIG_NAME, read_config
from tests.cli.conftest import Run
from tests.models.conftest import TinyModel, make_tiny, write_tiny_gguf


@pytest.fixture(scope="module")
def tiny() -> TinyModel:
    if not find_target().has_lookup16:
        pytest.skip("this CPU has no look-ups in tables of 16 bytes")
    return make_tiny("bitnet-b1.58", hidden_size=256, ffn_size=512, head_dim=64)


@pytest.fixture(scope="module")
def source(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tiny, tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.mark.parametrize("kind", ["tl1", "tl2"])
def test_a_model_cut_so_is_used_in_place(
    run: Run, tiny: TinyModel, source: Path, tmp_path: Path, kind: str
) -> None:
    done = run("tune-tl", source, "--kind", kind, "-o", tmp_path / CONFIG_NAME)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "256 x 512: " in done.stderr
    blocks = read_config((tmp_path / CONFIG_NAME).read_text())
    model = tmp_path / "model.gguf"
    write_tiny_gguf(tiny, model, linear_type=kind.upper(), blocks=blocks)
    ids = range(20)
    with bitnet.load(model, layout=kind) as tuned, bitnet.load(source) as before:
        np.testing.assert_array_equal(tuned.logits(ids), before.logits(ids))


def test_without_a_file_it_goes_to_standard_output(run: Run, source: Path) -> None:
    done = run("tune-tl", source, "--kind", "tl1")
    assert (256, 256) in read_config(done.stdout)


def test_json_tells_the_speeds(run: Run, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "blocks.ini"
    report = json.loads(run("tune-tl", source, "-o", file, "--threads", 1, "--json").stdout)
    shapes = report.pop("shapes")
    assert report == {"kind": "tl2", "target": find_target().name, "threads": 1}
    found = {(s["m"], s["k"]): (s["bm"], s["bk"], s["bmm"]) for s in shapes}
    blocks = read_config(file.read_text())
    assert found == {shape: (b.bm, b.bk, b.bmm) for shape, b in blocks.items()}
    assert all(0 < s["slowest"] <= s["weights_per_s"] for s in shapes)


def test_a_file_is_replaced_only_when_told(run: Run, source: Path, tmp_path: Path) -> None:
    file = tmp_path / CONFIG_NAME
    file.write_text("mine")
    done = run("tune-tl", source, "-o", file)
    assert done.exit_code == 2
    assert done.stderr == f"error: {file} exists; --force replaces it\n"
    assert file.read_text() == "mine"
    assert run("tune-tl", source, "-o", file, "--force").exit_code == 0
    assert read_config(file.read_text())


def test_what_cannot_be_done_is_one_line_on_stderr(run: Run, source: Path, tmp_path: Path) -> None:
    for arguments, code in (
        ([tmp_path / "none.gguf"], 1),
        ([source, "-o", tmp_path / "nowhere" / CONFIG_NAME], 2),
        ([source, "--target", "scalar"], 1),
        ([source, "--threads", 0], 2),
    ):
        done = run("tune-tl", *arguments)
        assert done.exit_code == code
        assert "error: " in done.stderr
        assert not done.stdout


def test_the_help_shows_an_example(run: Run) -> None:
    assert "bitnet tune-tl model.gguf --kind tl2" in run("tune-tl", "--help").stdout
