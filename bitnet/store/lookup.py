"""From what a user calls a model to what is stored."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from bitnet.errors import (
    InvalidArgumentError,
    ModelNotFoundError,
    UnsupportedOperationError,
    printable,
)
from bitnet.store.choice import gguf_parts
from bitnet.store.local import StoredModel, delete, delete_unfinished, models
from bitnet.store.names import ModelName, parse_name

_MIN_COMMIT = 7  # digits that stand for a commit
_FILE_ENDINGS = (".gguf", ".safetensors", ".json", ".model")


def find(name: ModelName) -> list[StoredModel]:
    """The stored models that `name` may mean. Raises UnsupportedOperationError as `models`."""
    matching = find_all(name)
    current = [model for model in matching if model.is_current]
    return current if current and name.revision is None else matching


def resolve(model: str | os.PathLike[str]) -> Path:
    """The path of a model that is given as a path or by its name in the store.

    A path that exists wins. A name in the store is that of a repository or its last part, with
    @REVISION or :FILE where there are several. Nothing is fetched.

    Raises ModelNotFoundError when there is no such model, InvalidArgumentError when there are
    several.
    """
    text = os.fspath(model)
    if not isinstance(model, str) or os.path.exists(text):
        return Path(text)
    missing = f"there is no file or folder {printable(text)}"
    try:
        name = parse_name(text)
    except InvalidArgumentError:
        raise ModelNotFoundError(missing) from None
    try:
        found = find(name)
    except UnsupportedOperationError as error:
        raise ModelNotFoundError(f"{missing}; {error}") from error
    if not found:
        raise ModelNotFoundError(missing + _hint(name))
    return only(name, found).path


def only(name: ModelName, found: list[StoredModel]) -> StoredModel:
    """The one model that `name` means. Raises InvalidArgumentError when it may be several."""
    if len(found) > 1:
        names = ", ".join(str(model.name) for model in found)
        raise InvalidArgumentError(f"{name} may be any of {names}")
    return found[0]


def remove(name: ModelName) -> int:
    """Delete what `name` means: all of a repository, a revision, or a file; returns bytes freed.

    Raises ModelNotFoundError when nothing is stored under this name, InvalidArgumentError when
    several repositories are, UnsupportedOperationError as `models`.
    """
    found = find_all(name)
    repos = sorted({model.repo for model in found})
    if len(repos) > 1:
        raise InvalidArgumentError(f"{name} may be in any of {', '.join(repos)}")
    if found:
        return delete(repos[0], found)
    freed = delete_unfinished(name.repo) if str(name) == name.repo else 0
    if not freed:
        raise ModelNotFoundError(f"there is no model {name} in the store{_near(name)}")
    return freed


def find_all(name: ModelName) -> list[StoredModel]:
    return [model for model in models() if _means(name, model)]


def _means(name: ModelName, model: StoredModel) -> bool:
    revision = name.revision
    return (
        name.repo in {model.repo, model.repo.rpartition("/")[2]}
        and (
            revision is None
            or revision in model.refs
            or (len(revision) >= _MIN_COMMIT and model.commit.startswith(revision))
        )
        and (name.file is None or gguf_parts(name.file)[0] == model.file)
    )


def _hint(name: ModelName) -> str:
    """What may have been meant."""
    near = _near(name)
    if "/" not in name.repo or name.repo.endswith(_FILE_ENDINGS):
        return near
    return f"{near}; if it is on the hub, this fetches it: bitnet pull {name}"


def _near(name: ModelName) -> str:
    known = {str(model.name): str(model.name) for model in models()}
    known |= {shown.rpartition("/")[2]: shown for shown in known}
    close = dict.fromkeys(known[match] for match in get_close_matches(str(name), known))
    return f"; did you mean {' or '.join(close)}?" if close else ""
