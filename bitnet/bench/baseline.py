"""Rows beside those of an earlier run: what has become slower by itself?

Shared machines drift, so a lower speed alone says little. A row is slower when its tokens per
second and its share of the limit have both dropped by more than 5 %.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet.bench.row import Row
from bitnet.errors import InvalidArgumentError

TOLERANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """A row, and what it was before."""

    name: str
    speed_before: float
    speed: float
    share_before: float
    share: float

    @property
    def slower(self) -> bool:
        """Whether the limit does not explain the drop in speed."""
        least = 1 - TOLERANCE
        slower = self.speed < least * self.speed_before
        return slower and self.share < least * self.share_before

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.speed_before:.2f} to {self.speed:.2f} tokens/s "
            f"({self.speed / self.speed_before - 1:+.1%}), "
            f"share of the limit {self.share_before:.1%} to {self.share:.1%}"
        )


class Baseline:
    """The output of an earlier `bitnet bench -o json`. Raises InvalidArgumentError."""

    def __init__(self, path: Path) -> None:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            self._rows = {_key(row): _numbers(row) for row in rows}
        except OSError as error:
            raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(
                f"{path} is not what `bitnet bench -o json` writes: {error}"
            ) from error

    def compare(self, rows: Sequence[Row]) -> list[Comparison]:
        """Those of `rows` that are in the baseline too; InvalidArgumentError if there are none."""
        common = [
            Comparison(
                name=row.name,
                speed_before=self._rows[row.key][0],
                speed=row.tokens_per_s.median,
                share_before=self._rows[row.key][1],
                share=row.limit.share,
            )
            for row in rows
            if row.key in self._rows
        ]
        if not common:
            raise InvalidArgumentError("the baseline has none of the rows that were measured")
        return common


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    """`Row.key` of a row in JSON."""
    what = (row["model"], *sorted(row["shape"].items()), row["test"], row["threads"], row["batch"])
    return (*what, row["target"], row["layout"], row["head"])


def _numbers(row: dict[str, Any]) -> tuple[float, float]:
    """Tokens per second, and the share of the limit."""
    return float(row["tokens_per_s"]["median"]), float(row["limit"]["share"])
