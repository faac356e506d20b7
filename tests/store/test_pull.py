"""Fetching from a hub: what is chosen, and that only what has its hash is stored."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub import constants

import bitnet.store
from bitnet import (
    DownloadError,
    InvalidArgumentError,
    InvalidModelError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from bitnet.store import models, resolve
from tests.fake_hub import COMMIT, TOKEN, FakeHub, Repo
from tests.store.conftest import Pull

NAME = "some/model"
WEIGHTS = os.urandom(50_000)
SAFETENSORS = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": WEIGHTS,
    "README.md": b"# A model",
    "pytorch_model.bin": b"a pickle",
    "training_args.bin": b"a pickle",
    "run.py": b"import os",
}


def stored_files(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def test_the_only_gguf_file_of_a_repository(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({**SAFETENSORS, "model-i2_s.gguf": WEIGHTS})
    model = pull(NAME)
    assert model.path.name == "model-i2_s.gguf"
    assert model.path.read_bytes() == WEIGHTS
    assert stored_files(model.path.parent) == {"model-i2_s.gguf"}
    assert (str(model.name), model.commit, model.refs) == (NAME, COMMIT, ("main",))
    assert (model.kind, model.size_bytes) == ("gguf", len(WEIGHTS))


def test_safetensors_come_with_configuration_and_tokenizer_but_no_pickles(
    hub: FakeHub, pull: Pull
) -> None:
    hub.repos[NAME] = Repo(SAFETENSORS)
    model = pull(NAME)
    assert model.kind == "safetensors"
    assert stored_files(model.path) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.rpartition("/")[2] for path in hub.fetched()} == stored_files(model.path)


def test_shards_come_whole_with_their_index(hub: FakeHub, pull: Pull) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": WEIGHTS[i:] for i in (1, 2)}
    hub.repos[NAME] = Repo(
        {"config.json": b"{}", "model.safetensors.index.json": b"{}", **shards, "x/y.json": b""}
    )
    expected = {"config.json", "model.safetensors.index.json", *shards}
    assert stored_files(pull(NAME).path) == expected


def test_several_gguf_files_are_listed_and_one_can_be_chosen(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"a.gguf": WEIGHTS, "deep/b.gguf": WEIGHTS[1:], "c.txt": b""})
    with pytest.raises(InvalidArgumentError, match=f"{NAME}:a.gguf, {NAME}:deep/b.gguf"):
        pull(NAME)
    assert pull(f"{NAME}:deep/b.gguf").path.read_bytes() == WEIGHTS[1:]
    with pytest.raises(InvalidArgumentError, match=r"has no file c\.gguf; choose one: "):
        pull(f"{NAME}:c.gguf")
    with pytest.raises(InvalidArgumentError, match="is no model"):
        pull(f"{NAME}:c.txt")
    pull(f"{NAME}:a.gguf")
    assert [str(m.name) for m in models()] == [f"{NAME}:a.gguf", f"{NAME}:deep/b.gguf"]


@pytest.mark.parametrize("asked", ["", ":big-00002-of-00003.gguf"])
def test_all_parts_of_a_gguf_file(hub: FakeHub, pull: Pull, asked: str) -> None:
    parts = {f"big-0000{i}-of-00003.gguf": WEIGHTS[i:] for i in (1, 2, 3)}
    hub.repos[NAME] = Repo({**parts, "kernel_config.ini": b"[x]"})
    model = pull(NAME + asked)
    assert model.path.name == "big-00001-of-00003.gguf"
    assert model.size_bytes == sum(map(len, parts.values()))
    assert stored_files(model.path.parent) == {*parts, "kernel_config.ini"}
    assert resolve(f"{NAME}:big-00003-of-00003.gguf") == model.path


def test_a_missing_part_is_told(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"big-00001-of-00002.gguf": WEIGHTS})
    with pytest.raises(InvalidModelError, match=r"big-00002-of-00002\.gguf is missing"):
        pull(NAME)


def test_pickles_alone_are_no_model(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    with pytest.raises(UnsupportedModelError, match="pickled weights are not read"):
        pull(NAME)
    with pytest.raises(InvalidArgumentError, match="is no model"):
        pull(f"{NAME}:pytorch_model.bin")
    assert not hub.fetched()


@pytest.mark.parametrize("file", ["model.gguf", "config.json"])
def test_wrong_bytes_leave_nothing_that_could_be_loaded(
    hub: FakeHub, pull: Pull, store: Path, file: str
) -> None:
    repo = hub.repos[NAME] = Repo({**SAFETENSORS, file: WEIGHTS})
    if file == "config.json":
        repo.told[file] = {"blobId": "0" * 40}
    else:
        hub.damaged = True
    with pytest.raises(DownloadError, match=f"{file} came with sha.* not .* as the hub tells"):
        pull(NAME)
    assert not models()
    assert not list(store.rglob("snapshots/*"))
    assert not [f for f in store.rglob("blobs/*") if file == "model.gguf" or f.stat().st_size > 9e4]
    with pytest.raises(ModelNotFoundError):
        resolve(NAME)
    hub.damaged, repo.told = False, {}
    assert pull(NAME).commit == COMMIT


def test_what_broke_off_goes_on_where_it_was(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS})
    hub.breaks_after = 30_000
    with pytest.raises(DownloadError, match="500"):
        pull(NAME)
    assert not models()
    hub.breaks_after = None
    hub.requests.clear()
    assert pull(NAME).path.read_bytes() == WEIGHTS
    assert {range for path, range in hub.requests if path.startswith("/cdn")} == {"bytes=30000-"}


def test_connections_may_break(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS})
    hub.cuts_every = 20_000
    assert pull(NAME).path.read_bytes() == WEIGHTS
    ranges = [range for path, range in hub.requests if path.startswith("/cdn")]
    assert ranges == [None, "bytes=20000-", "bytes=40000-"]


def test_a_part_that_was_damaged_is_fetched_anew_after_the_error(
    hub: FakeHub, pull: Pull, store: Path
) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS})
    hub.breaks_after = 30_000
    with pytest.raises(DownloadError):
        pull(NAME)
    hub.breaks_after = None
    (partial,) = store.rglob("*.incomplete")
    partial.write_bytes(b"\0" * 100)
    with pytest.raises(DownloadError, match="came with sha256"):
        pull(NAME)
    assert pull(NAME).path.read_bytes() == WEIGHTS


def test_what_is_here_is_not_fetched_again(hub: FakeHub, pull: Pull) -> None:
    repo = hub.repos[NAME] = Repo(dict(SAFETENSORS))
    first = pull(NAME)
    hub.requests.clear()
    assert pull(NAME) == first
    assert hub.requests == [(f"/api/models/{NAME}", None)]
    repo.files["config.json"], repo.commit = b"{ }", "d1" * 20
    hub.requests.clear()
    second = pull(NAME)
    assert hub.fetched() == [f"/{NAME}/resolve/{repo.commit}/config.json"]
    assert (second.path / "config.json").read_bytes() == b"{ }"
    assert resolve(NAME) == second.path
    assert resolve(f"{NAME}@{COMMIT[:12]}") == first.path


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/1", COMMIT])
def test_revisions(hub: FakeHub, pull: Pull, revision: str) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS})
    model = pull(f"{NAME}@{revision}")
    assert model.refs == ((revision,) if revision != COMMIT else ())
    assert resolve(f"{NAME}@{revision}") == model.path
    with pytest.raises(ModelNotFoundError, match="has no revision v2"):
        pull(f"{NAME}@v2")


@pytest.mark.parametrize("variable", ["BITNET_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(
    hub: FakeHub, pull: Pull, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS})
    model = pull(NAME)
    hub.requests.clear()
    monkeypatch.setenv(variable, "1")
    assert pull(NAME) == model
    with pytest.raises(DownloadError, match=f"{variable} forbids"):
        pull("other/model")
    assert not hub.requests


def test_a_token_opens_private_repositories(
    hub: FakeHub, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS}, private=True)
    with pytest.raises(ModelNotFoundError, match="without a token in HF_TOKEN"):
        pull(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pull(NAME).path.read_bytes() == WEIGHTS


def test_repositories_that_cannot_be_read(hub: FakeHub, pull: Pull) -> None:
    with pytest.raises(ModelNotFoundError, match="the hub has no repository no/such"):
        pull("no/such")
    hub.repos[NAME] = Repo({"model.gguf": WEIGHTS}, gated=True)
    with pytest.raises(DownloadError, match=f"terms to be accepted, at {hub.url}/{NAME}"):
        pull(NAME)


def test_a_hub_that_does_not_answer(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=f"{NAME} cannot be fetched: "):
        pull(NAME)


@pytest.mark.parametrize(
    "path", ["../x.gguf", "/x.gguf", "a/../../x.gguf", "a\\x.gguf", "C:x.gguf", "a/\x07.gguf"]
)
def test_a_path_that_leads_elsewhere_is_refused(
    hub: FakeHub, pull: Pull, store: Path, path: str
) -> None:
    hub.repos[NAME] = Repo({path: WEIGHTS})
    with pytest.raises(InvalidModelError, match="no path that is safe to write to"):
        pull(NAME)
    assert not hub.fetched()
    assert not store.exists()


@pytest.mark.parametrize(
    "told",
    [
        {"lfs": {"sha256": "../../../x", "size": 9, "pointerSize": 1}},
        {"lfs": {"sha256": "ab" * 32, "size": -1, "pointerSize": 1}},
        {"lfs": None, "blobId": None},
        {"lfs": None, "size": None},
    ],
)
def test_a_file_without_a_usable_hash_is_refused(
    hub: FakeHub, pull: Pull, told: dict[str, object]
) -> None:
    hub.repos[NAME] = Repo({"m.gguf": WEIGHTS}, told={"m.gguf": told})
    with pytest.raises(InvalidModelError, match=r"does not tell the size and hash of m\.gguf"):
        pull(NAME)


def test_a_commit_that_is_none_is_refused(hub: FakeHub, pull: Pull) -> None:
    hub.repos[NAME] = Repo({"m.gguf": WEIGHTS}, commit="../../x")
    with pytest.raises(DownloadError, match="the hub tells no commit"):
        pull(NAME)


def test_a_model_that_does_not_fit_is_not_begun(hub: FakeHub, pull: Pull) -> None:
    size = {"sha256": "ab" * 32, "size": 10**18, "pointerSize": 1}
    hub.repos[NAME] = Repo({"m.gguf": WEIGHTS}, told={"m.gguf": {"lfs": size}})
    with pytest.raises(DownloadError, match=r"takes 1000000000\.0 GB more"):
        pull(NAME)
    assert not hub.fetched()


def test_without_links_files_lie_in_their_places(
    hub: FakeHub, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = Mock(side_effect=OSError("a privilege is missing"))
    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.repos[NAME] = Repo(SAFETENSORS)
    model = pull(NAME)
    assert (model.path / "model.safetensors").read_bytes() == WEIGHTS
    hub.requests.clear()
    assert pull(NAME) == model
    assert not hub.fetched()
    assert bitnet.store.remove(model.name) >= len(WEIGHTS)
    assert not models()
