"""Targets, as for the kernels."""

from __future__ import annotations

from tests.kernels.conftest import checked, target

__all__ = ["checked", "target"]
