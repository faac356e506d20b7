"""Settings from the environment, each read in one place.

BITNET_TARGET      compile for this target instead of the best one
BITNET_THREADS     number of threads instead of one per core (fewer for small models)
BITNET_BLOCKING    BYTES,TOKENS: how far ahead weights are fetched and how many tokens are
                   multiplied at once, instead of what is measured
BITNET_CACHE_DIR   where compiled objects and fetched models are kept
BITNET_OFFLINE     1: nothing is fetched; HF_HUB_OFFLINE does the same
BITNET_DEBUG       comma-separated: `ir`, `asm` print that stage to stderr, `checked` turns
                   bounds checks on
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bitnet.errors import InvalidArgumentError

DEBUG_FLAGS = frozenset({"ir", "asm", "checked"})


def target() -> str | None:
    return os.environ.get("BITNET_TARGET") or None


def threads() -> int | None:
    text = os.environ.get("BITNET_THREADS")
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise InvalidArgumentError(f"BITNET_THREADS must be a positive number, not {text!r}")
    return int(text)


def blocking() -> tuple[int, int] | None:
    """Bytes to prefetch ahead, and tokens at once."""
    text = os.environ.get("BITNET_BLOCKING")
    if not text:
        return None
    ahead, _, tokens = text.partition(",")
    if not (ahead.isdecimal() and tokens.isdecimal() and int(tokens) > 0):
        raise InvalidArgumentError(f"BITNET_BLOCKING must be BYTES,TOKENS, not {text!r}")
    return int(ahead), int(tokens)


def debug() -> frozenset[str]:
    flags = frozenset(f.strip() for f in os.environ.get("BITNET_DEBUG", "").split(",") if f.strip())
    unknown = flags - DEBUG_FLAGS
    if unknown:
        known = ", ".join(sorted(DEBUG_FLAGS))
        raise InvalidArgumentError(
            f"BITNET_DEBUG: unknown flag {', '.join(sorted(unknown))}; the flags are {known}"
        )
    return flags


def offline() -> str | None:
    """The variable that says so, when nothing may be fetched."""
    for name in ("BITNET_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}:
            return name
    return None


def cache_dir() -> Path:
    """The folder for what can be made or fetched again: per user, and safe to delete."""
    chosen = os.environ.get("BITNET_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "bitnet" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "bitnet"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "bitnet"
