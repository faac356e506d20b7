"""`bitnet embed`: what it prints, and where texts come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bitnet
from tests.cli.conftest import Run
from tests.embedder_files import Embedder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Embedder("qwen3").write_gguf(tmp_path_factory.mktemp("models") / "embedder.gguf")


def vectors(lines: str) -> np.ndarray:
    return np.array([json.loads(line) for line in lines.splitlines()], np.float32)


def test_each_text_gives_a_line(run: Run, embedder: Path) -> None:
    result = run("embed", "-m", embedder, "--text", "one", "--text", "two")
    assert result.exit_code == 0
    with bitnet.load(embedder) as model:
        np.testing.assert_array_equal(vectors(result.stdout), model.embed(["one", "two"]))


def test_json_has_the_text_without_its_prefix(run: Run, embedder: Path) -> None:
    result = run("embed", "-m", embedder, "--text", "é", "--prefix", "query: ", "--json")
    line = json.loads(result.stdout)
    assert line["text"] == "é"
    with bitnet.load(embedder) as model:
        np.testing.assert_array_equal(
            np.array(line["embedding"], np.float32), model.embed("query: é")
        )


def test_mean_pooling_that_nobody_may_have_chosen_is_doubted(run: Run, tmp_path: Path) -> None:
    path = Embedder("qwen3").write_gguf(tmp_path / "mean.gguf", pooling=1)
    doubted = run("embed", "-m", path, "--text", "one")
    chosen = run("embed", "-m", path, "--text", "one", "--pooling", "mean")
    assert "warning: the file says mean pooling" in doubted.stderr
    assert (chosen.stderr, chosen.stdout) == ("", doubted.stdout)


def test_pooling_may_be_chosen(run: Run, embedder: Path) -> None:
    result = run("embed", "-m", embedder, "--text", "one", "--pooling", "mean")
    with bitnet.load(embedder) as model:
        np.testing.assert_array_equal(vectors(result.stdout)[0], model.embed("one", pooling="mean"))


def test_texts_are_the_lines_of_a_file_or_of_stdin(
    run: Run, embedder: Path, tmp_path: Path
) -> None:
    texts = ["one", "", "two é", *map(str, range(70))]
    file = tmp_path / "texts"
    file.write_bytes("\r\n".join(texts).encode())
    with bitnet.load(embedder) as model:
        expected = model.embed(texts)
    for result in (
        run("embed", "-m", embedder, "--file", file),
        run("embed", "-m", embedder, input="\n".join(texts) + "\n"),
    ):
        np.testing.assert_array_equal(vectors(result.stdout), expected)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--text", "a", "--file", "b"], 2, "--text and --file exclude each other"),
        (["--file", "no-such-file"], 2, "cannot read no-such-file"),
        (["--text", "a", "-m", "no-such-model"], 1, "no-such-model"),
        (["--text", "a" * 600], 1, "text 0 has 601 tokens"),
    ],
)
def test_what_cannot_be_done_is_told(
    run: Run, embedder: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    model = [] if "-m" in arguments else ["-m", embedder]
    result = run("embed", *model, *arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr


def test_files_that_are_not_utf8_are_refused(run: Run, embedder: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_bytes(b"\xff")
    result = run("embed", "-m", embedder, "--file", file)
    assert (result.exit_code, "is not UTF-8" in result.stderr) == (2, True)


def test_models_that_write_text_say_so(run: Run, embedder: Path) -> None:
    result = run("embed", "--text", "Once")
    assert result.exit_code == 1
    assert 'choose pooling "mean", "cls" or "last"' in result.stderr
    result = run("run", "-m", embedder, "-p", "Once")
    assert result.exit_code == 1
    assert "no output head, so it writes no text" in result.stderr
