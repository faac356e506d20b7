"""Fetching models from the Hugging Face hub into the store.

Files are laid out as huggingface_hub does: blobs/HASH, and links to them below snapshots/COMMIT.
A file takes its place among the blobs only when its hash is the one that the hub tells, and the
links are made only when all files of the model are there. What was fetched of a file until
something broke is kept, and the next time goes on from there; that is why `hf_hub_download`, which
starts anew and checks no hash, is not used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bitnet import config
from bitnet.errors import (
    DownloadError,
    InvalidModelError,
    ModelNotFoundError,
    UnsupportedOperationError,
    printable,
)
from bitnet.formats.new_files import written_aside
from bitnet.formats.safetensors import SINGLE_FILE
from bitnet.store.choice import choose_files
from bitnet.store.local import MAIN, MISSING_HUB, StoredModel, folder, repo_folder
from bitnet.store.lookup import find, only
from bitnet.store.names import ModelName, is_plain_path

try:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.file_download import http_get
    from huggingface_hub.hf_api import ModelInfo, RepoSibling
    from huggingface_hub.utils import WeakFileLock, build_hf_headers
except ImportError as error:
    raise UnsupportedOperationError(MISSING_HUB) from error

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGITS = {"sha256": 64, "sha1": 40}
_CHUNK = 1 << 20
_ANSWER_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub, and what its bytes must be."""

    path: str
    size: int
    algorithm: str
    """sha256 of large files, kept by LFS; sha1 as git counts it of others."""
    hash: str


def pull(name: ModelName) -> StoredModel:
    """Fetch a model, if it is not here yet, and return it as it is stored.

    Shows its progress where stderr is a terminal. A token is taken from HF_TOKEN or where `hf auth
    login` has put it.

    Raises ModelNotFoundError when the hub has no such repository or revision, InvalidArgumentError
    or ModelFileError as `choose_files`, DownloadError when something cannot be fetched or is not
    what the hub promised.
    """
    if variable := config.offline():
        found = find(name)
        if not found:
            raise DownloadError(f"{name} is not in the store, and {variable} forbids to fetch it")
        return only(name, found)
    api = HfApi(library_name="bitnet")
    with _hub_errors(name):
        info = api.model_info(
            name.repo, revision=name.revision, files_metadata=True, timeout=_ANSWER_SECONDS
        )
        commit, files = _contents(name, info)
    chosen = [files[path] for path in choose_files(name.repo, sorted(files), name.file)]
    for file in chosen:
        _check(name.repo, file)
    with _hub_errors(name):
        _fetch(api, name.repo, commit, chosen)
        _link(name, commit, chosen)
    first = chosen[0].path if chosen[0].path.endswith(".gguf") else SINGLE_FILE
    return only(name, find(ModelName(name.repo, commit, first)))


@contextmanager
def _hub_errors(name: ModelName) -> Iterator[None]:
    """Turn what the hub, its client and the file system raise into errors of this package."""
    try:
        yield
    except GatedRepoError as error:
        raise DownloadError(
            f"{name.repo} asks for its terms to be accepted, at {_page(name)}, and for a token in "
            "HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"the hub has no repository {name.repo}, or none that may be read without a token in "
            "HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{name.repo} has no revision {name.revision}") from error
    # The last three: an answer that is not what its client expects.
    except (HTTPError, OSError, ValueError, TypeError, KeyError) as error:
        reason = printable(str(error).partition("\n")[0] or type(error).__name__)
        raise DownloadError(f"{name} cannot be fetched: {reason}") from error


def _page(name: ModelName) -> str:
    return f"{HfApi().endpoint}/{name.repo}"


def _contents(name: ModelName, info: ModelInfo) -> tuple[str, dict[str, RemoteFile]]:
    """The commit, and all its files."""
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise DownloadError(f"{name}: the hub tells no commit, but {info.sha!r}")
    files = [_remote_file(sibling) for sibling in info.siblings or ()]
    return info.sha, {file.path: file for file in files}


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    if sibling.lfs is not None:
        return RemoteFile(sibling.rfilename, sibling.lfs.size, "sha256", sibling.lfs.sha256)
    size = -1 if sibling.size is None else sibling.size
    return RemoteFile(sibling.rfilename, size, "sha1", sibling.blob_id or "")


