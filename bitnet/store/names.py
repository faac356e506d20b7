"""Names of models: OWNER/REPO, then @REVISION and :FILE where they are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bitnet.errors import InvalidArgumentError

_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_NAME = re.compile(
    rf"(?P<repo>(?:{_WORD}/)?{_WORD})"
    rf"(?:@(?P<revision>{_WORD}(?:/{_WORD})*))?"
    r"(?::(?P<file>.+))?"
)
_MAX_REPO = 96  # the hub's limit
_MAX_PART = 200  # of a name of a file: less than any file system's limit


@dataclass(frozen=True)
class ModelName:
    """A model of the hub. repo is OWNER/REPO, or of a model that is stored its last part."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{self.repo}{revision}" + ("" if self.file is None else f":{self.file}")


def parse_name(text: str) -> ModelName:
    """Raises InvalidArgumentError for what is no name; its parts are safe as parts of paths."""
    match = _NAME.fullmatch(text)
    if match is None or len(match["repo"]) > _MAX_REPO:
        raise InvalidArgumentError(f"{text!r} is not of the form OWNER/REPO[@REVISION][:FILE]")
    name = ModelName(match["repo"], match["revision"], match["file"])
    for part in (name.repo, name.revision or ""):
        if ".." in part or "--" in part or part.endswith((".git", ".lock")):
            raise InvalidArgumentError(f"{text!r}: {part!r} is no name on the hub")
    if name.file is not None and not is_plain_path(name.file):
        raise InvalidArgumentError(f"{text!r}: {name.file!r} is no path of a file in a repository")
    return name


def is_plain_path(path: str) -> bool:
    """Whether this path, with slashes, is below the folder it is joined to on every system."""
    return all(
        0 < len(part) <= _MAX_PART
        and part not in {".", ".."}
        and part.isprintable()
        and not set(part) & set('\\:*?"<>|')
        and not part.endswith((".", " "))
        for part in path.split("/")
    )
