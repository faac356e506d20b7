"""What all tests share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# How long an example takes says more about the other programs on the machine than about ours.
settings.register_profile("bitnet", settings(), deadline=None)
settings.register_profile("emulated", settings.get_profile("bitnet"), max_examples=2)
settings.load_profile("bitnet")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled code beside pytest's own cache: out of the user's, and there the next time."""
    # pytest-xdist's workers ignore Ctrl-C, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache = getattr(config, "cache", None)  # its plugin can be switched off
    if cache is not None:
        folder = cache.mkdir("bitnet-objects")
        os.environ.setdefault("BITNET_CACHE_DIR", str(folder))
