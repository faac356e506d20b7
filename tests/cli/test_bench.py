"""`bitnet bench`: what it writes, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet.bench.probes import Limits, Probes
from bitnet.bench.random_source import RandomCheckpoint
from bitnet.codegen import find_target
from bitnet.kernels.layouts import LAYOUTS
from tests.cli.conftest import Run
from tests.tiny_model import HIDDEN

Rows = list[dict[str, Any]]
Edit = Callable[[dict[str, Any]], None]
QUICK = ("-p", 9, "-n", 3, "-r", 2)
ONE = ("-p", 0, "-n", 3, "-r", 1, "-t", 1)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that take no time, and nobody else around."""
    monkeypatch.setattr(Probes, "measure", lambda _: Limits(50e9, 500e9))
    monkeypatch.setattr("bitnet.cli.bench.busy_warning", lambda: None)


def json_rows(run: Run, *arguments: object) -> Rows:
    result = run("bench", *arguments, "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_a_json_row_says_what_was_measured_and_beside_what(run: Run, model: Path) -> None:
    (row,) = json_rows(run, "-m", model, *ONE)
    assert row["model"] == "tiny"
    assert row["shape"]["hidden_size"] == HIDDEN
    assert (row["test"], row["threads"], row["batch"]) == ("tg3", 1, 1)
    assert (row["target"], row["head"]) == (find_target().name, "f32")
    assert row["layout"] in LAYOUTS
    speed = row["tokens_per_s"]
    assert 0 < speed["min"] <= speed["median"] <= speed["max"]
    assert row["bytes_per_token"] > HIDDEN
    bandwidth, compute = row["limits"]
    assert (bandwidth["kind"], bandwidth["measured"]) == ("bandwidth", 50e9)
    assert (compute["kind"], compute["measured"]) == ("compute", 500e9)
    assert bandwidth["share"] == pytest.approx(speed["median"] * row["bytes_per_token"] / 50e9)
    assert compute["share"] == pytest.approx(speed["median"] * row["macs_per_token"] / 500e9)
    assert row["limit"] == max(bandwidth, compute, key=lambda limit: limit["share"])
    assert row["load_s"] > 0
    assert row["peak_rss"] is None or row["peak_rss"] > 10**6
    assert row["profile"] is None


def test_all_combinations_are_measured_in_order(run: Run, model: Path) -> None:
    rows = json_rows(
        run, "-m", model, "-p", "9,0", "-n", 2, "-d", "0,20", "-t", "1,2", "-b", "1, 3", "-r", 1
    )
    tests = ["pp9", "tg2", "tg2@20"]
    expected = [(test, t, b) for t in (1, 2) for b in (1, 3) for test in tests]
    assert [(row["test"], row["threads"], row["batch"]) for row in rows] == expected


def test_more_sequences_share_the_bytes(run: Run, model: Path) -> None:
    one, eight = json_rows(run, "-m", model, *ONE, "-b", "1,8")
    assert eight["bytes_per_token"] < one["bytes_per_token"] / 4
    assert eight["macs_per_token"] == one["macs_per_token"]


def test_a_context_longer_than_the_model_s_own_is_no_limit(run: Run, model: Path) -> None:
    (row,) = json_rows(run, "-m", model, *ONE, "-d", 200)
    assert row["test"] == "tg3@200"


def test_a_batch_may_be_larger_than_a_step_of_prompts(run: Run, model: Path) -> None:
    (row,) = json_rows(run, "-m", model, "-p", 0, "-n", 1, "-r", 1, "-b", 150)
    assert row["batch"] == 150


def test_a_random_model_needs_no_file(run: Run) -> None:
    (row,) = json_rows(run, "--random", "large", "--layers", 1, *ONE)
    assert row["model"] == "random large, 1 of 24 layers"
    assert row["shape"]["hidden_size"] == RandomCheckpoint("large").spec.hidden_size


def test_a_target_can_be_chosen(run: Run, model: Path) -> None:
    assert json_rows(run, "-m", model, *ONE, "--target", "scalar")[0]["target"] == "scalar"


def test_a_layout_can_be_chosen(run: Run, model: Path) -> None:
    by_layout = {name: json_rows(run, "-m", model, *ONE, "--layout", name) for name in LAYOUTS}
    assert [rows[0]["layout"] for rows in by_layout.values()] == list(LAYOUTS)
    n_bytes = {name: rows[0]["bytes_per_token"] for name, rows in by_layout.items()}
    assert n_bytes["b3"] < n_bytes["2bit"] == n_bytes["i2_s"]


def test_markdown_is_a_table(run: Run, model: Path) -> None:
    result = run("bench", "-m", model, *QUICK, "-t", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    about, empty, *table = result.stdout.splitlines()
    assert re.match(r"tiny · target \w+ · layout \w+ · head f32 · load [\d.]+ s", about)
    assert empty == ""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len({len(line) for line in table}) == 1
    assert [row[:3] for row in cells] == [
        ["test", "threads", "batch"],
        ["-" * 4, "-" * 6 + ":", "-" * 4 + ":"],
        ["pp9", "2", "1"],
        ["tg3", "2", "1"],
    ]


def test_csv_has_a_line_for_each_row(run: Run, model: Path) -> None:
    result = run("bench", "-m", model, *QUICK, "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["test"] for row in rows] == ["pp9", "tg3"]
    for row in rows:
        assert None not in row.values()
        assert float(row["tokens_per_s_median"]) > 0
        assert float(row["limit_share"]) > 0
        assert float(row["bandwidth_measured"]) == 50e9
        assert int(row["shape_hidden_size"]) == HIDDEN


# -- a baseline ----------------------------------------------------------------------------------


@pytest.fixture
def baseline(run: Run, model: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Writes an earlier result with its rows edited."""
    rows = json_rows(run, "-m", model, *QUICK)
    path = tmp_path / "before.json"

    def write(edit: Edit) -> Path:
        for row in rows:
            edit(row)
        path.write_text(json.dumps(rows))
        return path

    return write


def scaled(speed: float, share: float) -> Edit:
    def edit(row: dict[str, Any]) -> None:
        row["tokens_per_s"]["median"] *= speed
        row["limit"]["share"] *= share

    return edit


@pytest.mark.parametrize(
    ("speed", "share"),
    [
        (1e-3, 1e-3),  # faster now
        (1e3, 1e-3),  # slower, but at a higher share of the limit: the machine is slower
        (1e-3, 1e3),  # faster, on a much faster machine
    ],
)
def test_what_is_not_slower_or_explained_by_the_limit_passes(
    run: Run, model: Path, baseline: Callable[[Edit], Path], speed: float, share: float
) -> None:
    result = run("bench", "-m", model, *QUICK, "--baseline", baseline(scaled(speed, share)))
    assert result.exit_code == 0
    assert "SLOWER" not in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_what_is_slower_fails_by_name(
    run: Run, model: Path, baseline: Callable[[Edit], Path]
) -> None:
    path = baseline(lambda row: scaled(*((1e3, 1e3) if row["test"] == "tg3" else (1e-3, 1)))(row))
    result = run("bench", "-m", model, *QUICK, "--baseline", path)
    assert result.exit_code == 9
    slower = [line for line in result.stderr.splitlines() if line.startswith("SLOWER: ")]
    assert len(slower) == 1
    assert slower[0].startswith("SLOWER: tg3, ")
    assert "| tg3" in result.stdout


def test_rows_of_other_models_are_not_compared(
    run: Run, model: Path, baseline: Callable[[Edit], Path]
) -> None:
    path = baseline(lambda row: row.update(model="another"))
    result = run("bench", "-m", model, *QUICK, "--baseline", path)
    assert result.exit_code == 2
    assert result.stderr == "error: the baseline has none of the rows that were measured\n"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"model": "x"}]', "null", '["row"]'])
def test_what_is_no_baseline_is_refused(run: Run, model: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "before.json"
    path.write_text(text)
    result = run("bench", "-m", model, *QUICK, "--baseline", path)
    assert result.exit_code == 2
    assert str(path) in result.stderr or "none of the rows" in result.stderr


# -- where the time goes -------------------------------------------------------------------------


def test_a_profile_adds_up_to_the_time_that_was_measured(run: Run, model: Path) -> None:
    (row,) = json_rows(run, "-m", model, "-p", 0, "-n", 30, "-r", 3, "-t", 1, "--profile")
    measured_ms = 3 * 30 / row["tokens_per_s"]["median"] * 1e3
    spent_ms = sum(sum(p["work_ms"]) + sum(p["wait_ms"]) for p in row["profile"])
    # The rest is Python's between the steps, which is most of it with a model this small.
    assert measured_ms / 100 < spent_ms < measured_ms * 3
    by_name = {p["phase"]: p for p in row["profile"]}
    assert by_name["qkv"]["calls"] == by_name["head"]["calls"] == 3 * 30
    assert by_name["qkv"]["macs"] == 3 * 30 * 3 * HIDDEN**2
    assert by_name["embed"]["bytes"] is None


def test_a_profile_is_a_table_of_phases_and_one_of_threads(run: Run, model: Path) -> None:
    result = run("bench", "-m", model, "-p", 9, "-n", 0, "-r", 1, "-t", 2, "--profile")
    assert result.exit_code == 0
    first = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line[:1] == "|"]
    assert first.index("embed") < first.index("attention") < first.index("head")
    assert first[-2:] == ["0", "1"]
    assert "pp9, 2 threads, batch 1, over all repetitions:" in result.stdout


def test_stacks_are_in_the_collapsed_format(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "stacks.txt"
    assert run("bench", "-m", model, *QUICK, "-t", 2, "--flamegraph", path).exit_code == 0
    lines = path.read_text().splitlines()
    for line in lines:
        assert re.fullmatch(r"(pp9|tg3), 2 threads, batch 1;thread [01];\w+;(work|wait) \d+", line)
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines) == 2 * 2 * 13 * 2


def test_perf_learns_the_names_of_the_generated_functions(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert run("bench", "-m", model, *ONE, "--perf-map").exit_code == 0
    lines = (tmp_path / f"perf-{os.getpid()}.map").read_text().splitlines()
    functions = {name: (int(a, 16), int(n, 16)) for a, n, name in map(str.split, lines)}
    address, size = functions["bitnet:forward"]
    assert address > 0
    assert size > 1000
    monkeypatch.setattr("sys.platform", "darwin")
    result = run("bench", "-m", model, *ONE, "--perf-map")
    assert (result.exit_code, result.stderr) == (1, "error: perf maps are for Linux's perf\n")


@pytest.mark.parametrize(("option", "value"), [("--layout", "3bit"), ("--head", "q2_k")])
def test_only_known_names_are_taken(run: Run, model: Path, option: str, value: str) -> None:
    result = run("bench", "-m", model, option, value)
    assert result.exit_code == 2
    assert f"'{value}' is not one of" in " ".join(result.stderr.split())


# -- what makes no sense -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "many"], "--prompt takes whole numbers with commas between, not 'many'"),
        (["-n", "1,,2"], "--new takes whole numbers"),
        (["-n", "-1"], "--new takes whole numbers"),
        (["-t", "0"], "threads must be at least 1, not 0"),
        (["-t", "2000"], "threads must be in 1..1024, not 2000"),
        (["-b", "0"], "batches must be at least 1, not 0"),
        (["-r", "0"], "repetitions must be at least 1, not 0"),
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["--random", "9b"], "unknown shape '9b'; the shapes are 2b4t, "),
        (["--random", "3b", "--layers", "27"], "3b can be cut to 1..26 layers, not 27"),
        (["--layers", "2"], "--layers cuts random models only"),
        (["--random", "3b", "-m", "a.gguf"], "--model and --random exclude each other"),
        (["--target", "z80"], "unknown target 'z80'"),
        (["--baseline", "no/such.json"], "cannot read no/such.json: No such file or directory"),
        (["--profile", "-o", "csv"], "a profile does not fit into CSV"),
        (["--flamegraph", "no/such/folder", *map(str, ONE)], "cannot write no/such/folder"),
    ],
)
def test_senseless_arguments_are_usage_errors(
    run: Run, model: Path, arguments: list[str], message: str
) -> None:
    given = [] if {"--random", "--layers"} & {*arguments} else ["-m", model]
    result = run("bench", *given, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stdout == ""


def test_an_unknown_format_is_a_usage_error(run: Run) -> None:
    assert run("bench", "-o", "xml").exit_code == 2


def test_a_model_that_is_not_there_is_an_error(run: Run) -> None:
    result = run("bench", "-m", "no/such.gguf")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no file or folder no/such.gguf\n"


def test_a_busy_machine_gets_a_warning(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitnet.cli.bench.busy_warning", lambda: "somebody else is here")
    result = run("bench", "-m", model, *ONE)
    assert (result.exit_code, result.stderr) == (0, "warning: somebody else is here\n")


def test_limits_are_measured_before_and_after_and_the_better_ones_count(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([Limits(10e9, 700e9), Limits(20e9, 300e9)])
    monkeypatch.setattr(Probes, "measure", lambda _: next(answers))
    (row,) = json_rows(run, "-m", model, *ONE)
    assert [limit["measured"] for limit in row["limits"]] == [20e9, 700e9]
