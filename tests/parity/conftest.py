"""What the tests beside transformers share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def random_models() -> Any:
    """The module that makes them; imported late, for it needs torch."""
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason=f"{name} is not installed, see training/requirements.txt")
    from tests.parity import random_models

    return random_models
