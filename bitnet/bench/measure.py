"""Runs the tests: prompts and new tokens, for each number of threads and of sequences."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitnet.bench.cost import Cost, Part, phase_costs, total_cost
from bitnet.bench.machine import PeakMemory, write_perf_map
from bitnet.bench.options import Options, Workload, prompt_steps
from bitnet.bench.probes import Limits, Probes
from bitnet.bench.profile import PhaseProfile, phase_profiles
from bitnet.bench.random_source import RandomCheckpoint
from bitnet.bench.row import Limit, Row, Speed
from bitnet.loading import STEP_TOKENS, compile_model
from bitnet.models import Checkpoint, ModelSpec
from bitnet.program import Plan, Program
from bitnet.program.step import Chunk, KVSequence, Stepper
from bitnet.program.weights import Weights
from bitnet.program.workers import Workers, team_size

Progress = Callable[[str], None]


def measure(
    open_model: Callable[[], Checkpoint], options: Options, progress: Progress = lambda _: None
) -> list[Row]:
    """Load a model and run all tests. Raises what `bitnet.load` does.

    progress: called with what happens next.
    """
    memory = PeakMemory()
    progress("loading")
    start = time.perf_counter()
    with open_model() as checkpoint:
        size = checkpoint.size_bytes
        threads = [team_size(n, size) for n in options.threads or (None,)]
        workers = Workers(max(threads), numa=options.numa)
        program, weights = compile_model(
            checkpoint,
            options.target,
            options.positions,
            "f16",
            options.layout,
            options.head,
            workers,
            None,
            profiled=options.profiled,
        )
        workers.close()
        load_s = time.perf_counter() - start
        is_random = isinstance(checkpoint, RandomCheckpoint)
        if isinstance(checkpoint, RandomCheckpoint):
            load_s -= checkpoint.seconds
        name = checkpoint.name
    if options.perf_map:
        write_perf_map(program.functions(), Path(tempfile.gettempdir()))
    rows = []
    for n in threads:
        bench = _Bench(name, program, weights, n, options, load_s, memory, is_random=is_random)
        for batch in options.batches:
            for workload in options.workloads:
                progress(f"{workload.name}, {n} threads, batch {batch}")
                rows.append(bench.row(workload, batch))
        bench.close()
    return rows


class _Bench:
    """A loaded model on one number of threads."""

    def __init__(
        self,
        name: str,
        program: Program,
        weights: Weights,
        threads: int,
        options: Options,
        load_s: float,
        memory: PeakMemory,
        *,
        is_random: bool,
    ) -> None:
        self.name = name
        self.is_random = is_random
        self.program = program
        self.options = options
        self.load_s = load_s
        self.memory = memory
        self.workers = Workers(threads, numa=options.numa)
        self.stepper = Stepper(program, weights, self.workers, max(STEP_TOKENS, *options.batches))
        self.probes = Probes(program.target, self.workers)
        rng = np.random.default_rng(0)
        spec = program.plan.spec
        self.ids: list[int] = rng.integers(0, spec.vocab_size, options.positions).tolist()

    def close(self) -> None:
        self.stepper.close()

    def row(self, workload: Workload, batch: int) -> Row:
        steps = workload.steps(batch, self.stepper.max_tokens)
        costs = phase_costs(self.program.plan, steps)
        limits = self._limits()
        seconds, profile = self._time(workload, batch, steps, costs)
        limits = limits.best(self._limits())
        n_tokens, cost = workload.n * batch, total_cost(costs)
        speed = statistics.median(n_tokens / s for s in seconds)
        bandwidth = Limit(
            "bandwidth", limits.bandwidth, speed * cost.bytes / n_tokens / limits.bandwidth
        )
        compute = Limit("compute", limits.peak, speed * cost.macs / n_tokens / limits.peak)
        return Row(
            model=self.name,
            shape=_shape(self.program.plan.spec),
            test=workload.name,
            threads=self.workers.n,
            batch=batch,
            target=self.program.target.name,
            layout=self.program.plan.layout,
            head=_head_name(self.program.plan),
            tokens_per_s=Speed(speed, n_tokens / max(seconds), n_tokens / min(seconds)),
            bytes_per_token=cost.bytes / n_tokens,
            macs_per_token=cost.macs / n_tokens,
            limit=max(bandwidth, compute, key=lambda limit: limit.share),
            limits=(bandwidth, compute),
            load_s=self.load_s,
            peak_rss=self.memory.read(),
            profile=profile,
        )

    def _limits(self) -> Limits:
        with self.memory.without():
            return self.probes.measure()

    def _time(
        self, workload: Workload, batch: int, steps: list[list[Part]], costs: dict[str, Cost]
    ) -> tuple[list[float], tuple[PhaseProfile, ...] | None]:
        """Seconds of each repetition, after one that does not count; and where they went."""
        sequences = [KVSequence() for _ in range(batch)]
        self._fill(sequences, workload.depth)
        self._once(workload, steps, sequences)
        self.stepper.profiles.clear()
        start = time.perf_counter(), self._ticks()
        seconds = [self._once(workload, steps, sequences) for _ in range(self.options.repetitions)]
        passed = time.perf_counter() - start[0], self._ticks() - start[1]
        for sequence in sequences:
            self.stepper.release(sequence)
        if not self.options.profiled:
            return seconds, None
        tables, phases = self.stepper.profiles, self.program.phases
        return seconds, phase_profiles(
            tables, phases, passed[0] / passed[1], costs, self.options.repetitions
        )

    def _fill(self, sequences: list[KVSequence], depth: int) -> None:
        """Give each sequence the cache of `depth` positions.

        A prompt is read once, and its cache copied. That of a random model is as random.
        """
        if not depth:
            return
        for sequence in sequences:
            self.stepper.reserve(sequence, depth)
        if self.is_random:
            page = sequences[0].pages[0].view(np.float16)
            page[:] = np.random.default_rng(0).standard_normal(page.size, np.float32)
            pages = [sequences[0].pages[0]] * len(sequences[0].pages)
        else:
            at_once = self.stepper.max_tokens
            self._run_prompts(prompt_steps(depth, 1, at_once, wants_logits=False), sequences)
            pages = sequences[0].pages
        for sequence in sequences:
            for to, copied in zip(sequence.pages, pages, strict=True):
                to[:] = copied

    def _ticks(self) -> int:
        return self.program.ticks() if self.options.profiled else 0

    def _once(
        self, workload: Workload, steps: list[list[Part]], sequences: list[KVSequence]
    ) -> float:
        """The seconds of one repetition."""
        for sequence in sequences:
            sequence.length = workload.depth
        start = time.perf_counter()
        if workload.kind == "pp":
            self._run_prompts(steps, sequences)
        else:
            self._decode(workload.n, sequences)
        return time.perf_counter() - start

    def _run_prompts(self, steps: list[list[Part]], sequences: list[KVSequence]) -> None:
        for step in steps:
            self.stepper.step(
                [
                    Chunk(
                        sequences[part.sequence],
                        self.ids[part.start : part.end],
                        range(part.count - part.wants_logits, part.count),
                        best=1,
                    )
                    for part in step
                ]
            )

    def _decode(self, n: int, sequences: list[KVSequence]) -> None:
        """`n` times the likeliest next token of each sequence."""
        tokens = [self.ids[0]] * len(sequences)
        for _ in range(n):
            pairs = zip(sequences, tokens, strict=True)
            logits = self.stepper.step([Chunk(s, [token], range(1), best=1) for s, token in pairs])
            tokens = [self.program.argmax(row) for row in logits]


def _head_name(plan: Plan) -> str:
    """How the head is computed; of what is used as it is stored, the format."""
    return plan.head if plan.head_kind == "stored" else plan.head_kind


def _shape(spec: ModelSpec) -> dict[str, int]:
    names = ("n_layers", "hidden_size", "ffn_size", "n_heads", "n_kv_heads", "head_dim")
    return {name: getattr(spec, name) for name in (*names, "vocab_size")}
