"""What a benchmark finds out about one test of one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitnet.bench.profile import PhaseProfile

LimitKind = Literal["bandwidth", "compute"]


@dataclass(frozen=True)
class Speed:
    """Tokens per second over the repetitions."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Limit:
    """What the machine can do, and the share of it that the median speed reaches.

    measured: bytes per second for bandwidth, int8 multiply-accumulates per second for compute.
    """

    kind: LimitKind
    measured: float
    share: float


@dataclass(frozen=True)
class Row:
    """The fields of a JSON row."""

    model: str
    shape: dict[str, int]
    test: str
    """pp512: a prompt of 512 tokens; tg128@4096: 128 new tokens after 4096 others."""
    threads: int
    batch: int
    """Sequences at the same time."""
    target: str
    layout: str
    head: str
    tokens_per_s: Speed
    bytes_per_token: float
    """Read from memory at least."""
    macs_per_token: float
    """Multiply-accumulates of int8 numbers."""
    limit: Limit
    """The one of `limits` that leaves fewer tokens per second."""
    limits: tuple[Limit, Limit]
    load_s: float
    peak_rss: int | None
    """Most bytes of memory so far, probes not counted; None where the system cannot tell."""
    profile: tuple[PhaseProfile, ...] | None

    @property
    def key(self) -> tuple[object, ...]:
        """What was measured, as opposed to how it went."""
        what = (self.model, *sorted(self.shape.items()), self.test, self.threads, self.batch)
        return (*what, self.target, self.layout, self.head)

    @property
    def name(self) -> str:
        """The test and its configuration, for people."""
        return f"{self.test}, {self.threads} threads, batch {self.batch}"
