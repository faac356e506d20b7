"""`bitnet score` and `bitnet perplexity`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bitnet
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "lines.txt"
    path.write_bytes("Once upon a time, there was a fox.\r\n\nTom had a red\u2028ball.\n".encode())
    return path


def test_score_tells_of_all_lines(run: Run, lines: Path) -> None:
    done = run("score", lines, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    with bitnet.load() as model:
        texts = ["Once upon a time, there was a fox.", "Tom had a red\u2028ball."]
        expected = model.score(texts).total
        assert report.pop("latency")["total_ms"] > 0
        assert report == {
            "type": "score",
            "model": str(model.path),
            "dataset": str(lines),
            "tokens": expected.tokens,
            "mean_nll": expected.mean_nll,
            "standard_error": expected.standard_error,
            "ppl": expected.perplexity,
            "ppl_interval": list(expected.perplexity_interval),
            "tokenizer": {"type": "byte-level", "origin": str(model.path)},
            "gen_policy": {"bos": True, "context": 512},
            "counts": {"sequences": 2, "without_tokens": 0},
        }


def test_perplexity_is_of_windows_of_the_context(run: Run, lines: Path) -> None:
    done = run("perplexity", lines, "--json", "--context", 8)
    report = json.loads(done.stdout)
    with bitnet.load(context=8) as model:
        found = model.perplexity(lines.read_bytes().decode())
    assert (report["type"], report["ppl"]) == ("perplexity", found.total.perplexity)
    assert report["counts"]["sequences"] == len(found.scores) > 1
    assert report["gen_policy"]["context"] == 8


def test_a_line_tells_the_same(run: Run, lines: Path) -> None:
    done = run("score", lines)
    with bitnet.load() as model:
        texts = lines.read_bytes().decode().replace("\r", "").split("\n")
        expected = model.score([text for text in texts if text]).total
    assert done.stdout.startswith(f"perplexity {expected.perplexity:.4f} (95 %: ")
    assert f"{expected.tokens} tokens of 2 texts, " in done.stderr


def test_a_baseline_is_written_and_compared_with(run: Run, lines: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline"
    assert run("score", lines, "--save-baseline", file).exit_code == 0
    same = json.loads(run("score", lines, "--baseline", file, "--json").stdout)
    assert same["baseline"]["mean_kl"] == 0
    assert same["baseline"]["ppl"] == same["ppl"]
    other = json.loads(run("score", lines, "--head", "int8", "--baseline", file, "--json").stdout)
    assert 0 < other["baseline"]["mean_kl"] <= other["baseline"]["max_kl"] < 0.1
    assert other["baseline"]["ppl"] == same["ppl"] != other["ppl"]
    assert "same top token" in run("score", lines, "--head", "int8", "--baseline", file).stdout


def test_numbers_that_json_does_not_have_are_null(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "short"
    file.write_text("a")
    report = json.loads(run("score", file, "--json").stdout)
    assert report["tokens"] == 1
    assert report["standard_error"] is None
    assert report["ppl_interval"] == [None, None]
    assert np.isfinite(report["ppl"])


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xff\xfe"])
def test_a_file_without_text_is_a_mistake(run: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run("score", file)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_a_file_that_is_not_there_is_a_mistake(run: Run, tmp_path: Path) -> None:
    for command in ("score", "perplexity"):
        done = run(command, tmp_path / "none")
        assert done.exit_code == 2
        assert "cannot read" in done.stderr


def test_a_line_longer_than_the_context_is_an_error(run: Run, lines: Path) -> None:
    done = run("score", lines, "--context", 4)
    assert done.exit_code == 1
    assert "text 1: " in done.stderr
