"""Finding models by name, and deleting them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bitnet
from bitnet import DownloadError, InvalidArgumentError, ModelNotFoundError
from bitnet.store import models, parse_name, remove, resolve
from tests.fake_hub import COMMIT, FakeHub, Repo
from tests.store.conftest import Pull
from tests.tiny_model import TEXT, write_tiny_model

NAME = "some/model-gguf"
OTHER = "d1" * 20


def not_found(name: str) -> str:
    with pytest.raises(ModelNotFoundError) as raised:
        resolve(name)
    return str(raised.value)


def test_a_path_wins_over_a_name(
    hub: FakeHub, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"m.gguf": b"1"})
    stored = pull(NAME)
    monkeypatch.chdir(tmp_path)
    assert resolve("model-gguf") == resolve(NAME) == stored.path
    Path("model-gguf").write_bytes(b"")
    assert resolve("model-gguf") == Path("model-gguf")
    assert resolve(Path(NAME)) == Path(NAME)


def test_the_last_part_of_a_name_is_enough_where_it_is_clear(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = hub.repos["other/model-gguf"] = Repo({"m.gguf": b"1"})
    path = pull(NAME).path
    assert resolve("model-gguf") == path
    pull("other/model-gguf")
    with pytest.raises(InvalidArgumentError, match=f"any of other/model-gguf, {NAME}"):
        resolve("model-gguf")
    assert resolve(NAME) == path


def test_without_a_store_the_error_is_the_plain_one() -> None:
    assert not_found("no.gguf") == "there is no file or folder no.gguf"
    assert not_found("no/such.gguf") == "there is no file or folder no/such.gguf"
    assert not_found("/no/such/x") == "there is no file or folder /no/such/x"
    assert not_found("a\x1b[2J") == "there is no file or folder a\\x1b[2J"


def test_a_name_that_is_not_stored_names_the_command() -> None:
    assert not_found(NAME) == (
        f"there is no file or folder {NAME}; if it is on the hub, this fetches it: "
        f"bitnet pull {NAME}"
    )
    with pytest.raises(ModelNotFoundError, match=f"bitnet pull {NAME}"):
        bitnet.load(NAME)


@pytest.mark.parametrize("typed", ["some/modle-gguf", "model_gguf", "model"])
def test_near_names_are_told(hub: FakeHub, pull: Pull, typed: str) -> None:
    hub.repos[NAME] = Repo({"m.gguf": b"1"})
    pull(NAME)
    assert f"; did you mean {NAME}?" in not_found(typed)


def test_a_stored_model_is_loaded_by_its_name(hub: FakeHub, pull: Pull, tmp_path: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.gguf")
    hub.repos[NAME] = Repo({"tiny.gguf": tiny.read_bytes()})
    pull(NAME)
    hub.requests.clear()
    with bitnet.load(NAME) as model:
        assert model.generate("x").text == TEXT
    assert not hub.requests


def test_without_huggingface_hub_the_error_says_what_to_install(
    hub: FakeHub, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"m.gguf": b"1"})
    pull(NAME)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert not_found(NAME).endswith("pip install 'bitnet[hub]'")


def test_fetching_without_huggingface_hub_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from bitnet.cli import main; sys.argv = ['bitnet', 'pull', 'a/b']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("pip install 'bitnet[hub]'\n")


def two_revisions(hub: FakeHub, pull: Pull) -> None:
    repo = hub.repos[NAME] = Repo({"a.gguf": b"a" * 100, "b.gguf": b"b" * 100})
    pull(f"{NAME}:a.gguf")
    repo.commit, repo.files["b.gguf"] = OTHER, b"B" * 100
    pull(f"{NAME}:a.gguf")
    pull(f"{NAME}:b.gguf")


def names() -> list[str]:
    return [str(model.name) for model in models()]


def test_all_of_a_repository_is_deleted(hub: FakeHub, pull: Pull, store: Path) -> None:
    two_revisions(hub, pull)
    assert names() == [f"{NAME}:a.gguf", f"{NAME}:b.gguf", f"{NAME}@{COMMIT[:12]}"]
    assert all(resolve(name).is_file() for name in names())
    assert remove(parse_name(NAME)) >= 200
    assert not names()
    assert not list(store.glob("models--*"))


def test_a_revision_is_deleted_and_what_others_share_stays(hub: FakeHub, pull: Pull) -> None:
    two_revisions(hub, pull)
    remove(parse_name(f"{NAME}@{COMMIT}"))
    assert names() == [f"{NAME}:a.gguf", f"{NAME}:b.gguf"]
    assert resolve(f"{NAME}:a.gguf").read_bytes() == b"a" * 100


def test_a_file_is_deleted_in_all_revisions(hub: FakeHub, pull: Pull, store: Path) -> None:
    two_revisions(hub, pull)
    assert remove(parse_name(f"{NAME}:a.gguf")) == 100
    assert names() == [NAME]
    assert resolve(NAME).read_bytes() == b"B" * 100
    assert [f.stat().st_size for f in store.glob("models--*/blobs/*")] == [100]


def test_another_repository_with_the_same_commit_stays(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = hub.repos["other/model-gguf"] = Repo({"m.gguf": b"1"})
    for name in (NAME, "other/model-gguf"):
        pull(name)
    with pytest.raises(InvalidArgumentError, match=f"any of other/model-gguf, {NAME}"):
        remove(parse_name("model-gguf"))
    remove(parse_name(NAME))
    assert names() == ["other/model-gguf"]


def test_what_broke_off_is_deleted_too(hub: FakeHub, pull: Pull, store: Path) -> None:
    hub.repos[NAME] = Repo({"m.gguf": b"x" * 50_000})
    hub.breaks_after = 30_000
    with pytest.raises(DownloadError):
        pull(NAME)
    assert not names()
    assert remove(parse_name(NAME)) == 30_000
    assert not list(store.glob("models--*"))
    with pytest.raises(ModelNotFoundError, match=f"no model {NAME} in the store"):
        remove(parse_name(NAME))


def test_a_damaged_repository_does_not_hide_the_others(
    hub: FakeHub, pull: Pull, store: Path
) -> None:
    hub.repos[NAME] = hub.repos["other/model"] = Repo({"m.gguf": b"1"})
    blob = pull(NAME).path.resolve()
    pull("other/model")
    blob.unlink()
    assert names() == ["other/model"]
    assert remove(parse_name(NAME)) > 0
    assert not (store / "models--some--model-gguf").exists()
