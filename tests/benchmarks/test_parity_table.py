"""docs/parity.md is what benchmarks/parity_table.py writes now, of all families and formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import bitnet
from benchmarks import parity_table
from benchmarks.parity_table import FAMILIES, FORMATS, OUTPUT, TENSOR_TYPES
from bitnet.codegen import target_names
from bitnet.formats.gguf_types import TYPE_IDS
from bitnet.kernels.layouts import LayoutName
from bitnet.models import gguf_checkpoint, open_checkpoint
from bitnet.program.plan import HeadKind
from tests.models.conftest import make_tiny, write_tiny_gguf
from tests.parity.cases import Style


def tables() -> list[list[list[str]]]:
    """The rows of each table, without its head."""
    found: list[list[list[str]]] = []
    for block in OUTPUT.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("| "):
            found.append([[c.strip() for c in line.strip("|").split("|")] for line in lines[2:]])
    return found


def environment() -> str:
    return next(
        line for line in OUTPUT.read_text("utf-8").splitlines() if line.startswith("transformers ")
    )


def test_the_page_is_as_the_script_writes_it() -> None:
    parity, perplexity = tables()
    assert parity_table.page(parity, perplexity, environment()) == OUTPUT.read_text("utf-8")


def test_all_families_and_formats_are_there_for_targets_that_are_known() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for family, form, targets, *_ in tables()[0]:
        found.setdefault((family, form), set()).update(targets.split(", "))
    wanted = {(family, form) for family in FAMILIES.values() for form in FORMATS}
    assert found.keys() == wanted
    (targets,) = {frozenset(some) for some in found.values()}
    assert targets <= set(target_names())


def test_families_are_those_of_the_cases() -> None:
    assert list(FAMILIES) == list(get_args(Style))


def test_formats_are_those_that_can_be_loaded() -> None:
    def loads(kind: str) -> bool:
        return gguf_checkpoint._supported(kind, "blk.0.attn_q.weight", is_ternary=True)

    assert sorted(TENSOR_TYPES) == sorted(kind for kind in TYPE_IDS if loads(kind))


def test_all_layouts_and_heads_have_a_perplexity() -> None:
    rows = tables()[1]
    assert [tuple(row[:4]) for row in rows] == [
        (s.form, s.layout, s.head, s.kv) for s in parity_table.settings()
    ]
    assert {row[1] for row in rows} == set(get_args(LayoutName))
    assert {row[2] for row in rows} == set(get_args(HeadKind))
    assert {row[0] for row in rows} == {form for form in FORMATS if form != parity_table.FOLDER}


def test_the_perplexity_is_what_the_model_has() -> None:
    stated = tables()[1][0][4]
    with bitnet.load(layout="b3", head="stored", kv="f32") as model:
        found = model.score(parity_table.held_out(model)).total.perplexity
    assert f"{found:.5f}" == stated


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("forms")
    tiny = make_tiny("bitnet", hidden_size=256, ffn_size=512, head_dim=64)
    source = write_tiny_gguf(tiny, folder / "I2_S.gguf")
    return parity_table.store_gguf(source, folder)


@pytest.mark.parametrize("form", FORMATS[1:])
def test_what_is_stored_in_another_way_is_the_same_model(forms: dict[str, Path], form: str) -> None:
    kind = form.split(", ")[1]
    with open_checkpoint(forms[form]) as checkpoint:
        assert checkpoint.weight_types == {kind}
    # Powers of two: no type rounds them.
    with bitnet.load(forms[form]) as model, bitnet.load(forms["GGUF, I2_S"]) as source:
        np.testing.assert_array_equal(model.logits(range(9)), source.logits(range(9)))
