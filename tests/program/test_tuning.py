"""The layout that is chosen by measuring: kept, told, and never needed for correctness."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet.codegen import find_target
from bitnet.program import tuning
from bitnet.program.tuning import TUNING_FILE, fastest_layout, read_tunings
from bitnet.program.workers import Workers
from tests.program.random_models import spec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BITNET_CACHE_DIR", str(tmp_path))
    return tmp_path


def no_measuring(*_: object) -> float:
    pytest.fail("measured again")


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(2)
    layout = fastest_layout(spec(), find_target(), workers)
    (entry,) = read_tunings().values()
    assert entry["weights_per_s"].keys() == {"b3", "2bit"}
    assert entry["weights_per_s"][layout] == max(entry["weights_per_s"].values()) > 0
    monkeypatch.setattr(tuning, "_weights_per_second", no_measuring)
    assert fastest_layout(spec(), find_target(), workers) == layout
    workers.close()


def test_another_shape_target_or_team_is_measured_on_its_own() -> None:
    one, two = Workers(1), Workers(2)
    for shape, target, workers in (
        (spec(), find_target(), one),
        (replace(spec(), hidden_size=128), find_target(), one),
        (spec(), find_target("scalar"), one),
        (spec(), find_target(), two),
    ):
        fastest_layout(shape, target, workers)
    assert len(read_tunings()) == 4
    two.close()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": {"layout": "b3"}}'])
def test_a_damaged_file_is_measured_anew(cache: Path, content: str) -> None:
    (cache / TUNING_FILE).write_text(content)
    assert fastest_layout(spec(), find_target(), Workers(1)) in ("b3", "2bit")
    assert len(json.loads((cache / TUNING_FILE).read_text())) == 1


def test_a_layout_that_is_no_longer_known_is_measured_anew(cache: Path) -> None:
    fastest_layout(spec(), find_target(), Workers(1))
    path = cache / TUNING_FILE
    known = json.loads(path.read_text())
    for entry in known.values():
        entry["layout"] = "5bit"
    path.write_text(json.dumps(known))
    assert fastest_layout(spec(), find_target(), Workers(1)) in ("b3", "2bit")


def test_measurements_that_cannot_be_kept_cost_time_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("BITNET_CACHE_DIR", str(cache / "file" / "folder"))
    assert fastest_layout(spec(), find_target(), Workers(1)) in ("b3", "2bit")
