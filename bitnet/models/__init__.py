"""Architectures and checkpoints: from files to a `ModelSpec` and named tensors."""

from __future__ import annotations

from bitnet.models.checkpoint import Checkpoint, open_checkpoint
from bitnet.models.spec import ModelSpec

__all__ = ["Checkpoint", "ModelSpec", "open_checkpoint"]
