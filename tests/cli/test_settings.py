"""Settings: where they come from, which wins, and what is said about those that are wrong."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from typer.testing import Result

from bitnet import InvalidArgumentError
from bitnet.cli import settings
from bitnet.cli.settings import VARIABLES, Tree, read
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "default_file", lambda: tmp_path / "nowhere" / "config.toml")
    monkeypatch.delenv("BITNET_CONFIG_FILE", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bitnet.toml"
    path.write_text(
        '[model]\npath = "m.gguf"\n[inference]\ntop_k = 7\ntemperature = 0.5\n'
        "[performance]\nnum_threads = 2\n"
    )
    return path


def test_nothing_is_set_without_a_file_or_variables() -> None:
    found = read(environment={})
    assert found.tree == Tree()
    assert not found.origins


def test_the_environment_wins_over_the_file_and_origins_say_so(file: Path) -> None:
    found = read(file, {"BITNET_TOP_K": "9", "BITNET_SEED": "1"})
    assert found.tree.inference.model_dump(exclude_none=True) == {
        "top_k": 9,
        "temperature": 0.5,
        "seed": 1,
    }
    assert found.tree.performance.threads == 2
    assert found.origins == {
        "model.path": str(file),
        "inference.top_k": "BITNET_TOP_K",
        "inference.temperature": str(file),
        "inference.seed": "BITNET_SEED",
        "performance.threads": str(file),
    }


def test_a_file_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "bitnet.json"
    path.write_text('{"inference": {"top_p": 0.5, "stop": ["a", "b"]}}')
    assert read(path, {}).tree.inference.stop == ["a", "b"]


def test_the_file_may_be_named_by_a_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_CONFIG_FILE", str(file))
    assert read(environment={}).tree.inference.top_k == 7


def test_the_user_s_own_file_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "default_file", lambda: file)
    assert read(environment={}).tree.inference.top_k == 7


def test_all_problems_are_told_together_each_with_its_origin(file: Path) -> None:
    file.write_text(
        "[inference]\ntop_p = 2.0\nwarmth = 1\n[magic]\nx = 1\n[model]\nvocab_size = -3\n"
    )
    with pytest.raises(InvalidArgumentError) as raised:
        read(file, {"BITNET_NUM_THREADS": "many", "BITNET_MEMORY_LIMIT": "12 potatoes"})
    lines = str(raised.value).split("; ")
    expected = {
        "inference.top_p": str(file),
        "inference.warmth": str(file),
        "magic": str(file),
        "model.vocab_size": str(file),
        "performance.threads": "BITNET_NUM_THREADS",
        "performance.memory_limit": "BITNET_MEMORY_LIMIT",
    }
    assert len(lines) == len(expected)
    for line in lines:
        origin, name, _ = line.split(": ", 2)
        assert expected.pop(name) == origin


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1_000", 1000),
        ("2K", 2048),
        ("3 MiB", 3 << 20),
        ("1gb", 1 << 30),
        ("2T", 2 << 40),
    ],
)
def test_sizes_have_units_of_1024(text: str, size: int) -> None:
    assert read(environment={"BITNET_MEMORY_LIMIT": text}).tree.performance.memory_limit == size


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("BITNET_TOP_K", "none", "inference.top_k", 0),
        ("BITNET_TOP_P", "None", "inference.top_p", 1.0),
        ("BITNET_SEED", "none", "inference.seed", None),
        ("BITNET_NUM_THREADS", "auto", "performance.threads", None),
        ("BITNET_MEMORY_LIMIT", "none", "performance.memory_limit", None),
        ("BITNET_NUMA", "on", "performance.numa", True),
        ("BITNET_USE_GPU", "no", "performance.use_gpu", False),
    ],
)
def test_words_stand_for_values(variable: str, text: str, setting: str, value: object) -> None:
    assert read(environment={variable: text}).values()[setting] == value


def test_a_gpu_cannot_be_wished_for() -> None:
    with pytest.raises(InvalidArgumentError, match="use_gpu"):
        read(environment={"BITNET_USE_GPU": "1"})


def test_every_variable_sets_something_that_exists() -> None:
    known = read(environment={}).values()
    assert {setting for setting, _ in VARIABLES.values()} <= known.keys()


@pytest.mark.parametrize("text", ["x = ", "[a", "top_k = 1", '\xff = "'])
def test_a_file_that_is_none_is_refused_by_name(file: Path, text: str) -> None:
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidArgumentError, match=r"bitnet\.toml"):
        read(file, {})


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("a.toml", "a" + ".a" * 20_000 + " = 1", "a line has more than 4096 characters"),
        ("a.toml", "a" + ".a" * 1_000 + " = 1", "Extra inputs"),
        ("a.toml", "[model]\na = " + "[" * 4000, "cannot be read"),
        ("a.toml", "#\n" * 40_000, "more than 65536 bytes"),
        ("a.json", "[" * 40_000, "more than 32 levels"),
        ("a.json", '{"model": {"path": "a", "path": "b"}}', "key 'path' appears twice"),
        ("a.json", '{"inference": {"top_p": NaN}}', "NaN is not a number"),
        ("a.json", '{"inference": {"seed": ' + "9" * 5000 + "}}", "cannot be read"),
        ("a.json", '{"model": {"chat_template": "\\ud800"}}', "surrogates not allowed"),
        ("a.json", '{"model": {"\\u001b[2J": 1}}', r"model\.\\x1b\[2J: Extra inputs"),
    ],
)
def test_a_hostile_file_is_refused_at_once(tmp_path: Path, name: str, text: str, rule: str) -> None:
    (tmp_path / name).write_text(text)
    start = time.thread_time()
    with pytest.raises(InvalidArgumentError, match=rule) as caught:
        read(tmp_path / name, {})
    assert time.thread_time() - start < 1
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 4096


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"nothing\.toml"):
        read(tmp_path / "nothing.toml", {})


PROMPT = ("run", "-p", "Once upon a time", "--temperature", "0")


def n_tokens(result: Result) -> int:
    found = re.search(r"new (\d+) tokens", result.stderr)
    assert found, result.stderr
    return int(found[1])


def test_an_option_wins_over_a_variable_and_that_over_the_file(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[inference]\nmax_new_tokens = 3\n")
    given = ("--config", str(file))
    assert n_tokens(run(*given, *PROMPT)) == 3
    monkeypatch.setenv("BITNET_MAX_NEW_TOKENS", "5")
    assert n_tokens(run(*given, *PROMPT)) == 5
    assert n_tokens(run(*given, *PROMPT, "-n", "7")) == 7


def test_sizes_that_are_not_the_model_s_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITNET_HIDDEN_SIZE", "256")
    assert run(*PROMPT, "-n", "1").exit_code == 0
    monkeypatch.setenv("BITNET_NUM_LAYERS", "99")
    result = run(*PROMPT, "-n", "1")
    assert result.exit_code == 8
    assert "BITNET_NUM_LAYERS" in result.stderr


@pytest.mark.parametrize(
    ("variable", "right", "wrong"),
    [
        ("BITNET_MODEL_FORMAT", ("gguf", "auto"), ("safetensors", "huggingface")),
        ("BITNET_QUANTIZATION_TYPE", ("I2S", "i2_s", "auto"), ("TL1", "tl2")),
    ],
)
def test_a_model_that_is_not_stored_as_expected_is_refused(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    variable: str,
    right: tuple[str, ...],
    wrong: tuple[str, ...],
) -> None:
    for text in right:
        monkeypatch.setenv(variable, text)
        assert run("run", "-m", model, "-p", "x").exit_code == 0
    for text in wrong:
        monkeypatch.setenv(variable, text)
        result = run("run", "-m", model, "-p", "x")
        assert (result.exit_code, result.stdout) == (8, "")
        assert f" as {variable} says" in result.stderr
    monkeypatch.setenv(variable, "q4_k")
    assert run("run", "-m", model, "-p", "x").exit_code == 2


def test_a_model_beyond_the_memory_limit_is_refused(run: Run) -> None:
    assert run(*PROMPT, "-n", "1", "--memory-limit", "1G").exit_code == 0
    assert run(*PROMPT, "-n", "1", "--memory-limit", "1M").exit_code == 1
    assert run(*PROMPT, "-n", "1", "--memory-limit", "much").exit_code == 2


def test_config_shows_values_and_origins(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITNET_SEED", "4")
    lines = run("-c", str(file), "config", "show", "--origin").stdout.splitlines()
    assert f"inference.top_k = 7  # {file}" in lines
    assert "inference.seed = 4  # BITNET_SEED" in lines
    assert "inference.min_p =  # default" in lines
    report = json.loads(run("-c", str(file), "config", "show", "--json").stdout)
    assert report["inference.top_k"] == 7
    assert report["inference.min_p"] is None
    assert run("config", "path").stdout.strip() == str(settings.default_file())


def test_settings_with_problems_stop_every_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITNET_TOP_K", "many")
    for command in (PROMPT, ("config", "show"), ("tokenize", "--text", "a")):
        result = run(*command)
        assert result.exit_code == 2
        assert "BITNET_TOP_K: inference.top_k" in result.stderr
