"""Loading a model: from its files to an engine that runs it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet.codegen import find_target
from bitnet.engine import Engine
from bitnet.errors import InvalidArgumentError
from bitnet.kernels.kv_cache import KVKind
from bitnet.kernels.layouts import LayoutName
from bitnet.kernels.lookup import LookUp
from bitnet.model import Model
from bitnet.models import open_checkpoint
from bitnet.program import Plan, Program
from bitnet.program.footprint import model_bytes
from bitnet.program.memory import MemoryBudget
from bitnet.program.plan import HeadKind, check_in_place, choose_head
from bitnet.program.step import Stepper
from bitnet.program.ternary_weights import cuts_of
from bitnet.program.tuning import tune
from bitnet.program.weights import Progress, Weights
from bitnet.program.workers import Workers, team_size
from bitnet.store import resolve

if TYPE_CHECKING:
    from bitnet.codegen import Target
    from bitnet.models import Checkpoint
    from bitnet.quant.tl_config import Cut

_DEFAULT_CONTEXT = 4096
STEP_TOKENS = 128  # prompt tokens that one step takes


def bundled_model_path() -> Path:
    """The model that comes with the package: a small writer of children's stories."""
    return Path(__file__).parent / "data" / "stories.gguf"


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    target: str | None = None,
    threads: int | None = None,
    context: int | None = None,
    kv: KVKind = "f16",
    layout: LayoutName | None = None,
    head: HeadKind | None = None,
    numa: bool = False,
    tokenizer: str | os.PathLike[str] | None = None,
    chat_template: str | os.PathLike[str] = "auto",
    max_requests: int | None = None,
    memory: MemoryBudget | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load and compile a model.

    path: a GGUF file or a Hugging Face folder; None is the bundled model. Text that is no path of
        something is the name of a model that `bitnet pull` has fetched, such as "OWNER/REPO".
    target: what to compile for ("avx512", "avx2", ...); None is the best this CPU runs.
    threads: how many threads work together, at most one per core; None is one per core, fewer for
        small models.
    context: positions a sequence may have; None is the model's own, at most 4096.
    kv: number format of the key/value cache, "f16" or "f32".
    layout: how the ternary weights lie in memory, see `bitnet.kernels.layouts`; it does not change
        results. None is that of a native file, see `bitnet convert`, or else the one that was
        measured to be fastest here, of "b3", "2bit" and, for TL1 and TL2 files, their own.
    head: how the output head is computed. "stored" uses the table as it is in the file; "q6_k",
        "q8_0" and "int8" fewer bits, so other logits. "certified" computes with int8 which tokens
        may be the best and then only those exactly: what is sampled, and `Model.logits`, stay as
        with "stored". None is the file's own Q6_K or Q8_0, "certified" for large tables of
        floats, else "stored".
    numa: pin each thread to a core of its own, spread over all memory nodes, and keep packed
        weights near the threads that read them; a native file is copied for that. Tables that are
        used as they are in the file stay there, and caches are near whoever writes to them.
    tokenizer: a tokenizer.json, a tokenizer.model (of SentencePiece or Llama 3), a GGUF file, or
        a folder with one of the first two. None is that in the model's files, or else a
        tokenizer.json beside them or in the folder above.
    chat_template: "auto" is the one in the model's or the tokenizer's files. Else the name of one
        of several in there, or one of "raw", "instruct", "bitnet", "llama3-chat", "chatml",
        "falcon3", "gemma", or a file of Jinja source.
    max_requests: how many generations are computed together, 1 to 128; None is as many as fit.
    memory: counts what the model takes, among others perhaps; beyond its limit the model is
        refused before anything is allocated, and so is a generation that needs more later.
    progress: called with the share of the weights that is loaded, 0 to 1.

    Raises ModelNotFoundError, InvalidModelError and UnsupportedModelError for the files,
    UnsupportedTargetError for the target, UnsupportedOperationError for `numa` where the system
    does not tell its nodes, ModelMemoryError, InvalidArgumentError for the rest.
    """
    target = find_target(target).name
    if max_requests is not None and not 1 <= max_requests <= STEP_TOKENS:
        raise InvalidArgumentError(f"max_requests must be in 1..{STEP_TOKENS}, not {max_requests}")
    path = bundled_model_path() if path is None else resolve(path)
    budget = MemoryBudget(within=memory)
    checkpoint = open_checkpoint(path, tokenizer, chat_template)
    try:
        context = _choose_context(context, checkpoint.spec.context_length)
        workers = Workers(team_size(threads, checkpoint.size_bytes), numa=numa)
        try:
            program, weights = compile_model(
                checkpoint, target, context, kv, layout, head, workers, progress, memory=budget
            )
            stepper = Stepper(program, weights, workers, min(STEP_TOKENS, context), budget)
        except BaseException:
            workers.close()
            raise
        return Model(checkpoint, Engine(stepper, context, max_requests), budget)
    except BaseException:
        budget.close()
        checkpoint.close()
        raise


def compile_model(
    checkpoint: Checkpoint,
    target: str | None,
    context: int,
    kv: KVKind,
    layout: LayoutName | None,
    head: HeadKind | None,
    workers: Workers,
    progress: Progress | None,
    *,
    memory: MemoryBudget | None = None,
    profiled: bool = False,
) -> tuple[Program, Weights]:
    """The program for a checkpoint, and its weights, for sequences of up to `context` positions.

    memory: counts the weights and the buffers of steps. profiled: see `Program`; the other
    arguments, and what is raised, as in `load`.
    """
    spec = checkpoint.spec
    embedding = checkpoint.dense("token_embd.weight").kind
    table = embedding if spec.tied_head else checkpoint.dense("output.weight").kind
    chosen = find_target(target)
    cuts = cuts_of(spec, checkpoint.ternary)
    look_up = None if workers.numa else _look_up(checkpoint, chosen, cuts)
    tuning = tune(spec, chosen, workers, layout or checkpoint.layout, look_up)
    plan = Plan(
        spec,
        embedding,
        table,
        kv,
        tuning.layout,
        choose_head(head, table, spec),
        blocking=tuning.blocking,
        cuts=cuts,
    )
    if memory is not None:
        n_bytes = model_bytes(plan, context, min(STEP_TOKENS, context))
        memory.take(n_bytes, "the weights and buffers")
    program = Program(plan, chosen, profiled=profiled)
    return program, Weights(program, checkpoint, context, workers, progress)


def _look_up(checkpoint: Checkpoint, target: Target, cuts: tuple[Cut, ...]) -> LookUp | None:
    """The layout of TL1 or TL2 files, where the target multiplies such tensors in place."""
    kinds = checkpoint.weight_types
    if not target.has_lookup16 or kinds not in ({"TL1"}, {"TL2"}):
        return None
    layout = LookUp("TL1" if "TL1" in kinds else "TL2", cuts)
    with suppress(InvalidArgumentError):
        check_in_place(layout, checkpoint.spec)
        return layout
    return None


def _choose_context(wanted: int | None, limit: int) -> int:
    if wanted is None:
        return min(limit, _DEFAULT_CONTEXT)
    if not 1 <= wanted <= limit:
        raise InvalidArgumentError(f"context must be in 1..{limit}, not {wanted}")
    return wanted
