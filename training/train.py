"""Train the bundled story model: ``python -m training.train --seed 1 --out training/out``.

Everything follows from the seed: corpus, tokenizer, initial weights and order of the data.
A run that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BitNetForCausalLM, PreTrainedTokenizerFast

from .model import bit_linears, build, next_token_loss, story_config
from .publish import Run, publish
from .stories import documents
from .text import encode_documents, pack_rows, train_tokenizer

STEPS = 3600
BATCH = 8
CONTEXT = 512
PEAK_RATE = 2e-3
WARM_UP = 200
WEIGHT_DECAY = 0.1
CHECKPOINT_SECONDS = 600
TOKENIZER_DOCUMENTS = 20_000
# More than the rows can hold: a document has some 180 tokens, and a row cuts off its last one.
CORPUS_DOCUMENTS = STEPS * BATCH * 5


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to zero."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


def make_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    ternary = [linear.weight for linear in bit_linears(model).values()]
    taken = {id(p) for p in ternary}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": ternary, "weight_decay": WEIGHT_DECAY},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def corpus(seed: int, tokenizer: PreTrainedTokenizerFast) -> NDArray[np.uint16]:
    """Rows (STEPS * BATCH, CONTEXT + 1) of token ids."""
    encoded = encode_documents(tokenizer, documents(seed, CORPUS_DOCUMENTS, "train"), seed)
    return pack_rows(encoded, STEPS * BATCH, CONTEXT + 1)


@dataclass
class Progress:
    """How far a run has come: steps done, seconds spent, loss of every step."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


class Trainer:
    """A model and its optimizer on their way through the rows of a corpus."""

    def __init__(self, model: BitNetForCausalLM, out: Path) -> None:
        self.model = model
        self.optimizer = make_optimizer(model)
        self.progress = Progress()
        self._loss_of = torch.compile(next_token_loss)
        self._checkpoint = out / "checkpoint.pt"
        self._log = out / "train.log"

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])

    def save(self) -> None:
        """Write beside the checkpoint, then move into place: it is whole or absent."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._checkpoint)

    def run(self, rows: NDArray[np.uint16]) -> None:
        """Take the steps that are left; a checkpoint every CHECKPOINT_SECONDS and at the end."""
        progress = self.progress
        saved = progress.seconds
        while progress.step < STEPS:
            started = time.monotonic()
            batch = rows[progress.step * BATCH : (progress.step + 1) * BATCH]
            progress.losses.append(self._step(torch.from_numpy(batch.astype(np.int64))))
            progress.step += 1
            progress.seconds += time.monotonic() - started
            if progress.step % 50 == 0:
                self._report()
            if progress.seconds - saved > CHECKPOINT_SECONDS or progress.step == STEPS:
                self.save()
                saved = progress.seconds

    def _step(self, batch: torch.Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.progress.step, STEPS)
        if self.progress.step >= STEPS // 2:
            # The ternary weights settle better when nothing pulls them to zero.
            self.optimizer.param_groups[0]["weight_decay"] = 0.0
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._loss_of(self.model, batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.item())

    def _report(self) -> None:
        progress = self.progress
        line = (
            f"step {progress.step}/{STEPS} loss {np.mean(progress.losses[-50:]):.4f} "
            f"{progress.step * BATCH * CONTEXT / progress.seconds:.0f} tokens/s "
            f"{progress.seconds:.0f} s"
        )
        print(line, file=sys.stderr, flush=True)
        with self._log.open("a", encoding="utf-8") as log:
            print(line, file=log)


def train(seed: int, out: Path) -> None:
    """Train for STEPS steps and publish the result in ``out``."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(documents(seed, TOKENIZER_DOCUMENTS, "train"))
    rows = corpus(seed, tokenizer)
    trainer = Trainer(build(story_config()), out)
    trainer.resume()
    trainer.run(rows)
    progress = trainer.progress
    run = Run(
        seed=seed,
        steps=progress.step,
        tokens=progress.step * BATCH * CONTEXT,
        seconds=progress.seconds,
        loss=float(np.mean(progress.losses[-200:])),
    )
    publish(trainer.model, tokenizer, run, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("training/out"))
    arguments = parser.parse_args()
    train(arguments.seed, arguments.out)


if __name__ == "__main__":
    main()
