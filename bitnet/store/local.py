"""The models that are stored here, as huggingface_hub finds them, and deleting them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bitnet import config
from bitnet.errors import UnsupportedOperationError
from bitnet.formats.safetensors import SINGLE_FILE
from bitnet.store.choice import gguf_models, gguf_parts, has_safetensors
from bitnet.store.names import ModelName

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, HFCacheInfo

MAIN = "main"
MISSING_HUB = "the model store needs huggingface_hub: pip install 'bitnet[hub]'"
_SHORT_COMMIT = 12


@dataclass(frozen=True)
class StoredModel:
    """A model that is stored."""

    name: ModelName
    """What finds it, as short as it can be."""
    repo: str
    commit: str
    refs: tuple[str, ...]
    """Branches and tags that meant this commit when they were fetched."""
    is_current: bool
    """Whether the repository's name without a revision means this commit."""
    kind: Literal["gguf", "safetensors"]
    file: str
    """Where the weights begin, in the repository."""
    files: tuple[Path, ...]
    """Of a GGUF model its parts, else all that was fetched."""
    size_bytes: int
    stored_at: float
    """Seconds since 1970."""
    path: Path
    """What `bitnet.load` takes: the first GGUF file, or the folder."""


def folder() -> Path:
    """The store; need not exist."""
    return config.cache_dir() / "hub"


def repo_folder(repo: str) -> Path:
    """Where OWNER/REPO is kept; need not exist."""
    return folder() / f"models--{repo.replace('/', '--')}"


def models() -> list[StoredModel]:
    """All models that are stored, by name.

    Raises UnsupportedOperationError when there is a store, but no huggingface_hub to read it.
    """
    info = _scan()
    repos = [] if info is None else [repo for repo in info.repos if repo.repo_type == "model"]
    found = [model for repo in repos for model in _models_of(repo)]
    return sorted(found, key=lambda model: (str(model.name), model.stored_at))


def delete(repo: str, doomed: Iterable[StoredModel]) -> int:
    """Delete these models of a repository, all of it when none is left; returns bytes freed."""
    info = _scan(repo)
    cached = None if info is None else next(iter(info.repos), None)
    if info is None or cached is None:
        return 0
    paths = {path for model in doomed for path in model.files}
    if all(paths.issuperset(model.files) for model in _models_of(cached)):
        return _delete_folder(repo)
    emptied = [
        revision
        for revision in cached.revisions
        if all(paths.issuperset(model.files) for model in _models_in(cached, revision))
    ]
    files = {file for revision in emptied for file in revision.files}
    files |= {file for r in cached.revisions for file in r.files if file.file_path in paths}
    strategy = info.delete_files(*files)
    strategy.execute()
    if emptied and (info := _scan(repo)) is not None:
        info.delete_revisions(*(revision.commit_hash for revision in emptied)).execute()
    return strategy.expected_freed_size


def delete_unfinished(repo: str) -> int:
    """Delete what was fetched of a repository without coming to an end; returns bytes freed."""
    return _delete_folder(repo) if repo_folder(repo).is_dir() else 0


def _delete_folder(repo: str) -> int:
    files = [f for f in repo_folder(repo).rglob("*") if f.is_file() and not f.is_symlink()]
    size = sum(file.stat().st_size for file in files)
    shutil.rmtree(repo_folder(repo))
    return size


def _scan(repo: str | None = None) -> HFCacheInfo | None:
    """What huggingface_hub finds in the store, of all repositories or one; None without a store.

    Two repositories may have commits in common, which it would confuse when deleting them.
    """
    if not folder().is_dir():
        return None
    try:
        from huggingface_hub import scan_cache_dir
    except ImportError as error:
        raise UnsupportedOperationError(MISSING_HUB) from error
    info = scan_cache_dir(folder())
    if repo is None:
        return info
    return replace(info, repos=frozenset(r for r in info.repos if r.repo_path == repo_folder(repo)))


def _models_of(repo: CachedRepoInfo) -> Iterator[StoredModel]:
    for revision in repo.revisions:
        yield from _models_in(repo, revision)


def _models_in(repo: CachedRepoInfo, revision: CachedRevisionInfo) -> list[StoredModel]:
    """The models in one revision of a repository."""
    root = revision.snapshot_path
    sizes = {f.file_path.relative_to(root).as_posix(): f.size_on_disk for f in revision.files}
    contents = {gguf: gguf_parts(gguf) for gguf in gguf_models(sizes)}
    if has_safetensors(sizes):
        contents[SINGLE_FILE] = sorted(f for f in sizes if not f.endswith(".gguf"))
    is_current = MAIN in revision.refs or len(repo.revisions) == 1
    label = min(revision.refs, default=revision.commit_hash[:_SHORT_COMMIT])
    models = []
    for first, wanted in contents.items():
        files = [file for file in wanted if file in sizes]
        models.append(
            StoredModel(
                name=ModelName(
                    repo.repo_id,
                    None if is_current else label,
                    None if len(contents) == 1 else first,
                ),
                repo=repo.repo_id,
                commit=revision.commit_hash,
                refs=tuple(sorted(revision.refs)),
                is_current=is_current,
                kind="safetensors" if first == SINGLE_FILE else "gguf",
                file=first,
                files=tuple(root / file for file in files),
                size_bytes=sum(sizes[file] for file in files),
                stored_at=revision.last_modified,
                path=root if first == SINGLE_FILE else root / first,
            )
        )
    return models
