"""What to measure: the tests, and the steps that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bitnet.bench.cost import Part
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.layouts import LayoutName
from bitnet.program.plan import HeadKind


@dataclass(frozen=True)
class Options:
    """What to measure: all combinations. Raises InvalidArgumentError.

    prompts: lengths of prompts; new: numbers of new tokens; 0 leaves the test out.
    depths: how many tokens come before the new ones.
    threads: empty is the number that `bitnet.load` would take.
    batches: sequences at the same time.
    """

    prompts: Sequence[int] = (512,)
    new: Sequence[int] = (128,)
    depths: Sequence[int] = (0,)
    threads: Sequence[int] = ()
    batches: Sequence[int] = (1,)
    repetitions: int = 5
    target: str | None = None
    layout: LayoutName | None = None
    head: HeadKind | None = None
    numa: bool = False
    profiled: bool = False
    """Whether to find out where the time goes; the clocks take about a hundredth of it."""
    perf_map: bool = False

    def __post_init__(self) -> None:
        for name, least in (("prompts", 0), ("new", 0), ("depths", 0), ("threads", 1)):
            _check(name, getattr(self, name), least)
        _check("batches", self.batches, 1)
        _check("repetitions", [self.repetitions], 1)
        if self.numa and len(self.threads) > 1:
            raise InvalidArgumentError("numa places weights for one number of threads")
        if not self.workloads:
            raise InvalidArgumentError("there is nothing to measure: no prompt and no new tokens")

    @property
    def workloads(self) -> list[Workload]:
        prompts = [Workload("pp", n) for n in self.prompts if n]
        new = [Workload("tg", n, depth) for depth in self.depths for n in self.new if n]
        return prompts + new

    @property
    def positions(self) -> int:
        """The longest sequence. The context that the model is made for is no limit to its speed."""
        return max(workload.depth + workload.n for workload in self.workloads)


def _check(name: str, values: Sequence[int], least: int) -> None:
    for value in values:
        if value < least:
            raise InvalidArgumentError(f"{name} must be at least {least}, not {value}")


@dataclass(frozen=True)
class Workload:
    """A prompt of `n` tokens ("pp"), or `n` new tokens after `depth` others ("tg")."""

    kind: Literal["pp", "tg"]
    n: int
    depth: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}{self.n}" + (f"@{self.depth}" if self.depth else "")

    def steps(self, batch: int, at_once: int) -> list[list[Part]]:
        """The steps of one repetition."""
        if self.kind == "pp":
            return prompt_steps(self.n, batch, at_once, wants_logits=True)
        positions = range(self.depth, self.depth + self.n)
        return [[Part(i, start, 1, wants_logits=True) for i in range(batch)] for start in positions]


def prompt_steps(n: int, batch: int, at_once: int, *, wants_logits: bool) -> list[list[Part]]:
    """`batch` prompts of `n` tokens in steps of `at_once` tokens, full but for the last."""
    steps: list[list[Part]] = []
    room = 0
    for sequence in range(batch):
        start = 0
        while start < n:
            if room == 0:
                steps.append([])
                room = at_once
            count = min(room, n - start)
            last = wants_logits and start + count == n
            steps[-1].append(Part(sequence, start, count, last))
            start, room = start + count, room - count
    return steps