def _check(repo: str, file: RemoteFile) -> None:
    """Raises InvalidModelError for what cannot become a path or be compared."""
    if not is_plain_path(file.path):
        raise InvalidModelError(repo, f"{file.path!r} is no path that is safe to write to")
    digits = _DIGITS[file.algorithm]
    if file.size < 0 or not re.fullmatch(f"[0-9a-f]{{{digits}}}", file.hash):
        raise InvalidModelError(repo, f"the hub does not tell the size and hash of {file.path}")


def _fetch(api: HfApi, repo: str, commit: str, files: list[RemoteFile]) -> None:
    """Put those among the blobs that are not stored yet."""
    missing = [file for file in files if not _is_stored(repo, commit, file)]
    locks = folder() / ".locks" / repo_folder(repo).name
    for path in (locks, *(repo_folder(repo) / part for part in ("blobs", "refs", "snapshots"))):
        path.mkdir(parents=True, exist_ok=True)
    started = sum(_size(_partial(repo, file)) for file in missing)
    wanted = sum(file.size for file in missing) - started
    free = shutil.disk_usage(folder()).free
    if wanted > free:
        raise DownloadError(
            f"{repo} takes {wanted / 1e9:.1f} GB more, {folder()} has room for {free / 1e9:.1f} GB"
        )
    for file in missing:
        url = hf_hub_url(repo, file.path, revision=commit, endpoint=api.endpoint)
        with WeakFileLock(locks / f"{file.hash}.lock"):
            if not _is_stored(repo, commit, file):
                _fetch_file(repo, file, url)


def _fetch_file(repo: str, file: RemoteFile, url: str) -> None:
    partial = _partial(repo, file)
    with partial.open("ab") as target:
        # Small files come compressed perhaps, and parts of such do not fit together.
        if file.algorithm == "sha1" or target.tell() > file.size:
            target.truncate(0)
        http_get(
            url,
            target,
            resume_size=target.tell(),
            headers=build_hf_headers(library_name="bitnet"),
            expected_size=file.size,
            displayed_filename=file.path,
        )
        target.flush()
        os.fsync(target.fileno())
    digest = _digest(partial, file)
    if digest != file.hash:
        partial.unlink()
        raise DownloadError(
            f"{repo}: {file.path} came with {file.algorithm} {digest}, not {file.hash} as the hub "
            "tells; it was deleted"
        )
    partial.replace(_blob(repo, file))


def _digest(path: Path, file: RemoteFile) -> str:
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    if file.algorithm == "sha1":
        digest.update(b"blob %d\0" % file.size)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _link(name: ModelName, commit: str, files: list[RemoteFile]) -> None:
    """Make the model appear in the store."""
    for file in files:
        path = _snapshot(name.repo, commit) / file.path
        blob = _blob(name.repo, file)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:  # Windows, unless it is set up for developers
            blob.replace(path)
    revision = name.revision or MAIN
    if revision != commit:
        ref = repo_folder(name.repo) / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(ref) as pointer:
            pointer.write(commit.encode("ascii"))


def _is_stored(repo: str, commit: str, file: RemoteFile) -> bool:
    places = (_blob(repo, file), _snapshot(repo, commit) / file.path)
    return any(_size(place) == file.size and place.is_file() for place in places)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _blob(repo: str, file: RemoteFile) -> Path:
    return repo_folder(repo) / "blobs" / file.hash


def _partial(repo: str, file: RemoteFile) -> Path:
    return repo_folder(repo) / "blobs" / f"{file.hash}.incomplete"


def _snapshot(repo: str, commit: str) -> Path:
    return repo_folder(repo) / "snapshots" / commit
