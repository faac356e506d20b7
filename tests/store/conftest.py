"""A hub on this machine, and a store of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download

from bitnet.store import StoredModel, local, parse_name
from bitnet.store import hub as fetching
from tests.cli.conftest import run
from tests.fake_hub import FakeHub, Handler

__all__ = ["run"]  # a fixture

Pull = Callable[[str], StoredModel]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; compiled code stays where it is."""
    monkeypatch.setattr(local, "folder", lambda: tmp_path / "hub")
    monkeypatch.setattr(fetching, "folder", lambda: tmp_path / "hub")
    for variable in ("BITNET_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Nothing is on it yet."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = FakeHub(server)
    server.RequestHandlerClass = type("HubHandler", (Handler,), {"hub": found})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    yield found
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def pull() -> Pull:
    """Fetches a model by its name."""
    return lambda name: fetching.pull(parse_name(name))
