"""Turn a trained model into the files that are committed: GGUF, held-out text, model card."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from transformers import BitNetForCausalLM, PreTrainedTokenizerFast

from .evaluate import CONVERSATIONS, STORIES, perplexity, write_held_out
from .export import export_gguf, export_huggingface
from .model import bit_linears

NAME = "bitnet stories"
MAX_GGUF_BYTES = 4_000_000
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True)
class Run:
    """What the model card tells of a training run; the loss is the mean of the last steps."""

    seed: int
    steps: int
    tokens: int
    seconds: float
    loss: float


def publish(
    model: BitNetForCausalLM, tokenizer: PreTrainedTokenizerFast, run: Run, out: Path
) -> None:
    """Write ``huggingface/``, ``stories.gguf``, ``heldout.jsonl`` and ``MODEL_CARD.md``."""
    export_huggingface(model, tokenizer, out / "huggingface")
    gguf = out / "stories.gguf"
    export_gguf(model, tokenizer, NAME, gguf)
    if gguf.stat().st_size > MAX_GGUF_BYTES:
        raise ValueError(f"{gguf} has {gguf.stat().st_size} bytes; the limit is {MAX_GGUF_BYTES}")
    write_held_out(tokenizer, run.seed, out / "heldout.jsonl")
    value, tokens = perplexity(out / "huggingface", out / "heldout.jsonl")
    print(f"held-out perplexity {value:.6f} over {tokens} tokens", file=sys.stderr)
    card = model_card(model, run, gguf, value, tokens)
    (out / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def model_card(model: BitNetForCausalLM, run: Run, gguf: Path, value: float, tokens: int) -> str:
    config = model.config
    ternary = sum(linear.weight.numel() for linear in bit_linears(model).values())
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in _PACKAGES)
    python = ".".join(map(str, sys.version_info[:3]))
    return _CARD.format(
        bytes=f"{gguf.stat().st_size:,}",
        digest=digest,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        ffn=config.intermediate_size,
        heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        context=config.max_position_embeddings,
        vocabulary=config.vocab_size,
        ternary=f"{ternary:,}",
        embedding=f"{config.vocab_size * config.hidden_size:,}",
        seed=run.seed,
        steps=run.steps,
        seen=f"{run.tokens:,}",
        minutes=round(run.seconds / 60),
        loss=f"{run.loss:.4f}",
        versions=f"Python {python}, {versions}",
        stories=STORIES,
        conversations=CONVERSATIONS,
        perplexity=f"{value:.6f}",
        tokens=f"{tokens:,}",
    )


_CARD = """\
# The bundled story model

`stories.gguf` is a small ternary language model that writes short children's stories and answers
simple questions about them. It is there so that everything in this project works offline.

| | |
|---|---|
| file | {bytes} bytes, GGUF, weights I2_S, SHA-256 `{digest}` |
| architecture | bitnet-b1.58: squared ReLU, sub-norms, embedding tied to the head |
| shape | {layers} layers, width {hidden}, feed-forward {ffn}, {heads} heads of {head_dim} over \
{kv_heads} key-value heads |
| context | {context} tokens |
| vocabulary | {vocabulary} tokens, byte-level BPE with the split of Llama 3 |
| weights | {ternary} ternary, {embedding} float16 (embedding) |
| licence | that of this project |

## How it was made

    python -m training.train --seed {seed} --out training/out

Corpus, tokenizer and weights follow from the seed; see `training/README.md`. Training quantises
weights and activations as it runs, with the BitNet classes of transformers. The corpus is generated
by the rules in `training/stories`: no text of other people went into it.

- {steps} steps, {seen} tokens, each text seen once; mean loss of the last 200 steps {loss}
- {minutes} minutes on 2 cores of a shared x86-64 machine
- {versions}

## Held-out perplexity

**{perplexity}** over {tokens} tokens of `tests/data/heldout.jsonl`: {stories} stories and \
{conversations} conversations
whose combinations of hero, place and plot do not occur in the training text. Each document stands
alone between begin and end token; computed by transformers in float32 from the packed weights.

## Limits

It knows nothing but the little world of its corpus: animals and children who have a wish, meet an
obstacle, and find help. Outside of it, it makes things up or falls back on a story. Its answers
about a story are often right and sometimes wrong. It is English only, and repeats
its phrases from story to story. It was trained on texts of up to about 300 tokens; longer
conversations are less reliable. Do not use it as a source of facts.
"""
