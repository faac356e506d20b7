"""Block sizes for TL1 and TL2 tensors, chosen by measuring what this machine multiplies fastest.

Results do not depend on them, but tensors are laid out by them, so they are chosen before a file is
written. Tensors of as many columns get the same bk and bmm, which are found with the one that has
the most rows; then each shape gets its bm. What is multiplied is as large as the model, or larger
than the caches, with one token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bitnet.codegen import Target
from bitnet.errors import UnsupportedTargetError
from bitnet.models.spec import ModelSpec
from bitnet.program.lookup_trial import LookUpTrial
from bitnet.program.tl_options import by_columns, column_options, row_options
from bitnet.program.trial import fastest
from bitnet.program.workers import Workers
from bitnet.quant.tl_config import Blocks, Shape, TLName


@dataclass(frozen=True)
class TunedBlocks:
    """The block sizes of a shape, and how fast it is multiplied with them.

    slowest: weights per second with the slowest sizes that were tried.
    """

    shape: Shape
    blocks: Blocks
    weights_per_s: float
    slowest: float


def tune_blocks(
    kind: TLName,
    spec: ModelSpec,
    target: Target,
    workers: Workers,
    progress: Callable[[float], None] = lambda _: None,
) -> list[TunedBlocks]:
    """Measure block sizes for all shapes of a model.

    progress: called with the share that is done, 0 to 1.

    Raises InvalidArgumentError for shapes that cannot be cut, UnsupportedTargetError for a target
    without look-ups, ModelMemoryError.
    """
    if not target.has_lookup16:
        raise UnsupportedTargetError(f"target {target.name} has no look-ups in tables of 16 bytes")
    groups = by_columns(spec.ternary_shapes().values())
    first = {columns: column_options(kind, shapes) for columns, shapes in groups.items()}
    n_steps = len(groups) + sum(map(len, groups.values()))
    trial = LookUpTrial(kind, spec, target, workers)
    tuned: list[TunedBlocks] = []
    for number, (columns, shapes) in enumerate(groups.items(), start=1):
        most_rows = shapes[0]
        usual, found = fastest(first[columns], partial(trial.speed, most_rows))
        slowest = {most_rows: min(found.values())}
        progress((number + len(tuned)) / n_steps)
        for shape in shapes:
            options = row_options(kind, shape, usual)
            best, found = fastest(options, partial(trial.speed, shape))
            least = min(*found.values(), slowest.get(shape, found[best]))
            tuned.append(TunedBlocks(shape, best, found[best], least))
            progress((number + len(tuned)) / n_steps)
    return tuned
