"""Held-out text, and the perplexity of an exported model on it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from .stories import documents
from .text import render

STORIES = 40
CONVERSATIONS = 12


def write_held_out(tokenizer: PreTrainedTokenizerFast, seed: int, path: Path) -> None:
    """Write JSON lines {"text": ...}: stories, and conversations in the form of the template,
    from the part of the corpus that training never sees; without begin and end tokens."""
    drawn = list(documents(seed, 10 * (STORIES + CONVERSATIONS), "heldout"))
    stories = [d for d in drawn if isinstance(d, str)][:STORIES]
    conversations = [d for d in drawn if not isinstance(d, str)][:CONVERSATIONS]
    with path.open("w", encoding="utf-8") as file:
        for document in itertools.chain(stories, conversations):
            file.write(json.dumps({"text": render(tokenizer, document)}) + "\n")


def perplexity(folder: Path, held_out: Path) -> tuple[float, int]:
    """Perplexity of the model in ``folder`` in float32, and the number of predicted tokens.

    Each document stands alone between begin and end token; the negative log-likelihoods of all
    tokens after the begin token have the same weight.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    for line in held_out.read_text(encoding="utf-8").splitlines():
        ids = [*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]
        if ids[0] != tokenizer.bos_token_id:
            raise ValueError("the tokenizer adds no begin token")
        with torch.inference_mode():
            logits = model(torch.tensor([ids[:-1]])).logits[0]
        losses = torch.nn.functional.cross_entropy(
            logits.double(), torch.tensor(ids[1:]), reduction="none"
        )
        total += losses.sum().item()
        count += len(losses)
    return math.exp(total / count), count
