"""`bitnet pull`, `list` and `rm`, and the names of stored models in other commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fake_hub import COMMIT, FakeHub, Repo
from tests.store.conftest import Pull
from tests.tiny_model import TEXT, write_tiny_model

NAME = "some/tiny-gguf"


@pytest.fixture
def tiny(hub: FakeHub, tmp_path: Path) -> bytes:
    """A model that is on the hub as NAME."""
    content = write_tiny_model(tmp_path / "tiny.gguf").read_bytes()
    hub.repos[NAME] = Repo({"tiny.gguf": content})
    return content


def test_pull_prints_the_path_and_nothing_else_into_a_pipe(
    run: Run, tiny: bytes, store: Path
) -> None:
    result = run("pull", NAME)
    assert (result.exit_code, result.stderr) == (0, "")
    path = Path(result.stdout.removesuffix("\n"))
    assert path == store / "models--some--tiny-gguf" / "snapshots" / COMMIT / "tiny.gguf"
    assert path.read_bytes() == tiny


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("tiny-gguf", 2, "'tiny-gguf' is not of the form OWNER/REPO"),
        ("https://huggingface.co/some/tiny-gguf", 2, "'https://huggingface.co/some/tiny-gguf': "),
        ("some/other", 1, "the hub has no repository some/other"),
        ("some/pickles", 3, "some/pickles: holds no model that can be loaded"),
        ("some/many", 2, "some/many holds several models; choose one: some/many:a.gguf, some/"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_on_stderr(
    run: Run, hub: FakeHub, name: str, code: int, message: str
) -> None:
    hub.repos["some/pickles"] = Repo({"pytorch_model.bin": b"a pickle"})
    hub.repos["some/many"] = Repo({"a.gguf": b"a", "b.gguf": b"b"})
    result = run("pull", name)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_list_shows_what_is_stored(run: Run, tiny: bytes) -> None:
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "bitnet pull" in result.stderr
    assert json.loads(run("list", "--json").stdout) == []
    run("pull", NAME)
    head, row = run("list").stdout.splitlines()
    assert head.split() == ["NAME", "KIND", "SIZE", "REVISION", "FETCHED"]
    assert row.startswith(f"{NAME}  gguf  {len(tiny) / 1e6:.1f} MB  main      20")
    (model,) = json.loads(run("list", "--json").stdout)
    when = datetime.fromisoformat(model.pop("fetched"))
    assert abs((datetime.now(timezone.utc) - when).total_seconds()) < 60
    assert Path(model.pop("path")).read_bytes() == tiny
    assert model == {
        "name": NAME,
        "kind": "gguf",
        "bytes": len(tiny),
        "commit": COMMIT,
        "refs": ["main"],
    }


@pytest.mark.usefixtures("tiny")
def test_rm_asks_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("pull", NAME)
    result = run("rm", NAME)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    monkeypatch.setattr("bitnet.cli.store.watched", lambda: True)
    assert run("rm", "tiny-gguf", input="n\n").exit_code == 1
    assert len(run("list").stdout.splitlines()) == 2
    result = run("rm", "tiny-gguf", input="y\n")
    assert result.exit_code == 0
    assert "Delete tiny-gguf (" in result.stderr
    assert run("list").stdout == ""


@pytest.mark.usefixtures("tiny")
def test_rm_without_asking(run: Run) -> None:
    run("pull", NAME)
    assert run("rm", "--yes", NAME).exit_code == 0
    assert run("list").stdout == ""
    result = run("rm", "--yes", NAME)
    assert result.exit_code == 1
    assert result.stderr == f"error: there is no model {NAME} in the store\n"


@pytest.mark.parametrize("name", [NAME, "tiny-gguf"])
@pytest.mark.usefixtures("tiny")
def test_every_command_takes_a_stored_name(run: Run, pull: Pull, tmp_path: Path, name: str) -> None:
    path = str(pull(NAME).path)
    assert run("run", "-m", name, "-p", "x").stdout == f"{TEXT}\n"
    report = json.loads(run("tokenize", "-m", name, "--text", "a", "--json").stdout)
    assert report["tokenizer"]["origin"] == path
    assert json.loads(run("inspect", name, "--json").stdout)["path"] == path
    assert path in run("verify", name).stdout
    assert run("repair", name, tmp_path / "out").exit_code == 0
    assert run("convert", name, tmp_path / "out").exit_code == 0


def test_a_name_that_is_not_stored_tells_how_to_fetch_it(run: Run) -> None:
    for command in (("run", "-p", "x", "-m"), ("tokenize", "--text", "x", "-m"), ("bench", "-m")):
        result = run(*command, NAME)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith(f"bitnet pull {NAME}\n")


def test_a_model_of_the_settings_may_be_a_stored_name(
    run: Run, tiny: bytes, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pull(NAME).size_bytes == len(tiny)
    monkeypatch.setenv("BITNET_MODEL_PATH", NAME)
    assert run("run", "-p", "x").stdout == f"{TEXT}\n"


def test_in_a_process_of_its_own_the_variables_decide(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[NAME] = Repo({"m.gguf": b"1"})
    variables = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "BITNET_CACHE_DIR": str(tmp_path / "cache"),
    }

    def pull(**more: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "bitnet", "pull", NAME)
        environment = {**os.environ, **variables, **more}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    offline = pull(BITNET_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (1, "")
    assert "BITNET_OFFLINE" in offline.stderr
    assert not hub.requests
    done = pull()
    assert (done.returncode, done.stderr) == (0, "")
    expected = tmp_path / "cache" / "hub" / "models--some--tiny-gguf"
    assert Path(done.stdout.strip()).is_relative_to(expected)
    assert pull(BITNET_OFFLINE="1").stdout == done.stdout
