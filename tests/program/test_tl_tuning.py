"""Block sizes that are chosen by measuring can be used, and are the fastest ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet.codegen import find_target
from bitnet.errors import InvalidArgumentError, UnsupportedTargetError
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.ternary_lookup import UNIT_ROWS
from bitnet.models import ModelSpec
from bitnet.program import lookup_trial
from bitnet.program.tl_options import usual_blocks
from bitnet.program.tl_tuning import tune_blocks
from bitnet.program.workers import Workers
from bitnet.quant import tl1, tl2
from bitnet.quant.tl_config import Blocks, Cut, Shape, TLName, read_config, write_config
from tests.program.random_models import spec

SPEC = replace(spec(), hidden_size=256, ffn_size=384, n_heads=4, n_kv_heads=1, head_dim=64)
SHAPES = {(256, 256), (64, 256), (384, 256), (256, 384)}


@pytest.fixture
def workers() -> Iterator[Workers]:
    team = Workers(2)
    yield team
    team.close()


def target_name() -> str:
    target = find_target()
    if not target.has_lookup16:
        pytest.skip(f"{target.name} has no look-up in tables of 16 bytes")
    return target.name


@pytest.mark.parametrize("kind", ["TL1", "TL2"])
def test_all_shapes_get_sizes_that_can_be_used_together(kind: TLName, workers: Workers) -> None:
    shares: list[float] = []
    tuned = tune_blocks(kind, SPEC, find_target(target_name()), workers, shares.append)
    blocks = {each.shape: each.blocks for each in tuned}
    assert blocks.keys() == SHAPES
    layout = LookUp(kind, tuple(Cut(kind, shape[1], b) for shape, b in blocks.items()))
    for shape, sizes in blocks.items():
        (tl1 if kind == "TL1" else tl2).check_blocks(shape, sizes)
        assert sizes.bk <= shape[1]
        assert len({cut.blocks.bk for cut in layout.of(shape[1])}) == 1
    assert read_config(write_config(blocks)) == blocks
    assert all(0 < each.slowest <= each.weights_per_s for each in tuned)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("kind", ["TL1", "TL2"])
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([8, 12, 20, 35])), min_size=1))
def test_usual_sizes_can_be_used_together(kind: TLName, sizes: list[tuple[int, int]]) -> None:
    shapes = [(32 * rows, 32 * columns) for rows, columns in sizes]
    blocks = usual_blocks(kind, shapes)
    assert blocks.keys() == set(shapes)
    for shape, each in blocks.items():
        (tl1 if kind == "TL1" else tl2).check_blocks(shape, each)
    LookUp(kind, tuple(Cut(kind, shape[1], each) for shape, each in blocks.items()))


def test_the_fastest_are_taken(monkeypatch: pytest.MonkeyPatch, workers: Workers) -> None:
    def speed(_: object, shape: Shape, blocks: Blocks) -> float:
        return 1.0 + (blocks.bk == 64) + (blocks.bmm == 64) + 4 * (blocks.bm == shape[0])

    monkeypatch.setattr(lookup_trial.LookUpTrial, "speed", speed)
    tuned = tune_blocks("TL1", SPEC, find_target(target_name()), workers)
    assert {each.blocks for each in tuned} == {Blocks(rows, 64, 64) for rows in (64, 256, 384)}
    assert all(each.weights_per_s == 7 for each in tuned)
    assert all(each.slowest < 7 for each in tuned if each.shape[0] > 64)


def test_a_small_advantage_leaves_the_usual_sizes(
    monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    monkeypatch.setattr(lookup_trial.LookUpTrial, "speed", lambda _self, _s, b: 1 + b.bm % 5 / 100)
    tuned = tune_blocks("TL1", SPEC, find_target(target_name()), workers)
    usual = {each.shape: (each.blocks.bm, each.blocks.bk) for each in tuned}
    assert usual == {
        (384, 256): (192, 128),
        (256, 256): (256, 128),
        (64, 256): (64, 128),
        (256, 384): (256, 128),
    }


@pytest.mark.parametrize(
    "cut", [Cut("TL1", 384, Blocks(64, 96, 64)), Cut("TL2", 384, Blocks(64, 192, 32))]
)
def test_what_is_multiplied_are_tensors_beside_each_other(cut: Cut, workers: Workers) -> None:
    trial = lookup_trial.LookUpTrial(cut.name, SPEC, find_target(), workers)
    memory, shape = trial._memory, (256, 384)
    size = lookup_trial.data_bytes(cut.name, shape)
    copies = trial._n_bytes // size
    assert copies > 1
    units = np.concatenate([trial._units(shape, cut, number) for number in range(copies)])
    assert len(units) == copies * shape[0] // UNIT_ROWS
    assert not units[:, -1].any()
    sections = units[:, :1] if cut.name == "TL1" else units[:, :2]
    at = sections - memory.ctypes.data
    assert len(np.unique(at)) == at.size
    assert (at >= 0).all()
    assert (at // size == np.repeat(np.arange(copies), shape[0] // UNIT_ROWS)[:, None]).all()


def test_shapes_that_cannot_be_cut_are_named(workers: Workers) -> None:
    tune = partial(tune_blocks, target=find_target(target_name()), workers=workers)
    narrow = replace(SPEC, hidden_size=128, n_heads=2)
    with pytest.raises(InvalidArgumentError, match=r"\(384, 128\).* cannot all be stored as TL2"):
        tune("TL2", narrow)
    odd: ModelSpec = replace(SPEC, ffn_size=400)
    with pytest.raises(InvalidArgumentError, match=r"\(400, 256\).* cannot all be stored as TL1"):
        tune("TL1", odd)


def test_a_target_without_look_ups_is_refused(workers: Workers) -> None:
    with pytest.raises(UnsupportedTargetError, match="scalar has no look-ups"):
        tune_blocks("TL1", SPEC, find_target("scalar"), workers)
