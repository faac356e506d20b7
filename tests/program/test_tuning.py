"""What is chosen by measuring: kept, told, overridable, and never needed for correctness."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet import InvalidArgumentError
from bitnet.codegen import find_target
from bitnet.kernels.layouts import TiledLayout
from bitnet.kernels.lookup import LookUp
from bitnet.kernels.ternary import Blocking
from bitnet.program import tuning
from bitnet.program.tuning import TUNING_FILE, Tuning, read_tunings, tune
from bitnet.program.workers import Workers
from bitnet.quant.tl_config import Blocks, Cut
from tests.program.random_models import spec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITNET_CACHE_DIR", str(tmp_path))
    return tmp_path


def no_measuring(*_: object) -> float:
    pytest.fail("measured again")


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(2)
    chosen = tune(spec(), find_target(), workers)
    assert list(read_tunings().values()) == [chosen]
    assert min(chosen.weights_per_s.values()) > 0
    monkeypatch.setattr(tuning, "_weights_per_second", no_measuring)
    assert tune(spec(), find_target(), workers) == chosen
    workers.close()


def test_the_fastest_of_each_kind_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {("2bit", 8192, 8): 2.0, ("2bit", 4096, 8): 2.2, ("2bit", 8192, 2): 3.0}

    def speed(layout: TiledLayout, blocking: Blocking, *_: object) -> float:
        return speeds.get((layout.name, blocking.prefetch_bytes, blocking.tokens_at_once), 1.0)

    monkeypatch.setattr(tuning, "_weights_per_second", speed)
    chosen = tune(spec(), find_target("scalar"), Workers(1))
    assert (chosen.layout, chosen.blocking) == ("2bit", Blocking(4096, 2))
    b3 = tune(spec(), find_target("scalar"), Workers(1), "b3")
    assert (b3.layout, b3.blocking.prefetch_bytes) == ("b3", 8192)


def test_a_small_advantage_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(layout: TiledLayout, blocking: Blocking, *_: object) -> float:
        return 1.04 if (layout.name, blocking) != ("b3", Blocking()) else 1.0

    monkeypatch.setattr(tuning, "_weights_per_second", speed)
    assert tune(spec(), find_target("scalar"), Workers(1)).layout == "b3"


def test_the_environment_overrides_the_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_BLOCKING", "512,3")
    assert tune(spec(), find_target(), Workers(1)).blocking == Blocking(512, 3)
    (kept,) = read_tunings().values()
    assert kept.blocking != Blocking(512, 3)


@pytest.mark.parametrize("text", ["512", "512,0", ",8", "-1,8", "a,b", "1,2,3"])
def test_a_blocking_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BITNET_BLOCKING", text)
    with pytest.raises(InvalidArgumentError, match=re.escape(text)):
        tune(spec(), find_target(), Workers(1))


def test_what_is_used_as_it_is_needs_no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_weights_per_second", no_measuring)
    assert tune(spec(), find_target(), Workers(1), "i2_s") == Tuning("i2_s")


def test_another_shape_target_or_team_is_measured_on_its_own() -> None:
    one, two = Workers(1), Workers(2)
    for shape, target, workers in (
        (spec(), find_target(), one),
        (replace(spec(), hidden_size=128), find_target(), one),
        (spec(), find_target("scalar"), one),
        (spec(), find_target(), two),
    ):
        tune(shape, target, workers)
    assert len(read_tunings()) == 4
    two.close()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"layout": "b3"}}'])
def test_a_damaged_file_is_measured_anew(cache: Path, content: str) -> None:
    (cache / TUNING_FILE).write_text(content)
    assert tune(spec(), find_target(), Workers(1)).layout in ("b3", "2bit")
    assert len(json.loads((cache / TUNING_FILE).read_text())) == 1


def test_a_layout_that_is_no_longer_known_is_measured_anew(cache: Path) -> None:
    tune(spec(), find_target(), Workers(1))
    path = cache / TUNING_FILE
    known = json.loads(path.read_text())
    for entry in known.values():
        entry["layout"] = "5bit"
    path.write_text(json.dumps(known))
    assert tune(spec(), find_target(), Workers(1)).layout in ("b3", "2bit")


def test_measurements_that_cannot_be_kept_cost_time_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("BITNET_CACHE_DIR", str(cache / "file" / "folder"))
    assert tune(spec(), find_target(), Workers(1)).layout in ("b3", "2bit")


def test_other_code_is_measured_anew_and_what_it_measured_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "_weights_per_second", lambda *_: 1.0)
    tune(spec(), find_target(), Workers(1))
    monkeypatch.setattr("bitnet.codegen.jit.generator_digest", lambda: "of other code")
    assert read_tunings() == {}
    tune(spec(), find_target(), Workers(1))
    assert all(key.endswith("of other cod") for key in read_tunings())
    assert len(read_tunings()) == 1


LOOK_UP = LookUp("TL1", (Cut("TL1", 256, Blocks(64, 64, 32)), Cut("TL1", 384, Blocks(64, 64, 32))))


def test_look_ups_in_place_take_part() -> None:
    target, workers = find_target(), Workers(1)
    if not target.has_lookup16:
        pytest.skip(f"{target.name} has no look-up in tables of 16 bytes")
    shape = replace(spec(), hidden_size=256, ffn_size=384, n_heads=4, n_kv_heads=1, head_dim=64)
    assert tune(shape, target, workers, look_up=LOOK_UP).weights_per_s["tl1"] > 0
    assert "tl1" not in tune(shape, target, workers).weights_per_s
    assert len(read_tunings()) == 2


@pytest.mark.parametrize(("look_ups", "layout"), [(1.04, "b3"), (1.2, "tl1")])
def test_look_ups_in_place_are_taken_when_they_are_faster(
    monkeypatch: pytest.MonkeyPatch, look_ups: float, layout: str
) -> None:
    monkeypatch.setattr(tuning, "_weights_per_second", lambda *_: 1.0)
    monkeypatch.setattr(tuning, "_look_ups_per_second", lambda *_: look_ups)
    for _ in range(2):  # measured, and as it was kept
        assert tune(spec(), find_target(), Workers(1), look_up=LOOK_UP).layout == layout
    assert tune(spec(), find_target(), Workers(1), "2bit", LOOK_UP).layout == "2bit"
