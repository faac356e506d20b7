"""Rows as Markdown for people, JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from bitnet.bench.profile import PhaseProfile
from bitnet.bench.row import Row


def to_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=2) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """One line a row; the fields of fields are joined by underscores. Profiles have no place."""
    out = io.StringIO()
    flat = [_flat(row) for row in rows]
    writer = csv.DictWriter(out, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Row) -> dict[str, object]:
    fields = asdict(row)
    del fields["profile"]
    limits = fields.pop("limits")
    for limit in limits:
        kind = limit.pop("kind")
        fields[kind] = limit
    flat: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= {f"{name}_{part}": v for part, v in value.items()}
        else:
            flat[name] = value
    return flat


def to_markdown(rows: Sequence[Row]) -> str:
    first = rows[0]
    memory = max((row.peak_rss for row in rows if row.peak_rss), default=None)
    about = [
        first.model,
        f"target {first.target}",
        f"layout {first.layout}",
        f"head {first.head}",
        f"load {first.load_s:.2f} s",
        *([f"peak memory {memory / 1e6:.0f} MB"] if memory else []),
    ]
    parts = [" · ".join(about) + "\n", table(_HEADER, [_cells(row) for row in rows])]
    for row in rows:
        if row.profile is not None:
            parts += [f"{row.name}, over all repetitions:\n", profile_table(row.profile)]
    return "\n".join(parts)


_HEADER = (
    "test",
    "threads",
    "batch",
    "tokens/s",
    "min to max",
    "MB/token",
    "GB/s here",
    "share",
    "GMAC/s here",
    "share",
    "limit",
)


def _cells(row: Row) -> list[str]:
    speed, (bandwidth, compute) = row.tokens_per_s, row.limits
    return [
        row.test,
        str(row.threads),
        str(row.batch),
        f"{speed.median:.2f}",
        f"{speed.min:.2f} to {speed.max:.2f}",
        f"{row.bytes_per_token / 1e6:.2f}",
        f"{bandwidth.measured / 1e9:.1f}",
        f"{bandwidth.share:.0%}",
        f"{compute.measured / 1e9:.0f}",
        f"{compute.share:.0%}",
        row.limit.kind,
    ]


def profile_table(profile: Sequence[PhaseProfile]) -> str:
    """A table of the phases, and one of the threads."""
    total = sum(p.wall_ms for p in profile)
    n_threads = len(profile[0].work_ms)
    phases = [
        [
            p.phase,
            p.kernel,
            str(p.calls),
            f"{sum(p.work_ms) / n_threads:.2f}",
            f"{sum(p.wait_ms) / n_threads:.2f}",
            f"{p.wall_ms / total:.1%}",
            _rate(p.bytes, p.wall_ms),
            _rate(p.macs, p.wall_ms),
        ]
        for p in profile
    ]
    header = ("phase", "kernel", "calls", "work ms", "wait ms", "share", "GB/s", "GMAC/s")
    work = [sum(p.work_ms[i] for p in profile) for i in range(n_threads)]
    wait = [sum(p.wait_ms[i] for p in profile) for i in range(n_threads)]
    threads = [[str(i), f"{work[i]:.2f}", f"{wait[i]:.2f}"] for i in range(n_threads)]
    return table(header, phases, left=2) + "\n" + table(("thread", "work ms", "wait ms"), threads)


def _rate(amount: float | None, ms: float) -> str:
    """In units of 10**9 a second."""
    return f"{amount / ms / 1e6:.1f}" if amount is not None and ms else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; all columns but the first `left` ones are aligned to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return line(header) + line(rule) + "".join(map(line, rows))
