"""`bitnet inspect`: what a model is, what is wrong with it, what it will need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from bitnet.checkup.memory import Memory
from bitnet.checkup.report import FAMILIES, Report, TokenizerSummary, inspect_model
from bitnet.checkup.stored import StoredTensor
from bitnet.cli import options
from bitnet.errors import printable
from bitnet.models import ModelSpec
from bitnet.store import resolve

_CONTEXT = 4096  # positions that memory is told for, or as many as the model has
_COLORS = {"PROBLEM": typer.colors.RED, "fault": typer.colors.YELLOW}


def inspect(
    model: options.ModelArgument,
    tensors: Annotated[bool, typer.Option("--tensors", help="List all tensors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Tell what a model is, what is wrong with it, and what it will need.

    Weights are not read, see `bitnet verify`. What cannot be loaded is told with the reason, and
    the exit code is 0 all the same. For example:

        bitnet inspect model.gguf --tensors
    """
    report = inspect_model(resolve(model))
    if as_json:
        typer.echo(json.dumps(_as_json(report, tensors), indent=2))
        return
    for name, line in _lines(report):
        typer.secho(f"{name:10} {printable(line)}", fg=_COLORS.get(name))
    if tensors and report.stored is not None:
        typer.echo()
        for tensor in report.stored.tensors:
            typer.echo(printable(_tensor_line(tensor)))


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    stored, spec = report.stored, report.spec
    yield "file", report.path
    if stored is not None:
        yield "format", f"{report.format}, {_size(stored.size_bytes)}"
        yield "model", _model(report)
    if spec is not None:
        yield "shape", _shape(spec)
    for name, total in report.types.items():
        numbers = f"{total.elements:,} numbers, {_size(total.bytes)}"
        yield "tensors", f"{total.tensors} {name}, {numbers}"
    if report.tokenizer is not None and stored is not None:
        yield "tokenizer", f"{stored.tokenizer}: {_tokenizer(report.tokenizer)}"
    for need in report.memory:
        yield "memory", _memory(need, min(_CONTEXT, spec.context_length if spec else _CONTEXT))
    for problem in report.problems:
        yield "PROBLEM", problem
    for fault in report.faults:
        mended = "; `bitnet repair` mends it" if fault.changes else ""
        yield "fault", f"{fault.name}: {fault.text}{mended}"
    for hint in stored.hints if stored is not None else ():
        yield "hint", hint


def _model(report: Report) -> str:
    """Name, architecture in the file, and family."""
    parts = []
    if report.stored is not None:
        parts = [report.stored.name or "without a name", report.stored.architecture or ""]
    if report.spec is not None:
        parts.append(FAMILIES[report.spec.architecture])
    return ", ".join(part for part in parts if part)


def _shape(spec: ModelSpec) -> str:
    return (
        f"{spec.n_layers} layers, width {spec.hidden_size}, feed-forward {spec.ffn_size}, "
        f"{spec.n_heads} heads of {spec.head_dim}, {spec.n_kv_heads} of keys and values, "
        f"{spec.vocab_size} tokens, context {spec.context_length}"
    )


def _tokenizer(tokenizer: TokenizerSummary) -> str:
    ends = ", ".join(map(str, tokenizer.eos_ids)) or "nothing"
    template = "with" if tokenizer.has_chat_template else "no"
    start = f"begins with {tokenizer.bos_id}, " if tokenizer.add_bos else ""
    return f"{tokenizer.tokens} tokens, {start}ends with {ends}, {template} chat template"


def _memory(need: Memory, positions: int) -> str:
    where = " in the file" if need.ternary_mapped else ""
    head = f", {_size(need.head)} {need.head_kind} head" if need.head else ""
    return (
        f"{need.layout}: {_size(need.total(positions))} with {positions} positions "
        f"({_size(need.ternary)} weights{where}, {_size(need.tables)} tables{head}, "
        f"{_size(positions * need.kv_per_position)} keys and values); "
        f"reads {_size(need.token)} a token"
    )


def _tensor_line(tensor: StoredTensor) -> str:
    shape = " x ".join(map(str, tensor.shape))
    place = f"{tensor.bytes} bytes at {tensor.offset} of {tensor.file}"
    return f"{tensor.name}  {tensor.type}  {shape}  {place}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"


def _as_json(report: Report, tensors: bool) -> dict[str, Any]:
    stored = report.stored
    return {
        "path": report.path,
        "format": report.format,
        "loads": report.loads,
        "files": [] if stored is None else [str(file) for file in stored.files],
        "bytes": None if stored is None else stored.size_bytes,
        "name": None if stored is None else stored.name,
        "architecture": None if stored is None else stored.architecture,
        "file_type": None if stored is None else stored.file_type,
        "spec": None if report.spec is None else asdict(report.spec),
        "types": {name: asdict(total) for name, total in report.types.items()},
        "tokenizer": None if report.tokenizer is None else asdict(report.tokenizer),
        "memory": [asdict(need) for need in report.memory],
        "problems": report.problems,
        "faults": [
            {"name": fault.name, "text": fault.text, "repairable": bool(fault.changes)}
            for fault in report.faults
        ],
        "hints": [] if stored is None else stored.hints,
        **({"tensors": [asdict(t) for t in stored.tensors]} if tensors and stored else {}),
    }
